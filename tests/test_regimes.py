"""What happens to a corpus beyond the choice of rows: editing by tokens, watermarks, the best of several samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import SynthIDTextWatermarkLogitsProcessor, WatermarkDetector

from lmcollapse.chains import trajectories
from lmcollapse.cli import main
from lmcollapse.config import parse
from lmcollapse.curation import best, curated
from lmcollapse.loop import run
from lmcollapse.parquet import read_corpus
from lmcollapse.records import members_of
from lmcollapse.scorers import Candidates
from lmcollapse.substrates.causal_lm.edit import edit
from lmcollapse.substrates.causal_lm.models import LanguageModel, boundaries, load_pretrained
from lmcollapse.substrates.causal_lm.options import (
    ComputeOptions,
    ModelOptions,
    SamplingOptions,
    ScoringOptions,
    TrainOptions,
    WatermarkOptions,
)
from lmcollapse.substrates.causal_lm.sample import sample
from lmcollapse.substrates.causal_lm.score import score
from lmcollapse.substrates.causal_lm.watermark import configuration
from lmcollapse.types import HUMAN, Corpus, Floats, Silent, UserError
from lmcollapse.verify import verify
from lmcollapse.verify.same import different_files
from tests.text import FEW_MEASURES, text_file
from tests.tiny import tiny
from tests.urn import urn_config, watch_fits

CPU = ComputeOptions(device="cpu", precision="float32", threads=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_pretrained(
        ModelOptions(name=str(tiny("gpt2", tmp_path_factory.mktemp("gpt2") / "model", positions=128)))
    )


def rows(count: int = 30, tokens: int = 40, seed: int = 0) -> Corpus:
    rng = np.random.default_rng(seed)
    return Corpus.of_tokens([rng.integers(1, 300, tokens) for _ in range(count)], HUMAN)


# --- editing ---------------------------------------------------------------------------------------------------------


def edited(model: LanguageModel, corpus: Corpus, seed: int = 0, **options: Any) -> Corpus:
    return edit(model, corpus, 3, seed, SamplingOptions(**options), ScoringOptions(), CPU, Silent())


def test_only_likely_tokens_are_drawn_anew(model: LanguageModel) -> None:
    human = rows(200)
    scores = score(model, human, ScoringOptions(), CPU, Silent(), by_token=True)
    assert scores.by_token is not None
    likely = np.exp(-scores.by_token.nats) >= 0.02
    assert 0.02 < likely.mean() < 0.5
    found = edited(model, human, edit_above=0.02)
    assert (found.values[~likely] == human.values[~likely]).all()
    assert (found.values[likely] != human.values[likely]).mean() > 0.5
    assert found.generation.tolist() == [3] * 200 and found.prompt.tolist() == list(range(200))
    assert found.offsets is not None and human.offsets is not None and (found.offsets == human.offsets).all()
    _, end = boundaries(model.tokenizer)
    assert end not in found.values[likely]
    again, other = edited(model, human, edit_above=0.02), edited(model, human, seed=1, edit_above=0.02)
    assert (again.values == found.values).all() and not (other.values == found.values).all()
    assert (edited(model, human, edit_above=1.0).values == human.values).all(), "no token is certain"


def test_tokens_are_drawn_from_the_distribution_that_the_model_has_there(model: LanguageModel) -> None:
    row = [17, 203, 45]
    with torch.no_grad():
        begin, end = boundaries(model.tokenizer)
        logits = model.module(torch.tensor([[begin, *row]])).logits[0, 2].double()
    probability = float(logits.softmax(-1)[45])
    logits[end] = -torch.inf
    expected = logits.softmax(-1).numpy()
    many = Corpus.of_tokens([row] * 6000, HUMAN)
    drawn = edited(model, many, edit_above=probability * 0.99).values.reshape(-1, 3)
    counts = np.bincount(drawn[:, 2], minlength=300)
    likely = expected > 0.01
    error = np.sqrt(expected * (1 - expected) / 6000)
    assert (np.abs(counts / 6000 - expected)[likely] < 4.5 * error[likely]).all()
    narrow = edited(model, many, edit_above=probability * 0.99, top_k=3).values.reshape(-1, 3)
    assert set(narrow[:, 2].tolist()) == set(np.argsort(expected)[-3:].tolist())


def test_the_end_of_a_text_stays_where_it_is(model: LanguageModel) -> None:
    _, end = boundaries(model.tokenizer)
    texts = Corpus.of_tokens([[5, 6, 7, end]] * 50, HUMAN)
    found = edited(model, texts, edit_above=1e-9).values.reshape(-1, 4)
    assert (found[:, 3] == end).all() and end not in found[:, :3] and len(np.unique(found[:, 0])) > 5


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"edit_above": 0.9, "prompt": "human", "prompt_tokens": 4}, r"sampling\.prompt has no effect with"),
        ({"edit_above": 0.9, "decoder": "beam"}, r"sampling\.decoder has no effect with"),
        ({"edit_above": 0.9, "watermark": {}}, r"sampling\.watermark has no effect with"),
        ({"edit_above": 1.5}, "edit_above"),
        ({"watermark": {"scheme": "synthid", "bias": 1}}, r"sampling\.watermark\.bias has no effect"),
        ({"watermark": {}, "backend": "ctranslate2"}, "has no watermark"),
        ({"watermark": {"scheme": "invisible"}}, "green_list"),
    ],
)
def test_what_is_refused_of_editing_and_watermarks(sampling: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        run(parse(language_model(tmp_path, sampling=sampling)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- watermarks ------------------------------------------------------------------------------------------------------


def texts(model: LanguageModel, folder: Path, **options: Any) -> list[Any]:
    folder.mkdir()
    human = rows(120, 60)
    settled = SamplingOptions(new_tokens=60, until_eos=False, **options).settled(TrainOptions())
    corpus = sample(model, human, human, 0, 0, settled, True, CPU, Silent(), folder)
    return [corpus.tokens(row) for row in range(len(corpus))]


def test_a_green_list_is_found_in_what_is_written_and_not_elsewhere(model: LanguageModel, tmp_path: Path) -> None:
    options = WatermarkOptions(bias=4.0)
    marked = texts(model, tmp_path / "marked", watermark=options)
    plain = texts(model, tmp_path / "plain")
    other = texts(model, tmp_path / "other", watermark=WatermarkOptions(bias=4.0, key=7))
    config: Any = configuration(options)
    detector = WatermarkDetector(model.module.config, "cpu", config)

    def z_scores(documents: list[Any]) -> Floats:
        each: list[Any] = [torch.tensor(document[None].astype(int)) for document in documents]
        found: list[Any] = [detector(ids, return_dict=True) for ids in each]
        return np.array([float(one.z_score[0]) for one in found])

    assert (z_scores(marked) > 4).mean() > 0.95
    for unmarked in (plain, other):
        assert (z_scores(unmarked) > 4).mean() < 0.02
    assert texts(model, tmp_path / "again", watermark=options)[3].tolist() == marked[3].tolist()


def test_synthid_is_found_in_what_is_written_and_not_elsewhere(model: LanguageModel, tmp_path: Path) -> None:
    options = WatermarkOptions(scheme="synthid", context=2)
    marked, plain = texts(model, tmp_path / "marked", watermark=options), texts(model, tmp_path / "plain")
    config: Any = configuration(options)
    processor = SynthIDTextWatermarkLogitsProcessor(**config.to_dict(), device=torch.device("cpu"))

    def means(documents: list[Any]) -> Floats:
        ids: Any = torch.tensor(np.array(documents), dtype=torch.long)
        seen = processor.compute_context_repetition_mask(ids)
        values = processor.compute_g_values(ids)
        return np.asarray([g[mask.bool()].float().mean() for g, mask in zip(values, seen, strict=True)])

    assert means(marked).mean() > 0.53 > 0.515 > means(plain).mean() > 0.485


def test_a_watermark_ends_documents_where_they_end(model: LanguageModel, tmp_path: Path) -> None:
    for kind in ("green_list", "synthid"):
        (tmp_path / kind).mkdir()
        human = rows(60, 40)
        settled = SamplingOptions(new_tokens=50, until_eos=True, watermark=WatermarkOptions(scheme=kind)).settled(
            TrainOptions()
        )
        corpus = sample(model, human, human, 0, 0, settled, True, CPU, Silent(), tmp_path / kind)
        _, end = boundaries(model.tokenizer)
        for row in range(len(corpus)):
            tokens = corpus.tokens(row)
            assert end not in tokens[:-1] and (tokens[-1] == end or len(tokens) == 50)


# --- the best of several samples -------------------------------------------------------------------------------------


@given(st.integers(1, 30), st.integers(2, 6), st.integers(1, 6), st.integers(0, 99))
def test_the_best_of_each_document_are_kept(documents: int, samples: int, keep: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    row = rng.permutation(np.tile(np.arange(documents), samples))
    scores = rng.integers(0, 5, len(row)).astype(float)
    chosen = best(row, scores, keep, 0.0, np.random.default_rng(0))
    for document in range(documents):
        mine = np.flatnonzero(row == document)
        kept = np.intersect1d(mine, chosen)
        assert len(kept) == min(keep, samples)
        worst = scores[kept].min()
        assert (scores[np.setdiff1d(mine, kept)] <= worst).all()


def test_a_noisy_verifier_is_right_so_often() -> None:
    row, scores = np.repeat(np.arange(20_000), 4), np.tile([0.0, 3.0, 1.0, 2.0], 20_000)
    for noise in (0.0, 0.4, 1.0):
        right = (best(row, scores, 1, noise, np.random.default_rng(0)) % 4 == 1).mean()
        expected = 1 - noise + noise / 4
        assert abs(right - expected) < 4 * np.sqrt(0.25 / 20_000) + 1e-12


def test_what_is_kept_is_a_corpus_of_its_own() -> None:
    corpus = Corpus.concatenate([rows(5, 4, seed) for seed in range(3)])
    kept = curated(corpus, np.array([12, 1, 8, 0]), 6)
    assert kept.row.tolist() == [0, 1, 2, 3] and kept.generation.tolist() == [6] * 4
    assert [kept.tokens(i).tolist() for i in range(4)] == [corpus.tokens(i).tolist() for i in (0, 1, 12, 8)]


def most_of_a_letter(candidates: Candidates, *, letter: str = "a") -> Floats:
    """A verifier from outside the tree."""
    assert candidates.corpus.texts is not None
    return np.array([text.count(letter) / max(1, len(text)) for text in candidates.corpus.texts])


def language_model(folder: Path, **given: Any) -> dict[str, Any]:
    return {
        "generations": 2,
        "corpus": {"kind": "files", "path": str(text_file(folder / "human.txt"))},
        "model": {"layers": 1, "width": 16, "heads": 2, "vocabulary": 300},
        "train": {"block_size": 16, "steps": 3},
        "compute": {"device": "cpu", "precision": "float32", "threads": 2},
        "measures": FEW_MEASURES,
        **given,
    }


def test_a_run_with_curation(tmp_path: Path) -> None:
    curation = {"kind": "tests.test_regimes:most_of_a_letter", "letter": "o", "candidates": 3}
    config = parse(language_model(tmp_path, curation=curation))
    out, again = run(config, tmp_path / "run"), run(config, tmp_path / "again")
    assert [name for name in different_files(out, again) if not name.endswith("fit.jsonl")] == []
    for generation in ("generation_000", "generation_001"):
        candidates = read_corpus(out / generation / "candidates" / "corpus.parquet")
        kept = read_corpus(out / generation / "corpus" / "corpus.parquet")
        assert len(candidates) == 3 * len(kept)
        assert kept.texts is not None and candidates.texts is not None
        for row in range(len(kept)):
            samples = [candidates.texts[i] for i in np.flatnonzero(candidates.row == row).tolist()]
            shares = [text.count("o") / max(1, len(text)) for text in samples]
            assert kept.texts[row] == samples[int(np.argmax(shares))]
        facts = json.loads((out / generation / "corpus" / "step.json").read_text())["facts"]
        assert facts["mean_score"] > facts["mean_of_all"]


@pytest.mark.parametrize("kind", ["likelihood", "length"])
def test_scorers_that_are_here(tmp_path: Path, kind: str) -> None:
    given = language_model(tmp_path, curation={"kind": kind, "candidates": 2}, generations=1)
    out = run(parse(given), tmp_path / "run")
    facts = json.loads((out / "generation_000" / "corpus" / "step.json").read_text())["facts"]
    assert facts["mean_score"] > facts["mean_of_all"] or kind == "length"


@pytest.mark.parametrize(
    ("curation", "message"),
    [
        ({"kind": "likelihood", "candidates": 2, "keep": 3}, r"curation\.keep is 3 and curation\.candidates 2"),
        ({"kind": "likelyhood"}, "unknown scorer 'likelyhood'; did you mean 'likelihood'"),
        ({"kind": "likelihood", "judge": "nobody"}, r"curation\.judge is 'nobody'; known: own, generation_0"),
        ({"candidates": 3}, "'curation' names no kind"),
    ],
)
def test_what_is_refused_of_curation(tmp_path: Path, curation: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(parse(language_model(tmp_path, curation=curation)), tmp_path / "run")


def test_chains_are_not_curated() -> None:
    with pytest.raises(UserError, match="'curation' has no effect with substrate gaussian"):
        parse({"substrate": "gaussian", "curation": "length"})


# --- several models ---------------------------------------------------------------------------------------------------


def members(folder: Path, exchange: str, **given: Any) -> dict[str, Any]:
    population = {"members": 3, "exchange": exchange}
    usual = {"urn": {"smoothing": 0.01}, "population": population, "measures": FEW_MEASURES}
    return urn_config(folder, **(usual | given))


def corpus_of(run_directory: Path, generation: int, step: str = "corpus") -> Corpus:
    return read_corpus(run_directory / f"generation_{generation:03d}" / step / "corpus.parquet")


@pytest.mark.parametrize("exchange", ["ring", "shared"])
def test_models_train_on_each_others_output(tmp_path: Path, exchange: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch_fits(monkeypatch)
    out = run(parse(members(tmp_path, exchange)), tmp_path / "run")
    places = [out / f"member_{number:02d}" for number in range(3)]
    wrote = {(m, g): corpus_of(place, g) for m, place in enumerate(places) for g in range(3)}
    firsts = [tuple(wrote[m, 0].values[:50].tolist()) for m in range(3)]
    assert len(set(firsts)) == 3, "nothing that is random is common to members"
    assert len({(place / "human" / "train.parquet").read_bytes() for place in places}) == 1
    for number, train in enumerate(seen):
        generation, member = divmod(number, 3)
        if generation == 0:
            assert set(train.generation.tolist()) == {HUMAN}
        elif exchange == "ring":
            assert train.values.tolist() == wrote[(member - 1) % 3, generation - 1].values.tolist()
        else:
            pool = corpus_of(places[member], generation - 1, "pool")
            assert train.values.tolist() == pool.values.tolist() and pool.sources is not None
            assert set(pool.sources) == {"member 0", "member 1", "member 2"}
            for row in range(0, len(pool), 7):  # each row is what its origin says
                origin = wrote[int(pool.sources[row][-1]), generation - 1]
                assert pool.tokens(row).tolist() == origin.tokens(int(pool.row[row])).tolist()
            sizes = [len(wrote[m, generation - 1]) for m in range(3)]
            assert len(pool) == round(sum(sizes) / 3)
    again = run(parse(members(tmp_path, exchange)), tmp_path / "again")
    for number in range(3):
        assert different_files(places[number], again / f"member_{number:02d}") == []


def test_a_population_is_drawn_and_judged_by_its_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(parse(members(tmp_path, "ring", generations=2)), tmp_path / "run")
    main(["plot", str(out), "--out", str(tmp_path / "figures")])
    assert (tmp_path / "figures" / "measures.png").is_file()
    main(["status", str(out)])
    assert capsys.readouterr().out.count("finished") == 3
    main(["verdicts", str(out)])


@pytest.mark.parametrize("exchange", ["ring", "shared"])
def test_members_of_a_population_of_chains_exchange_their_rows(exchange: str) -> None:
    """The variance of one line of descent and of a ring obey one law; a shared pool loses variance more slowly."""
    given = {"substrate": "gaussian", "chains": 6000, "rows": 10, "generations": 8}
    alone, together = (
        trajectories(parse({**given, **more})) for more in ({}, {"population": {"members": 3, "exchange": exchange}})
    )
    variance = together.measures["variance"][-1]
    groups = variance.reshape(-1, 3).mean(axis=1)
    expected = (1 - 1 / 10) ** 8
    error = groups.std(ddof=1) / np.sqrt(len(groups))
    if exchange == "ring":
        assert abs(groups.mean() - expected) < 4.5 * error
    else:
        assert groups.mean() > expected + 10 * error
    same = together.measures["variance"][0] == alone.measures["variance"][0]
    assert same.mean() > 0.9, "generation 0 has nothing to exchange"


def test_chains_must_fill_their_populations() -> None:
    with pytest.raises(UserError, match=r"chains is 10 and population\.members 3"):
        trajectories(parse({"substrate": "gaussian", "chains": 10, "population": {"members": 3}}))


# --- whatever the composition -----------------------------------------------------------------------------------------

SHARES = st.sampled_from([0.0, 0.1, 0.5, 1.0])
POLICIES = st.one_of(
    st.sampled_from(["replace", "accumulate", "accumulate_subsample", "human"]).map(lambda kind: {"kind": kind}),
    st.builds(lambda s, redraw: {"kind": "mix", "human_fraction": s, "redraw": redraw}, SHARES, st.booleans()),
    st.builds(lambda s, redraw: {"kind": "mix", "human_keep": s, "redraw": redraw}, SHARES, st.booleans()),
    st.builds(lambda s: {"kind": "fresh", "human_fraction": s}, SHARES),
    st.builds(lambda end, over: {"kind": "filling", "end": end, "over": over}, SHARES, st.integers(1, 3)),
)
DETECTORS = st.none() | st.builds(
    lambda action, true, false: {
        "kind": "oracle", "action": action, "true_positive_rate": true, "false_positive_rate": false,
    },
    st.sampled_from(["drop", "down_weight", "importance"]), st.sampled_from([0.2, 0.9]), st.sampled_from([0.0, 0.3]),
)  # fmt: skip
CURATIONS = st.none() | st.builds(lambda kind, k: {"kind": kind, "candidates": 3, "keep": k},
                                  st.sampled_from(["length", "likelihood"]), st.integers(1, 3))  # fmt: skip
POPULATIONS = st.none() | st.builds(lambda e: {"members": 2, "exchange": e}, st.sampled_from(["ring", "shared"]))


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(POLICIES, DETECTORS, CURATIONS, POPULATIONS, st.integers(0, 1000))
def test_no_held_out_text_is_ever_trained_on_and_provenance_holds(
    tmp_path_factory: pytest.TempPathFactory, policy: Any, detector: Any, curation: Any, population: Any, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("composed")
    given = members(folder, "ring", policy=policy, seed=seed, detector=detector, curation=curation)
    given |= {"population": population, "generations": 3}
    given["corpus"] |= {"train_words": 2000, "reserve_words": 4500}
    given = {key: value for key, value in given.items() if value is not None}
    with pytest.MonkeyPatch.context() as patch:
        seen = watch_fits(patch)
        try:
            out = run(parse(given), folder / "run")
        except UserError as error:
            assert "leaves none of" in str(error)  # a detector may take everything for synthetic
            return
    for place in members_of(out):
        heldout = set(read_corpus(place / "rows" / "heldout.parquet").texts or ())
        human = Corpus.concatenate([read_corpus(place / "rows" / f"{part}.parquet") for part in ("train", "reserve")])
        known = set(human.texts or ())
        assert heldout and heldout.isdisjoint(known)
    for train in seen:
        texts, mine = train.texts or (), train.generation == HUMAN
        assert {texts[i] for i in np.flatnonzero(mine).tolist()} <= known, "what is called human is human"
    found = verify(out)
    assert found.mismatches == (), found.lines()[:3]
