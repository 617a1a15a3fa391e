"""How quick a fit is: tokens a second, and the share of the machine's matrix rate that the model's products take."""

from __future__ import annotations

import time

import torch
from transformers import PreTrainedModel

from lmcollapse import processes
from lmcollapse.substrates.causal_lm.devices import matrix_rate


def operations(module: PreTrainedModel, positions: int) -> float:
    """Operations that a fit takes for one token: 6 for each weight that is multiplied by, and 12 x layers x width x
    positions for attention (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).

    Embeddings are looked up and not multiplied by, but for one that is the head, too.
    """
    embeddings = {
        id(each.weight): each.weight.numel() for each in module.modules() if isinstance(each, torch.nn.Embedding)
    }
    head = module.get_output_embeddings().weight  # type: ignore[no-untyped-call]
    embeddings.pop(id(head), None)
    multiplied = sum(weight.numel() for weight in module.parameters() if weight.ndim >= 2) - sum(embeddings.values())
    config = module.config.get_text_config()
    return float(6 * multiplied + 12 * config.num_hidden_layers * config.hidden_size * positions)


class Clock:
    """Takes the time between records of a fit. Attention over a block sees half of it; that is not deducted."""

    def __init__(self, module: PreTrainedModel, positions: int, device: torch.device, precision: str) -> None:
        self.work = operations(module, positions)
        self.rate = matrix_rate(device, precision) * processes.count()
        self.tokens, self.began = 0, time.perf_counter()

    def count(self, tokens: int) -> None:
        """So many more tokens."""
        self.tokens += tokens

    def read(self) -> dict[str, float]:
        """Tokens a second and utilisation since the last time."""
        now = time.perf_counter()
        speed = self.tokens / (now - self.began)
        self.tokens, self.began = 0, now
        return {"tokens_per_second": round(speed, 1), "utilisation": round(speed * self.work / self.rate, 4)}
