"""What was done, in words: model, human data, conditions, generations, seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmcollapse.catalog import CATALOG, summary
from lmcollapse.config import dotted
from lmcollapse.report.gather import Gathered, Told

QUESTION = {
    "text": "What becomes of language models when each generation learns from texts that the one before it wrote?",
    "images": "What becomes of models of images when each generation learns from images that the one before it made?",
    "chains": "What becomes of a simple model when each generation is fitted to samples that the one before it drew?",
}
TITLES = {
    "causal_lm": "Language models",
    "ngram": "N-gram models",
    "vae": "Variational autoencoders",
    "gaussian": "Gaussians",
    "gaussian_mixture": "Gaussian mixtures",
    "kde": "Kernel density estimates",
    "discrete": "Discrete distributions",
    "linear_regression": "Linear regressions",
}
PARTS = {"train": "to learn from", "heldout": "held out", "reserve": "in reserve"}
SHOWN = {
    "causal_lm": ("model.name", "model.architecture", "model.layers", "model.width", "model.heads", "model.vocabulary"),
    "ngram": ("order", "vocabulary", "smoothing"),
    "vae": ("latent", "filters", "likelihood", "epochs"),
}
"""Options of a substrate that say what model it is; of simple models all that are numbers or names are shown."""


@dataclass(frozen=True)
class Asked:
    """What was done.

    facts : a heading and what there is to say of it, a line for each that differs.
    """

    question: str
    title: str
    facts: list[tuple[str, list[str]]]


def asked(gathered: Gathered) -> Asked:
    """The question of a report."""
    runs = gathered.runs
    kinds = list(dict.fromkeys(run.kind for run in runs))
    policies = [_policy(one.label, one.first.config) for one in gathered.conditions]
    seeds = sorted({run.seed for run in runs})
    generations = sorted({run.finished for run in runs})
    labels = "; ".join(one.label for one in gathered.conditions)
    return Asked(
        " ".join(QUESTION[kind] for kind in kinds),
        f"{_substrates(runs)} over {generations[-1]:,} generations: {labels}",
        [
            ("Model", _distinct(_model(run) for run in runs)),
            ("Human data", _human(runs)),
            ("Sampling", _distinct(_sampling(run.config) for run in runs if run.config.get("sampling"))),
            ("Conditions" if len(policies) > 1 else "Condition", policies),
            (
                "Generations",
                [f"{_numbers(generations)}, counted from 0, which learns from human {_data(runs)} alone"],
            ),
            ("Seeds", [_numbers(seeds) + _pairing(gathered)]),
        ],
    )


def _substrates(runs: Sequence[Told]) -> str:
    names = dict.fromkeys(str(run.config.get("substrate", "causal_lm")) for run in runs)
    return ", ".join(TITLES.get(name, name) for name in names)


def _data(runs: Sequence[Told]) -> str:
    kinds = {run.kind for run in runs}
    return "text" if kinds == {"text"} else "images" if kinds == {"images"} else "data"


def _distinct(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def _numbers(numbers: Sequence[int]) -> str:
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(f"{number:,}" for number in numbers)


def _pairing(gathered: Gathered) -> str:
    together = [one for one in gathered.conditions if one.together]
    if len(together) == len(gathered.conditions):
        return "; runs of one seed have generation 0 and their random numbers in common, and intervals are over seeds"
    return "; with three or more of each condition intervals would be over seeds, here they are each run's own"


def _model(run: Told) -> str:
    name = str(run.config.get("substrate", "causal_lm"))
    options = dotted({**run.manifest.get("decided", {})})
    chosen: Sequence[str] = SHOWN.get(name, [key for key in options if run.kind == "chains"])
    given = [f"{key.removeprefix('model.')} {options[key]}" for key in chosen if options.get(key) is not None]
    return _sentence("substrate", name) + (f" ({', '.join(given)})" if given else "")


def _human(runs: Sequence[Told]) -> list[str]:
    """Each source once, with the sizes that runs have taken of it."""
    found: dict[str, list[Told]] = {}
    for run in runs:
        found.setdefault(_source(run), []).append(run)
    return [": ".join(filter(None, [source, _sizes(some)])) for source, some in found.items()]


def _source(run: Told) -> str:
    corpus = run.config.get("corpus")
    if not corpus:
        return "drawn from a distribution that is known"
    said = _sentence("image corpus" if run.kind == "images" else "corpus", str(corpus["kind"]))
    return f"{said} ({corpus['path']})" if isinstance(corpus.get("path"), str) else said


def _sizes(runs: Sequence[Told]) -> str:
    unit = "images" if runs[0].kind == "images" else "words"
    sizes = []
    for part, words in PARTS.items():
        parts = [run.manifest["human"].get(part) or {} for run in runs]
        if known := sorted({facts[unit] for facts in parts if unit in facts}):
            size = f"{known[0]:,}" if len(known) == 1 else f"{known[0]:,} to {known[-1]:,}"
            sizes.append(f"{size} {unit} {words}")
    return ", ".join(sizes)


def _sampling(config: Mapping[str, Any]) -> str:
    usual = {"backend": "own", "temperature": 1.0, "repetition_penalty": 1.0, "prompt": "none"}
    sampling = {key: value for key, value in dotted(config["sampling"]).items() if value is not None}
    return ", ".join(f"{key} {value}" for key, value in sampling.items() if usual.get(key) != value)


def _policy(label: str, config: Mapping[str, Any]) -> str:
    more = [
        text
        for section, text in (
            ("curation", "the best of several samples are kept"),
            ("detector", "a detector filters what is not labelled"),
            ("population", "several models train on each other's output"),
        )
        if config.get(section)
    ]
    return "; ".join([f"{label}: {_sentence('policy', str(config['policy']['kind']))}", *more])


def _sentence(kind: str, name: str) -> str:
    """The first line of a component's docstring as a part of a sentence; its name for one from outside the project."""
    if name not in CATALOG[kind]:
        return name
    return summary(kind, name).removesuffix(".")
