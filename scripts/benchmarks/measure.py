"""The measures of a corpus: speed, memory and growth; against other packages where they have the measure."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.racing import Row, Settings, Side, race, say
from benchmarks.self_bleu_rivals import RIVALS, Documents
from benchmarks.text import ROW, texts, write_texts
from lmcollapse.metrics.embeddings import embed
from lmcollapse.metrics.mauve import mauve as measure_mauve
from lmcollapse.metrics.numbering import Numbering
from lmcollapse.metrics.sample import draw
from lmcollapse.metrics.scene import HumanText
from lmcollapse.metrics.self_bleu import self_bleu as measure_self_bleu
from lmcollapse.metrics.words import words

MILLION = 1_000_000
HUMAN = 1.1
"""Zipf exponent of the made-up human text."""
WRITTEN = 1.15
"""That of the made-up corpus: as of a model that favours the frequent."""

STAGES = ("reading human text", "reading the corpus", "measures of the corpus", "measures of human text")
"""The stages of a call of `measure`, in their order."""
CORPUS = 2

Call = dict[str, Any]


def whole(settings: Settings) -> Iterator[Row]:
    """All measures but those on embeddings, on 10 million words, from files on disk to readings."""
    size = max(1000, round(10 * MILLION * settings.size))
    with tempfile.TemporaryDirectory(prefix="lmcollapse-benchmark-") as folder:
        files = _files(Path(folder), size)
        calls = [_call("all", *files, size) for _ in range(settings.rounds)]
    yield Row("all", "ours", median(call["seconds"] for call in calls), "s", 1.0)
    yield Row("all", "peak memory", median(call["peak"] for call in calls) / 2**20, "MiB", None)
    alone = (sum(map(sum, call["stages"][1:3])) for call in calls)
    yield Row("all", "corpus alone", median(alone), "s", None)
    for stage, label in enumerate(STAGES):
        yield Row("all", label, median(sum(call["stages"][stage]) for call in calls), "s", None)
    for i, name in enumerate(calls[0]["measures"]):
        yield Row("all", name, median(call["stages"][CORPUS][i] for call in calls), "s", None)


def linear(settings: Settings) -> Iterator[Row]:
    """The same on 1, 4 and 16 million words: ours beside what is linear in the smallest."""
    sizes = {times: max(1000, round(times * MILLION * settings.size)) for times in (1, 4, 16)}
    took: dict[int, list[float]] = {times: [] for times in sizes}
    with tempfile.TemporaryDirectory(prefix="lmcollapse-benchmark-") as folder:
        files = {times: _files(Path(folder), size) for times, size in sizes.items()}
        for _ in range(settings.rounds):
            for times, size in sizes.items():
                took[times].append(_call("linear", *files[times], size)["seconds"])
    seconds = {times: median(values) for times, values in took.items()}
    for times, size in sizes.items():
        case = f"linear, {size / MILLION:g} million words"
        yield Row(case, "ours", seconds[times], "s", 1.0)
        if times > 1:
            yield Row(case, f"{times} x the smallest", times * seconds[1], "s", seconds[times] / (times * seconds[1]))


def numbering(settings: Settings) -> Iterator[Row]:
    """Text to numbered words: a look at the bytes of many texts at once, against one text and word after the other."""
    size = max(1000, round(MILLION * settings.size))
    given = list(texts(size, 0, HUMAN))

    def plain() -> None:
        numbers: dict[str, int] = {}
        for text in given:
            for word in words(text):
                numbers.setdefault(word, len(numbers))

    sides = [
        Side("ours", lambda: sum(len(row) for row in Numbering().rows(given))),
        Side("words() and a dictionary", plain),
    ]
    return race("numbering", sides, settings.rounds, amount=size, unit="words/s")


def self_bleu(settings: Settings) -> Iterator[Row]:
    """Self-BLEU-4 of 1,000 documents of 64 words, against packages that have it.

    Ours begins with texts and has an interval, the others begin with lists of words. The two slow ones score a 25th of
    the documents against all others, which is scaled up, unless all is asked for.
    """
    count = max(40, round(1000 * settings.size))
    flat = [word for text in texts(64 * count, 2, HUMAN) for word in words(text)]
    documents = [flat[i : i + 64] for i in range(0, len(flat), 64)]
    scored = len(documents) if settings.full else math.ceil(len(documents) / 25)
    rivals = [rival for rival in RIVALS if importlib.util.find_spec(rival.needs)]
    checked = documents if settings.full else documents[:100]
    value = _ours(checked)
    for rival in rivals:
        theirs = mean(rival.scores(checked, len(checked)))
        assert math.isclose(value, theirs, rel_tol=1e-9), f"self-BLEU: ours {value}, {rival.name} {theirs}"
    say(f"  self_bleu: {value:.15f} of {len(checked)} documents, equal to that of {', '.join(r.name for r in rivals)}")
    sides = [Side("ours", lambda: _ours(documents))]
    for rival in RIVALS:
        share = scored / len(documents) if rival.slow else 1.0
        name = rival.name + (f" ({scored} of {len(documents)} scaled up)" if share < 1 else "")
        sides.append(Side(name, partial(rival.scores, documents, scored), rival.needs, share))
    yield from race("self_bleu", sides, settings.rounds)


def mauve(settings: Settings) -> Iterator[Row]:
    """MAUVE of 2,000 documents on each side, from the same vectors; ours has an interval."""
    count = max(100, round(2000 * settings.size))
    text = HumanText.of(islice(texts(3 * ROW * count, 3, HUMAN), 2 * count), ())
    written = text.written(islice(texts(2 * ROW * count, 4, WRITTEN), count), MILLION)
    human = text.reference(MILLION)
    vectors = embed(written, human, "lsa", count)  # once here, and kept for the measure

    def rival() -> float:
        from mauve import compute_mauve

        found = compute_mauve(p_features=vectors.written, q_features=vectors.human, verbose=False)
        return float(found.mauve)

    def ours() -> float | None:
        return measure_mauve(written, human, documents=count)[0].value

    sides = [Side("ours", ours), Side("mauve-text", rival, needs="mauve")]
    yield from race("mauve", sides, settings.rounds)


def _files(folder: Path, size: int) -> tuple[Path, Path]:
    """A corpus of so many words, and human text whose halves have as many each."""
    say(f"  making {3 * size:,} words up")
    corpus = write_texts(folder / f"corpus-{size}.parquet", size, 0, WRITTEN)
    return corpus, write_texts(folder / f"human-{size}.parquet", round(2.05 * size), 1, HUMAN)


def _call(case: str, corpus: Path, reference: Path, size: int) -> Call:
    """One call of `measure` in a process of its own."""
    child = Path(__file__).with_name("measure_child.py")
    done = subprocess.run(
        [sys.executable, child, corpus, reference, str(size)], stdout=subprocess.PIPE, text=True, check=True
    )
    call: Call = json.loads(done.stdout)
    assert len(call["stages"]) == len(STAGES), call["stages"]
    say(f"  {case}: {size:,} words, {call['seconds']:.3g} s, {call['peak'] / 2**20:,.0f} MiB")
    return call


def _ours(documents: Documents) -> float:
    sample = draw((" ".join(document) for document in documents), Numbering(), 64 * len(documents))
    (reading,) = measure_self_bleu(sample, documents=len(documents))
    assert reading.value is not None, reading.note
    return reading.value


CASES = {"all": whole, "linear": linear, "mauve": mauve, "self_bleu": self_bleu, "numbering": numbering}
