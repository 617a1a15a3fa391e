"""The substrate `discrete`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, PrivateAttr

from lmcollapse.substrates.chain import ChainSubstrate
from lmcollapse.types import Bools, Floats, Ints, Start, State, UserError, Values

OFF = 1e-6
"""How far from 1 given probabilities may add up."""


class Discrete(ChainSubstrate):
    """A distribution over symbols, fitted by their frequencies: what a perfect model that only resamples would be.

    Without human data a symbol that is not drawn once is lost for good (neutral drift, the Wright-Fisher model).
    A row is a symbol. Model: `probabilities (chains, symbols)`.
    """

    reads: ClassVar[Literal["nothing", "some text"]] = "some text"

    distribution: Literal["uniform", "zipf", "given", "corpus"] = "uniform"
    """Of human data; corpus: the words of the human training part, with their frequencies."""
    symbols: int = Field(100, gt=1)
    """How many there are, for uniform and zipf."""
    exponent: float = Field(1.0, ge=0)
    """zipf: probabilities go as 1 / (rank + shift)^exponent, ranks from 1 on."""
    shift: float = Field(2.7, ge=0)
    """zipf: see there."""
    probabilities: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """given: one for each symbol."""
    _counts: Floats | None = PrivateAttr(None)

    def check(self, start: Start) -> None:
        """Raise UserError for probabilities that are none."""
        super().check(start)
        if (self.distribution == "given") != bool(self.probabilities):
            raise UserError(
                f"distribution is {self.distribution} and {len(self.probabilities)} probabilities are given; "
                "give probabilities with distribution: given, and with no other"
            )
        if self.probabilities and (abs(sum(self.probabilities) - 1) > OFF or len(self.probabilities) < 2):
            raise UserError(
                f"probabilities are {len(self.probabilities)} and add up to {sum(self.probabilities):.6g}; give two or "
                "more that add up to 1"
            )

        if self.distribution == "zipf":
            with np.errstate(all="ignore"):
                total = self._zipf().sum()
            if not 0 < total < np.inf:
                raise UserError(
                    f"exponent is {self.exponent:g} and shift {self.shift:g}: the probabilities of zipf are too small "
                    "for numbers; lower them"
                )

    def _zipf(self) -> Floats:
        weights: Floats = (np.arange(1, self.symbols + 1) + self.shift) ** -self.exponent
        return weights

    def settle(self, counts: Ints | None) -> Self:
        """The substrate with the words' frequencies; UserError for a corpus that is missing, or that nobody reads."""
        if (self.distribution == "corpus") != (counts is not None):
            wrong = "there is no corpus" if counts is None else "there is a corpus that it does not read"
            raise UserError(
                f"distribution is {self.distribution} and {wrong}; give `corpus:` with distribution: corpus, and with "
                "no other"
            )
        settled = self.model_copy()
        settled._counts = None if counts is None else counts.astype(np.float64)
        return settled

    @property
    def human_probabilities(self) -> Floats:
        """`(symbols,)` of human data."""
        if self.distribution == "corpus":
            assert self._counts is not None, "not settled"
            weights = self._counts
        elif self.distribution == "given":
            weights = np.array(self.probabilities)
        elif self.distribution == "zipf":
            weights = self._zipf()
        else:
            weights = np.ones(self.symbols)
        found: Floats = weights / weights.sum()
        return found

    def human(self, rng: np.random.Generator, chains: int, rows: int) -> Values:
        """`(chains, rows)` symbols."""
        return _draw(rng, np.broadcast_to(self.human_probabilities, (chains, len(self.human_probabilities))), rows)

    def statistic(self, values: Values) -> State:
        """How often each symbol occurs."""
        chains, symbols = len(values), len(self.human_probabilities)
        places = values + symbols * np.arange(chains)[:, None]
        return {
            "counts": np.bincount(places.ravel(), minlength=chains * symbols).reshape(chains, symbols).astype(float)
        }

    def merge(self, first: State, second: State) -> State:
        """Counts add up."""
        return {"counts": first["counts"] + second["counts"]}

    def fit(self, statistic: State, previous: State | None, rng: np.random.Generator) -> State:
        """Frequencies."""
        counts = statistic["counts"]
        return {"probabilities": counts / counts.sum(axis=1, keepdims=True)}

    def sample(self, model: State, rows: int, rng: np.random.Generator, human: Values) -> Values:
        """Symbols."""
        return _draw(rng, model["probabilities"], rows)

    def measure(self, model: State) -> dict[str, Floats]:
        """Diversity, distance to the human distribution, and what has become of the rarest symbol.

        `heterozygosity` is the probability that two draws differ, `entropy` in nats, `support` the symbols that are
        left, `rarest` the probability of the rarest human symbol, and `rarest_survives` whether that is above 0.
        """
        return self._measures(model["probabilities"])

    def _measures(self, p: Floats) -> dict[str, Floats]:
        human = self.human_probabilities
        rarest = p[:, int(human.argmin())]
        logs = np.log(p, where=p > 0, out=np.zeros_like(p))
        return {
            "heterozygosity": 1 - (p**2).sum(axis=1),
            "entropy": -(p * logs).sum(axis=1),
            "support": (p > 0).sum(axis=1).astype(float),
            "total_variation": np.abs(p - human).sum(axis=1) / 2,
            "rarest": rarest,
            "rarest_survives": (rarest > 0).astype(float),
        }

    def truth(self) -> dict[str, float]:
        """Of the human distribution."""
        return {name: float(value[0]) for name, value in self._measures(self.human_probabilities[None]).items()}

    def collapsed(self, model: State) -> Bools:
        """Whether one symbol is left."""
        fixed: Bools = (model["probabilities"] > 0).sum(axis=1) == 1
        return fixed


def _draw(rng: np.random.Generator, probabilities: Floats, rows: int) -> Values:
    """`(chains, rows)` symbols, in ascending order: policies that do not take all of them draw at random."""
    chains, symbols = probabilities.shape
    counts = rng.multinomial(rows, probabilities)
    drawn: Values = np.repeat(np.tile(np.arange(symbols), chains), counts.ravel()).reshape(chains, rows)
    return drawn
