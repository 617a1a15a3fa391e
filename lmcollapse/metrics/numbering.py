"""Words as numbers: what every measure over words works on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from lmcollapse.metrics.words import words
from lmcollapse.spool import chunks
from lmcollapse.types import Ints

CHUNK = 1 << 22
"""Characters that are numbered at once: enough to hide the cost of a call, little enough to be no memory."""

_LETTER, _JOINER = 1, 2
_CLASS = np.zeros(256, np.uint8)
_CLASS[[*range(48, 58), *range(65, 91), *range(97, 123)]] = _LETTER
_CLASS[[ord(c) for c in "'-_"]] = _JOINER
_LOWER = np.arange(256, dtype=np.uint8)
_LOWER[65:91] += 32


class Numbering:
    """Gives each word type a number from 0 on; the same texts in the same order give the same numbers."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    def rows(self, texts: Iterable[str]) -> Iterator[Ints]:
        """The words of each text as `(words,)` int32 numbers; what a word is, `lmcollapse.metrics.words` says."""
        for chunk in chunks(texts, CHUNK):
            numbered = self._plain([text for text in chunk if text.isascii()])
            for text in chunk:
                if text.isascii():
                    yield next(numbered)
                else:
                    found = [self.numbers.setdefault(word, len(self.numbers)) for word in words(text)]
                    yield np.array(found, np.int32)

    def _plain(self, texts: list[str]) -> Iterator[Ints]:
        """ASCII texts, all at once: the rule of `words` needs nothing but a look at each byte's neighbours there."""
        data = np.frombuffer("\n".join(texts).encode("ascii"), np.uint8)
        kind = _CLASS[data]
        letter = kind == _LETTER
        inside = letter.copy()
        inside[1:-1] |= (kind[1:-1] == _JOINER) & letter[:-2] & letter[2:]
        edges = np.diff(inside.astype(np.int8), prepend=0, append=0)
        starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        offsets = np.concatenate([[0], np.cumsum(stops - starts)]).astype(np.int32)
        strings = pa.StringArray.from_buffers(
            len(starts), pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(_LOWER[data[inside]]))
        )
        encoded = strings.dictionary_encode()
        known = [self.numbers.setdefault(word, len(self.numbers)) for word in encoded.dictionary.to_pylist()]
        numbers = np.array(known, np.int32)[np.asarray(encoded.indices)] if known else np.empty(0, np.int32)
        ends = np.cumsum([len(text) + 1 for text in texts])
        yield from np.split(numbers, np.searchsorted(starts, ends[:-1])) if texts else ()
