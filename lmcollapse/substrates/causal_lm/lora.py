"""Low-rank updates in place of weights (Hu et al., ICLR 2022, arXiv 2106.09685), by peft."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lmcollapse.substrates.causal_lm.options import TrainOptions


def adapted(module: PreTrainedModel, train: TrainOptions) -> Any:
    """The module with updates of all its linear layers, which alone are fitted; None where there are to be none.

    The module itself is changed; `merge_and_unload()` of what is returned adds the updates to its weights.
    """
    if train.lora_rank is None:
        return None
    from peft import LoraConfig, get_peft_model

    alpha = train.lora_alpha or 2 * train.lora_rank
    config = LoraConfig(
        r=train.lora_rank,
        lora_alpha=alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in module.modules()),  # weights as GPT-2 has them
    )
    return get_peft_model(module, config)
