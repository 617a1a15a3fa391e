"""The eight definitions of model collapse in use, each as a test over the measures of a run (Schaeffer et al. 2025)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from lmcollapse.options import Options
from lmcollapse.trajectories import Estimate, Subject, Trajectory, difference, ratio, share_of_sum, slope
from lmcollapse.types import HUMAN

Answer = Literal["holds", "does not hold", "undecided", "undecidable from this run"]
Positive = Annotated[float, Field(gt=0)]
Above = Annotated[float, Field(gt=1)]
Share = Annotated[float, Field(gt=0, lt=1)]

LEAST_SIZES = 3
"""A scaling law is read off runs on so many sizes of human text, or more."""


class Thresholds(Options):
    """From where on each definition holds. All are conventions of this project: the literature names none."""

    catastrophic_factor: Above = 2.0
    """Perplexity of the last generation over that of generation 0."""
    negligible_nats: Positive = 0.01
    """An increase of the log perplexity that is certainly smaller than this is none."""
    growing_share: Share = 1 / 3
    """Of the growth of the log perplexity, what the second half of the generations brings at least if it diverges."""
    levelling_share: Share = 0.2
    """Of that growth, what the second half brings at most if it levels off."""
    least_generations: Annotated[int, Field(ge=5)] = 7
    """With fewer, generation 0 among them, whether growth levels off is undecidable."""
    negligible_exponent: Positive = 0.02
    """A change of the scaling exponent that is certainly smaller than this is none."""
    diversity_ratio: Share = 0.9
    """Diversity of the last generation over that of generation 0 and of human text."""
    mauve_drop: Share = 0.1
    """What the last generation's MAUVE lacks to that of generation 0 and of human text."""
    frechet_factor: Above = 2.0
    """Fréchet distance of the last generation over that of generation 0 and of human text."""
    tail_ratio: Share = 0.9
    """Rare words in use in the last generation over those in generation 0 and in human text."""
    invented_share: Share = 0.01
    """Share of invented words: what the last generation has more than generation 0 and human text."""
    unlikely_share: Share = 0.01
    """Share of sequences beyond generation 0's 99 % quantile of perplexity: what the last generation has more."""


@dataclass(frozen=True)
class Verdict:
    """What one definition of collapse comes to in a run.

    sentence : the verdict in words, or why there is none.
    measure : that the test looked at, "" where there was none to look at.
    statistic, low, high, threshold : the number that was compared with the threshold and its 95 % interval, or NaN.
    """

    verdict: Answer
    sentence: str
    measure: str = ""
    statistic: float = np.nan
    low: float = np.nan
    high: float = np.nan
    threshold: float = np.nan


Test = Callable[[Subject, Thresholds, Sequence[Subject]], Verdict]
"""`test(subject, thresholds, family)`: the family are all runs, the subject among them, that differ in nothing but the
seed and the size of their human text."""


def undecidable(why: str, measure: str = "") -> Verdict:
    """The run lacks what the test needs."""
    return Verdict("undecidable from this run", why, measure)


def beyond(statistic: Estimate, threshold: float, *, rising: bool = True, none: float | None = None) -> Answer:
    """On which side of the threshold the whole interval lies; `none` is that of "does not hold", if another."""
    low, high, side = (statistic.low, statistic.high, 1) if rising else (-statistic.high, -statistic.low, -1)
    if low > side * threshold:
        return "holds"
    return "does not hold" if high < side * (threshold if none is None else none) else "undecided"


def words_for(estimate: Estimate) -> str:
    """A number and its interval."""
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"


def lacking(what: str, estimate: Estimate) -> str:
    """Why a comparison could not be made."""
    return f"{what} has no {'value' if np.isnan(estimate.value) else 'interval (three seeds would give it one)'}"


@dataclass(frozen=True)
class Risk:
    """The log perplexity of held-out human data, in nats a token or, of images, in nats a value of a pixel.

    measure : that it is taken from.
    unit : what each of its nats is for.
    """

    measure: str
    unit: str
    nats: Trajectory

    @classmethod
    def of(cls, subject: Subject) -> Risk:
        """From perplexity where the run has it, else from the bound of a model with latent variables."""
        bound = subject.measure("bits_per_value")
        if np.isnan(bound.at(subject.last).value):
            return cls("perplexity", "token", subject.measure("perplexity").log())
        nats = tuple({g: Estimate(*(np.log(2) * np.array(e)).tolist()) for g, e in run.items()} for run in bound.runs)
        return cls("bits_per_value", "value", Trajectory(nats))

    def growth(self, subject: Subject) -> Estimate | Verdict:
        """From generation 0 to the last."""
        change = self.nats.against(subject.last, 0)
        return change if change.known else undecidable(lacking("the change of perplexity", change), self.measure)


def catastrophic_increase(subject: Subject, thresholds: Thresholds, _: Sequence[Subject]) -> Verdict:
    """Perplexity has grown by a large factor."""
    risk, threshold = Risk.of(subject), thresholds.catastrophic_factor
    change = risk.growth(subject)
    if isinstance(change, Verdict):
        return change
    factor = Estimate(*np.exp(change).tolist())
    sentence = f"perplexity is {words_for(factor)} times that of generation 0; it holds above {threshold:.3g}"
    return Verdict(beyond(factor, threshold), sentence, risk.measure, *factor, threshold)


def any_increase(subject: Subject, thresholds: Thresholds, _: Sequence[Subject]) -> Verdict:
    """The log perplexity has grown, however little."""
    risk, none = Risk.of(subject), thresholds.negligible_nats
    change = risk.growth(subject)
    if isinstance(change, Verdict):
        return change
    sentence = (
        f"log perplexity grew by {words_for(change)} nats a {risk.unit} since generation 0; it holds above 0, it does "
        f"not below {none:.3g}"
    )
    return Verdict(beyond(change, 0.0, none=none), sentence, risk.measure, *change, 0.0)


def diverging(subject: Subject, thresholds: Thresholds, family: Sequence[Subject]) -> Verdict:
    """The growth of the log perplexity does not slow down.

    The statistic is the share of the growth that falls into the second half of the generations: 1/2 where it is linear,
    0.29 for a square root, 0.25 for a logarithm (over ten generations), towards 0 where it levels off.
    """
    if subject.last + 1 < thresholds.least_generations:
        return undecidable(f"it has {subject.last + 1} generations, {thresholds.least_generations} are needed")
    increase = any_increase(subject, thresholds, family)
    if increase.verdict != "holds":
        return Verdict(increase.verdict, f"it takes an increase, and {increase.sentence}", increase.measure)
    risk = Risk.of(subject)
    steps = np.diff(risk.nats.values(subject.last + 1))
    if np.isnan(steps).any():
        return undecidable("the perplexity of a generation has no value", risk.measure)
    share = share_of_sum(steps)
    growing, levelling = thresholds.growing_share, thresholds.levelling_share
    sentence = (
        f"the second half of the generations brought {words_for(share)} of the growth of log perplexity, where steady "
        f"growth brings 0.5; it holds above {growing:.2g}, it does not below {levelling:.2g}"
    )
    return Verdict(beyond(share, growing, none=levelling), sentence, risk.measure, *share, growing)


def scaling_law(subject: Subject, thresholds: Thresholds, family: Sequence[Subject]) -> Verdict:
    """More human text lowers the risk by another power in the last generation than in generation 0.

    Where bits per byte fall as words^-a, the slope of ln (last / generation 0) over ln words is the loss of exponent.
    """
    alike = [s for s in family if s.condition == subject.condition and not np.isnan(s.words)]
    if np.isnan(subject.words) or len({s.words for s in alike}) < LEAST_SIZES:
        return undecidable(f"it takes runs on {LEAST_SIZES} sizes of human text (corpus.train_words) or more")
    last = min(s.last for s in alike)
    values = [(s.words, run) for s in alike for run in s.measure("bits_per_byte").log().values(last + 1)]
    change = slope([float(np.log(words)) for words, _ in values], [float(run[last] - run[0]) for _, run in values])
    if not change.known:
        return undecidable("bits_per_byte has no value in one of the runs", "bits_per_byte")
    none = thresholds.negligible_exponent
    away = change.low > 0 or change.high < 0
    answer: Answer = "holds" if away else "does not hold" if -none < change.low <= change.high < none else "undecided"
    sentence = (
        f"the exponent with which bits per byte fall with more human text is smaller by {words_for(change)} in "
        f"generation {last} than in generation 0; it holds beside 0, it does not within {none:.3g} of 0"
    )
    return Verdict(answer, sentence, "bits_per_byte", *change, 0.0)


@dataclass(frozen=True)
class Departure:
    """The last generation has left each of its references, by more than a threshold.

    what : the measure in words.
    how : `ratio` or `difference`.
    limit : name of the threshold.
    """

    measure: str
    what: str
    how: Callable[[Estimate, Estimate], Estimate]
    limit: str
    rising: bool
    references: tuple[str, ...] = ("generation 0", "human data")

    def judge(self, subject: Subject, thresholds: Thresholds) -> Verdict:
        """Holds if it does against every reference, does not if it does not against one; reported is the nearest."""
        limit = getattr(thresholds, self.limit) * (-1 if self.how is difference and not self.rising else 1)
        gaps = {reference: self._against(subject, reference) for reference in self.references}
        known = {reference: gap for reference, gap in gaps.items() if gap.known}
        answers = {reference: beyond(gap, limit, rising=self.rising) for reference, gap in known.items()}
        answer: Answer = "holds"
        for worse in ("undecided", "does not hold"):
            answer = worse if worse in answers.values() else answer
        if len(known) < len(gaps) and answer != "does not hold":
            reference, gap = next((r, g) for r, g in gaps.items() if not g.known)
            return undecidable(lacking(f"{self.what} beside that of {reference}", gap), self.measure)
        end = min if self.rising else max
        nearest = end((gap for reference, gap in known.items() if answers[reference] == answer), key=lambda g: g.value)
        return Verdict(answer, self._sentence(known, limit), self.measure, *nearest, limit)

    def _against(self, subject: Subject, reference: str) -> Estimate:
        return subject.measure(self.measure).against(subject.last, HUMAN if reference == "human data" else 0, self.how)

    def _sentence(self, gaps: dict[str, Estimate], limit: float) -> str:
        verb, unit = ("is", "times that of") if self.how is ratio else ("differs by", "from that of")
        each = ", ".join(f"{words_for(gap)} {unit} {reference}" for reference, gap in gaps.items())
        side = "above" if self.rising else "below"
        return (
            f"{self.what} {verb} {each}; it holds where {'all are' if len(gaps) > 1 else 'that is'} {side} {limit:.3g}"
        )


def departure(*candidates: Departure) -> Test:
    """The first of the candidates that the run can decide."""

    def test(subject: Subject, thresholds: Thresholds, _: Sequence[Subject]) -> Verdict:
        found = [c for c in candidates if not np.isnan(subject.measure(c.measure).at(subject.last).value)]
        verdicts = [candidate.judge(subject, thresholds) for candidate in found]
        if not verdicts:
            return undecidable(f"its last generation has no {' and no '.join(c.measure for c in candidates)}")
        return next((v for v in verdicts if v.verdict != "undecidable from this run"), verdicts[0])

    return test


DEFINITIONS: dict[str, Test] = {
    "catastrophic increase of population risk": catastrophic_increase,
    "any increase of population risk": any_increase,
    "asymptotically diverging population risk": diverging,
    "change in scaling law": scaling_law,
    "collapsing variance": departure(
        Departure("semantic_diversity", "semantic diversity", ratio, "diversity_ratio", rising=False),
        Departure("distinct_2_human", "distinct-2 over human words", ratio, "diversity_ratio", rising=False),
        Departure("distinct_2", "distinct-2", ratio, "diversity_ratio", rising=False),
        Departure("pixel_variance", "the variance of the images", ratio, "diversity_ratio", rising=False),
        Departure("variance", "the variance", ratio, "diversity_ratio", rising=False),
        Departure("heterozygosity", "heterozygosity", ratio, "diversity_ratio", rising=False),
    ),
    "entanglement of real data modes": departure(
        Departure("mauve", "MAUVE", difference, "mauve_drop", rising=False),
        Departure("frechet_distance", "Fréchet distance", ratio, "frechet_factor", rising=True),
        Departure("pixel_frechet", "Fréchet distance", ratio, "frechet_factor", rising=True),
    ),
    "disappearance of real tail data": departure(
        Departure("tail_coverage", "tail coverage", ratio, "tail_ratio", rising=False),
        Departure("survival_1", "survival of words that occur once", ratio, "tail_ratio", rising=False),
        Departure("image_recall", "recall of human images", ratio, "tail_ratio", rising=False),
        Departure("support", "the number of symbols left", ratio, "tail_ratio", rising=False),
    ),
    "appearance of hallucinated data": departure(
        Departure("invented_words", "the share of invented words", difference, "invented_share", rising=True),
        Departure(
            "sequence_perplexity_above",
            "the share of unlikely sequences",
            difference,
            "unlikely_share",
            True,
            ("generation 0",),
        ),
    ),
}
"""Named as by Schaeffer et al. 2025 (arXiv 2503.03150), in their order."""
