"""Text written by CTranslate2."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from lmcollapse.substrates.causal_lm.devices import device_of
from lmcollapse.substrates.causal_lm.models import LanguageModel, boundaries, context, fresh, quietly
from lmcollapse.substrates.causal_lm.options import ComputeOptions, SamplingOptions
from lmcollapse.substrates.causal_lm.stepping import Prompts, Tokens, number_of
from lmcollapse.types import Speechless, UserError

TOLERANCE = 1e-3
"""How far logits may be from the model's own, as a share of the largest; float32 has 1e-6."""


class CTranslate2:
    """CTranslate2 (4.8), in float32 whatever the precision of the fit, on a CPU or a GPU.

    It draws from one stream for all documents of a call, seeded by the first of them. So a text follows from the seed,
    the first document of its shard and the batch size, where this project's own follows from seed and document. On
    GPUs its draws have single precision: tokens rarer than one in ten millions come up more seldom than they should.
    """

    def __init__(
        self, model: LanguageModel, prompts: Prompts, options: SamplingOptions, compute: ComputeOptions, seed: int
    ) -> None:
        _, self._eos = boundaries(model.tokenizer)
        self._prompts, self._options, self._seed = prompts, options, seed
        self._device = device_of(compute)
        self._vocabulary = model.module.config.get_text_config().vocab_size
        self._folder = TemporaryDirectory(prefix="lmcollapse-")
        self._converted = _convert(model.module, Path(self._folder.name))

    def write(self, documents: Sequence[int], rows: int) -> Iterator[tuple[int, Tokens]]:
        """These documents with their numbers, `rows` at a time."""
        package = import_module("ctranslate2")
        # 2**32 - 1 would be a seed of its own choice; first documents differ, so do the streams of one writer
        package.set_random_seed((number_of(self._seed) + documents[0]) % (2**32 - 1))
        # the seed is taken by threads that begin after it was set, hence another generator for each call
        generator = package.Generator(
            str(self._converted),
            device=self._device.type,
            device_index=self._device.index or 0,
            compute_type="float32",
            intra_threads=torch.get_num_threads(),
        )
        for first in range(0, len(documents), rows):
            some = documents[first : first + rows]
            words = [[str(token) for token in prompt] for prompt in self._prompts(some)]
            try:
                results = generator.generate_batch(words, **self._settings())
            except RuntimeError as error:
                if "out of memory" not in str(error):
                    raise
                raise torch.OutOfMemoryError(str(error)) from None
            for document, result in zip(some, results, strict=True):
                yield document, np.array(result.sequences_ids[0], np.int32)

    def _settings(self) -> dict[str, Any]:
        options = self._options
        settings: dict[str, Any] = {
            "max_length": options.new_tokens,
            "end_token": [self._eos] if options.until_eos else [],  # with none EOS is a token like others
            "return_end_token": True,
            "include_prompt_in_result": False,
        }
        if options.decoder == "beam":
            return settings | {"beam_size": options.beams}
        if options.decoder == "greedy":
            return settings
        k = options.top_k or 0
        return settings | {
            "sampling_topk": k if k < self._vocabulary else 0,
            "sampling_topp": options.top_p or 1.0,
            "sampling_temperature": options.temperature,
        }

    def close(self) -> None:
        """Remove the converted model."""
        self._folder.cleanup()


def _convert(module: PreTrainedModel, folder: Path) -> Path:
    """The model in CTranslate2's format, its tokens named by their numbers; UserError where its logits are others."""
    package, converters = import_module("ctranslate2"), import_module("ctranslate2.converters")
    config = module.config.get_text_config()
    try:
        with quietly():
            module.save_pretrained(folder / "model")
            converter = converters.TransformersConverter(str(folder / "model"))
            converter.load_tokenizer = lambda *_, **__: _numbers(config.vocab_size)
            converter.convert(str(folder / "converted"))
        shutil.rmtree(folder / "model")
        ids = torch.arange(min(16, context(config) or 16))[None] % config.vocab_size
        generator = package.Generator(str(folder / "converted"), compute_type="float32", intra_threads=1)
        found = torch.from_numpy(np.array(generator.forward_batch(ids.tolist())))
    except Exception as error:  # a converter stumbles over an unknown shape in any way
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"sampling.backend is ctranslate2, which cannot convert this {config.model_type} model ({reason}); take "
            "backend: own"
        ) from None
    with torch.inference_mode():
        module.eval()  # type: ignore[no-untyped-call]
        expected = module(ids.to(module.device)).logits.float().cpu()
    if not expected.isfinite().all():
        raise Speechless("its logits are not finite numbers; lower train.learning_rate")
    off = float((found - expected).abs().max() / expected.abs().max())
    if not off < TOLERANCE:
        raise UserError(
            f"sampling.backend is ctranslate2, which computes other logits for this {config.model_type} model (by "
            f"{100 * off:.2g} %); take backend: own"
        )
    return folder / "converted"


def _numbers(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer in which each token is its number: CTranslate2 takes words, and those of a tokenizer may repeat."""
    words = Tokenizer(models.WordLevel({str(token): token for token in range(vocabulary)}, "0"))
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words, bos_token="0", eos_token="0", unk_token="0"
    )


def check_conversion(config: PretrainedConfig) -> None:
    """UserError for shapes that CTranslate2 does not compute; found out with two layers of random weights."""
    small = copy.deepcopy(config)
    text = small.get_text_config()
    kinds = getattr(text, "layer_types", None)
    text.num_hidden_layers = 2
    if kinds:
        text.layer_types = kinds[:2]
    text.vocab_size = 64 + text.vocab_size % 8  # OPT's must be a multiple of 8
    text.bos_token_id = text.eos_token_id = 0
    text.pad_token_id = None
    module = fresh(small, 0)
    # as models start out attention is even and biases are zero, so that much that is computed wrongly would not show
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(noise * 2 / text.hidden_size**0.5 if parameter.ndim > 1 else parameter + noise / 10)
    with TemporaryDirectory() as folder:
        _convert(module, Path(folder))
