"""Other packages that write text in the place of this project's sampler: CTranslate2 and vLLM, both optional.

The same options mean the same distribution in all of them; what a package has no equal of is refused before any compute
is spent. Their random numbers are their own, so that other text comes out of the same seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Protocol

from transformers import PretrainedConfig

from lmcollapse.substrates.causal_lm.devices import device_of
from lmcollapse.substrates.causal_lm.models import LanguageModel
from lmcollapse.substrates.causal_lm.options import ComputeOptions, SamplingOptions
from lmcollapse.substrates.causal_lm.stepping import Prompts, Tokens
from lmcollapse.types import UserError

TOP_P_CLASSES = 8192
"""The most tokens that CTranslate2 sorts on a GPU to find the nucleus."""


class Backend(Protocol):
    """Writes documents by number with another package."""

    def write(self, documents: Sequence[int], rows: int) -> Iterator[tuple[int, Tokens]]:
        """These documents with their numbers, `rows` at a time."""
        ...

    def close(self) -> None:
        """Give back the memory and the disk that it takes."""
        ...


def backend_of(
    model: LanguageModel, prompts: Prompts, options: SamplingOptions, compute: ComputeOptions, seed: int
) -> Backend | None:
    """The package that is to write, None for this project's sampler.

    options : settled ones.
    """
    if options.backend == "own":
        return None
    if options.backend == "vllm":
        from lmcollapse.substrates.causal_lm.by_vllm import VLLM

        return VLLM(model, prompts, options, compute, seed)
    from lmcollapse.substrates.causal_lm.by_ctranslate2 import CTranslate2

    return CTranslate2(model, prompts, options, compute, seed)


def check_backend(options: SamplingOptions, compute: ComputeOptions, config: PretrainedConfig) -> None:
    """UserError where the package is missing, or where it would not write as this project's sampler does.

    options : settled ones.
    """
    if options.backend == "own":
        return
    for problem in _problems(options):
        raise UserError(f"{problem} (or take sampling.backend: own)")
    if find_spec(options.backend) is None:
        raise UserError(
            f"sampling.backend is {options.backend}, which is not installed: "
            f"pip install 'lmcollapse[{options.backend}]' (or take backend: own)"
        )
    device = device_of(compute)
    if options.backend == "vllm":
        if device.type != "cuda" or device.index:
            raise UserError(
                f"sampling.backend is vllm, which takes the first GPU that it sees, and compute.device is {device}: "
                "give compute.device: cuda, and choose the GPU by CUDA_VISIBLE_DEVICES"
            )
        return
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"sampling.backend is ctranslate2, which has no {device.type}: give compute.device: cpu")
    vocabulary = config.get_text_config().vocab_size
    sorts = min(options.top_k or vocabulary, vocabulary) if (options.top_p or 1) < 1 else 0
    if device.type == "cuda" and sorts > TOP_P_CLASSES:
        raise UserError(
            f"sampling.top_p among {sorts} tokens is beyond ctranslate2 on a GPU, which sorts {TOP_P_CLASSES}: give "
            "sampling.top_k too (or take backend: own)"
        )
    from lmcollapse.substrates.causal_lm.by_ctranslate2 import check_conversion

    check_conversion(config)


def _problems(options: SamplingOptions) -> Iterator[str]:
    """Options that mean something else to the package, or nothing."""
    name = options.backend
    if options.decoder == "beam" and options.until_eos:
        yield f"decoder: beam with until_eos ends its search by another rule in {name}: give sampling.until_eos: false"
    if options.repetition_penalty != 1 and (name == "ctranslate2" or options.decoder == "beam"):
        what = "spares the first token of the text" if options.decoder != "beam" else "is not that of transformers"
        yield f"sampling.repetition_penalty {what} in {name}'s decoder: {options.decoder}: leave it out"
    if options.precision not in (None, "float32") and name == "ctranslate2":
        yield f"sampling.precision is {options.precision}, and ctranslate2 writes in float32 here: leave it out"
    if options.min_p is not None and name == "ctranslate2":
        yield "sampling.min_p is not in ctranslate2: leave it out"
    if options.min_p is not None and (options.top_p or 1) < 1 and name == "vllm":
        yield "sampling.min_p comes before top_p in vllm and after it elsewhere: leave one of them out"
    if not 0.01 <= options.temperature <= 2 and name == "vllm":
        yield f"sampling.temperature is {options.temperature}: vllm takes 0.01 to 2"
