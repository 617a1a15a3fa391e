"""The measure `compression_ratio`."""

from __future__ import annotations

import zlib

import numpy as np

from lmcollapse.metrics.intervals import jackknife
from lmcollapse.metrics.sample import BLOCKS, Sample
from lmcollapse.types import Reading

LEVEL = 6
"""The level that the program `gzip` has by default; 9 takes twice as long and saves less than 1 %."""
GZIP = 31
"""zlib's name for the gzip format with its largest window."""


def compression_ratio(written: Sample) -> list[Reading]:
    """Size of the text over its size when compressed with gzip: the higher, the more it repeats itself.

    Bytes of UTF-8, each text followed by a newline, over bytes of gzip at level 6 (Shaib et al. 2024, arXiv
    2403.00553). The last text of the sample is whole. gzip looks back 32 KiB only and so sees what recurs within a few
    dozen rows, which are in random order: text that many rows share, not two copies far apart. Interval by block
    jackknife of the ratio, where a block's compressed size is what it adds to the text before it; too wide for a few
    kilobytes of text, whose first block has nothing before it.
    """
    if not len(written.words):
        return [Reading("compression_ratio", None, "there are no words")]
    edges = np.searchsorted(written.row_block, np.arange(BLOCKS + 1))
    compressor = zlib.compressobj(LEVEL, wbits=GZIP)
    plain, ends = np.zeros(BLOCKS), np.zeros(BLOCKS)
    out = 0
    for block in range(BLOCKS):
        data = "".join(text + "\n" for text in written.texts[edges[block] : edges[block + 1]]).encode()
        plain[block] = len(data)
        out += len(compressor.compress(data))
        ends[block] = out + len(compressor.copy().flush())  # as if the text ended here
    packed = np.diff(ends, prepend=0)
    value = float(plain.sum() / ends[-1])
    without = (plain.sum() - plain) / np.maximum(ends[-1] - packed, 1)
    low, high = jackknife(value, without, plain)
    return [Reading("compression_ratio", value, low=low, high=high)]
