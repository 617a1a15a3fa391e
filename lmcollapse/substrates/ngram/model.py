"""N-gram models as sorted tables: fitted, and asked for the distributions that follow many contexts at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmcollapse.types import Floats, Ints

FILE = "ngrams.safetensors"


@dataclass(frozen=True)
class Table:
    """Counts of the n-grams of one order, in the order of their keys.

    keys : `(contexts,)` of the contexts that occur, ascending: their tokens as digits of a number to the base of the
        vocabulary.
    starts : `(contexts + 1,)` where the tokens that follow each context begin.
    tokens, counts : `(n-grams,)` a token that follows, and how often; with Kneser-Ney, in all orders but the highest,
        of how many different tokens the n-gram is preceded.
    discount : taken off each count.
    """

    keys: Ints
    starts: Ints
    tokens: Ints
    counts: Floats
    discount: float

    @property
    def totals(self) -> Floats:
        """`(contexts,)` sum of the counts after each context."""
        sums: Floats = np.add.reduceat(self.counts, self.starts[:-1])
        return sums


@dataclass(frozen=True)
class Model:
    """A fitted n-gram model.

    tables : of orders 1, 2 …; with `add` of the highest order alone.
    add : is added to each count in place of discounts and lower orders; None for Kneser-Ney.
    """

    vocabulary: int
    order: int
    tables: tuple[Table, ...]
    add: float | None

    def distributions(self, contexts: Ints) -> Floats:
        """`(contexts, vocabulary)` probabilities of the next token; contexts are `(contexts, order - 1)` tokens.

        Interpolated Kneser-Ney (Kneser and Ney 1995; Chen and Goodman 1999, equation 29): of each order what is left of
        a count after the discount, and for the rest the next lower order; below the lowest one all tokens are alike.
        """
        rows = len(contexts)
        found = np.full((rows, self.vocabulary), 1 / self.vocabulary)
        for length, table in enumerate(self.tables) if self.add is None else [(self.order - 1, self.tables[0])]:
            places = _places(table, _keys(contexts[:, contexts.shape[1] - length :], self.vocabulary))
            there = np.flatnonzero(places >= 0)
            if not len(there):
                continue
            context = places[there]
            sizes, totals = np.diff(table.starts)[context], table.totals[context]
            row, ngram = np.repeat(there, sizes), _ranges(table.starts[context], sizes)
            if self.add is None:
                found[there] *= (table.discount * sizes / totals)[:, None]
                found[row, table.tokens[ngram]] += (table.counts[ngram] - table.discount) / np.repeat(totals, sizes)
            else:
                whole = totals + self.add * self.vocabulary
                found[there] = (self.add / whole)[:, None]
                found[row, table.tokens[ngram]] += table.counts[ngram] / np.repeat(whole, sizes)
        return found


def _places(table: Table, keys: Ints) -> Ints:
    """Where each context is in a table, -1 for nowhere."""
    places = np.searchsorted(table.keys, keys).clip(max=len(table.keys) - 1)
    found: Ints = np.where(table.keys[places] == keys, places, -1)
    return found


def fit(rows: list[Ints], start: int, vocabulary: int, order: int, discount: float | None, add: float | None) -> Model:
    """Count the n-grams of rows, each preceded by `order - 1` times `start`.

    discount : None to estimate that of each order as n1 / (n1 + 2 n2), from the n-grams that occur once and twice (Ney,
        Essen and Kneser 1994).
    """
    ngrams = contexts_and_tokens(rows, start, order)
    if add is not None:
        return Model(vocabulary, order, (_table(*_counted(_keys(ngrams, vocabulary)), vocabulary, 0.0),), add)
    keys, counts = _counted(_keys(ngrams, vocabulary))
    tables = []
    for length in range(order, 0, -1):
        tables.append(_table(keys, counts, vocabulary, _discount(counts) if discount is None else discount))
        # the tokens that an n-gram is preceded by: keys of one order more, without their first digit, counted once each
        keys, counts = _counted(keys % vocabulary ** (length - 1)) if length > 1 else (keys, counts)
    return Model(vocabulary, order, tuple(tables[::-1]), None)


def contexts_and_tokens(rows: list[Ints], start: int, order: int) -> Ints:
    """`(tokens, order)`: every token of every row, after the tokens before it."""
    padded = [np.concatenate([np.full(order - 1, start), row]) for row in rows]
    windows = [np.lib.stride_tricks.sliding_window_view(row, order) for row in padded if len(row) >= order]
    return np.concatenate([np.empty((0, order), np.int64), *windows]).astype(np.int64)


def _keys(ngrams: Ints, vocabulary: int) -> Ints:
    """Each n-gram as one number."""
    keys = np.zeros(len(ngrams), np.int64)
    for column in ngrams.T:
        keys = keys * vocabulary + column
    return keys


def _counted(keys: Ints) -> tuple[Ints, Floats]:
    found, counts = np.unique(keys, return_counts=True)
    return found, counts.astype(np.float64)


def _table(keys: Ints, counts: Floats, vocabulary: int, discount: float) -> Table:
    contexts, starts = np.unique(keys // vocabulary, return_index=True)
    return Table(contexts, np.append(starts, len(keys)), keys % vocabulary, counts, discount)


def _discount(counts: Floats) -> float:
    once, twice = (counts == 1).sum(), (counts == 2).sum()
    # text that repeats itself wholly has no n-gram that occurs once; half a count is what has least to say of it
    return float(once / (once + 2 * twice)) if once and twice else 0.5


def _ranges(starts: Ints, sizes: Ints) -> Ints:
    """The whole numbers from each start on, so many each, end to end."""
    ends = np.cumsum(sizes)
    found: Ints = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - sizes), sizes)
    return found


def save(model: Model, folder: Path) -> None:
    """Write a model into a folder; the same one leaves the same bytes."""
    from safetensors.numpy import save_file

    arrays = {
        f"{number}.{name}": np.ascontiguousarray(getattr(table, name))
        for number, table in enumerate(model.tables)
        for name in ("keys", "starts", "tokens", "counts")
    }
    arrays["discounts"] = np.array([table.discount for table in model.tables])
    arrays["add"] = np.array([] if model.add is None else [model.add])
    arrays["sizes"] = np.array([model.vocabulary, model.order])
    save_file(arrays, folder / FILE)


def load(folder: Path) -> Model:
    """What `save` wrote."""
    from safetensors.numpy import load_file

    arrays = load_file(folder / FILE)
    tables = tuple(
        Table(
            keys=arrays[f"{number}.keys"],
            starts=arrays[f"{number}.starts"],
            tokens=arrays[f"{number}.tokens"],
            counts=arrays[f"{number}.counts"],
            discount=float(discount),
        )
        for number, discount in enumerate(arrays["discounts"])
    )
    vocabulary, order = arrays["sizes"].tolist()
    return Model(vocabulary, order, tables, float(arrays["add"][0]) if len(arrays["add"]) else None)
