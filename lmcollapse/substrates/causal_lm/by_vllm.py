"""Text written by vLLM."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from lmcollapse.substrates.causal_lm.devices import decided, dtype_of
from lmcollapse.substrates.causal_lm.models import LanguageModel, boundaries, quietly
from lmcollapse.substrates.causal_lm.options import ComputeOptions, SamplingOptions
from lmcollapse.substrates.causal_lm.stepping import Prompts, Tokens, number_of


class VLLM:
    """vLLM, written against the source of 0.33.0 and exercised against a stand-in for it alone.

    A document has a seed of its own, which follows from seed and document.
    """

    def __init__(
        self, model: LanguageModel, prompts: Prompts, options: SamplingOptions, compute: ComputeOptions, seed: int
    ) -> None:
        _, self._eos = boundaries(model.tokenizer)
        self._model, self._prompts, self._options, self._seed = model, prompts, options, seed
        self._dtype = str(dtype_of(options.precision or decided(compute).precision)).removeprefix("torch.")
        self._llm: Any = None

    def write(self, documents: Sequence[int], rows: int) -> Iterator[tuple[int, Tokens]]:
        """These documents with their numbers, `rows` at a time."""
        package, parameters = import_module("vllm"), import_module("vllm.sampling_params")
        options, starts = self._options, self._prompts(documents)
        self._llm = self._llm or self._load(len(starts[0]), rows)
        prompts = [package.TokensPrompt(prompt_token_ids=start) for start in starts]
        if options.decoder == "beam":
            how = parameters.BeamSearchParams(
                beam_width=options.beams, max_tokens=options.new_tokens, ignore_eos=True, temperature=0.0
            )
            found = self._llm.beam_search(prompts, how, concurrency_limit=rows)
            written = [output.sequences[0].tokens[len(start) :] for start, output in zip(starts, found, strict=True)]
        else:
            how = [package.SamplingParams(**self._settings(document)) for document in documents]
            found = self._llm.generate(prompts, how, use_tqdm=False)
            written = [output.outputs[0].token_ids for output in found]
        for document, tokens in zip(documents, written, strict=True):
            yield document, np.array(tokens, np.int32)

    def _load(self, prompt: int, rows: int) -> Any:
        self._model.module.cpu()  # it takes nearly all of the GPU's memory, or does not begin
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        with TemporaryDirectory(prefix="lmcollapse-") as folder, quietly():
            self._model.module.save_pretrained(folder)
            self._model.tokenizer.save_pretrained(folder)
            return import_module("vllm").LLM(
                model=folder,
                dtype=self._dtype,
                seed=number_of(self._seed),
                max_model_len=prompt + (self._options.new_tokens or 0),
                max_num_seqs=rows,
                max_logprobs=2 * (self._options.beams or 10),
                use_fp64_gumbel=True,  # noise in single precision would never draw the rarest tokens
            )

    def _settings(self, document: int) -> dict[str, Any]:
        options = self._options
        draws = options.decoder == "ancestral"
        return {
            "max_tokens": options.new_tokens,
            "ignore_eos": True,  # what ends a document is the tokenizer's EOS, whatever the model's configuration says
            "stop_token_ids": [self._eos] if options.until_eos else [],
            "temperature": options.temperature if draws else 0.0,
            "top_k": options.top_k or 0,
            "top_p": options.top_p or 1.0,
            "min_p": options.min_p or 0.0,
            "repetition_penalty": options.repetition_penalty,
            "seed": number_of(self._seed, document, bits=63),
            "detokenize": False,
        }

    def close(self) -> None:
        """Let go of the engine, whose memory the next step needs."""
        self._llm = None
        gc.collect()
