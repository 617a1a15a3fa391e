"""What a model writes, for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmcollapse.options import bind
from lmcollapse.records import read_manifest
from lmcollapse.yaml_files import lay_over


def sample(checkpoint: str, n: int, overrides: Sequence[str] = (), seed: int = 0) -> tuple[list[str], dict[str, Any]]:
    """`n` documents that a model writes from nothing, and the options that they were sampled with.

    checkpoint : a model folder, or a hub id. A generation of a run is sampled as in that run, but without prompts.
    overrides : `key=value` as in the section `sampling` of a configuration.
    seed : another seed, other documents.
    """
    from lmcollapse.substrates.causal_lm.options import SamplingOptions
    from lmcollapse.substrates.causal_lm.sample import sample_texts

    given = _options_of_run(Path(checkpoint).resolve())
    lay_over(given, overrides)
    options = bind(SamplingOptions, given, "sampling")
    return sample_texts(checkpoint, n, options, seed), {key: value for key, value in given.items() if value is not None}


def _options_of_run(folder: Path) -> dict[str, Any]:
    """The sampling options of the run that a model folder is in, nothing where it is in none."""
    manifest = read_manifest(folder.parent.parent) if folder.is_dir() else None
    if manifest is None:
        return {}
    from lmcollapse.substrates.causal_lm.options import SamplingOptions, TrainOptions

    config = manifest["config"]
    settled = SamplingOptions(**config["sampling"]).settled(TrainOptions(**config["train"])).model_dump()
    for key in ("prompt", "prompt_tokens", "tokens", "batch_size"):  # of a corpus, which there is none of here
        del settled[key]
    return settled
