"""Human text, always in a training and a held-out part that share no document.

A kind of corpus is a function whose keyword-only parameters are its options and which returns a `Human` as it found it;
`load_human` finishes every kind in the same way (`parts.finish`).
"""

from __future__ import annotations

from lmcollapse.catalog import find
from lmcollapse.corpora.parts import finish
from lmcollapse.options import Options
from lmcollapse.types import Human


def load_human(
    kind: str,
    options: Options,
    *,
    train_words: int | None,
    heldout_words: int | None,
    seed: int,
    reserve_words: int | None = None,
) -> Human:
    """Human text of one kind, cleaned, checked and cut to size; the same seed draws the same documents.

    kind : name of a corpus in the catalogue, or "package.module:attribute".
    options : the options of that corpus.
    train_words, heldout_words : size of each part in whitespace words; None for all there is.
    reserve_words : size of the part that generation 0 does not read, likewise; None for none.
    seed : decides which documents a budget of words takes, and nothing else.

    Raises UserError where the text cannot be found or read, and where a part of it is too small.
    """
    human = find("corpus", kind)(**options.model_dump())
    assert isinstance(human, Human), f"corpus '{kind}' returned a {type(human).__name__}"
    sizes = {"train_words": train_words, "heldout_words": heldout_words, "reserve_words": reserve_words}
    return finish(human, **sizes, seed=seed)
