"""Runs of words that occur twice, and runs copied from the training text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcollapse.metrics import verbatim as verbatim_module
from lmcollapse.metrics.numbering import Numbering
from lmcollapse.metrics.repeated_substring import repeated_substring
from lmcollapse.metrics.sample import draw
from lmcollapse.metrics.verbatim import verbatim
from lmcollapse.types import Reading
from tests.test_repetition import Rows, coverage, grams, joined, one, rows_of, sample, texts
from tests.text import documents


def copied_from(training: Iterable[str], written: Sequence[str], span: int = 8) -> float | None:
    numbering = Numbering()
    measured = draw(written, numbering, 10**9)
    return one(verbatim(measured, lambda: numbering.rows(training), span=span))


# repeated runs


def longest_repeat(rows: Rows) -> int:
    runs = (Counter(run for row in rows for run in grams(row, n)) for n in range(max(map(len, rows), default=0), 0, -1))
    return next((len(run) for counts in runs for run, times in counts.items() if times > 1), 0)


@settings(max_examples=200)
@given(st.one_of(texts(), st.lists(st.lists(st.sampled_from("ab"), max_size=60), max_size=4)))
def test_the_longest_repeat_by_brute_force(rows: Rows) -> None:
    assert one(repeated_substring(sample(joined(rows)))) == (longest_repeat(rows) if any(rows) else None)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 200])
def test_a_repeat_of_any_length_is_found_within_rows_alone(length: int) -> None:
    run = [f"r{i}" for i in range(length)]
    assert one(repeated_substring(sample([" ".join(["a", *run, "b"]), " ".join(["c", *run, "d"])]))) == length
    assert one(repeated_substring(sample([" ".join([*run, *run])]))) == length
    halves = [" ".join(run), "s t", " ".join(["u", *run]), "s v"]  # one after the other they would repeat run + s
    assert one(repeated_substring(sample(halves))) == length
    assert one(repeated_substring(sample(["q " * (length + 1)]))) == length  # the two places overlap


# copies of the training text


@given(texts(), texts(), st.integers(1, 5), st.sampled_from([3, verbatim_module.BATCH]))
def test_verbatim_by_brute_force(rows: Rows, training: Rows, span: int, batch: int) -> None:
    known = {gram for text in training for gram in grams(text, span)}
    copied = total = 0
    for row in rows:
        hits = [i for i, gram in enumerate(grams(row, span)) if gram in known]
        copied += len({i + k for i in hits for k in range(span)})
        total += len(row)
    expected = pytest.approx(copied / total) if any(len(row) >= span for row in rows) else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verbatim_module, "BATCH", batch)
        assert copied_from(joined(training), joined(rows), span) == expected


def test_copies_are_counted_by_words_and_within_texts() -> None:
    eight = "one two three four five six seven eight"
    assert copied_from([f"x {eight} y"], [f"p q {eight} r", "s"]) == 8 / 12
    assert copied_from(["x " + eight[:-6], "eight y"], [eight]) == 0  # seven words, the eighth in another text
    assert copied_from([eight], ["x " + eight[:-6], "eight y"]) == 0
    assert copied_from([eight.upper() + "!"], [eight]) == 1
    assert copied_from([], [eight]) == 0


def test_all_of_a_text_is_copied_from_itself_and_nothing_from_unlike_text() -> None:
    rows = documents(200)
    unlike = [" ".join(f"{word}q" for word in text.split()) for text in rows]
    assert copied_from(rows, rows) == copied_from(rows[::-1] * 2, rows) == 1
    assert copied_from(unlike, rows) == 0


def test_copies_in_a_long_line_and_in_any_script() -> None:
    line = "a b c " * 170_000
    assert copied_from([line], [line, "b c a b c a b c", "c b a c b a c b"]) == pytest.approx(1, abs=1e-4)
    assert copied_from([line], ["b c a b c a b c", "c b a c b a c b"]) == 0.5
    assert copied_from(["مرحبا بالعالم 👍"], ["שלום עולם، مرحبا بالعالم"], 2) == 0.5


@pytest.mark.parametrize("rows", [[], ["", " \n"], ["👍 ❤️ 🇩🇪"] * 30, ["too short"]])
def test_without_a_span_there_is_no_share(rows: list[str]) -> None:
    assert verbatim(sample(rows), lambda: [np.arange(9)]) == [Reading("verbatim_share", None, "no row has 8 words")]


def test_the_interval_of_verbatim_copies_covers_their_probability() -> None:
    training = np.arange(100)

    def corpus(rng: np.random.Generator) -> Reading:
        words = rng.integers(1000, 10**6, (200, 10))
        copied = rng.random(200) < 0.3
        words[copied] = rng.integers(0, 90, (int(copied.sum()), 1)) + np.arange(10)
        return verbatim(rows_of(words), lambda: [training])[0]

    assert 0.9 <= coverage(0.3, corpus, 200) <= 0.99
