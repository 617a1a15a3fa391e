"""Watermarks in what is written: transformers' own, put in at sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor, PretrainedConfig, SynthIDTextWatermarkingConfig, WatermarkingConfig
from transformers.generation.configuration_utils import BaseWatermarkingConfig

from lmcollapse.substrates.causal_lm.options import WatermarkOptions

SYNTHID_KEYS = 30
"""Layers of SynthID's tournament, each with a key of its own."""
SYNTHID_CONTEXT = 4


def configuration(options: WatermarkOptions) -> BaseWatermarkingConfig:
    """The configuration of a watermark, as transformers has it."""
    if options.scheme == "green_list":
        return WatermarkingConfig(
            greenlist_ratio=options.share,
            bias=options.bias,
            hashing_key=options.key,
            context_width=options.context or 1,
        )
    keys = np.random.default_rng(options.key).integers(1, 2**16, SYNTHID_KEYS).tolist()
    return SynthIDTextWatermarkingConfig(ngram_len=(options.context or SYNTHID_CONTEXT) + 1, keys=keys)


def processor(options: WatermarkOptions, config: PretrainedConfig, device: torch.device) -> LogitsProcessor:
    """What puts the watermark into the logits."""
    made: Any = configuration(options)
    one: LogitsProcessor = made.construct_processor(config.get_text_config().vocab_size, device)
    return one
