"""Commands about models and texts, from runs or from elsewhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from tyro.conf import Positional, arg

from lmcollapse.cli.common import Checkpoint, Json, Overrides, on_stderr
from lmcollapse.types import UserError


def evaluate(
    checkpoint: Checkpoint,
    *,
    text: Path,
    reference: Path | None = None,
    window: int | None = None,
    windows: Literal["rolling", "disjoint"] = "rolling",
    device: str = "auto",
    revision: str | None = None,
    json_: Json = False,
    trust_remote_code: bool = False,
) -> None:
    """Perplexity, accuracy and calibration of any causal language model on any text.

    Args:
        checkpoint: a model folder, a generation of a run (`RUN/generation_003`), or a hub id.
        text: a UTF-8 text file, scored as one document.
        reference: a UTF-8 text file that says which tokens are frequent, such as the training text; with it the
            cross-entropy of frequent and of rare tokens is given, too.
        window: longest stretch that the model sees at once, in tokens; by default the positions it was trained on.
        windows: rolling (lm-evaluation-harness's way) or disjoint blocks.
        device: auto, cpu, cuda, cuda:1, mps.
        revision: branch, tag or commit of a hub id.
        json_: print one JSON object.
        trust_remote_code: let a model from the hub bring code of its own, and run it.
    """
    from lmcollapse.evaluate import evaluate

    result = evaluate(
        model_folder(checkpoint),
        text,
        reference=reference,
        window=window,
        windows=windows,
        device=device,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    if json_:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:26} {value:,.4f}" if isinstance(value, float) else f"{name:26} {value}")


def measure(
    corpus: Positional[Annotated[Path, arg(metavar="CORPUS")]],
    *,
    reference: Path,
    words: int | None = None,
    measures: tuple[str, ...] = (),
    column: str = "text",
    document: Literal["auto", "paragraph", "line"] = "auto",
    json_: Json = False,
) -> None:
    """All measures of a corpus that need no model, on any text, beside human text measured alike.

    Args:
        corpus: a text, parquet or JSON-lines file, or a generation of a run (`RUN/generation_003`).
        reference: human text, likewise; one half of its documents is what the corpus is compared with, the other is
            measured like the corpus. A run directory brings its training and held-out parts.
        words: how many words of each are looked at; by default all that the smaller has, at most ten million. Give it
            to compare corpora from several calls.
        measures: only these, by name (`lmcollapse list` has them).
        column: where the text is in parquet and JSON lines.
        document: what one document of a text file is; auto takes paragraphs where there are empty lines, else lines.
        json_: print one JSON object.
    """
    from lmcollapse.measure import as_json, comparison_table, measure

    with on_stderr() as progress:
        found = measure(
            corpus,
            reference,
            words=words,
            measures=measures or None,
            column=column,
            document=document,
            progress=progress,
        )
    if json_:
        print(json.dumps(as_json(found)))
    else:
        Console(highlight=False).print(comparison_table(found))


def filter_(
    pool: Positional[Annotated[Path, arg(metavar="POOL")]],
    overrides: Overrides = (),
    *,
    human: Path,
    out: Path,
    detector: str = "ngrams",
    synthetic: Path | None = None,
    column: str = "text",
    document: Literal["auto", "paragraph", "line"] = "auto",
    keep_all: bool = False,
    seed: int = 0,
    json_: Json = False,
) -> None:
    """Score the rows of an unlabelled pool, and leave out what seems synthetic.

    Args:
        pool: a text, parquet or JSON-lines file; all its columns are kept.
        overrides: options of the detector and of what is done, as in the section `detector` of a configuration:
            `action=importance`, `threshold=0.9`, `judge=smollm2`.
        human: text that is known to be human, and is not in the pool.
        out: the parquet or JSON-lines file that is written, with `synthetic_probability` and `weight` beside each row.
        detector: by name (`lmcollapse list` has them).
        synthetic: text that is known to be synthetic, for detectors that learn; a generation of a run will do.
        column: where the text is in parquet and JSON lines.
        document: what one document of a text file is.
        keep_all: write all rows with their scores.
        seed: of what is random.
        json_: print one JSON object.
    """
    from dataclasses import asdict

    from lmcollapse.filtering import as_lines, filter_pool
    from lmcollapse.yaml_files import lay_over

    options: dict[str, Any] = {}
    lay_over(options, overrides)
    with on_stderr() as progress:
        found = filter_pool(
            pool,
            human,
            detector,
            out,
            synthetic=synthetic,
            options=options,
            column=column,
            document=document,
            keep_all=keep_all,
            seed=seed,
            progress=progress,
        )
    print(json.dumps(asdict(found)) if json_ else "\n".join(as_lines(found)))


def sample(
    checkpoint: Checkpoint,
    overrides: Overrides = (),
    *,
    n: Annotated[int, arg(aliases=["-n"])] = 5,
    seed: int = 0,
) -> None:
    """Look at what a model writes.

    Args:
        checkpoint: a model folder, a generation of a run (`RUN/generation_003`), or a hub id.
        overrides: how it is sampled, as in the section `sampling` of a configuration: `temperature=0.8`, `top_k=50`,
            `new_tokens=64`; a generation of a run is sampled as in that run unless told otherwise.
        n: how many documents.
        seed: another seed, other documents.
    """
    from lmcollapse.progress import printable
    from lmcollapse.sampling import sample

    texts, options = sample(model_folder(checkpoint), n, overrides, seed)
    settings = ", ".join(f"{key} {value}" for key, value in options.items())
    print(printable(f"sampled with {settings or 'the defaults'}"), file=sys.stderr)
    for index, text in enumerate(texts):
        print(f"── {index} " + "─" * 40)
        print(printable(text))


def model_folder(checkpoint: str) -> str:
    """A generation's folder stands for the model in it; everything else but a run stands for itself."""
    from lmcollapse.records import MANIFEST

    folder = Path(checkpoint)
    if (folder / "model" / "config.json").is_file():
        return str(folder / "model")
    run = folder.parent if folder.name.startswith("generation_") else folder
    if (run / MANIFEST).is_file() and not (folder / "config.json").is_file():
        names = sorted(file.parent.parent.name for file in run.glob("generation_*/model/config.json"))
        named = ", ".join(names if len(names) <= 3 else [names[0], "…", names[-1]])
        there = f"{run} has {named}" if names else f"{run} has none"
        raise UserError(f"{checkpoint} is no generation with a causal language model; {there}")
    return checkpoint
