"""Exact results for recursive training on simple distributions, with n rows a generation.

`t` counts fits, the first one on human data included: generation g is t = g + 1. Human data have mean 0 and
deviation 1.
Where no source is given a formula follows in a line or two from the moments of a sample; the tests and
`lmcollapse selfcheck` hold the substrates to all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lmcollapse.config import Config
from lmcollapse.types import Floats, Ints

Numbers = Any
"""A number, or an array of them."""


def replace_variance(t: Ints, n: int, ddof: int = 0) -> Floats:
    """E[variance]: each fit of maximum likelihood takes a share 1/n; the unbiased one takes none, on average."""
    return np.ones(len(t)) if ddof else (1 - 1 / n) ** t


def replace_mean_error(t: Ints, n: int, ddof: int = 0) -> Floats:
    """E[mean^2]: a random walk whose steps have variance E[variance] / n."""
    return t / n if ddof else 1 - (1 - 1 / n) ** t


def deviation_factor(n: int, ddof: int = 0) -> float:
    """E[deviation] of n standard normal numbers; with ddof 1 it is known as c4."""
    from scipy.special import gammaln

    return float(np.sqrt(2 / (n - ddof)) * np.exp(gammaln(n / 2) - gammaln((n - 1) / 2)))


def replace_deviation(t: Ints, n: int, ddof: int = 0) -> Floats:
    """E[deviation]: a product of t independent factors."""
    return deviation_factor(n, ddof) ** t


def replace_w2(t: Ints, n: int, ddof: int = 0) -> Floats:
    """E[squared Wasserstein-2 distance to the human distribution] = E[mean^2] + E[(deviation - 1)^2]."""
    spread = replace_variance(t, n, ddof) - 2 * replace_deviation(t, n, ddof) + 1
    return replace_mean_error(t, n, ddof) + spread


def replace_log_variance(t: Ints, n: int, ddof: int = 0) -> tuple[Floats, Floats]:
    """Mean and variance of ln(variance), a sum of t independent ln(chi-square of n - 1 / (n - ddof))."""
    from scipy.special import polygamma, psi

    return t * float(psi((n - 1) / 2) - np.log((n - ddof) / 2)), t * float(polygamma(1, (n - 1) / 2))


def accumulate_variance(t: Ints, n: int) -> Floats:
    """E[variance] with all data kept, ddof 0: prod_{k<=t} (1 - 1/(n k^2)); never below sin(x)/x with x = pi/sqrt(n).

    Fit k has k n rows, of which n come from the fit before it. Kazdan et al. 2024, arXiv 2410.16713.
    """
    factors = 1 - 1 / (n * np.arange(1, int(np.max(t)) + 1) ** 2.0)
    return np.cumprod(factors)[np.asarray(t) - 1]


def accumulate_limit(n: int) -> float:
    """What E[variance] tends to with all data kept: Euler's product of the sine."""
    return float(np.sinc(n**-0.5))


def subsample_variance(t: Ints, n: int) -> Floats:
    """E[variance] of a fit to n rows drawn from all so far, without replacement, ddof 0.

    With V the variance of the pool of t n rows: V_1 = 1 - 1/n and
    V_{t+1} = V_t (1 - t (2 - 1/t - 1/n) / ((t n - 1) (t + 1)^2)); a fit sees (1 - 1/n) t n / (t n - 1) of it.
    Kazdan et al. 2024, arXiv 2410.16713.
    """
    last = int(np.max(t))
    pool = np.empty(last)
    pool[0] = 1 - 1 / n
    for k in range(1, last):
        pool[k] = pool[k - 1] * (1 - k * (2 - 1 / k - 1 / n) / ((k * n - 1) * (k + 1) ** 2))
    fits = np.asarray(t)
    seen: Floats = (1 - 1 / n) * fits * n / (fits * n - 1) * pool[fits - 1]
    return seen


def fresh_mean_error(t: Ints, n: int, share: float) -> Floats:
    """E[mean^2] with a share of fresh human rows in each fit but the first, which is all human; ddof 0.

    It tends to D = 1 / (n s (2 - s) + 1 - s) as D (1 - r^t) with r = (1 - s)^2 - (1 - s)/n; E[variance] is 1 less it.
    """
    limit = 1 / (n * share * (2 - share) + 1 - share)
    rate = (1 - share) ** 2 - (1 - share) / n
    return limit * (1 - rate ** np.asarray(t))


def determinant(t: Ints, n: int, dimensions: int) -> Floats:
    """E[det covariance], ddof 0: a product of independent chi-squares (Bartlett); heavy-tailed, so for small t."""
    return float(np.prod((n - np.arange(1, dimensions + 1)) / n)) ** np.asarray(t)


def kde_sample_variance(t: Ints, n: int, bandwidth: float) -> Floats:
    """E[variance of the rows] that fit t of a kernel density estimate reads, ddof 0: the kernel adds h^2 each time."""
    kept = (1 - 1 / n) ** (np.asarray(t) - 1)
    grown: Floats = kept * (1 - 1 / n) + bandwidth**2 * (n - 1) * (1 - kept)
    return grown


def survival_exponent(resamplings: int) -> Floats:
    """g_1 .. g_k: g_1 = 1, g_{k+1} = 1 - exp(-g_k); the survival of a branching process with Poisson offspring."""
    found = np.ones(resamplings)
    for k in range(1, resamplings):
        found[k] = 1 - np.exp(-found[k - 1])
    return found


def survival(probability: Numbers, n: int, resamplings: int) -> Numbers:
    """Probability that a symbol still occurs after so many resamplings of n: 1 - exp(-n p g_k).

    Exact for Poisson counts, a lower bound for binomial ones. Suresh et al. 2024, arXiv 2412.17646.
    """
    return 1 - np.exp(-n * np.asarray(probability) * survival_exponent(resamplings)[-1])


def fixation_time(n: int, symbols: int) -> float:
    """Expected generations until one of K equally frequent symbols is left, 2 n (K - 1) ln(K / (K - 1)).

    The diffusion limit of large n (Kimura and Ohta 1969, Genetics 61, 763-771).
    """
    return 2 * n * (symbols - 1) * float(np.log(symbols / (symbols - 1)))


def regression_risk(t: Ints, rows: int, features: int, noise: float, policy: str = "replace") -> Floats:
    """E[excess risk]: noise^2 d / (T - d - 1) each time, and 1/i^2 of it at fit i with all data kept and the same X.

    Dohmatob, Feng and Kempe 2024, arXiv 2402.07712; Gerstgrasser et al. 2024, arXiv 2404.01413. With all data kept and
    fresh X it is a bound from above.
    """
    first = noise**2 * features / (rows - features - 1)
    t = np.asarray(t)
    if policy == "replace":
        return first * t
    growing: Floats = first * np.cumsum(1 / np.arange(1, int(np.max(t)) + 1) ** 2.0)[t - 1]
    return growing


def expected(config: Config, measure: str) -> Floats | None:
    """The mean of a measure over chains in each generation of a run, where it is known in closed form, else None."""
    kind, policy = config.section("policy")
    substrate: Any = config.build_substrate()
    t = np.arange(1, config.generations + 1)
    found = _expected(config.substrate, kind, policy, substrate, measure, t)
    return None if found is None else np.asarray(found, np.float64)


def _expected(name: str, kind: str, policy: dict[str, Any], substrate: Any, measure: str, t: Ints) -> Floats | None:
    n = substrate.rows
    if name == "gaussian":
        return _gaussian(kind, policy, substrate, measure, t)
    if name == "kde" and kind == "replace" and not isinstance(substrate.bandwidth, str):
        grown = kde_sample_variance(t, n, substrate.bandwidth)
        return {"sample_variance": grown, "variance": grown + substrate.bandwidth**2}.get(measure)
    if name == "discrete" and measure == "heterozygosity" and substrate.distribution != "corpus":
        # each resampling loses a share 1/n of it (Wright 1931, Genetics 16, 97-159), as of a Gaussian's variance
        human = substrate.truth()["heterozygosity"]
        if kind in ("replace", "accumulate"):
            kept: Floats = human * (accumulate_variance(t, n) if kind == "accumulate" else replace_variance(t, n))
            return kept
    if name == "discrete" and measure == "rarest" and substrate.distribution != "corpus":
        return np.full(len(t), substrate.truth()["rarest"])
    if name == "linear_regression" and measure == "excess_risk":
        if kind == "replace" and substrate.inputs == "fresh":
            return regression_risk(t, n, substrate.features, substrate.noise)
        if kind in ("replace", "accumulate") and substrate.inputs == "repeated":
            return regression_risk(t, n, substrate.features, substrate.noise, kind)
    return None


def _gaussian(kind: str, policy: dict[str, Any], substrate: Any, measure: str, t: Ints) -> Floats | None:
    n, ddof, single = substrate.rows, substrate.ddof, substrate.dimensions == 1
    if kind == "replace":
        found = {"variance": replace_variance(t, n, ddof), "mean_error": replace_mean_error(t, n, ddof)}
        if single:
            found["standard_deviation"] = replace_deviation(t, n, ddof)
            found["w2_squared"] = replace_w2(t, n, ddof)
            found["log_variance"] = replace_log_variance(t, n, ddof)[0]
        elif not ddof:
            found["determinant"] = determinant(t, n, substrate.dimensions)
        return found.get(measure)
    if ddof:
        return None
    if kind == "accumulate":
        variance = accumulate_variance(t, n)
        return {"variance": variance, "mean_error": 1 - variance}.get(measure)
    if kind == "accumulate_subsample":
        return {"variance": subsample_variance(t, n)}.get(measure)
    if kind == "fresh":
        share = round(policy["human_fraction"] * n) / n
        error = fresh_mean_error(t, n, share)
        return {"variance": 1 - error, "mean_error": error}.get(measure)
    return None
