"""What the statistical substrates share: many independent chains at once, in arrays whose first axis is the chains."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from lmcollapse.options import Options
from lmcollapse.types import Bools, Floats, Ints, Start, State, UserError, Values

MOST_NUMBERS = 2**44
"""In one generation."""


class ChainSubstrate(Options):
    """A simple model that is fitted in closed form, or nearly so; see `gaussian` for an example.

    A subclass says what human data are (`human`), how a model is fitted and sampled, and what is read off it. Where all
    that a fit needs of some rows adds up (`statistic`, `merge`), no row has to be kept.
    """

    reads: ClassVar[Literal["nothing", "some text"]] = "nothing"
    starts: ClassVar[tuple[Start, ...]] = ("base",)

    chains: int = Field(100, gt=0)
    """Independent chains, each with human data of its own."""
    rows: int = Field(1000, gt=0)
    """Rows that each generation writes, and that generation 0 reads; n in the literature."""
    traced: int = Field(16, ge=0)
    """Chains of which every generation's measures, and some generations' models, are kept one by one."""

    def check(self, start: Start) -> None:
        """Raise UserError for all that can be known to fail before the first fit."""
        if start not in self.starts:
            raise UserError(f"start is {start}; this substrate is fitted anew each generation, leave `start` out")
        numbers = self.chains * self.rows * self.width
        if numbers > MOST_NUMBERS:
            raise UserError(
                f"chains is {self.chains} and rows is {self.rows}: {numbers:.3g} numbers in a generation are more than "
                "any memory holds; lower them"
            )

    def decide(self) -> Self:
        """Nothing is left to the machine."""
        return self

    def settle(self, counts: Ints | None) -> Self:
        """The substrate with what it takes from a corpus, where it reads one.

        counts : occurrences of each word of the human training part, the most frequent first.
        """
        return self

    def human(self, rng: np.random.Generator, chains: int, rows: int) -> Values:
        """`(chains, rows, …)` human data."""
        raise NotImplementedError

    def statistic(self, values: Values) -> State:
        """All that a fit needs of `(chains, rows, …)` values; by default the values themselves."""
        return {"rows": values}

    def merge(self, first: State, second: State) -> State:
        """The statistic of the rows of both; by default one after the other."""
        return {"rows": np.concatenate([first["rows"], second["rows"]], axis=1)}

    def fit(self, statistic: State, previous: State | None, rng: np.random.Generator) -> State:
        """The model of each chain. `previous` are the models of the generation before, None in generation 0."""
        raise NotImplementedError

    def sample(self, model: State, rows: int, rng: np.random.Generator, human: Values) -> Values:
        """`(chains, rows, …)` values written by the models. `human` are the rows that generation 0 read."""
        raise NotImplementedError

    def measure(self, model: State) -> dict[str, Floats]:
        """What is read off the models, `(chains,)` each."""
        raise NotImplementedError

    def truth(self) -> dict[str, float]:
        """What the same measures are of the distribution that human data come from, as far as they are known."""
        raise NotImplementedError

    def collapsed(self, model: State) -> Bools:
        """`(chains,)` whether a model is degenerate: its variance, or all but one of its probabilities, is gone."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return 1
