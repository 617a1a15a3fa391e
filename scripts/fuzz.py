"""Give the command line bad input, at random, and see that a right answer or one clear line comes of it.

`python scripts/fuzz.py --cases 10000 --seed 0` goes through so many cases: configurations and sweeps, text, tables, run
directories, each mutated. A traceback, a hang, a crash, a wrong answer, or a file changed outside of where the command
writes is a defect; its folder is kept. `--record FILE` adds the counts to those of earlier calls.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import pkgutil
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from signal import SIGINT, SIGTERM

from rich.console import Console
from rich.table import Table

os.environ.update(
    {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "agg",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
)

from fuzzing import cases, configurations, runs, tables, texts
from fuzzing.cases import Case, Done, Outcome

import lmcollapse
from lmcollapse import cli
from lmcollapse.files import write_json

KINDS = {"configuration": 80, "run": 4, "text": 4, "table": 6, "run directory": 6}
"""Of a hundred cases, how many are of each kind."""
HEAVY = ("torch", "transformers", "datasets", "matplotlib.pyplot", "scipy.stats", "sklearn.decomposition", "pandas")
OUTCOMES: tuple[Outcome, ...] = ("right", "error", "defect")
AT_ONCE = 2
WORDS = 1800
"""Of the human text."""


def main() -> None:
    """Fuzz, and exit with status 1 where there is a defect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"some of {', '.join(KINDS)}")
    parser.add_argument("--only", type=int, help="the case of this number alone, and what it says")
    parser.add_argument("--folder", type=Path, help="where defects are kept; by default a new temporary folder")
    parser.add_argument("--record", type=Path, help="a JSON file to which the counts are added")
    given = parser.parse_args()
    unknown = set(given.kinds.split(",")) - set(KINDS)
    if unknown:
        parser.error(f"unknown kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    folder = given.folder or Path(tempfile.mkdtemp(prefix="lmcollapse-fuzz-"))
    maker = Maker(folder.resolve(), given.seed, given.kinds.split(","))
    numbers = [given.only] if given.only is not None else range(given.cases)
    counts = fuzz(maker, numbers, keep=given.only is not None)
    print_table(counts)
    if given.record:
        add_to_record(given.record, counts)
    sys.exit(any(outcome == "defect" for _, outcome in counts))


class Maker:
    """What cases are made of: a human text, runs to copy, and random numbers that follow from the seed and the case."""

    def __init__(self, folder: Path, seed: int, kinds: list[str]) -> None:
        self.folder, self.seed, self.kinds = folder, seed, kinds
        folder.mkdir(parents=True, exist_ok=True)
        self.made, self.human = folder / "made", folder / "human.txt"
        self.made.mkdir(exist_ok=True)
        cases.SHARED[:] = [folder / "cache"]
        os.environ |= {
            "LMCOLLAPSE_CACHE": str(folder / "cache" / "lmcollapse"),
            "HF_HOME": str(folder / "cache" / "hub"),
            "MPLCONFIGDIR": str(folder / "cache" / "matplotlib"),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        self.human.write_text(human_text(), encoding="utf-8")
        self._warm_up()

    def _warm_up(self) -> None:
        """Make the runs, in children, and import here what they import: a process that computes cannot be forked."""
        names = self.folder / "modules.txt"
        for module in [*HEAVY, *(each.name for each in pkgutil.walk_packages(lmcollapse.__path__, "lmcollapse."))]:
            if module != "lmcollapse.__main__":
                with suppress(ImportError):  # what is not installed
                    importlib.import_module(module)
        commands = runs.prepare(self.made, self.human) if {"run directory", "text"} & set(self.kinds) else {}
        needed = [commands[name] for name in commands if "run directory" in self.kinds or name == "language model"]
        more = [["status", "RUN"], ["verify", "RUN"], ["verdicts", "RUN"], ["plot", "RUN", "--out", "OUT/figures"]]
        more += [["report", "RUN", "--out", "OUT/report.html"], ["export", "RUN", "--out", "OUT/export"]]
        for number, words in enumerate(needed):
            folder = cases.new_folder(self.folder / f"warm-up {number}")
            out = words[words.index("--out") + 1]
            cases.SHARED.append(self.made)
            others = [[w.replace("RUN", out).replace("OUT", str(folder / "out")) for w in one] for one in more]

            def work(words: list[str] = words, others: list[list[str]] = others) -> None:
                cli.main(words)
                for each in others if "run directory" in self.kinds else ():
                    with suppress(SystemExit):  # not every command is for every run
                        cli.main(each)
                with names.open("a", encoding="utf-8") as stream:
                    stream.write("\n".join(sys.modules) + "\n")

            case = Case(folder, words, seconds=300, work=work)
            cases.SHARED.append(self.folder)
            done = cases.carried_out(case)
            print(f"{' '.join(words[:2])}: {done.seconds:.0f} s", file=sys.stderr)
            assert done.status == 0, f"{words}: a run that nobody disturbed failed: {done.stderr}"
            cases.remove(case)
        cases.SHARED[:] = [self.folder / "cache"]
        for module in dict.fromkeys(names.read_text(encoding="utf-8").split()) if names.exists() else ():
            with suppress(Exception):  # some modules are not to be imported by their names
                importlib.import_module(module)

        gc.collect()
        gc.freeze()  # or every child copies what the collector looks at

    def case(self, number: int) -> tuple[str, Case]:
        """The case of this number, and its kind."""
        draw = random.Random(f"{self.seed}/{number}")
        kind = draw.choices(self.kinds, [KINDS[kind] for kind in self.kinds])[0]
        folder = cases.new_folder(self.folder / f"case {number}")
        makers: dict[str, Callable[[], Case]] = {
            "configuration": lambda: configurations.bound(folder, draw),
            "run": lambda: configurations.run(folder, draw, self.human),
            "text": lambda: texts.case(folder, draw, self.human, self.made / "language model" / "generation_000"),
            "table": lambda: tables.case(folder, draw, self.human),
            "run directory": lambda: runs.case(folder, draw, self.made, self.human),
        }
        return kind, makers[kind]()


def human_text() -> str:
    """English-like text: words as often as their ranks say, in paragraphs."""
    draw = random.Random(0)
    words = [f"{stem}{draw.choice(('', 'ed', 'ing', 's'))}" for stem in map(_word, range(400))]
    sizes = [1 / rank for rank in range(1, len(words) + 1)]
    return "\n\n".join(" ".join(draw.choices(words, sizes, k=30)) + "." for _ in range(WORDS // 30)) + "\n"


def _word(number: int) -> str:
    syllables = ["ba", "do", "ki", "lu", "me", "no", "pa", "ri"]
    return "".join(syllables[(number // 8**place) % 8] for place in range(1 + (number > 7) + (number > 63)))


def fuzz(maker: Maker, numbers: range | list[int], *, keep: bool = False) -> Counter[tuple[str, Outcome]]:
    """So many cases, two at once; their outcomes by kind. Defects are told as they come, and their folders stay.

    Interrupted, it ends with the cases that are at work, and what was counted so far.
    """
    counts: Counter[tuple[str, Outcome]] = Counter()
    at_work: dict[int, tuple[str, cases.Running]] = {}
    left = iter(numbers)
    stopped: list[int] = []
    before = [signal.signal(number, lambda number, _: stopped.append(number)) for number in (SIGINT, SIGTERM)]
    told: Counter[str] = Counter()
    took: defaultdict[str, float] = defaultdict(float)
    began = said = time.monotonic()
    while True:
        while len(at_work) < AT_ONCE and not stopped and (number := next(left, None)) is not None:
            kind, case = maker.case(number)
            at_work[number] = kind, cases.start(case)
        if not at_work:
            for number, handler in zip((SIGINT, SIGTERM), before, strict=True):
                signal.signal(number, handler)
            return counts
        for number, (kind, running) in list(at_work.items()):
            done = running.look()
            if done is None:
                continue
            del at_work[number]
            outcome, why = cases.judged(running.case, done)
            counts[kind, outcome] += 1
            took[kind] += done.seconds
            if keep:
                tell(running.case, done, outcome, why)
            elif outcome == "defect":
                told[sign := re.sub(r"\d+|case [^/]*/|'[^']*'", "_", why)[:160]] += 1
                if told[sign] <= 3:
                    print(f"case {number} ({kind}): {' '.join(running.case.words)[:200]!r}: {why[:600]!r}", flush=True)
            if outcome != "defect" and not keep:
                cases.remove(running.case)
        if time.monotonic() - said > 30:
            said = time.monotonic()
            means = (f"{kind} {took[kind] / sum(counts[kind, o] for o in OUTCOMES):.2f} s" for kind in took)
            print(f"{counts.total():,} cases in {said - began:.0f} s: {', '.join(means)}", file=sys.stderr, flush=True)
        time.sleep(0.002)


def tell(case: Case, done: Done, outcome: Outcome, why: str) -> None:
    """All about one case."""
    print(f"{case.words}\n{outcome}: {why}\nstatus {done.status} after {done.seconds:.1f} s, in {case.folder}")
    print(f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}\n{done.outside}")


def print_table(counts: Mapping[tuple[str, Outcome], int]) -> None:
    """Kinds and outcomes."""
    table = Table(box=None)
    for heading in ("kind", "cases", "right answer", "clear error", "DEFECT"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    kinds = [kind for kind in KINDS if any(kind == each for each, _ in counts)]
    for kind in [*kinds, "all"]:
        of = {
            outcome: sum(n for (k, o), n in counts.items() if o == outcome and kind in (k, "all"))
            for outcome in OUTCOMES
        }
        table.add_row(kind, *(f"{number:,}" for number in (sum(of.values()), *of.values())))
    Console(highlight=False).print(table)


def add_to_record(file: Path, counts: Mapping[tuple[str, Outcome], int]) -> None:
    """Counts of all calls together, by kind."""
    record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for (kind, outcome), number in counts.items():
        before = record.setdefault(kind, {"right": 0, "error": 0, "defect": 0})
        before[outcome] += number
    write_json(file, record)


if __name__ == "__main__":
    main()
