"""Arrays and texts that may be larger than memory: what is small is held, what is large is mapped from a nameless file.

The operating system keeps as much of a mapped file in memory as there is room for and drops the rest, so that a corpus
of any size can be gone through by rows. A file has no name from the start: it goes with the process, however that ends.
"""

from __future__ import annotations

import io
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt

IN_MEMORY = 1 << 24
"""Bytes up to which an array is held in memory."""

AT_ONCE = 1 << 20
"""Entries of an array that are copied at once, and characters that are encoded at once."""

Some = TypeVar("Some", bound=Sized)

_places: list[str | None] = [None]


@contextmanager
def beside(place: Path) -> Iterator[None]:
    """While it lasts, files of large arrays are made in this folder: where the corpora are, there is room for them.

    Elsewhere they are made in the folder for temporary files, which on some machines is memory itself.
    """
    _places.append(str(place))
    try:
        yield
    finally:
        _places.pop()


class Spool:
    """An array of one axis that grows at its end."""

    def __init__(self, kind: npt.DTypeLike) -> None:
        self.kind = np.dtype(kind)
        self._file: IO[bytes] = io.BytesIO()

    def append(self, entries: npt.ArrayLike) -> None:
        """Put entries at the end. Raises OSError where the disk is full."""
        flat = np.asarray(entries)
        for first in range(0, len(flat), AT_ONCE):
            self._file.write(flat[first : first + AT_ONCE].astype(self.kind, copy=False).tobytes())
            if isinstance(self._file, io.BytesIO) and self._file.tell() > IN_MEMORY:
                held, self._file = self._file, tempfile.TemporaryFile(dir=_places[-1])  # noqa: SIM115
                weakref.finalize(self, self._file.close)  # what is mapped stays
                self._file.write(held.getbuffer())

    def finish(self, mode: Literal["r", "r+"] = "r") -> npt.NDArray[Any]:
        """`(entries,)`, mapped where there are many; to be read, or to be written to as well."""
        self._file.flush()
        if isinstance(self._file, io.BytesIO):
            held = np.frombuffer(self._file.getvalue(), self.kind)
            return held if mode == "r" else held.copy()
        return np.asarray(np.memmap(self._file, self.kind, mode))


def zeros(entries: int, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """`(entries,)` zeros that can be written to. Raises OSError where the disk is full."""
    spool = Spool(kind)  # written and not merely sized: a mapped file without its place on disk ends in a bus error
    nothing = np.zeros(AT_ONCE, kind)
    for first in range(0, entries, AT_ONCE):
        spool.append(nothing[: entries - first])
    return spool.finish("r+")


def joined(parts: Iterable[npt.ArrayLike], kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """`(entries,)` of all parts, one after the other."""
    spool = Spool(kind)
    for part in parts:
        spool.append(part)
    return spool.finish()


def by_rows(pieces: Iterable[npt.NDArray[Any]], kind: npt.DTypeLike, width: int) -> npt.NDArray[Any]:
    """`(rows, width)` of all pieces, which are of that width, one below the other."""
    return joined((piece.reshape(-1) for piece in pieces), kind).reshape(-1, width)


def pieces(rows: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Views of an array, each of about `AT_ONCE` entries."""
    return np.array_split(rows, 1 + rows.size // AT_ONCE)


def counts(numbers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """`(largest + 1,)` occurrences of each number; `np.bincount` would hold a wider copy of them all."""
    found = np.zeros(int(numbers.max(initial=-1)) + 1, np.int64)
    for some in pieces(numbers):
        found += np.bincount(some, minlength=len(found))
    return found


def ends(lengths: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """`(rows + 1,)` offsets of rows of these lengths, end to end."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def stretches(offsets: npt.NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Rows (first, beyond the last) of about `AT_ONCE` entries together, in order; a longer row is alone."""
    rows = len(offsets) - 1
    first = 0
    while first < rows:
        beyond = int(np.searchsorted(offsets, offsets[first] + AT_ONCE, "right")) - 1
        beyond = min(rows, max(first + 1, beyond))
        yield first, beyond
        first = beyond


def taken(
    values: npt.NDArray[Any], offsets: npt.NDArray[Any], rows: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Values and offsets of these rows, in this order; row `i` of what is given is
    `values[offsets[i]:offsets[i + 1]]`."""
    lengths = np.diff(offsets)[rows]
    new = ends(lengths)
    spool = Spool(values.dtype)
    for first, beyond in stretches(new):
        some = lengths[first:beyond]
        # position of every value that is taken: its row's start, plus how far into the row it stands
        within = np.arange(new[beyond] - new[first]) - np.repeat(new[first:beyond] - new[first], some)
        spool.append(values[np.repeat(offsets[rows[first:beyond]], some) + within])
    return spool.finish(), new


def chunks(things: Iterable[Some], enough: int) -> Iterator[list[Some]]:
    """Texts, or arrays, in lists of about so many characters, or entries, together."""
    chunk: list[Some] = []
    size = 0
    for thing in things:
        chunk.append(thing)
        size += len(thing)
        if size >= enough:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class Texts(Sequence[str]):
    """Strings, held as UTF-8 end to end.

    data : `(bytes,)` uint8.
    offsets : `(texts + 1,)` int64, text `i` is `data[offsets[i]:offsets[i + 1]]`.
    """

    def __init__(self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> None:
        assert len(offsets) and offsets[-1] == len(data), "offsets do not fit data"
        self.data, self.offsets = data, offsets

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """These strings; a lone surrogate is kept as it is."""
        if isinstance(texts, Texts):
            return texts
        return cls.columns(((text,) for text in texts), 1)[0]

    @classmethod
    def columns(cls, rows: Iterable[Sequence[str]], count: int) -> list[Texts]:
        """The columns of rows of so many strings each, which are gone through once."""
        growing = [(Spool(np.uint8), Spool(np.int64)) for _ in range(count)]
        source = iter(rows)
        while some := list(islice(source, 256)):
            for (data, lengths), column in zip(growing, zip(*some, strict=True), strict=True):
                encoded = [text.encode("utf-8", "surrogatepass") for text in column]
                data.append(np.frombuffer(b"".join(encoded), np.uint8))
                lengths.append([len(each) for each in encoded])
        return [cls(data.finish(), ends(lengths.finish())) for data, lengths in growing]

    @classmethod
    def concatenate(cls, parts: Sequence[Texts]) -> Texts:
        """All strings of all parts."""
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        return cls(joined((part.data for part in parts), np.uint8), ends(lengths))

    def take(self, rows: npt.NDArray[Any]) -> Texts:
        """These strings, in this order."""
        return Texts(*taken(self.data, self.offsets, rows))

    def between(self, first: int, beyond: int) -> Texts:
        """Those from one place to another, not copied."""
        start, stop = self.offsets[first], self.offsets[beyond]
        return Texts(self.data[start:stop], self.offsets[first : beyond + 1] - start)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        row = range(len(self))[place]
        return self.data[self.offsets[row] : self.offsets[row + 1]].tobytes().decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        for first, beyond in stretches(self.offsets):
            edges = (self.offsets[first : beyond + 1] - self.offsets[first]).tolist()
            data = self.data[self.offsets[first] : self.offsets[beyond]].tobytes()
            for start, stop in pairwise(edges):
                yield data[start:stop].decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Texts({len(self)} strings, {len(self.data)} bytes)"
