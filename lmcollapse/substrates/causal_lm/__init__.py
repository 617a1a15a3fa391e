"""Causal language models of the transformers library as a substrate: fitted, sampled and scored by these options.

models.py loads and builds them, blocks.py makes training blocks of rows, fit.py fits, decoding.py and sample.py write
(or another package, by backends.py), score.py scores. torch and transformers are imported when a verb is used, so that
reading a configuration stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lmcollapse.options import Options
from lmcollapse.substrates.causal_lm.options import (
    ComputeOptions,
    ModelOptions,
    SamplingOptions,
    ScoringOptions,
    TrainOptions,
    check_effects,
    check_judges,
    check_packages,
    check_prompts,
)
from lmcollapse.types import Corpus, Documents, Human, Progress, Scores, Start

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from lmcollapse.substrates.causal_lm.models import LanguageModel


class CausalLM(Options):
    """A causal language model: GPT-2 or Llama shapes built from scratch, or any pretrained one."""

    reads: ClassVar[str] = "text"
    starts: ClassVar[tuple[Start, ...]] = ("base", "previous", "scratch")
    iterative: ClassVar[bool] = True

    model: ModelOptions = ModelOptions()
    train: TrainOptions = TrainOptions()
    sampling: SamplingOptions = SamplingOptions()
    scoring: ScoringOptions = ScoringOptions()
    compute: ComputeOptions = ComputeOptions()

    def check(self, start: Start) -> None:
        """Raise UserError for all that can be known to fail before any compute is spent."""
        from lmcollapse.substrates.causal_lm.backends import check_backend
        from lmcollapse.substrates.causal_lm.devices import decided
        from lmcollapse.substrates.causal_lm.models import check_positions, check_weights, read_config, read_tokenizer
        from lmcollapse.substrates.causal_lm.score import window_size

        check_effects(self.model, self.train, self.sampling)
        decided(self.compute)
        config = self._config()
        check_positions(config, self.train.positions, "train.block_size")
        check_positions(config, self._needed_positions, "sampling.prompt_tokens and sampling.new_tokens together")
        check_prompts(self.train, self.sampling)
        window_size(config, self.scoring)
        check_judges(self.scoring)
        check_packages(self.train)
        check_backend(self._sampling, self.compute, config)
        pretrained = [] if self.model.is_scratch else [self.model]
        for options in (*pretrained, *(ModelOptions(name=judge) for judge in self.judges)):
            read_config(options)
            check_weights(options)
            read_tokenizer(options)

    def decide(self) -> CausalLM:
        """The same options with device, precision, threads and batch sizes settled for this machine."""
        from lmcollapse.substrates.causal_lm import devices, sample, score

        compute = devices.decided(self.compute)
        device, config = devices.device_of(compute), self._config()
        window = self.scoring.window or self.train.positions
        writing = self.sampling.batch_size or sample.batch_size(
            config, self._sampling, self.sampling.precision or compute.precision, device
        )
        scoring = self.scoring.batch_size or score.batch_size(config, window, device)
        return self.model_copy(
            update={
                "compute": compute,
                "sampling": self.sampling.model_copy(update={"batch_size": writing}),
                "scoring": self.scoring.model_copy(update={"batch_size": scoring}),
            }
        )

    def prepare(self, human: Human[Documents], folder: Path, seed: int) -> None:
        """Write the tokenizer, the model's configuration and, for a scratch model, its initial weights."""
        from lmcollapse.substrates.causal_lm.checkpoints import prepare

        prepare(self.model, self._positions, human.train, folder, seed)

    def encode(self, base: Path, human: Human[Documents]) -> tuple[Corpus, Corpus]:
        """The human training part as rows to train on, the held-out part as one row a document."""
        from lmcollapse.substrates.causal_lm.blocks import encode
        from lmcollapse.substrates.causal_lm.models import check_ids, read_config

        rows = encode(self._tokenizer(base), human, self.train)
        config = read_config(ModelOptions(name=str(base.resolve()), trust_remote_code=self.model.trust_remote_code))
        for part in rows:
            check_ids(config, part.values)
        return rows

    def fit(
        self,
        base: Path,
        train: Corpus,
        start: Start,
        previous: Path | None,
        seed: int,
        progress: Progress,
        bench: Path | None = None,
        passes: float = 1.0,
    ) -> LanguageModel:
        """A model fitted to `train`, starting from the base, from the model in `previous`, or from random weights."""
        from lmcollapse.substrates.causal_lm.blocks import training_blocks
        from lmcollapse.substrates.causal_lm.checkpoints import starting_point
        from lmcollapse.substrates.causal_lm.fit import fit
        from lmcollapse.substrates.causal_lm.models import TRAINED_POSITIONS, LanguageModel, boundaries

        tokenizer = self._tokenizer(base)
        blocks = training_blocks(train, self.train, *boundaries(tokenizer), seed)
        module = starting_point(self.model, base, start, previous, seed)
        history = fit(module, blocks, self.train, self.compute, seed, progress, bench, passes)
        setattr(module.config, TRAINED_POSITIONS, self.train.positions)
        return LanguageModel(module, tokenizer, history)

    def sample(
        self,
        model: LanguageModel,
        human: Corpus,
        previous: Corpus,
        generation: int,
        seed: int,
        progress: Progress,
        bench: Path,
    ) -> Corpus:
        """A new corpus, written by `model`; `human` and `previous` prompt it where the options say so."""
        from lmcollapse.substrates.causal_lm.edit import edit
        from lmcollapse.substrates.causal_lm.sample import sample

        if self.sampling.edit_above is not None:
            return edit(model, previous, generation, seed, self.sampling, self.scoring, self.compute, progress)
        if self.model.is_scratch and self._sampled_positions > self.train.positions:
            progress.say(
                f"sample: texts reach position {self._sampled_positions} and the fit trained {self.train.positions}; "
                "a scratch model knows nothing of positions beyond, raise train.block_size"
            )
        how = (self._sampling, self.train.bos, self.compute)
        return sample(model, human, previous, generation, seed, *how, progress, bench)

    def score(self, model: LanguageModel, corpus: Corpus, progress: Progress, *, by_token: bool = False) -> Scores:
        """Nats and tokens of every row."""
        from lmcollapse.substrates.causal_lm.score import score

        return score(model, corpus, self.scoring, self.compute, progress, by_token=by_token)

    @property
    def judges(self) -> tuple[str, ...]:
        """Other models that judge each generation's corpus."""
        return self.scoring.judges

    def judge(self, name: str, corpus: Corpus, progress: Progress) -> Scores:
        """Nats and tokens, the judge's own, of the text of every row."""
        from lmcollapse.substrates.causal_lm.judges import judge

        return judge(name, corpus, self.compute, progress)

    def save(self, model: LanguageModel, folder: Path) -> None:
        """Write an ordinary transformers folder, and the history of the fit as `fit.jsonl`."""
        from lmcollapse.substrates.causal_lm.checkpoints import save

        save(model, folder)

    def load(self, folder: Path) -> LanguageModel:
        """What `save` wrote."""
        from lmcollapse.substrates.causal_lm.checkpoints import load

        return load(folder, self.model)

    @property
    def _sampling(self) -> SamplingOptions:
        return self.sampling.settled(self.train)

    @property
    def _sampled_positions(self) -> int:
        """Input positions that sampling reaches; the last token that is written is not read."""
        prompt = 1 if self.sampling.prompt == "none" else (self.sampling.prompt_tokens or 0) + self.train.bos
        return prompt + (self._sampling.new_tokens or 0) - 1

    @property
    def _needed_positions(self) -> int:
        """The same as the sampler counts them: vLLM wants a place for the last token too."""
        return self._sampled_positions + (self.sampling.backend == "vllm")

    @property
    def _positions(self) -> int:
        """The context of a scratch model: what the fit, sampling and scoring need of it, and no more."""
        return max(self.train.positions, self._needed_positions, self.scoring.window or 0)

    def _config(self) -> PretrainedConfig:
        """The configuration of the model, known before there is a tokenizer."""
        from lmcollapse.substrates.causal_lm.models import read_config, scratch_config

        if self.model.is_scratch:
            return scratch_config(self.model, self.model.shape().vocabulary or 0, self._positions)
        return read_config(self.model)

    def _tokenizer(self, base: Path) -> PreTrainedTokenizerBase:
        from lmcollapse.substrates.causal_lm.models import read_tokenizer

        return read_tokenizer(ModelOptions(name=str(base.resolve()), trust_remote_code=self.model.trust_remote_code))
