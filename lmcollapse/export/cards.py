"""Dataset and model cards: what the hub shows of a corpus and of a model, in its own fields and in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData

from lmcollapse.export.lineage import Generation, Lineage

TAGS = ["synthetic", "model-collapse"]

OF_HUMAN_TEXT = ("perplexity", "bits_per_byte", "word_perplexity", "next_token_accuracy")
"""Measures of a model on held-out human text that its card states."""

OF_WHAT_IT_WROTE = ("distinct_1", "distinct_2", "tail_coverage")
"""Measures of its corpus that its card states."""

STEPS = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B")
SIZES = ("n<1K", *(f"{low}<n<{high}" for low, high in pairwise(STEPS)), "n>10B")

ABOUT = """\
Model collapse is what happens to language models that are trained on the output of models before them, generation
after generation: they lose the rare first, then the variety. This {what} is from an experiment on it."""

LICENCE = """\
No licence is stated here. The human text has the licence of its sources, and what holds for text and models that were
made from it is for whoever publishes them to settle, before they are published."""


def dataset_card(lineage: Lineage, configs: Sequence[dict[str, Any]]) -> str:
    """The card of the corpora.

    configs : `config_name` and `data_files` of each part, as the hub has them.
    """
    rows = sum(generation.corpus["rows"] for generation in lineage.generations)
    data = DatasetCardData(
        pretty_name=f"{lineage.name}: corpora of a model-collapse run",
        language=lineage.language,
        annotations_creators=["machine-generated"],
        language_creators=["machine-generated", "found"],
        source_datasets=[lineage.human_dataset or "original"],
        task_categories=["unconditional-image-generation" if lineage.of_images else "text-generation"],
        size_categories=[_size(rows)],
        tags=TAGS,
        configs=list(configs),
        lmcollapse={"lineage": [generation.as_metadata() for generation in lineage.generations]},
    )
    body = [
        f"# {lineage.name}: corpora of a model-collapse run",
        f"**The {'images' if lineage.of_images else 'text'} in the configurations `generation_…` "
        f"{'were made by' if lineage.of_images else 'was written by language'} models, not by people.** "
        + ABOUT.format(what="dataset"),
        f"```python\nfrom datasets import load_dataset\n\nload_dataset({lineage.dataset!r}, 'generation_000')\n```",
        "## Lineage",
        _lineage_table(lineage.generations),
        "Each corpus was written by a model that was trained on the rows that its line names; shares are exact.",
        "## How each corpus was sampled",
        "\n".join(f"- `{g.folder}`: {_sampled(g)}" for g in lineage.generations),
        "## Columns",
        ("`image`; " if lineage.of_images else "`text`; `tokens`, the ids that the models read and wrote; ")
        + "`origin`, human or synthetic; `generation`, the one "
        "that wrote the row (-1: human); `row`, its number in the corpus that it was born in; `prompt`, the row that "
        "prompted it (-1: none), of `human_rows` or of the corpus before, as `prompt` under `sampling` says; `source`, "
        "the document of a human row. The parquet files repeat seed, model and sampling in their metadata, under the "
        "key `lmcollapse`.",
        "## Human text",
        _human_text(lineage),
        LICENCE,
    ]
    return _checked(DatasetCard, data, body)


def model_card(lineage: Lineage, generation: Generation) -> str:
    """The card of a generation's model."""
    base = lineage.base_model(generation)
    name = lineage.model_name(generation.number)
    results = list(_results(lineage, generation))
    before = lineage.generations[: generation.number + 1]
    human = [lineage.human_dataset] if lineage.human_dataset and "human" in generation.origins else []
    data = ModelCardData(
        model_name=name,
        language=lineage.language,
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=base,
        base_model_relation="finetune" if base else None,
        datasets=[lineage.dataset, *human],
        metrics=[result.metric_type for result in results] or None,
        tags=TAGS,
        eval_results=results or None,
        lmcollapse={"lineage": [earlier.as_metadata() for earlier in before]},
    )
    share = generation.train["human_fraction"]
    body = [
        f"# {name}",
        f"**Generation {generation.number} of a model-collapse run: {1 - share:.1%} of the rows that it was trained on "
        f"were written by language models.** {ABOUT.format(what='model')} It is a specimen, and not meant to be used.",
        "## Lineage",
        _start(lineage, generation),
        _lineage_table(before),
        f"All corpora are in `{lineage.dataset}`, one configuration a generation.",
        "## Measures",
        "\n".join(f"- {result.metric_name}: {result.metric_value:.4g} ({result.dataset_name})" for result in results)
        or "None were taken.",
        "## How its corpus was sampled",
        _sampled(generation),
        LICENCE,
    ]
    return _checked(ModelCard, data, body)


def _checked(card: type[DatasetCard | ModelCard], data: DatasetCardData | ModelCardData, body: Sequence[str]) -> str:
    """The text of a card, which the hub's own library can read again."""
    text: str = f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(body) + "\n"
    assert card(text).data.to_yaml() == data.to_yaml(), text
    return text


def _results(lineage: Lineage, generation: Generation) -> Iterator[EvalResult]:
    parts = (
        (OF_HUMAN_TEXT, "held-out human text", "human", "heldout"),
        (OF_WHAT_IT_WROTE, "what the model wrote", generation.folder, "train"),
    )
    for measures, name, config, split in parts:
        for measure in measures:
            value = generation.readings.get(measure)
            if value is not None:
                yield EvalResult(
                    task_type="text-generation",
                    dataset_type=lineage.dataset,
                    dataset_name=name,
                    dataset_config=config,
                    dataset_split=split,
                    metric_type=measure,
                    metric_name=measure.replace("_", " "),
                    metric_value=value,
                )


def _lineage_table(generations: Sequence[Generation]) -> str:
    lines = ["| generation | trained on | human share of rows | of tokens | started from | wrote |", "|" + "---|" * 6]
    for g in generations:
        read = ", ".join(f"{rows:,} rows of {origin}" for origin, rows in g.origins.items())
        shares = f"{g.train['human_fraction']:.4g} | {g.model['human_fraction_of_tokens']:.4g}"
        lines.append(
            f"| {g.number} | {read} | {shares} | {g.start} | {g.corpus['rows']:,} rows, {g.corpus['tokens']:,} tokens |"
        )
    return "\n".join(lines)


def _start(lineage: Lineage, generation: Generation) -> str:
    if base := lineage.base_model(generation):
        return f"Fitted from `{base}`."
    if generation.start != "base" or lineage.pretrained is None:
        return "Fitted from random weights."
    return f"Fitted from a pretrained model whose weights have the SHA-256 `{lineage.pretrained['sha256']}`."


def _sampled(generation: Generation) -> str:
    if generation.born is None:
        return "not recorded in the corpus"
    born = generation.born
    options = {key: value for key, value in born["sampling"].items() if value is not None}
    return f"seed {born['seed']}, model `{born['model'][:16]}…`, `{json.dumps(options)}`"


def _human_text(lineage: Lineage) -> str:
    source = f"From `{lineage.human_dataset}`. " if lineage.human_dataset else ""
    sizes = ("images",) if lineage.of_images else ("documents", "words")
    parts = (
        f"`{part}`: {', '.join(f'{facts[size]:,} {size}' for size in sizes)}, SHA-256 `{facts['sha256']}`"
        for part, facts in lineage.human.items()
    )
    return (
        f"{source}In the configuration `human` it is in documents, in `human_rows` in the rows that models read.\n\n"
        + "\n".join(f"- {part}" for part in parts)
        + "\n\nThe training part and the held-out part share no document."
    )


def _size(rows: int) -> str:
    """The hub's name for so many rows."""
    return SIZES[min(max(0, len(str(rows)) - 3), len(SIZES) - 1)]
