"""The measure `perplexity`."""

from __future__ import annotations

import math
import sys

from lmcollapse.types import Reading, Scene


def perplexity(scene: Scene) -> list[Reading]:
    """Perplexity and bits per byte of this generation's model on the held-out human text.

    perplexity = exp(sum of nats / sum of tokens), every token of the held-out part scored once. What a token is, the
    model's own tokenizer says; bits_per_byte = sum of nats / ln 2 / bytes of the text in UTF-8 does not depend on that
    and so compares models with different tokenizers.
    """
    nats, tokens = float(scene.heldout_scores.nats.sum()), int(scene.heldout_scores.tokens.sum())
    size = sum(len(text.encode()) for text in scene.heldout.texts or ())
    if not size or not tokens:
        bits = Reading("bits_per_byte", None, f"of {size} bytes of held-out text {tokens} tokens were scored")
    elif not math.isfinite(nats):
        bits = Reading("bits_per_byte", None, f"the held-out part has {nats} nats")
    else:
        bits = Reading("bits_per_byte", nats / math.log(2) / size)
    return [exponential("perplexity", nats / tokens if tokens else math.nan), bits]


def exponential(name: str, nats_per_token: float) -> Reading:
    """A perplexity: exp of the mean nats of a token, None where that is no finite number."""
    if math.isnan(nats_per_token):
        return Reading(name, None, "no token was scored, or some have no probability")
    if nats_per_token > math.log(sys.float_info.max):
        return Reading(name, None, f"exp({nats_per_token:.4g}) is beyond double precision")
    return Reading(name, math.exp(nats_per_token))
