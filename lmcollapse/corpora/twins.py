"""Near-duplicates, found in linear time: a paragraph most of which was read before."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

RUN = 5
"""Words in a row that count as one trace of a text."""
TWIN = 0.5
"""Share of its runs that an earlier text must have for a paragraph to be a near-duplicate."""


@dataclass
class Twins:
    """Remembers the paragraphs that were kept, and tells whether the next one repeats them."""

    _paragraphs: set[str] = field(default_factory=set)
    _runs: set[str] = field(default_factory=set)

    def repeats(self, paragraph: str) -> bool:
        """Whether this paragraph says again what those before it said; if not, it is one of them from now on.

        It does if its words are those of an earlier one (case and punctuation aside), or if at least half of its runs
        of five words stand in earlier ones, together or apart.
        """
        words = re.findall(r"\w+", paragraph.casefold())
        text = " ".join(words)
        if text in self._paragraphs:
            return True
        runs = {" ".join(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}
        if runs and len(runs & self._runs) >= TWIN * len(runs):
            return True
        self._paragraphs.add(text)
        self._runs |= runs
        return False
