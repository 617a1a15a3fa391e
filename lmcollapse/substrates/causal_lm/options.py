"""What a configuration may say about a language model: which one, how it is fitted, how it writes, how it is scored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field

from lmcollapse.options import Options
from lmcollapse.types import UserError


class ModelOptions(Options):
    """Which model is fitted. The shape options (architecture to dropout) are for scratch models only."""

    name: str = "scratch"
    """A hub id (gpt2), a local folder in the transformers format, `smollm2`, or `scratch`: built here from options."""
    revision: str | None = None
    """Branch, tag or commit of a hub id; null for its main branch."""
    trust_remote_code: bool = False
    """Let a model from the hub bring code of its own, and run it."""
    architecture: Literal["gpt2", "llama"] | None = None
    """Scratch only: the shape of the network (null: gpt2)."""
    layers: int | None = Field(default=None, gt=0)
    """Scratch only: transformer blocks (null: 4)."""
    width: int | None = Field(default=None, gt=0)
    """Scratch only: width of the residual stream (null: 128)."""
    heads: int | None = Field(default=None, gt=0)
    """Scratch only: attention heads, a divisor of the width (null: 4)."""
    vocabulary: int | None = Field(default=None, ge=257)
    """Scratch only: most entries of the tokenizer, which is trained on the human training part (null: 4096)."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Scratch only: share of activations dropped during the fit, for llama of attention weights (null: 0)."""

    @property
    def is_scratch(self) -> bool:
        """Whether the model is built here and not loaded."""
        return self.name == "scratch"

    def shape(self) -> ModelOptions:
        """The options of a scratch model with the defaults filled in."""
        defaults = {"architecture": "gpt2", "layers": 4, "width": 128, "heads": 4, "vocabulary": 4096, "dropout": 0.0}
        return self.model_copy(update={key: v for key, v in defaults.items() if getattr(self, key) is None})


class TrainOptions(Options):
    """How a generation is fitted."""

    unit: Literal["block", "document"] = "block"
    """What a row is: a block of exactly block_size tokens cut from the text laid end to end, or a whole document."""
    block_size: int = Field(default=128, ge=2)
    """Tokens that the model sees at once during the fit."""
    bos: bool = True
    """Put the beginning-of-text token before every block, so that the model learns to start one (unit block)."""
    epochs: float = Field(default=5, gt=0)
    """Passes over the training rows."""
    steps: int | None = Field(default=None, gt=0)
    """Optimizer steps, in place of epochs."""
    batch_size: int = Field(default=32, gt=0)
    """Blocks per optimizer step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Highest learning rate (AdamW)."""
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps over which the learning rate rises from zero."""
    weight_decay: float = Field(default=0.1, ge=0)
    """AdamW's decoupled weight decay, of matrices alone: not of biases, norms and embeddings."""
    gradient_clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient, null for no clipping."""
    micro_batch_size: int | None = Field(default=None, gt=0)
    """Blocks whose gradients are worked out at once and added up (null: the whole batch, halved where memory ends)."""
    loss_tokens: int | None = Field(default=None, gt=0)
    """Learn to predict the last so many tokens of each block only (null: all of them)."""
    validation: float = Field(default=0, ge=0, lt=1)
    """Share of the training blocks that is not trained on; the weights that predict it best are kept."""
    validation_steps: int | None = Field(default=None, gt=0)
    """Optimizer steps between two looks at the validation part (null: an epoch)."""
    patience: int | None = Field(default=None, gt=0)
    """Stop after so many looks without a better one (null: never)."""
    checkpoint_steps: int | None = Field(default=None, gt=0)
    """Keep the state of the fit every so many optimizer steps, for a start after a kill (null: by time alone)."""
    checkpoint_minutes: float = Field(default=10, gt=0)
    """Keep the state of the fit every so many minutes, too."""
    gradient_checkpointing: bool = False
    """Work out activations twice in place of keeping them: slower, for models that outgrow the memory."""
    lora_rank: int | None = Field(default=None, gt=0)
    """Fit low-rank updates of this rank in place of the weights (peft), and add them to the weights at the end."""
    lora_alpha: int | None = Field(default=None, gt=0)
    """Updates count alpha / rank times (null: twice the rank)."""
    trackers: tuple[Literal["tensorboard", "trackio", "wandb", "mlflow"], ...] = ()
    """Packages that follow the fit beside fit.jsonl, each installed by the user; tensorboard writes to `trackers/`."""

    @property
    def positions(self) -> int:
        """Input positions that the fit trains."""
        return self.block_size if self.bos else self.block_size - 1


class WatermarkOptions(Options):
    """A watermark that is put into what is written, transformers' own."""

    scheme: Literal["green_list", "synthid"] = "green_list"
    """A share of the vocabulary made likelier (Kirchenbauer et al. 2023), or SynthID-Text (Dathathri et al. 2024)."""
    key: int = Field(default=15485863, gt=0)
    """Who knows it can find the watermark."""
    context: int | None = Field(default=None, gt=0)
    """Tokens before each one that decide which are likelier (null: 1 for green_list, 4 for synthid)."""
    bias: float = Field(default=2.5, gt=0)
    """green_list: what is added to the logits."""
    share: float = Field(default=0.25, gt=0, lt=1)
    """green_list: share of the vocabulary that it is added to."""


class SamplingOptions(Options):
    """How a generation writes its corpus."""

    backend: Literal["own", "ctranslate2", "vllm"] = "own"
    """What writes: this project's sampler (own), or an optional package: ctranslate2 (float32), vllm (needs a GPU)."""
    decoder: Literal["greedy", "ancestral", "beam"] = "ancestral"
    """The most likely token each time, a draw from the model's distribution, or the most likely text found by beams."""
    temperature: float = Field(default=1.0, gt=0)
    """Ancestral: logits are divided by it."""
    top_k: int | None = Field(default=None, gt=0)
    """Ancestral: draw from the k most likely tokens."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Ancestral: draw from the fewest tokens that together have this probability."""
    min_p: float | None = Field(default=None, ge=0, le=1)
    """Ancestral: draw from the tokens with at least this share of the most likely one's probability."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Makes tokens that the text (prompt included) has already less likely; 1 for no penalty."""
    beams: int | None = Field(default=None, ge=2)
    """Width of the beam search (null: 5 when the decoder is beam)."""
    prompt: Literal["none", "human", "previous"] = "none"
    """What a document continues: nothing, a row of the human training part, or a row of the previous corpus."""
    prompt_tokens: int | None = Field(default=None, gt=0)
    """Leading tokens of a row that prompt a document; they are no part of it."""
    new_tokens: int | None = Field(default=None, gt=0)
    """Tokens of a document, at most where until_eos (null: train.block_size)."""
    until_eos: bool | None = None
    """Documents end at the end-of-text token; else it is a token like others (null: where train.unit is document)."""
    tokens: int | None = Field(default=None, gt=0)
    """Size of the corpus (null: as many tokens as the human training part has)."""
    edit_above: float | None = Field(default=None, gt=0, le=1)
    """Write nothing: go over the previous corpus, at first the human one, and draw anew each token that the model gives
    at least this probability (ToEdit, arXiv 2412.14689)."""
    watermark: WatermarkOptions | None = None
    """Put a watermark into what is written; null for none."""
    batch_size: int | None = Field(default=None, gt=0)
    """Documents written at once (null: decided from the memory)."""
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    """Of matrix products and of the keys and values that are kept (null: compute.precision)."""

    def settled(self, train: TrainOptions) -> SamplingOptions:
        """The options with what follows from other options filled in."""
        settled = {
            "beams": self.beams or (5 if self.decoder == "beam" else None),
            "new_tokens": self.new_tokens or train.block_size,
            "until_eos": train.unit == "document" if self.until_eos is None else self.until_eos,
        }
        return self.model_copy(update=settled)


class ScoringOptions(Options):
    """How text is scored."""

    window: int | None = Field(default=None, gt=0)
    """Longest stretch of tokens that the model sees (null: the positions that it was trained on in this run)."""
    windows: Literal["rolling", "disjoint"] = "rolling"
    """The last window reaches back so as to be full (as lm-evaluation-harness has it), or every token is seen once."""
    batch_size: int | None = Field(default=None, gt=0)
    """Windows scored at once (null: decided from the memory)."""
    judges: tuple[str, ...] = ()
    """Other models that find how likely each generation's corpus is: hub ids, local folders, `smollm2`."""


class ComputeOptions(Options):
    """Where and how the arithmetic is done."""

    device: str = "auto"
    """auto (the first accelerator, else the CPU), cpu, cuda, cuda:1, mps."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """Of the fit and of sampling; weights stay in float32 (auto: bfloat16 where the hardware has it; tf32: NVIDIA)."""
    threads: int | None = Field(default=None, gt=0)
    """CPU threads (null: torch's choice)."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the fit (auto: on a GPU, where a fit is long enough to win back the time)."""
    sharding: Literal["none", "fsdp"] = "none"
    """Under torchrun: every process has the whole model, or a part of it (fully sharded data parallel)."""


def check_effects(model: ModelOptions, train: TrainOptions, sampling: SamplingOptions) -> None:
    """Raise UserError for options that contradict each other, or that would be without effect."""
    for problem in (*_model_problems(model), *_train_problems(train), *_sampling_problems(sampling)):
        raise UserError(problem)


def _model_problems(model: ModelOptions) -> Iterator[str]:
    if model.is_scratch:
        shape = model.shape()
        assert shape.width and shape.heads
        if shape.width % shape.heads:
            yield f"model.width is {shape.width}: it must be a multiple of model.heads ({shape.heads})"
        elif shape.architecture == "llama" and shape.width // shape.heads % 2:
            yield f"model.width is {shape.width}: for llama it must be an even multiple of model.heads ({shape.heads})"
        if model.revision is not None or model.trust_remote_code:
            yield "model.revision and model.trust_remote_code have no effect on a scratch model: leave them out"
        return
    for key in ("architecture", "layers", "width", "heads", "vocabulary", "dropout"):
        if getattr(model, key) is not None:
            yield f"model.{key} has no effect on '{model.name}', which has its shape: leave it out, or take scratch"


def _train_problems(train: TrainOptions) -> Iterator[str]:
    if not train.validation:
        for key in ("validation_steps", "patience"):
            if getattr(train, key) is not None:
                yield f"train.{key} has no effect without a validation part: give train.validation, a share such as 0.1"
    if train.lora_alpha is not None and train.lora_rank is None:
        yield "train.lora_alpha has no effect without train.lora_rank: give both, or neither"
    if train.loss_tokens is not None and train.loss_tokens > train.block_size - (not train.bos):
        yield f"train.loss_tokens is {train.loss_tokens}, and blocks have train.block_size {train.block_size} tokens"
    if train.unit == "document" and not train.bos:
        yield "train.bos: false has no effect with unit: document, where every document begins with it: leave it out"


def check_prompts(train: TrainOptions, sampling: SamplingOptions) -> None:
    """Raise UserError for prompts that no row can give; known beforehand where rows are blocks of one length."""
    if train.unit == "document" or sampling.prompt_tokens is None:
        return
    longest = train.block_size
    if sampling.prompt == "previous":
        longest = min(longest, sampling.new_tokens or train.block_size)
    if sampling.prompt_tokens > longest:
        raise UserError(
            f"sampling.prompt_tokens is {sampling.prompt_tokens} and rows to prompt with have {longest} tokens: lower "
            "it, or raise train.block_size (human rows) and sampling.new_tokens (synthetic ones)"
        )


def check_packages(train: TrainOptions) -> None:
    """Raise UserError for optional packages that the options need and that are not installed."""
    wanted = {"peft": "train.lora_rank"} if train.lora_rank is not None else {}
    for package, option in (wanted | dict.fromkeys(train.trackers, "train.trackers")).items():
        if find_spec(package) is None:
            raise UserError(f"{option} needs {package}, which is not installed: pip install {package}, or leave it out")


def check_judges(scoring: ScoringOptions) -> None:
    """Raise UserError for judges whose measures would have one name: the last part of a judge's name is in theirs."""
    names = [re.sub(r"\W+", "_", Path(judge).name.lower()).strip("_") for judge in scoring.judges]
    if len({*names, "generation_0", ""}) < len(names) + 2:
        raise UserError(
            f"scoring.judges is {list(scoring.judges)}: the last parts of their names must differ, and none is "
            "generation_0, whose model judges in any case"
        )


def _sampling_problems(sampling: SamplingOptions) -> Iterator[str]:
    decoder = sampling.decoder
    if sampling.edit_above is not None:
        usual = SamplingOptions()
        without = (
            "decoder",
            "repetition_penalty",
            "prompt",
            "new_tokens",
            "until_eos",
            "tokens",
            "watermark",
            "backend",
        )
        for key in without:
            if getattr(sampling, key) != getattr(usual, key):
                yield f"sampling.{key} has no effect with sampling.edit_above, which writes no documents: leave one out"
    if sampling.watermark is not None:
        if sampling.backend != "own":
            yield f"sampling.backend {sampling.backend} has no watermark: leave one of the two out"
        if decoder == "greedy":
            yield "sampling.watermark with decoder: greedy would change every text in the same way: take ancestral"
        if sampling.watermark.scheme == "synthid":
            for key in ("bias", "share"):
                if getattr(sampling.watermark, key) != getattr(WatermarkOptions(), key):
                    yield f"sampling.watermark.{key} has no effect with scheme: synthid: leave it out"
            if decoder == "beam":
                yield "sampling.watermark synthid needs draws, and decoder: beam draws none: take ancestral"
    if decoder != "ancestral":
        for key, neutral in (("temperature", 1.0), ("top_k", None), ("top_p", None), ("min_p", None)):
            if getattr(sampling, key) != neutral:
                yield f"sampling.{key} has no effect with decoder: {decoder}: leave it out, or take decoder: ancestral"
        if sampling.prompt == "none":
            yield f"decoder: {decoder} without a prompt writes one document over and over: give sampling.prompt"
    if decoder != "beam" and sampling.beams is not None:
        yield f"sampling.beams has no effect with decoder: {decoder}: leave it out, or take decoder: beam"
    if sampling.prompt == "none" and sampling.prompt_tokens is not None:
        yield "sampling.prompt_tokens has no effect without sampling.prompt: give prompt: human or prompt: previous"
    if sampling.prompt != "none" and sampling.prompt_tokens is None:
        yield f"sampling.prompt: {sampling.prompt} needs sampling.prompt_tokens: how many tokens of a row to give"
