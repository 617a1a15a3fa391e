"""From losses at some human shares to the smallest share that is enough, with an interval that assumes little.

All that is taken for granted is that more human text does not harm. Then the loss of a share bounds that of all larger
ones from above and of all smaller ones from below, and the interval comes from the shares that were run alone, whatever
the curve does between them. Its ends are two sequences of tests, each at 2.5 %: from 1 downwards, the share is enough;
from the smallest upwards, it is not. Each ends at the first share of which that cannot be said, so that all tests of a
sequence together are wrong at most 2.5 times in a hundred (Maurer, Hothorn and Lehmacher 1995).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmcollapse.trajectories import Estimate, mean, t_quantile
from lmcollapse.types import Floats

WIDE = 2.0
"""An interval whose ends are more than this factor apart is worth narrowing."""
MOST_SEEDS = 30
"""More seeds than this are not proposed."""


@dataclass(frozen=True)
class Curve:
    """Losses against the share, as averaged over seeds (`Scale.loss`).

    shares : in order, the last one is 1.
    losses : `(shares, seeds)`, NaN where a run has no value.
    estimates : of each share, the mean over seeds and its 95 % interval; nothing at 1, where the loss is 0.
    fitted : the closest curve that does not rise (isotonic regression of the means), 0 at a share of 1.
    low, high : the widest band that curves which do not rise must keep to, at each share.
    """

    shares: Floats
    losses: Floats
    estimates: tuple[Estimate, ...]
    fitted: Floats
    low: Floats
    high: Floats

    def at(self, share: float) -> float:
        """The fitted curve between the shares: a power of the share, or straight where there is none."""
        right = int(np.searchsorted(self.shares, share))
        if share == self.shares[right]:
            return float(self.fitted[right])
        if right == 0:
            return np.nan
        (s0, s1), (d0, d1) = self.shares[right - 1 : right + 1], self.fitted[right - 1 : right + 1]
        if s0 > 0 and d1 > 0:
            return float(d0 * (share / s0) ** (np.log(d1 / d0) / np.log(s1 / s0)))
        return float(d0 + (d1 - d0) * (share - s0) / (s1 - s0))


@dataclass(frozen=True)
class Answer:
    """The smallest human share that keeps the loss within a threshold.

    share : where the fitted curve meets the threshold.
    low, high : the 95 % interval; both are shares that were run, or 0.
    shown : whether low is shown to be too little; else nothing that was run is.
    """

    share: float
    low: float
    high: float
    shown: bool

    @property
    def wide(self) -> bool:
        """Whether the interval is worth narrowing."""
        return self.high > WIDE * self.low and self.high > 0


def fit(shares: Floats, losses: Floats) -> Curve:
    """The curve of these losses. `(shares,)` in order with 1 as the last, `(shares, seeds)`."""
    from scipy.optimize import isotonic_regression

    estimates = (*(mean(list(row)) for row in losses[:-1]), Estimate(0.0, 0.0, 0.0))
    values = np.array([estimate.value for estimate in estimates])
    known = ~np.isnan(values)
    known[-1] = False
    fitted = np.full(len(shares), np.nan)
    fitted[-1] = 0.0
    if known.any():
        fitted[known] = np.maximum(isotonic_regression(values[known], increasing=False).x, 0.0)
        there = ~np.isnan(fitted)
        fitted = np.interp(shares, shares[there], fitted[there], left=np.nan)
    low, high = (np.array([getattr(estimate, end) for estimate in estimates]) for end in ("low", "high"))
    low[np.isnan(low)], high[np.isnan(high)] = -np.inf, np.inf
    above = np.maximum.accumulate(high[::-1])[::-1]
    return Curve(shares, losses, estimates, fitted, np.maximum(np.minimum.accumulate(low), 0.0), np.maximum(above, 0.0))


def answer(curve: Curve, threshold: float) -> Answer:
    """The smallest share whose loss is within the threshold (above 0)."""
    enough = int(np.argmax(curve.high <= threshold))
    too_little = np.flatnonzero(curve.low > threshold)
    low = float(curve.shares[too_little[-1]]) if len(too_little) else 0.0
    return Answer(_crossing(curve, threshold), low, float(curve.shares[enough]), bool(len(too_little)))


def _crossing(curve: Curve, threshold: float) -> float:
    """Where the fitted curve comes down to the threshold."""
    from scipy.optimize import brentq

    within = np.flatnonzero(curve.fitted <= threshold)
    first = int(within[0])
    if first == 0:
        return float(curve.shares[0])
    if np.isnan(curve.fitted[first - 1]) or curve.fitted[first] == threshold:
        return float(curve.shares[first])
    ends = float(curve.shares[first - 1]), float(curve.shares[first])
    return float(brentq(lambda share: curve.at(share) - threshold, *ends, xtol=1e-9))


def undecided(curve: Curve, found: Answer) -> list[int]:
    """Places of the shares within the interval: neither shown to be enough nor to be too little."""
    inside = (curve.shares < found.high) & ((curve.shares > found.low) | (not found.shown))
    return np.flatnonzero(inside).tolist()


def seeds_to_decide(curve: Curve, place: int, threshold: float) -> int | None:
    """With how many seeds the interval of a share would leave the threshold out, if they scatter as these do.

    None where MOST_SEEDS are not enough.
    """
    losses = curve.losses[place]
    gap, deviation = abs(float(np.mean(losses)) - threshold), float(np.std(losses, ddof=1))
    more = range(len(losses) + 1, MOST_SEEDS + 1)
    return next((n for n in more if t_quantile(n - 1) * deviation / np.sqrt(n) < gap), None)


def between(low: float, high: float) -> list[float]:
    """Two shares that would split an interval evenly, on a logarithmic scale, to two digits."""
    first = low or high / 10
    ratio = (high / first) ** (1 / 3)
    candidates = [first * ratio, first * ratio**2] if low else [first, first * ratio, first * ratio**2]
    return [share for share in dict.fromkeys(float(f"{c:.2g}") for c in candidates) if low < share < high]
