"""The measures of a corpus for users of Hugging Face's `evaluate`, without the hub."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, ClassVar

import datasets
import evaluate  # type: ignore[import-untyped]

from lmcollapse.cache import cache_folder
from lmcollapse.catalog import find
from lmcollapse.files import write_atomically
from lmcollapse.measure import text_measures
from lmcollapse.metrics.scene import MOST_WORDS, HumanText, Scene, parts
from lmcollapse.options import bind, describe, options_of, suggestion
from lmcollapse.readings import flat
from lmcollapse.types import UserError

SCRIPT = """\
from lmcollapse.evaluation_module import measurement

{name} = measurement("{name}")
"""
"""What `evaluate.load` wants to find in a folder: a module of the folder's name with one class of its own."""

INPUTS = """
Args:
    predictions: texts, one a document.
    reference_corpus: human texts to compare with, not necessarily as many; `references` is taken for the same.
    words: how many words of the predictions are looked at; by default all, at most ten million. Measures depend on it:
        give the same number for corpora that are to be compared."""


def metric_path(name: str) -> str:
    """A folder from which `evaluate.load` gets the measure `name`, written into the cache.

    name : a measure of a corpus, as `lmcollapse list` has it, that needs no model: "distinct_n", "tail_coverage", …

    Raises UserError for other names.
    """
    script = cache_folder("evaluate", _known(name)) / f"{name}.py"
    write_atomically(script, SCRIPT.format(name=name).encode())
    return str(script.parent)


def measurement(name: str) -> type[CorpusMeasurement]:
    """The measure `name` as a class that `evaluate` can load."""
    return type(_known(name), (CorpusMeasurement,), {"measure": name})


def _known(name: str) -> str:
    known = text_measures()
    if name not in known:
        raise UserError(f"unknown measure of a corpus '{name}'" + suggestion(name, known))
    return name


class CorpusMeasurement(evaluate.Measurement):  # type: ignore[misc]
    """Any measure of a corpus: its name is that of the measure, its options are keywords of `compute`.

    What `compute` returns is flat: readings by name, and `_low` and `_high` beside those that have an interval.
    """

    measure: ClassVar[str]

    def _info(self) -> evaluate.MeasurementInfo:
        function = find("measure", self.measure)
        options = describe(options_of(function))
        return evaluate.MeasurementInfo(
            description=function.__doc__ or "",
            citation="",
            inputs_description=INPUTS + "".join(f"\n    {key}: {text}" for key, _, _, text in options) + "\n",
            # columns must be equally long, so human text is none
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def compute(
        self, *, predictions: Iterable[str] | None = None, references: Iterable[str] | None = None, **given: Any
    ) -> dict[str, float | None] | None:
        """Compute the measure of `predictions`, or of what was added before."""
        if references is not None:
            given.setdefault("reference_corpus", references)
        found: dict[str, float | None] | None = super().compute(predictions=predictions, **given)
        return found

    def _compute(
        self,
        predictions: list[str],
        reference_corpus: Iterable[str] | None = None,
        words: int | None = None,
        **options: Any,
    ) -> dict[str, float | None]:
        function = find("measure", self.measure)
        chosen = bind(options_of(function), options, self.measure).model_dump()
        human = None if reference_corpus is None else _texts(reference_corpus)
        if human is None and any(required for part, required in parts(function).items() if part != "written"):
            raise UserError(f"{self.measure} compares with human text; give some, as in reference_corpus=['…', '…']")
        if words is not None and (not isinstance(words, int) or words < 1):
            raise UserError(f"words is {words!r}; give a number from 1 on, or None for all")
        readings = _scene(predictions, human, words).read(function, chosen)
        for reading in readings:
            if reading.value is None:
                warnings.warn(f"{reading.name} is not defined here: {reading.note}", stacklevel=4)
        return flat(readings)


def _scene(predictions: list[str], human: list[str] | None, words: int | None) -> Scene:
    text = HumanText.of(human or (), (), words or MOST_WORDS)
    written = text.written(predictions, words or MOST_WORDS)
    if words is None:
        written = written.first(len(written.words))
    if human is None:
        return Scene(written)
    return Scene(written, text.reference(written.wanted), lambda: text.numbering.rows(human))


def _texts(given: Iterable[str]) -> list[str]:
    texts = [] if isinstance(given, str) else list(given)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UserError("reference_corpus is no list of texts; give one string a document, as in ['…', '…']")
    return texts
