"""The measures through Hugging Face's `evaluate`, without the hub."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import evaluate  # type: ignore[import-untyped]
import pytest

import lmcollapse
from lmcollapse.measure import text_measures
from lmcollapse.metrics.distinct_n import distinct_n
from lmcollapse.metrics.scene import HumanText
from lmcollapse.metrics.tail_coverage import tail_coverage
from lmcollapse.readings import flat
from lmcollapse.types import UserError
from tests.text import documents

WRITTEN = documents(120, 50, seed=1)
HUMAN = documents(200, 50, seed=0)


@pytest.fixture(autouse=True, scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What `evaluate` keeps between calls goes where the test session's files go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path_factory.mktemp("modules"))
        patch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path_factory.mktemp("metrics"))
        yield


def load(name: str) -> Any:
    return evaluate.load(lmcollapse.metric_path(name))


def test_values_are_those_of_the_measure() -> None:
    text = HumanText.of(HUMAN, ())
    written = text.written(WRITTEN, 6000)
    assert len(written.words) == 6000
    human = text.reference(6000)
    assert load("distinct_n").compute(predictions=WRITTEN) == flat(distinct_n(written))
    found = load("distinct_n").compute(predictions=WRITTEN, reference_corpus=HUMAN)
    assert found == flat(distinct_n(written, human)) and found["distinct_2_human_low"] < found["distinct_2_human"]
    found = load("tail_coverage").compute(predictions=WRITTEN, reference_corpus=HUMAN)
    assert found == flat(tail_coverage(written, human))


def test_references_are_taken_for_human_text_however_many_they_are() -> None:
    one = load("tail_coverage").compute(predictions=WRITTEN, reference_corpus=HUMAN)
    assert load("tail_coverage").compute(predictions=WRITTEN, references=HUMAN) == one


def test_options_are_keywords() -> None:
    found = load("distinct_n").compute(predictions=WRITTEN, orders=(2,), words=3000)
    text = HumanText.of((), ())
    assert found == flat(distinct_n(text.written(WRITTEN, 3000), orders=(2,)))


def test_predictions_may_be_added_one_after_the_other() -> None:
    piecewise = load("distinct_n")
    piecewise.add_batch(predictions=WRITTEN[:70])
    for text in WRITTEN[70:]:
        piecewise.add(prediction=text)
    assert piecewise.compute() == load("distinct_n").compute(predictions=WRITTEN)
    assert piecewise.compute(predictions=WRITTEN[:70]) == load("distinct_n").compute(predictions=WRITTEN[:70])


def test_measures_combine_and_are_saved(tmp_path: Path) -> None:
    names = ["distinct_n", "tail_coverage"]
    both = evaluate.combine([lmcollapse.metric_path(name) for name in names])
    found = both.compute(predictions=WRITTEN, reference_corpus=HUMAN)
    alone = [load(name).compute(predictions=WRITTEN, reference_corpus=HUMAN) for name in names]
    assert found == alone[0] | alone[1]
    evaluate.save(tmp_path / "found.json", **found)
    saved = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert {name: saved[name] for name in found} == found


@pytest.mark.parametrize("name", text_measures())
def test_every_measure_of_a_corpus_is_there(name: str) -> None:
    module = load(name)
    assert (module.name, module.module_type) == (name, "measurement")
    found = module.compute(predictions=documents(1100, 12, seed=1), reference_corpus=documents(400, 40))
    assert found and all(isinstance(value, float | int) for value in found.values())


def test_what_a_module_says_of_itself() -> None:
    module = load("distinct_n")
    assert "Li et al. 2016" in module.description
    assert "reference_corpus: " in module.inputs_description and "orders: the n of" in module.inputs_description
    assert "reference_corpus: " in module.compute.__doc__


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("tail_coverage", {}, "tail_coverage compares with human text"),
        ("tail_coverage", {"reference_corpus": "one text"}, "no list of texts"),
        ("tail_coverage", {"reference_corpus": []}, "no list of texts"),
        ("tail_coverage", {"references": [1, 2]}, "no list of texts"),
        ("distinct_n", {"order": (2,)}, "unknown key 'order'; did you mean 'orders'"),
        ("distinct_n", {"orders": (9,)}, "'orders.0' is 9"),
        ("distinct_n", {"words": 0}, "words is 0"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(name).compute(predictions=WRITTEN, **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("distinct", "unknown measure of a corpus 'distinct'; did you mean 'distinct_n'"),
        ("perplexity", "unknown measure of a corpus 'perplexity'"),  # needs a model
        ("../distinct_n", "unknown measure"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        lmcollapse.metric_path(name)


def test_why_a_value_is_missing_is_said() -> None:
    with pytest.warns(UserWarning, match="distinct_2 is not defined here: no row has 2 words"):
        found = load("distinct_n").compute(predictions=["word", ""], orders=(1, 2))
    assert found == {"distinct_1": 1.0, "distinct_2": None}
    with pytest.warns(UserWarning, match="the corpus has 1 words, 5 are needed"):
        load("distinct_n").compute(predictions=["word"], orders=(1,), words=5)


def test_the_package_stays_light() -> None:
    code = "import sys, lmcollapse; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"numpy", "evaluate", "datasets", "pydantic"}
