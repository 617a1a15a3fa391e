"""What is asked, which way a measure gets worse, and all that can be refused before any compute is spent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from lmcollapse.chains import trajectories
from lmcollapse.config import Config, parse
from lmcollapse.options import suggestion
from lmcollapse.types import Floats, UserError

Policy = Literal["mix", "fresh"]
Worse = Literal["higher", "lower", "either"]

SHARES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Even steps for a loss that falls as a power of the share, as theory has it; none, and all, at the ends."""

NAMES: dict[Worse, dict[str, tuple[str, ...]]] = {
    "higher": {
        "perplexity": ("perplexity", "bits_per_byte", "word_perplexity"),
        "calibration": ("expected_calibration_error",),
        "cross_entropy_bands": ("cross_entropy_head", "cross_entropy_body", "cross_entropy_tail"),
        "invented_words": ("invented_types", "invented_words"),
        "self_bleu": ("self_bleu",),
        "self_repetition": ("self_repetition",),
        "compression_ratio": ("compression_ratio",),
        "repetition": ("repetition_N",),
        "repeated_substring": ("longest_repeat_words",),
        "verbatim": ("verbatim_share",),
        "divergence": ("unigram_kl", "unigram_js"),
        "frechet": ("frechet_distance", "frechet_distance_corrected"),
        "elbo": ("negative_elbo", "bits_per_value", "reconstruction"),
        "pixel_frechet": ("pixel_frechet",),
        "": ("mean_error", "w2_squared", "l2_squared", "total_variation", "excess_risk"),
    },
    "lower": {
        "accuracy": ("next_token_accuracy",),
        "distinct_n": ("distinct_N", "distinct_N_human"),
        "entropy": ("entropy_N",),
        "type_token_ratio": ("type_token_ratio",),
        "repetition": ("document_diversity",),
        "heaps": ("heaps_exponent",),
        "tail_coverage": ("tail_coverage",),
        "tail_mass": ("tail_mass",),
        "survival": ("survival_1", "survival_2_4", "survival_5_16", "survival_17_64", "survival_65_up"),
        "mauve": ("mauve",),
        "semantic_diversity": ("semantic_diversity",),
        "latents": ("active_latents", "latent_variance"),
        "pixel_variance": ("pixel_variance",),
        "neighbours": ("image_precision", "image_recall", "image_density", "image_coverage"),
        "": (
            *("variance", "sample_variance", "standard_deviation", "determinant", "bandwidth", "separation"),
            *("heterozygosity", "entropy", "support", "weight_entropy"),
        ),
    },
    "either": {
        "sequence_perplexity": ("sequence_perplexity_*",),
        "zipf": ("zipf_exponent",),
        "elbo": ("divergence", "negative_elbo_written"),
        "missing_mass": ("missing_mass",),
    },
}
"""Readings by the measure that gives them ("" for simple models) and by which way is worse. N: a number; *: any end."""

LOGARITHMIC = re.compile(r"(word_|sequence_)?perplexity(?!.*_(below|above)$)")
"""What is compared by the logarithm of its ratio: it averages over seeds as nats do."""

DEFAULTS = {
    **dict.fromkeys(("gaussian", "gaussian_mixture", "kde"), "variance"),
    **{"discrete": "heterozygosity", "linear_regression": "excess_risk", "vae": "negative_elbo"},
}
"""What is asked about where nothing else is said, by substrate; of language models perplexity."""


@dataclass(frozen=True)
class Question:
    """How much human text must be kept?

    measure : what must be kept, the name of a reading; None for the one in DEFAULTS, else perplexity.
    loss : how much worse than with human text alone it may be, relative.
    shares : human shares that are run; 1, which the others are compared with, always is.
    seeds : how many runs each share has, with the configuration's seed and those after it.
    policy : `mix` (human rows drawn from the human part) or `fresh` (rows that no generation has read before); None for
        `fresh` where human data come from a distribution, else `mix`.
    keep : least part of the human text in a pool that a detector must let through.
    """

    measure: str | None = None
    loss: float = 0.05
    shares: tuple[float, ...] = SHARES
    seeds: int = 3
    policy: Policy | None = None
    keep: float = 0.9

    @property
    def grid(self) -> list[float]:
        """The shares in order."""
        return sorted({*self.shares, 1.0})


class Scale(NamedTuple):
    """How the loss of a measure is reckoned.

    worse : which way it gets worse; "either" where any change counts as a loss.
    log : whether by the logarithm of the ratio.
    """

    worse: Worse
    log: bool

    def loss(self, value: Floats, baseline: Floats) -> Floats:
        """What is averaged over seeds: ln(v/b), or v/b - 1, or 1 - v/b, or |v/b - 1|; NaN where v or b is."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.asarray(value, np.float64) / np.asarray(baseline, np.float64)
            found: Floats = np.log(ratio) if self.log else ratio - 1
        return {"higher": found, "lower": -found, "either": np.abs(found)}[self.worse]

    def relative(self, loss: Any) -> Any:
        """A loss as a share of the baseline."""
        return np.expm1(loss) if self.log else loss

    def threshold(self, relative: float) -> float:
        """The inverse of `relative`."""
        return float(np.log1p(relative)) if self.log else relative


def scale_of(measure: str) -> Scale:
    """How the loss of a reading is reckoned; of one that is not in NAMES any change is a loss."""
    ways = (worse for worse, names in NAMES.items() for some in names.values() if _among(measure, some))
    return Scale(next(ways, "either"), LOGARITHMIC.match(measure) is not None)


def variant(config: Config, **changes: Any) -> Config:
    """The configuration with some of its top-level keys changed."""
    return parse(config.model_dump(mode="json") | changes)


def with_policy(config: Config, question: Question) -> Config:
    """The configuration with the policy of the question; options that it gives to this policy already stay as they are.

    Its share is that of the baseline; `at_share` has the others.
    """
    kind = kind_of(config, question)
    own, given = config.section("policy")
    kept = {key: value for key, value in given.items() if own == kind and key != "human_keep"}
    return variant(config, policy={"kind": kind} | kept | {"human_fraction": 1.0})


def at_share(config: Config, share: float, **changes: Any) -> Config:
    """What `with_policy` gave, at another human share, and with other numbers at its top level."""
    return config.model_copy(update={"policy": config.policy.model_copy(update={"human_fraction": share})} | changes)


def kind_of(config: Config, question: Question) -> Policy:
    """The policy that brings in human rows."""
    return question.policy or ("fresh" if config.of_chains else "mix")


def measure_of(config: Config, question: Question) -> str:
    """The reading that is asked about."""
    return question.measure or DEFAULTS.get(config.substrate, "perplexity")


def check(config: Config, question: Question) -> None:
    """Raise UserError for a question that cannot be answered, as far as that is known before the first fit."""
    wrong = [share for share in question.shares if not 0 <= share <= 1]
    if wrong:
        raise UserError(f"shares holds {wrong[0]:g}; a human share lies between 0 and 1, as in --shares 0,0.1,1")
    if len(question.grid) < 2:
        raise UserError("shares holds nothing below 1, which all others are compared with; give some, as 0,0.1")
    if question.seeds < 2:
        raise UserError(f"seeds is {question.seeds}; an interval needs 2 at least, and is far narrower with 3 or more")
    if not 0 < question.keep <= 1:
        raise UserError(f"keep is {question.keep:g}; the part of the human text to be kept lies above 0, up to 1")
    if config.generations < 2:
        raise UserError(
            f"generations is {config.generations}, and generation 0 reads human text alone, whatever the share; give 2 "
            "or more"
        )
    measure = measure_of(config, question)
    _check_measure(config, measure)
    most = 1.0 if scale_of(measure).worse == "lower" else np.inf
    if not 0 < question.loss < most:
        raise UserError(
            f"loss is {question.loss:g}; it is relative and lies above 0"
            + (f", below 1 for {measure}, which cannot lose more than all" if most == 1 else "")
            + "; 0.05 allows for five per cent"
        )
    _check_reserve(config, question)
    config.build_substrate().check(config.start)


def check_reading(measure: str, generations: Sequence[Mapping[str, Any]]) -> None:
    """Raise UserError for a measure that finished generations do not have; generations : the readings of each."""
    for readings in generations[:1]:
        if measure in readings:
            continue
        ends = ("_low", "_high", "_p5", "_p50", "_p95")
        known = sorted(name for name in readings if not name.endswith(ends) and name != "generation")
        raise UserError(f"unknown measure '{measure}'" + suggestion(measure, known))


def _check_measure(config: Config, measure: str) -> None:
    if config.of_chains:
        if config.corpus is None:
            small = variant(config, chains=1, generations=1, policy={"kind": "replace"})
            readings = dict(trajectories(small).measures)
            del readings["human_fraction"]  # it is the question
            check_reading(measure, [readings])
        return
    taken = config.chosen_measures()
    if any(":" in name for name in taken):
        return  # what it will be called, generation 0 tells
    by_name = {name: own for names in NAMES.values() for own, some in names.items() for name in some if own}
    known = sorted(name for name, own in by_name.items() if own in taken)
    if _among(measure, known):
        return
    own = next((own for name, own in by_name.items() if _among(measure, (name,))), None)
    if own is not None and own in dict(config.measures or ()):
        raise UserError(f"{measure} is not measured: the configuration has measures.{own}: null; leave that out")
    raise UserError(f"unknown measure '{measure}'" + suggestion(measure, known))


def _check_reserve(config: Config, question: Question) -> None:
    """Fresh rows come from a reserve, where human data are a corpus."""
    if kind_of(config, question) == "mix" or config.of_chains:
        return
    sizes = {key: size for key, size in (config.corpus or ()) if key.startswith("reserve_")}
    if not any(sizes.values()):
        raise UserError(
            f"policy fresh needs human data in reserve, {config.generations - 1} times the training part for a share "
            f"of 1; give corpus.{next(iter(sizes))}, or take --policy mix"
        )


def _among(measure: str, names: Iterable[str]) -> bool:
    """Whether a reading is one of these; those that stand for many included."""
    if measure.endswith(("_drift", "_excess")):
        return False
    patterns = (re.escape(name).replace("N", r"\d+").replace(r"\*", ".+") for name in names)
    return any(re.fullmatch(pattern, measure) for pattern in patterns)
