"""What a fit minimises: the nats of the tokens that are predicted, without ever holding all logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from lmcollapse.substrates.causal_lm.blocks import IGNORED
from lmcollapse.substrates.causal_lm.models import PLAIN_HEADS
from lmcollapse.substrates.causal_lm.network import states
from lmcollapse.substrates.causal_lm.shapes import network_of

LOGITS = 1 << 21
"""Logits that are held at once on a CPU; what is worked on then stays in its caches. Sixteen times as many on a GPU."""


class Objective(nn.Module):
    """Sum of the nats of labels given inputs, as a module, so that it can be fitted by several processes.

    module : is fitted in place.
    precision : of matrix products; norms, softmax of the vocabulary and the residual stream stay in float32.
    lean : let the weights of known shapes be used without the module's own forward pass, where it has no dropout.
    """

    def __init__(self, module: PreTrainedModel, precision: torch.dtype, *, lean: bool) -> None:
        super().__init__()
        self.module = module
        self.precision = precision
        known = lean and not has_dropout(module)
        self.network = network_of(module, precision, fitted=True) if known else None

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The sum over all labels that count; inputs and labels are `(rows, positions)`."""
        counted = labels != IGNORED
        half = self.precision.itemsize == 2 and self.network is None
        with torch.autocast(inputs.device.type, self.precision, enabled=half):
            if self.network is not None:
                found = self.network.norm(states(self.network, inputs))
            elif type(self.module) in PLAIN_HEADS:
                found = self.module.base_model(inputs, use_cache=False).last_hidden_state
            else:
                logits = self.module(inputs, use_cache=False).logits
                # in bfloat16 the sum over a vocabulary would lose the rare words
                return cross_entropy(logits[counted].float(), labels[counted], reduction="sum")
        weight = self.module.get_output_embeddings().weight  # type: ignore[no-untyped-call]
        total: Tensor = LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
            found[counted], weight, labels[counted], self.precision
        )
        return total


def has_dropout(module: PreTrainedModel) -> bool:
    """Whether a fit of this module drops anything."""
    rates = (
        "resid_pdrop",
        "embd_pdrop",
        "attn_pdrop",
        "dropout",
        "attention_dropout",
        "activation_dropout",
        "layerdrop",
    )
    return any(getattr(module.config, rate, 0) for rate in rates)


class LinearCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of a linear layer's logits, a part of the rows at a time.

    The gradients are worked out on the way, while the logits of a part are there, so that these are made once and never
    kept: the memory does not grow with rows x vocabulary. Products are in `precision`, the softmax in float32.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, labels: Tensor, precision: torch.dtype) -> Tensor:
        """states `(rows, width)`, weight `(vocabulary, width)`, labels `(rows,)`; the sum in float32."""
        held = LOGITS if states.device.type == "cpu" else 16 * LOGITS
        rows = max(64, held // len(weight))
        rounded = weight.to(precision)
        of_states, of_weight = torch.empty_like(states), torch.zeros_like(weight)
        total = torch.zeros((), dtype=torch.promote_types(states.dtype, torch.float32), device=states.device)
        for some, part, target in zip(
            torch.split(states, rows), torch.split(of_states, rows), torch.split(labels, rows), strict=True
        ):
            read, target = some.to(precision), target[:, None]
            logits = (read @ rounded.t()).to(total.dtype)
            own = logits.gather(1, target)
            top = logits.amax(-1, keepdim=True)
            shares = logits.sub_(top).exp_()
            sums = shares.sum(-1, keepdim=True)
            total += (sums.log() + top - own).sum()
            # the gradient of the logits: probabilities, less one at the label
            gradient = shares.mul_(1 / sums).scatter_add_(1, target, torch.full_like(own, -1)).to(precision)
            part.copy_(gradient @ rounded)
            of_weight += gradient.t() @ read
        ctx.save_for_backward(of_states, of_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of states and weight, as worked out in `forward`."""
        of_states, of_weight = ctx.saved_tensors
        return of_states * upstream[0], of_weight * upstream[0], None, None
