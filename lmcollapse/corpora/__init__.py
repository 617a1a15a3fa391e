"""Human data, always in a training and a held-out part that have nothing in common.

A kind of corpus is a function whose keyword-only parameters are its options and which returns a `Human` as it found it;
`load_human` finishes every kind in the same way (`parts.finish`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmcollapse.catalog import find
from lmcollapse.corpora.parts import IMAGES, TEXT, finish
from lmcollapse.options import Options
from lmcollapse.types import Human, Images


def load_human(
    kind: str, options: Options, *, seed: int, sizes: Mapping[str, int | None] | None = None, group: str = "corpus"
) -> Human[Any]:
    """Human data of one kind, cleaned, checked and cut to size; the same seed draws the same rows.

    kind : name of a corpus in the catalogue, or "package.module:attribute".
    options : the options of that corpus.
    seed : decides which rows a budget takes, and nothing else.
    sizes : budget of each part (train, heldout, reserve), in whitespace words or in images; see `parts.finish`.
    group : the part of the catalogue that names it, "corpus" (of text) or "image corpus".

    Raises UserError where the data cannot be found or read, and where a part is too small.
    """
    human = find(group, kind)(**options.model_dump())
    assert isinstance(human, Human), f"corpus '{kind}' returned a {type(human).__name__}"
    budgets = {"train": None, "heldout": None} | dict(sizes or {})
    return finish(human, IMAGES if isinstance(human.train, Images) else TEXT, seed=seed, **budgets)
