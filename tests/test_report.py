"""Reports: what they say, how large they are, that nothing in them can run, and that they are the same every time."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lmcollapse.cli import main
from lmcollapse.config import parse
from lmcollapse.loop import run
from lmcollapse.metrics.words import words
from lmcollapse.parquet import read_corpus, read_part
from lmcollapse.report import report
from lmcollapse.report.chart import number, ticks
from lmcollapse.report.curves import curves, thinned
from lmcollapse.report.gather import gather
from lmcollapse.report.provenance import provenance
from lmcollapse.report.text import embedded, excerpt, visible
from lmcollapse.report.training import training
from lmcollapse.report.words_lost import words_lost
from lmcollapse.report.written import CHARACTERS, DOCUMENTS, written
from lmcollapse.results import table
from lmcollapse.theory import expected
from lmcollapse.trajectories import mean
from lmcollapse.types import HUMAN, UserError
from lmcollapse.verdicts import verdicts
from tests.reported import CONDITIONS, HOSTILE, STEERING, grid, hostile, stretched, urn_run
from tests.tamper import edit

LABELS = ["replace", "accumulate", "mix human_fraction=0.1"]


class Read(HTMLParser):
    """A page's elements, its attributes, the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.lasttag not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return grid(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def page(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    return report(runs, tmp_path_factory.mktemp("page") / "report.html").read_text(encoding="utf-8")


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_it_tells_what_was_done_and_what_came_of_it(runs: list[Path], page: str) -> None:
    read = Read(page)
    headings = [
        *("Has it collapsed?", "Curves", "Differences between conditions", "One text, generation by generation"),
        *("Rare words, and when they were lost", "What each generation was trained on", "Configuration"),
        *("Environment", "How to cite", "How to run it again"),
    ]
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", page) == headings
    for label in LABELS:
        assert label in read.text
    assert "seed by seed" in read.text and "Generations 3, counted from 0" in read.text
    for verdict in verdicts(runs).itertuples():
        assert str(verdict.definition) in read.text and str(verdict.sentence) in read.text
    assert "doi = {10.1038/s41586-024-07566-y}" in read.text and "@software{lmcollapse," in read.text


def test_what_is_drawn_is_what_the_table_has(runs: list[Path], page: str) -> None:
    data, found = data_of(page), table(runs)
    assert data["conditions"] == LABELS and data["generations"] == [0, 1, 2]
    measure = next(m for m in data["measures"] if m["name"] == "tail_coverage")
    rows = found[(found["measure"] == "tail_coverage") & (found["generation"] != HUMAN)].set_index(
        ["run", "generation"]
    )
    for (condition, line), drawn in zip(data["lines"], measure["runs"], strict=True):
        name = f"{list(CONDITIONS)[condition]}-{line.removeprefix('seed ')}"
        for place, column in enumerate(("value", "low", "high")):
            assert drawn[place] == pytest.approx(rows.loc[name][column].tolist(), rel=1e-4)
    value_of = {key: float(value) for key, value in rows["value"].items()}
    values = [value_of[f"mix-{seed}", 2] for seed in range(3)]
    assert [column[2] for column in measure["means"][2]] == pytest.approx(list(mean(values)), rel=1e-4)
    assert measure["differences"][0] is None
    gaps = [value - value_of[f"replace-{seed}", 2] for seed, value in enumerate(values)]
    assert [column[2] for column in measure["differences"][2]] == pytest.approx([*mean(gaps), 3], rel=1e-3)
    assert measure["differences"][1][0][0] == 0  # generation 0 is the same for all


def test_words_are_lost_in_the_generation_that_used_them_last(runs: list[Path]) -> None:
    lost = words_lost(gather(runs))[0]
    used = [Counter(w for text in read_part(runs[0] / "human" / "train.parquet").texts for w in words(text))]
    for generation in range(3):
        texts = read_corpus(runs[0] / f"generation_{generation:03d}" / "corpus" / "corpus.parquet").texts
        used.append(Counter(w for text in texts or () for w in words(text)))
    rare = {word for word, count in used[0].items() if count <= 4}
    last = {word: max(g for g in range(4) if word in used[g]) for word in rare}
    assert lost.rare == len(rare) and lost.rare_count == 4
    for place, entry in enumerate(lost.generations):
        assert entry.used == sum(word in used[place] for word in rare)
        if place < 3:
            assert entry.lost == sum(g == place for g in last.values())
            assert entry.words and all(last[word] == place for word in entry.words)
    assert lost.generations[3].lost == 0


def test_training_sets_are_those_of_the_records(runs: list[Path]) -> None:
    found = {one.label: one for one in training(gather(runs))}
    accumulated = found["accumulate"].sets[2]
    rows = read_corpus(runs[3] / "generation_000" / "corpus" / "corpus.parquet").row.size
    assert accumulated.origins == {HUMAN: rows, 0: rows, 1: rows} and accumulated.rows == 3 * rows
    assert accumulated.words == f"human: {rows}, generations 0–1: {rows}"
    assert found["replace"].sets[1].human_fraction == 0
    assert found["mix human_fraction=0.1"].bars.count('class="people"') == 3


def test_documents_stand_side_by_side_with_their_own_number(runs: list[Path]) -> None:
    found = written(gather(runs))
    assert found is not None and len(found.documents) == DOCUMENTS
    texts = read_corpus(runs[6] / "generation_002" / "corpus" / "corpus.parquet").texts
    assert texts is not None
    generation, cells = found.documents[4].rows[2]
    assert generation == 2 and cells[2] == texts[4]  # the third condition is mix
    assert len(set(found.documents[4].rows[0][1])) == 1  # generation 0 is the same for all


def test_a_configuration_on_the_page_runs_again(runs: list[Path], page: str) -> None:
    settings = provenance(gather(runs)).settings[2].yaml
    assert settings.splitlines()[0] in page
    again = parse(yaml.safe_load(settings)).model_dump(mode="json")
    assert again == json.loads((runs[6] / "manifest.json").read_text())["config"]


def test_the_same_runs_give_the_same_bytes(runs: list[Path], page: str, tmp_path: Path) -> None:
    assert report(runs, tmp_path / "deep" / "again.html").read_text(encoding="utf-8") == page


def test_nothing_is_fetched_and_nothing_of_others_may_run(page: str) -> None:
    read = Read(page)
    assert not {
        tag for tag in read.tags if tag in ("link", "iframe", "object", "embed", "base", "form", "audio", "video")
    }
    assert read.tags["script"] == 2 and read.tags["style"] == 1
    for name, value in read.attributes:
        assert not name.startswith("on") and name not in ("style", "srcset"), name
        assert name not in ("src", "href") or (value or "").startswith(("#", "data:image/png;base64,")), value
    policy = next(value for _, value in read.attributes if value and "default-src" in value)
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy


def test_hostile_runs_show_as_text(tmp_path: Path) -> None:
    page = report([hostile(tmp_path)], tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(STEERING, page)
    read = Read(page)
    assert read.tags["script"] == 2 and not read.tags["img"] and read.tags["h1"] == 1
    assert not any(name.startswith("on") or value == "owned" for name, value in read.attributes)
    for sign in (
        "<script>document",
        "onerror=",
        "{{ 7 * 7 }}",
        "⟨U+0000⟩",
        "⟨U+001B⟩[31m",
        "⟨U+202E⟩gnirts",
        "⟨U+2028⟩",
    ):
        assert sign in read.text, sign
    assert "more marks⟩" in read.text and "⟨U+E0041⟩tag" in read.text and "⟨U+FEFF⟩" in read.text
    assert HOSTILE[1] in [measure["name"] for measure in data_of(page)["measures"]]


def test_ten_generations_three_conditions_three_seeds_stay_below_a_megabyte(tmp_path: Path) -> None:
    """With all measures there are, and documents as long as are shown."""
    base = urn_run(tmp_path, tmp_path / "base", generations=2, urn={"row_words": 120}, measures={})
    policies: list[dict[str, Any]] = [
        {"kind": "replace"},
        {"kind": "accumulate"},
        {"kind": "mix", "human_fraction": 0.1},
    ]
    made = [
        stretched(base, tmp_path / f"{policy['kind']}-{seed}", 10, seed, policy)
        for policy in policies
        for seed in range(3)
    ]
    page = report(made, tmp_path / "report.html")
    data = data_of(page.read_text(encoding="utf-8"))
    assert len(data["generations"]) == 10 and len(data["lines"]) == 9 and len(data["measures"]) >= 60
    found = written(gather(made))
    assert found is not None and len(found.documents[0].rows[0][1][0] or "") > CHARACTERS - 60
    assert page.stat().st_size < 1_000_000


def test_runs_of_chains_have_theory_and_fewer_points(tmp_path: Path) -> None:
    config = parse({"substrate": "gaussian", "generations": 900, "chains": 10, "rows": 20})
    out = run(config, tmp_path / "run")
    data = data_of(report([out], tmp_path / "report.html").read_text(encoding="utf-8"))
    assert data["generations"][0] == 0 and data["generations"][-1] == 899 and len(data["generations"]) <= 160
    variance = data["measures"][0]
    assert variance["name"] == "variance" and variance["log"]
    theory = expected(config, "variance")
    assert theory is not None and variance["spread"][0] is not None
    assert variance["theory"][0] == pytest.approx(theory[data["generations"]].tolist(), rel=1e-4)
    assert data["measures"][-1]["name"] == "human_fraction"


def test_runs_of_different_kinds_share_a_page(runs: list[Path], tmp_path: Path) -> None:
    chains = run(parse({"substrate": "gaussian", "generations": 4, "chains": 5, "rows": 10}), tmp_path / "chains")
    data = data_of(report([runs[0], chains], tmp_path / "report.html").read_text(encoding="utf-8"))
    assert data["conditions"] == ["replace, substrate=tests.urn:Urn", "replace, substrate=gaussian"]
    of = {measure["name"]: measure for measure in data["measures"]}
    assert of["variance"]["runs"][0][0] == [None] * 4 and None not in of["variance"]["runs"][1][0]
    assert of["perplexity"]["runs"][0][0][3] is None and of["perplexity"]["differences"] == [None, None]


def test_runs_of_images_have_images(tmp_path: Path) -> None:
    given = {"substrate": "vae", "generations": 2, "latent": 2, "filters": [2], "hidden": 4, "epochs": 1}
    corpus = {"kind": "digits", "train_images": 100, "heldout_images": 30}
    out = run(parse({**given, "corpus": corpus}), tmp_path / "run")
    page = report([out], tmp_path / "report.html").read_text(encoding="utf-8")
    assert Read(page).tags["img"] == 3 and "Rare words" not in page and "img-src data:" in page


def test_members_of_a_population_are_told_apart(tmp_path: Path) -> None:
    out = urn_run(tmp_path, tmp_path / "ring", generations=2, population={"members": 2})
    page = report([out], tmp_path / "report.html").read_text(encoding="utf-8")
    assert [line for _, line in data_of(page)["lines"]] == ["seed 0, member_00", "seed 0, member_01"]
    assert data_of(page)["measures"][0]["means"] == [None]


def test_of_a_run_that_goes_on_what_is_finished_is_told(runs: list[Path], tmp_path: Path) -> None:
    going = shutil.copytree(runs[1], tmp_path / "replace-1")
    lines = (going / "metrics.jsonl").read_text().splitlines(keepends=True)
    (going / "metrics.jsonl").write_text("".join(lines[:2]))
    for folder in ("corpus", "model", "scores", "measures"):
        shutil.rmtree(going / "generation_002" / folder)
    read = Read(report([runs[0], going, runs[2]], tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "replace-1 (2 of 3 generations so far)" in read.text
    (going / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="no finished generation yet"):
        report([going], tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


def test_conditions_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    for name, words_a_row in (("a", 20), ("b", 25)):
        urn_run(tmp_path, tmp_path / name, generations=1, urn={"row_words": words_a_row})
    labels = [one.label for one in gather([tmp_path / "a", tmp_path / "b"]).conditions]
    assert labels == ["replace, urn.row_words=20", "replace, urn.row_words=25"]
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    same = gather([tmp_path / "a", tmp_path / "copy"])
    assert [one.distinct for one in same.conditions] == [False]
    assert curves(same).lines == [(0, "seed 0, a"), (0, "seed 0, copy")]


def test_what_cannot_be_reported(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="is a directory; give a file"):
        report(runs[:1], tmp_path)
    with pytest.raises(UserError, match="holds no run"):
        report([tmp_path], tmp_path / "report.html")
    broken = shutil.copytree(runs[0], tmp_path / "broken")
    (broken / "generation_001" / "corpus" / "corpus.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"generation_001/corpus/corpus\.parquet: damaged"):
        report([broken], tmp_path / "report.html")
    missing = shutil.copytree(runs[0], tmp_path / "missing")
    edit(missing / "generation_001" / "train" / "step.json", lambda record: record["facts"].pop("origins"))
    with pytest.raises(UserError, match=r"train/step\.json is missing or damaged"):
        report([missing], tmp_path / "report.html")
    with pytest.raises(SystemExit) as end:
        main(["report"])
    assert end.value.code == 2 and "no run was named" in capsys.readouterr().err


def test_the_command(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", str(runs[0]), "--out", str(tmp_path / "page.html")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes().startswith(b"<!DOCTYPE html>")


def test_texts_made_visible() -> None:
    assert visible("plain\ttext\n") == "plain\ttext\n"
    assert visible("a\u202eb\u00adc\x00\u3164") == "a⟨U+202E⟩b⟨U+00AD⟩c⟨U+0000⟩⟨U+3164⟩"
    assert visible("é na\u0308ive مرحبا 你好 😀") == "é na\u0308ive مرحبا 你好 😀"
    assert visible("o" + "\u0301" * 5 + "k") == "o" + "\u0301" * 3 + "⟨2 more marks⟩k"
    assert excerpt("one\n\n\n two\tthree", 50) == "one ⏎×3 two three"
    assert excerpt("x\u200b" * 100, 30) == "x⟨U+200B⟩" * 3 + "x …"
    assert len(excerpt("word " * 1000, 100)) <= 102
    assert embedded({"</script>": "<!--&\u2028"}) == '{"\\u003c/script\\u003e":"\\u003c!--\\u0026\\u2028"}'


def test_ticks_are_round_and_within() -> None:
    assert ticks(0, 1, False) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert ticks(150, 760, True) == pytest.approx([150, 200, 300, 500, 700])
    assert ticks(1, 1e4, True) == pytest.approx([1, 10, 100, 1000, 1e4])
    assert ticks(100, 110, True) == pytest.approx([100, 102, 104, 106, 108, 110])
    assert all(-3 <= tick <= 0.1 for tick in ticks(-3, 0.1, False))
    assert [number(value) for value in (0, 1234.56, -0.25, 2e-9, 3e9)] == ["0", "1,235", "−0.25", "2e-09", "3e+09"]
    assert thinned(5, 100) == [0, 1, 2, 3, 4] and thinned(100_000, 10**6)[-1] == 99_999


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_has_contrast(mode: str) -> None:
    """At least 4.5 to 1, as the Web Content Accessibility Guidelines ask at level AA."""
    css = files("lmcollapse.report").joinpath("style.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--(\w+): (#\w+)", part)) for part in css.split("@media")[:2])
    colours = light | (dark if mode == "dark" else {})

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        channels = np.array([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    pairs = [(ink, ground) for ink in ("ink", "soft") for ground in ("paper", "shade")]
    for ink, ground in [*pairs, ("link", "paper"), ("bad", "yes"), ("good", "no"), ("paper", "ink"), ("ink", "yes")]:
        a, b = sorted((luminance(colours[ink]), luminance(colours[ground])))
        assert (b + 0.05) / (a + 0.05) >= 4.5, (ink, ground)
