"""Every name that a configuration may use, and where it lives. Nothing is imported before it is used.

To add a component: write one function (its keyword-only parameters become its options) and one line here.
A name of the form "package.module:attribute" admits code from outside the project.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from lmcollapse.options import suggestion
from lmcollapse.types import UserError

CATALOG: dict[str, dict[str, str]] = {
    "corpus": {
        "docs": "lmcollapse.corpora.docs:docs",
        "datasets": "lmcollapse.corpora.hub:datasets",
        "files": "lmcollapse.corpora.files:files",
    },
    "image corpus": {
        "digits": "lmcollapse.corpora.digits:digits",
        "datasets": "lmcollapse.corpora.hub_images:datasets",
    },
    "substrate": {
        "causal_lm": "lmcollapse.substrates.causal_lm:CausalLM",
        "ngram": "lmcollapse.substrates.ngram:NGram",
        "vae": "lmcollapse.substrates.vae:VAE",
        "gaussian": "lmcollapse.substrates.gaussian:Gaussian",
        "gaussian_mixture": "lmcollapse.substrates.gaussian_mixture:GaussianMixture",
        "kde": "lmcollapse.substrates.kde:KDE",
        "discrete": "lmcollapse.substrates.discrete:Discrete",
        "linear_regression": "lmcollapse.substrates.linear_regression:LinearRegression",
    },
    "policy": {
        "replace": "lmcollapse.policies.replace:replace",
        "accumulate": "lmcollapse.policies.accumulate:accumulate",
        "accumulate_subsample": "lmcollapse.policies.accumulate_subsample:accumulate_subsample",
        "mix": "lmcollapse.policies.mix:mix",
        "fresh": "lmcollapse.policies.fresh:fresh",
        "filling": "lmcollapse.policies.filling:filling",
        "human": "lmcollapse.policies.human:human",
    },
    "scorer": {
        "likelihood": "lmcollapse.scorers.likelihood:likelihood",
        "length": "lmcollapse.scorers.length:length",
    },
    "detector": {
        "ngrams": "lmcollapse.detectors.ngrams:ngrams",
        "embeddings": "lmcollapse.detectors.embeddings:embeddings",
        "likelihood": "lmcollapse.substrates.causal_lm.detect:likelihood",
        "curvature": "lmcollapse.substrates.causal_lm.detect:curvature",
        "classifier": "lmcollapse.substrates.causal_lm.detect:classifier",
        "watermark": "lmcollapse.substrates.causal_lm.detect:watermark",
        "oracle": "lmcollapse.detectors.oracle:oracle",
    },
    "decoder": {
        "greedy": "lmcollapse.substrates.causal_lm.decoding:greedy",
        "ancestral": "lmcollapse.substrates.causal_lm.decoding:ancestral",
        "beam": "lmcollapse.substrates.causal_lm.decoding:beam",
        "temperature": "lmcollapse.substrates.causal_lm.decoding:temperature",
        "top_k": "lmcollapse.substrates.causal_lm.decoding:top_k",
        "top_p": "lmcollapse.substrates.causal_lm.decoding:top_p",
        "min_p": "lmcollapse.substrates.causal_lm.decoding:min_p",
        "repetition_penalty": "lmcollapse.substrates.causal_lm.decoding:repetition_penalty",
    },
    "measure": {
        "human_share": "lmcollapse.metrics.human_share:human_share",
        "detection": "lmcollapse.metrics.detection:detection",
        "perplexity": "lmcollapse.metrics.perplexity:perplexity",
        "accuracy": "lmcollapse.metrics.accuracy:accuracy",
        "calibration": "lmcollapse.metrics.calibration:calibration",
        "cross_entropy_bands": "lmcollapse.metrics.cross_entropy_bands:cross_entropy_bands",
        "sequence_perplexity": "lmcollapse.metrics.sequence_perplexity:sequence_perplexity",
        "distinct_n": "lmcollapse.metrics.distinct_n:distinct_n",
        "invented_words": "lmcollapse.metrics.invented_words:invented_words",
        "entropy": "lmcollapse.metrics.entropy:entropy",
        "type_token_ratio": "lmcollapse.metrics.type_token_ratio:type_token_ratio",
        "self_bleu": "lmcollapse.metrics.self_bleu:self_bleu",
        "self_repetition": "lmcollapse.metrics.self_repetition:self_repetition",
        "compression_ratio": "lmcollapse.metrics.compression_ratio:compression_ratio",
        "repetition": "lmcollapse.metrics.repetition:repetition",
        "repeated_substring": "lmcollapse.metrics.repeated_substring:repeated_substring",
        "verbatim": "lmcollapse.metrics.verbatim:verbatim",
        "zipf": "lmcollapse.metrics.zipf:zipf",
        "heaps": "lmcollapse.metrics.heaps:heaps",
        "tail_coverage": "lmcollapse.metrics.tail_coverage:tail_coverage",
        "tail_mass": "lmcollapse.metrics.tail_mass:tail_mass",
        "survival": "lmcollapse.metrics.survival:survival",
        "divergence": "lmcollapse.metrics.divergence:divergence",
        "missing_mass": "lmcollapse.metrics.missing_mass:missing_mass",
        "mauve": "lmcollapse.metrics.mauve:mauve",
        "frechet": "lmcollapse.metrics.frechet:frechet",
        "semantic_diversity": "lmcollapse.metrics.semantic_diversity:semantic_diversity",
    },
    "image measure": {
        "human_share": "lmcollapse.metrics.human_share:human_share",
        "detection": "lmcollapse.metrics.detection:detection",
        "elbo": "lmcollapse.metrics.elbo:elbo",
        "latents": "lmcollapse.metrics.latents:latents",
        "pixel_variance": "lmcollapse.metrics.pixel_variance:pixel_variance",
        "pixel_frechet": "lmcollapse.metrics.pixel_frechet:pixel_frechet",
        "neighbours": "lmcollapse.metrics.neighbours:neighbours",
    },
    "embedding": {
        "lsa": "lmcollapse.metrics.embeddings:lsa",
        "transformers": "lmcollapse.substrates.causal_lm.embed:transformers",
    },
    "figure": {
        "measures": "lmcollapse.figures.measures:measures",
        "differences": "lmcollapse.figures.differences:differences",
        "sequence_perplexity": "lmcollapse.figures.sequence_perplexity:sequence_perplexity",
        "chains": "lmcollapse.figures.chains:chains",
        "densities": "lmcollapse.figures.densities:densities",
        "mixtures": "lmcollapse.figures.mixtures:mixtures",
        "images": "lmcollapse.figures.images:images",
        "latents": "lmcollapse.figures.latents:latents",
    },
}


def target(kind: str, name: str) -> str:
    """ "module:attribute" of a component; UserError with the nearest known name where there is none."""
    if ":" in name:
        if not re.fullmatch(r"[^\W\d][\w.]*:[^\W\d]\w*", name):
            raise UserError(
                f"{kind} '{name}' is not of the form 'package.module:attribute'; give it so, or a known name"
            )
        return name
    known = CATALOG[kind]
    if name not in known:
        raise UserError(f"unknown {kind} '{name}'" + suggestion(name, sorted(known)))
    return known[name]


_only_own = ContextVar("_only_own", default=False)


@contextmanager
def only_own() -> Iterator[None]:
    """While it lasts nothing from outside the project is imported: what is read comes from somebody else."""
    before = _only_own.set(True)
    try:
        yield
    finally:
        _only_own.reset(before)


def find(kind: str, name: str) -> Any:
    """The component itself, imported now."""
    module, _, attribute = target(kind, name).partition(":")
    if ":" in name and _only_own.get():
        raise UserError(f"{kind} '{name}' is from outside the project, and what only reads a run imports no such code")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        if ":" not in name:
            raise
        raise UserError(
            f"{kind} '{name}' cannot be imported ({error}); it must name an attribute of an importable module, "
            "as in 'my_package.my_module:my_function'"
        ) from None


@cache
def summary(kind: str, name: str) -> str:
    """The first line of a component's docstring, read from its source without importing it."""
    module, _, attribute = target(kind, name).partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, module
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == attribute:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    raise AssertionError(f"{module} has no {attribute}")
