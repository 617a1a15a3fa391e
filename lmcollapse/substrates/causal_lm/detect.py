"""Detectors of synthetic text that run a neural network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    SynthIDTextWatermarkLogitsProcessor,
    WatermarkDetector,
)

from lmcollapse.detectors import Known, Suspects
from lmcollapse.detectors.learning import learned
from lmcollapse.substrates.causal_lm.blocks import tokenize
from lmcollapse.substrates.causal_lm.devices import batch_that_fits, enter, little_memory, named, shrinking
from lmcollapse.substrates.causal_lm.models import (
    check_weights,
    explained,
    load_pretrained,
    read_config,
    read_tokenizer,
    source_of,
)
from lmcollapse.substrates.causal_lm.options import ComputeOptions, ModelOptions, ScoringOptions, WatermarkOptions
from lmcollapse.substrates.causal_lm.score import logits_of, over_windows, score
from lmcollapse.substrates.causal_lm.watermark import configuration
from lmcollapse.types import Corpus, Floats, Ints, Progress, UserError

Rate = Annotated[float, Field(gt=0, lt=1)]


def likelihood(suspects: Suspects, known: Known, progress: Progress, *, judge: str = "generation_0") -> Floats:
    """How likely a model finds a text, by nats a token; where the line is, it learns from generation 0's text.

    judge : "generation_0" of this run, a model folder, a hub id or `smollm2`.
    """
    read = partial(_read, _judge(judge, suspects), progress)

    def features(texts: Sequence[str]) -> Floats:
        model, rows = read(texts)
        found = score(model, rows, ScoringOptions(), ComputeOptions(), progress, what="detect (likelihood)")
        nats: Floats = found.nats / np.maximum(1, found.tokens)
        return nats[:, None]

    return learned(features, suspects, known)


def curvature(suspects: Suspects, known: Known, progress: Progress, *, judge: str = "generation_0") -> Floats:
    """Conditional probability curvature (Fast-DetectGPT, Bao et al. 2024, arXiv 2310.05130), in its analytic form.

    (sum ln p(x_j) - sum m_j) / sqrt(sum s_j^2), where m_j and s_j^2 are mean and variance of ln p(x) over the tokens x
    that the model might draw there itself: large where a text is likelier than the model's own draws. Where the line
    is, it learns from generation 0's text.

    judge : "generation_0" of this run, a model folder, a hub id or `smollm2`.
    """
    read = partial(_read, _judge(judge, suspects), progress)

    def predict(module: PreTrainedModel, inputs: Tensor, labels: Tensor, _: Ints) -> list[npt.NDArray[Any]]:
        found: list[list[Tensor]] = [[], [], []]
        for logits, target in logits_of(module, inputs, labels):
            logs = logits.log_softmax(-1)
            chances = logs.exp()
            mean = (chances * logs).sum(-1)
            found[0].append(logs.gather(1, target[:, None])[:, 0])
            found[1].append(mean)
            found[2].append((chances * logs**2).sum(-1) - mean**2)
        return [torch.cat(parts).cpu().numpy() for parts in found]

    def features(texts: Sequence[str]) -> Floats:
        model, rows = read(texts)
        kinds = [np.float32] * 3
        columns = over_windows(
            model, rows, ScoringOptions(), ComputeOptions(), progress, "detect (curvature)", kinds, predict
        )
        row = np.repeat(np.arange(len(rows)), rows.lengths)
        logs, means, variances = (np.bincount(row, column, minlength=len(rows)) for column in columns)
        curved: Floats = (logs - means) / np.sqrt(np.maximum(variances, 1e-12))
        return curved[:, None]

    return learned(features, suspects, known)


def _judge(name: str, suspects: Suspects) -> ModelOptions:
    return ModelOptions(name=str(suspects.models[name].resolve()) if name in suspects.models else name)


def _read(options: ModelOptions, progress: Progress, texts: Sequence[str]) -> tuple[Any, Corpus]:
    model = load_pretrained(options)
    return model, Corpus.of_tokens(tokenize(model.tokenizer, texts), 0, texts=texts)


def classifier(
    suspects: Suspects,
    known: Known,
    progress: Progress,
    *,
    model: str,
    synthetic_label: str | int | None = None,
    tokens: Annotated[int, Field(gt=0)] = 512,
    temperature: Annotated[float, Field(gt=0)] = 1.0,
) -> Floats:
    """Any sequence classifier of the transformers library that tells synthetic text from human text.

    model : a model folder or a hub id, such as GeorgeDrayson/modernbert-ai-detection of arXiv 2502.15654 (which comes
        with temperature 1.36).
    synthetic_label : name or number of the class of synthetic text; null where the names tell it, as in AI or fake.
    tokens : a text is cut after so many.
    temperature : logits are divided by it, for calibration.
    """
    options = ModelOptions(name=model)
    check_weights(options)
    source, where = source_of(options)
    with explained(options):
        tokenizer: Any = AutoTokenizer.from_pretrained(source, **where)
        module: Any = AutoModelForSequenceClassification.from_pretrained(source, dtype=torch.float32, **where)
    label = _synthetic(module.config.id2label, synthetic_label, model)
    device = enter(ComputeOptions())
    module = module.to(device).eval()
    order = sorted(range(len(suspects)), key=lambda i: -len(suspects.texts[i]))
    found = np.empty(len(suspects))
    size = batch_that_fits(tokens * 4 * 40 * getattr(module.config, "hidden_size", 768), little_memory(device), 256)

    def batch(first: int, size: int) -> int:
        some = order[first : first + size]
        texts = [suspects.texts[i] for i in some]
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=tokens, return_tensors="pt").to(device)
        with torch.inference_mode():
            found[some] = (module(**inputs).logits.float() / temperature).softmax(-1)[:, label].cpu().numpy()
        return len(some)

    done = 0
    with progress.stage("detect (classifier)", total=len(order), unit="texts") as advance:
        while done < len(order):
            judged, size = shrinking(partial(batch, done), size, progress, "detect")
            done += judged
            advance(judged)
    return found


TELLING = ("ai", "fake", "generated", "machine", "synthetic", "llm", "chatgpt", "bot")


def _synthetic(names: dict[int, str], wanted: str | int | None, model: str) -> int:
    """The class of synthetic text."""
    known = ", ".join(f"{number}: {name}" for number, name in names.items())
    if isinstance(wanted, int):
        found = [wanted] if wanted in names else []
    elif wanted is not None:
        found = [number for number, name in names.items() if name == wanted]
    else:
        words = {number: name.lower().replace("-", " ").replace("_", " ").split() for number, name in names.items()}
        found = [number for number, parts in words.items() if set(parts) & set(TELLING) and "not" not in parts]
    if len(found) != 1:
        raise UserError(
            f"detector classifier: which class of '{model}' is synthetic text? It has {known}; give "
            "detector.synthetic_label"
        )
    return found[0]


def watermark(
    suspects: Suspects,
    known: Known,
    progress: Progress,
    *,
    scheme: Literal["green_list", "synthid"] = "green_list",
    key: Annotated[int, Field(gt=0)] = 15485863,
    context: Annotated[int, Field(gt=0)] | None = None,
    share: Rate = 0.25,
    tokenizer: str | None = None,
    device: str = "auto",
) -> Floats:
    """Whether a text has the watermark that `sampling.watermark` puts in: 1 less the p-value of having it by chance.

    A threshold of 0.99 takes one human text in a hundred for marked. The number of green tokens, or the mean of
    SynthID's g-values, is compared with its normal approximation over distinct n-grams; a text that is too short to
    hold one gets 0.

    scheme : that of `sampling.watermark`.
    key : likewise.
    context : likewise.
    share : likewise.
    tokenizer : of the model that wrote; null for the run's own.
    device : where the text was written; transformers draws other green lists on a GPU than on a CPU.
    """
    from scipy.stats import norm

    options = WatermarkOptions(scheme=scheme, key=key, context=context, share=share)
    rows, vocabulary, special = _tokens(suspects, tokenizer)
    z_score = _finder(configuration(options), vocabulary, named(device, "detector.device"))
    found = np.zeros(len(suspects))
    with progress.stage(f"detect (watermark {scheme})", total=len(rows), unit="texts") as advance:
        for number, row in enumerate(rows):
            found[number] = norm.cdf(z_score(torch.from_numpy(row[~np.isin(row, special)].astype(np.int64))[None]))
            advance(1)
    return found


def _tokens(suspects: Suspects, tokenizer: str | None) -> tuple[list[Ints], int, list[int]]:
    """Token ids of each row, the size of the vocabulary, and the ids that stand for no text."""
    if tokenizer is None and "base" not in suspects.models:
        raise UserError("detector watermark: which model wrote? Give its tokenizer, a model folder or a hub id")
    name = tokenizer or str(suspects.models["base"].resolve())
    read = read_tokenizer(ModelOptions(name=name))
    vocabulary = read_config(ModelOptions(name=name)).get_text_config().vocab_size
    special = [int(token) for token in read.all_special_ids]
    if tokenizer is None and suspects.corpus is not None:
        return [suspects.corpus.tokens(row) for row in range(len(suspects))], vocabulary, special
    return [np.asarray(row) for row in tokenize(read, suspects.texts)], vocabulary, special


def _finder(config: Any, vocabulary: int, device: torch.device) -> Callable[[Any], float]:
    """Gives the standard score of `(1, tokens)` ids; minus infinity for a text without one n-gram."""
    if hasattr(config, "greenlist_ratio"):
        sized: Any = _OnlyItsSize(vocabulary)
        detector = WatermarkDetector(sized, device.type, config, ignore_repeated_ngrams=True)

        def green(ids: Any) -> float:
            if ids.shape[1] <= config.context_width:
                return -np.inf
            result: Any = detector(ids.to(device), return_dict=True)
            return float(result.z_score[0])

        return green
    processor = SynthIDTextWatermarkLogitsProcessor(**config.to_dict(), device=torch.device("cpu"))

    def tournament(ids: Any) -> float:
        if ids.shape[1] < processor.ngram_len:
            return -np.inf
        fresh = processor.compute_context_repetition_mask(ids)[0].bool()
        values = processor.compute_g_values(ids)[0][fresh].float()
        return float((values.mean() - 0.5) * 2 * values.numel() ** 0.5) if values.numel() else -np.inf

    return tournament


class _OnlyItsSize:
    """All that transformers' detector wants of a model's configuration."""

    is_encoder_decoder = False
    bos_token_id = -1

    def __init__(self, vocabulary: int) -> None:
        self.vocab_size = vocabulary

    def get_text_config(self, **_: Any) -> _OnlyItsSize:
        return self
