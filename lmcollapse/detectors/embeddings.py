"""The detector `embeddings`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lmcollapse.catalog import find
from lmcollapse.detectors import Known, Suspects
from lmcollapse.detectors.learning import learned
from lmcollapse.types import Floats, Progress


def embeddings(suspects: Suspects, known: Known, progress: Progress, *, embedding: str = "lsa") -> Floats:
    """A logistic regression on what an embedding makes of a text, which learns from generation 0's text.

    embedding : `lsa`, fitted to the known human text; `smollm2`, a model folder or a hub id.
    """

    def features(texts: Sequence[str]) -> Any:
        if embedding == "lsa" or ":" in embedding:
            return np.asarray(find("embedding", embedding)(list(texts), list(known.human)))
        return np.asarray(find("embedding", "transformers")(list(texts), embedding))

    with progress.stage(f"detect (embeddings, {embedding})"):
        return learned(features, suspects, known)
