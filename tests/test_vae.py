"""Variational autoencoders: the bound against another implementation, and whole runs of the loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lmcollapse.cli import main
from lmcollapse.config import load, parse
from lmcollapse.figures import plot
from lmcollapse.loop import run
from lmcollapse.parquet import read_corpus, read_scores
from lmcollapse.results import table
from lmcollapse.substrates.vae import VAE
from lmcollapse.substrates.vae import fit as fit_module
from lmcollapse.substrates.vae.network import LEVEL, Network
from lmcollapse.types import HUMAN, Corpus, Diverged, Silent, UserError
from lmcollapse.verify.same import different_files

SMALL: dict[str, Any] = {
    "substrate": "vae",
    "generations": 3,
    "latent": 4,
    "filters": [4, 8],
    "hidden": 16,
    "epochs": 2,
    "corpus": {"kind": "digits", "train_images": 150, "heldout_images": 60, "reserve_images": 200},
}


def network(*shape: int, likelihood: Any = "bernoulli", latent: int = 3) -> Network:
    torch.manual_seed(0)
    return Network(*shape, filters=(4, 6), hidden=10, latent=latent, likelihood=likelihood)


def pixels(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (7, 9, 3), (1, 1, 1), (5, 2, 1)])
def test_what_is_decoded_has_the_size_of_the_images(shape: tuple[int, int, int]) -> None:
    height, width, channels = shape
    model = network(*shape)
    images = pixels(2, channels, height, width)
    mean, log_variance = model.infer(images)
    assert mean.shape == log_variance.shape == (2, 3)
    assert model.decode(mean).shape == images.shape


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_bound_against_the_distributions_of_torch(likelihood: str) -> None:
    model = network(6, 5, 3, likelihood=likelihood)
    images, noise = pixels(4, 3, 6, 5), torch.randn(7, 4, 3, generator=torch.Generator().manual_seed(2))
    found = model.bound(images, noise)
    mean, log_variance = model.infer(images)
    inferred = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.zeros(4)
    for draw in noise:
        decoded = model.decode(inferred.loc + inferred.scale * draw).sigmoid()
        if likelihood == "bernoulli":
            white = torch.distributions.Bernoulli(decoded)
            each = images * white.log_prob(torch.ones(())) + (1 - images) * white.log_prob(torch.zeros(()))  # type: ignore[no-untyped-call]
        else:
            assert model.log_deviation is not None
            each = torch.distributions.Normal(decoded, LEVEL + model.log_deviation.exp()).log_prob(images)  # type: ignore[no-untyped-call]
        expected -= each.sum(dim=(1, 2, 3)) / 7
    divergence = torch.distributions.kl_divergence(inferred, torch.distributions.Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(found.reconstruction, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.divergence, divergence)


def test_the_bound_lies_above_minus_the_log_likelihood() -> None:
    """Against the likelihood by brute force: an integral over one latent variable."""
    model = network(2, 2, 1, likelihood="gaussian", latent=1)
    images = pixels(5, 1, 2, 2)
    places = torch.linspace(-8, 8, 4001)[:, None]
    with torch.no_grad():
        decoded = model.decode(places).sigmoid()
        normal = torch.distributions.Normal(decoded[:, None], model.deviation())
        each = normal.log_prob(images)  # type: ignore[no-untyped-call]
        given = each.sum(dim=(2, 3, 4)).double()  # (places, images)
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(places).double()  # type: ignore[no-untyped-call]
        exact = torch.logsumexp(given + prior, dim=0) + np.log(16 / 4000)
        found = model.bound(images, torch.randn(2000, 5, 1, generator=torch.Generator().manual_seed(3)))
    bound = (found.reconstruction + found.divergence).double()
    assert (bound >= -exact - 0.02).all()


def test_a_fit_learns_and_a_sample_follows_the_seed(tmp_path: Path) -> None:
    substrate = VAE(latent=4, filters=(8,), hidden=32, epochs=15, likelihood="gaussian", device="cpu", threads=2)
    rng = np.random.default_rng(0)
    images = np.zeros((300, 6, 6, 1), np.uint8)
    images[np.arange(300), :, rng.integers(0, 6, 300)] = 250  # a white bar each
    train = Corpus.of_images(images, HUMAN)
    substrate_base = tmp_path / "base"
    substrate_base.mkdir()
    substrate.save(fit_module.Fitted(substrate._new((6, 6, 1), 0)), substrate_base)
    model = substrate.fit(substrate_base, train, "base", None, 0, Silent(), tmp_path)
    losses = [record["loss"] for record in model.history]
    assert losses[-1] < losses[0] - 10
    written = [substrate.sample(model, train, train, 0, seed, Silent()) for seed in (5, 5, 6)]
    assert (written[0].values == written[1].values).all() and not (written[0].values == written[2].values).all()
    assert written[0].values.shape == images.shape and written[0].generation.tolist() == [0] * 300
    before, after = (
        substrate.score(each, train, Silent()).nats.mean() for each in (substrate.load(substrate_base), model)
    )
    assert after < before - 10


def test_a_killed_fit_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "KEEP_SECONDS", 0.0)
    substrate = VAE(latent=3, filters=(4,), hidden=8, epochs=5, device="cpu", threads=2)
    images = np.random.default_rng(0).integers(0, 256, (90, 5, 5, 1), dtype=np.uint8)
    keep = fit_module._keep

    def killed(*given: Any) -> None:
        keep(*given)
        if len(given[2]) == 3:
            raise KeyboardInterrupt

    def fitted(bench: Path) -> fit_module.Fitted:
        bench.mkdir(exist_ok=True)
        return fit_module.fit(substrate._new((5, 5, 1), 1), images, substrate, 10, 7, Silent(), bench)

    whole = fitted(tmp_path / "whole").network.state_dict()
    monkeypatch.setattr(fit_module, "_keep", killed)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "killed")
    monkeypatch.setattr(fit_module, "_keep", keep)
    content = (tmp_path / "killed" / fit_module.STATE).read_bytes()
    for number, changed in enumerate(
        (content[:-1], b"", bytes(c ^ (at == len(content) // 2) for at, c in enumerate(content)))
    ):
        place = tmp_path / f"damaged_{number}"
        place.mkdir()
        (place / fit_module.STATE).write_bytes(changed)
        assert all(torch.equal(weight, whole[name]) for name, weight in fitted(place).network.state_dict().items())
    resumed = fitted(tmp_path / "killed")
    assert [record["epoch"] for record in resumed.history] == [0, 1, 2, 3, 4]
    for name, weight in resumed.network.state_dict().items():
        assert torch.equal(weight, whole[name]), name


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(parse(SMALL), tmp_path_factory.mktemp("runs") / "vae")


def test_a_run_of_the_loop(finished: Path, tmp_path: Path) -> None:
    again = run(parse(SMALL), tmp_path / "again")
    assert [name for name in different_files(finished, again) if not name.endswith("fit.jsonl")] == []
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["generation"] for row in rows] == [0, 1, 2]
    for name in ("negative_elbo", "active_latents", "pixel_variance", "pixel_frechet", "image_recall"):
        assert all(np.isfinite(row[name]) for row in rows), name
    assert not {"perplexity", "distinct_2", "tail_coverage"} & set(rows[0]), "measures of text"
    corpus = read_corpus(finished / "generation_001" / "corpus" / "corpus.parquet")
    assert corpus.values.shape == (150, 8, 8, 1) and set(corpus.generation.tolist()) == {1}
    heldout = read_scores(finished / "generation_001" / "scores" / "heldout.parquet")
    assert heldout.latents is not None and heldout.latents.mean.shape == (60, 4)
    human = table([finished]).query("generation == -1").set_index("measure")["value"]
    assert 0.7 < human["pixel_variance"] < 1.3 and human["image_recall"] > 0.5


@pytest.mark.parametrize(
    "policy",
    [
        "accumulate",
        "accumulate_subsample",
        "human",
        {"kind": "mix", "human_fraction": 0.2},
        {"kind": "mix", "human_keep": 0.2},
        {"kind": "fresh", "human_fraction": 0.5},
    ],
)
def test_policies_mean_the_same_for_images(tmp_path: Path, policy: Any) -> None:
    out = run(parse({**SMALL, "epochs": 1, "policy": policy, "start": "previous"}), tmp_path / "run")
    facts = json.loads((out / "generation_002" / "train" / "step.json").read_text())["facts"]
    shares = {"accumulate": 1 / 3, "human": 1.0, "mix": 0.2 if "human_fraction" in policy else 30 / 180, "fresh": 0.5}
    kind = policy if isinstance(policy, str) else policy["kind"]
    if kind in shares:
        assert facts["human_fraction"] == pytest.approx(shares[kind])
    model = json.loads((out / "generation_002" / "model" / "step.json").read_text())["facts"]
    assert model["human_fraction_of_tokens"] == pytest.approx(facts["human_fraction"])


def test_accumulate_with_the_steps_of_generation_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 150 images in batches of 64, two epochs are 6 steps; twice and three times as many images get as many."""
    given = {**SMALL, "policy": {"kind": "accumulate", "same_steps": True}}
    fits: list[int] = []
    fit = fit_module.fit

    def counting(network: Network, images: Any, options: VAE, steps: int, *rest: Any) -> fit_module.Fitted:
        fits.append(steps)
        return fit(network, images, options, steps, *rest)

    monkeypatch.setattr(fit_module, "fit", counting)
    out = run(parse(given), tmp_path / "run")
    assert fits == [6, 6, 6]
    run(parse({**given, "policy": "accumulate"}), tmp_path / "plain")
    assert fits[3:] == [6, 10, 16]
    passes = [json.loads((out / f"generation_{g:03d}" / "model" / "step.json").read_text())["facts"] for g in range(3)]
    assert [facts.get("passes", 1) for facts in passes] == pytest.approx([1, 1 / 2, 1 / 3])
    assert [facts["rows"] for facts in passes] == [150, 300, 450]


def test_steps_are_held_only_where_there_are_any(tmp_path: Path) -> None:
    for substrate in ({"substrate": "ngram"}, {"substrate": "gaussian", "chains": 2, "rows": 10}):
        given = {**substrate, "policy": {"kind": "accumulate", "same_steps": True}, "generations": 2}
        with pytest.raises(UserError, match="same_steps has no effect on"):
            run(parse(given), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_figures_status_and_verdicts(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = {file.name for file in plot([finished], tmp_path)}
    stems, kinds = ("image_measures", "images", "latents"), ("png", "pdf", "svg")
    assert drawn == {f"{stem}.{kind}" for stem in stems for kind in kinds} | {"results.parquet", "results.csv"}
    assert all((tmp_path / name).stat().st_size > 2000 for name in drawn)
    main(["status", str(finished)])
    main(["verdicts", str(finished)])
    out = capsys.readouterr().out
    assert "negative ELBO" in out and "finished" in out and "variance of the images" in " ".join(out.split())
    with pytest.raises(SystemExit) as refused:
        main(["measure", str(finished / "generation_000"), "--reference", str(finished)])
    assert refused.value.code == 2 and "has no column 'text'" in capsys.readouterr().err


def test_a_fit_that_diverges_is_recorded(tmp_path: Path) -> None:
    config = parse({**SMALL, "likelihood": "gaussian", "learning_rate": 1e30})
    with pytest.raises(Diverged):
        run(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["diverged"]["generation"] == 0


@pytest.mark.parametrize("output", ["mean", "draw"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_what_is_written_of_each_likelihood(output: Any, likelihood: Any) -> None:
    substrate = VAE(latent=3, filters=(4,), hidden=8, likelihood=likelihood, output=output, device="cpu", threads=2)
    model = fit_module.Fitted(substrate._new((4, 4, 1), 0))
    human = Corpus.of_images(np.zeros((700, 4, 4, 1), np.uint8), HUMAN)
    written = substrate.sample(model, human, human, 1, 3, Silent()).values
    levels = len(np.unique(written))
    if output == "draw" and likelihood == "bernoulli":
        assert levels == 2
    noisy = written.std(axis=0).mean()
    assert (noisy > 20) == (output == "draw"), noisy


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"corpus": "docs"}, "unknown image corpus 'docs'; known: datasets, digits"),
        ({"corpus": {"kind": "digits", "train_words": 5}}, "unknown key 'corpus.train_words'"),
        ({"measures": {"perplexity": {}}}, "perplexity"),
        ({"latent": 0}, "'latent' is 0"),
        ({"filters": []}, "'filters'"),
        ({"filters": [0]}, "'filters.0' is 0"),
        ({"train": {"epochs": 3}}, "unknown key 'train'"),
    ],
)
def test_what_is_refused_in_a_configuration(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse({**SMALL, **given})


def test_a_device_that_is_not_here_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^device is 'cuda:99': not here"):
        run(parse({**SMALL, "device": "cuda:99"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_configurations_that_come_with_the_project(tmp_path: Path) -> None:
    for name in ("vae", "vae-mnist"):
        config = load(Path("configs") / f"{name}.yaml")
        assert isinstance(config.build_substrate(), VAE)
