"""The detector `ngrams`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from lmcollapse.detectors import Known, Suspects
from lmcollapse.detectors.learning import learned
from lmcollapse.types import Floats, Progress

COLUMNS = 2**18


def ngrams(
    suspects: Suspects,
    known: Known,
    progress: Progress,
    *,
    words: Annotated[int, Field(ge=0)] = 2,
    characters: Annotated[int, Field(ge=0)] = 4,
) -> Floats:
    """A logistic regression on n-grams of words and of characters, which learns from generation 0's text.

    Counts are hashed into 2^18 columns each and every text has length 1, so that a text's features depend on nothing
    else. It sees the habits of one model on one kind of text, and little of others.

    words : up to so many words are an n-gram; 0 for none.
    characters : up to so many characters within words, from 2 on; 0 for none.
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import HashingVectorizer

    made = []
    if words:
        made.append(HashingVectorizer(ngram_range=(1, words), n_features=COLUMNS, alternate_sign=False))
    if characters:
        span = (min(2, characters), characters)
        made.append(HashingVectorizer(analyzer="char_wb", ngram_range=span, n_features=COLUMNS, alternate_sign=False))

    def features(texts: Sequence[str]) -> Any:
        return sparse.hstack([vectorizer.transform(texts) for vectorizer in made], format="csr")

    with progress.stage("detect (ngrams)"):
        return learned(features, suspects, known)
