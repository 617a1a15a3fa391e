"""The tidy tables and the figures, on run directories made up for the purpose."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmcollapse.catalog import CATALOG, find
from lmcollapse.figures import plot
from lmcollapse.figures.measures import measures
from lmcollapse.figures.sequence_perplexity import TALLEST, sequence_perplexity
from lmcollapse.figures.style import log_axis, plain
from lmcollapse.parquet import write_scores
from lmcollapse.readings import write_readings
from lmcollapse.records import FORMAT, sealed
from lmcollapse.results import sequences, table
from lmcollapse.tidy import tidy
from lmcollapse.types import HUMAN, Reading, Scores, UserError

READINGS = ("perplexity", "bits_per_byte", "tail_coverage", "distinct_1", "distinct_2", "distinct_3", "distinct_4")

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A run directory: `readings` of each generation, and the perplexities of the `sequences` that it wrote."""

    def make(
        name: str = "run",
        readings: Sequence[dict[str, Any]] = ({"perplexity": 20.0}, {"perplexity": 30.0}),
        sequences: Sequence[Sequence[float]] | None = None,
        policy: dict[str, Any] | None = None,
        seed: int = 0,
        reference: dict[str, float] | None = None,
    ) -> Path:
        run = tmp_path / name
        run.mkdir(parents=True)
        config = {"policy": policy or {"kind": "replace"}, "seed": seed, "generations": 50}
        (run / "manifest.json").write_text(json.dumps(sealed({"format": FORMAT, "config": config})))
        lines = [json.dumps({"generation": g} | row) + "\n" for g, row in enumerate(readings)]
        (run / "metrics.jsonl").write_text("".join(lines))
        (run / "reference").mkdir()
        human = [Reading(name, value) for name, value in (reference or {}).items()]
        write_readings(human, run / "reference")
        for g in range(len(readings)):
            perplexities = np.array(sequences[g] if sequences else [10.0, 20.0, 40.0])
            folder = run / f"generation_{g:03d}" / "scores"
            folder.mkdir(parents=True)
            tokens = np.full(len(perplexities), 7)
            write_scores(Scores(np.log(perplexities) * tokens, tokens), folder / "judge_00.parquet")
        return run

    return make


def collapsing(generations: int, factor: float = 1.5) -> list[dict[str, Any]]:
    shares = {name: 0.9 / factor**g for g, name in enumerate(READINGS[2:])}
    return [
        {"perplexity": 20 * factor**g, "bits_per_byte": 1.0} | {name: v / factor**g for name, v in shares.items()}
        for g in range(generations)
    ]


# tables


def test_the_table_is_tidy(make_run: MakeRun) -> None:
    first = {"perplexity": 20.5, "perplexity_low": 19.0, "perplexity_high": 21.0, "tail_coverage": None}
    second = {"perplexity": 30, "tail_coverage": 0.5, "tail_coverage_low": 0.4}  # a measure of such a name, no interval
    one = make_run("one", [first, second], reference={"tail_coverage": 0.7})
    mix = {"kind": "mix", "human_fraction": 0.1, "human_keep": None}
    two = make_run("two", [{"perplexity": 1.0}], policy=mix, seed=7)
    found = table([two, one, two / "." / ".." / "two"])
    none = (math.nan, math.nan)
    expected = pd.DataFrame(
        [
            ("two", "mix human_fraction=0.1", 7, 0, "perplexity", 1.0, *none),
            ("one", "replace", 0, HUMAN, "tail_coverage", 0.7, *none),
            ("one", "replace", 0, 0, "perplexity", 20.5, 19.0, 21.0),
            ("one", "replace", 0, 0, "tail_coverage", math.nan, *none),
            ("one", "replace", 0, 1, "perplexity", 30.0, *none),
            ("one", "replace", 0, 1, "tail_coverage", 0.5, *none),
            ("one", "replace", 0, 1, "tail_coverage_low", 0.4, *none),
        ],
        columns=["run", "condition", "seed", "generation", "measure", "value", "low", "high"],
    )
    pd.testing.assert_frame_equal(found, expected)


def test_the_sequences_are_tidy(make_run: MakeRun) -> None:
    run = make_run("run", sequences=[[3.0, 5.0], [7.0]], seed=4)
    found = sequences([run])
    assert list(found.columns) == ["run", "condition", "seed", "generation", "perplexity"]
    assert found["generation"].tolist() == [0, 0, 1]
    assert found["perplexity"].tolist() == pytest.approx([3, 5, 7])


def test_runs_of_one_name_are_told_apart(make_run: MakeRun) -> None:
    runs = [make_run(name) for name in ("a/x/run", "b/x/run", "b/y/run", "other")]
    assert list(table(runs)["run"].unique()) == ["a/x/run", "b/x/run", "y/run", "other"]


def test_a_directory_that_is_no_run_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere holds no run"):
        table([make_run(), tmp_path / "nowhere"])


def test_a_run_without_a_finished_generation_is_refused(make_run: MakeRun) -> None:
    run = make_run(readings=[])
    for _ in range(2):
        with pytest.raises(UserError, match="run has no finished generation yet"):
            table([run])
        (run / "metrics.jsonl").unlink(missing_ok=True)


@pytest.mark.parametrize(
    "line",
    [
        b'{"generation": 1, "perplexity"',
        b'{"generation": 1, "perplexity": NaN}',
        b'{"generation": 1, "perplexity": "high"}',
        b'{"generation": 1, "perplexity": [1]}',
        b'{"generation": 3, "perplexity": 1}',
        b'{"perplexity": 1}',
        b"[1, 2]",
        b"",
        b'{"generation": 1, "\xff": 1}',
    ],
)
def test_a_damaged_line_of_measures_is_named(make_run: MakeRun, line: bytes) -> None:
    run = make_run(readings=[{"perplexity": 1.0}])
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 2 is damaged"):
        table([run])


@pytest.mark.parametrize("content", [None, b"no parquet"])
def test_damaged_scores_are_named(make_run: MakeRun, content: bytes | None) -> None:
    run = make_run()
    file = run / "generation_001" / "scores" / "judge_00.parquet"
    file.unlink()
    if content:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"generation_001.scores.judge_00\.parquet: cannot be read"):
        sequences([run])


# figures


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_ylabel() or axes.get_title(): axes for axes in figure.axes}


def outside(figure: Figure) -> list[str]:
    """What is written on a figure and does not lie within it."""
    figure.draw_without_rendering()
    texts = [t for legend in figure.legends for t in legend.get_texts()]
    texts += [t for axes in figure.axes for t in (axes.title, axes.xaxis.label, axes.yaxis.label)]
    return [
        text.get_text()
        for text in texts
        if (box := text.get_window_extent()) and not (box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y0 >= -1)
    ]


def test_every_figure_is_written_as_png_and_pdf_with_the_same_bytes_every_time(
    make_run: MakeRun, tmp_path: Path
) -> None:
    runs = [make_run("one", collapsing(3)), make_run("two", collapsing(2))]
    before = dict(matplotlib.rcParams)
    files = plot(runs, tmp_path / "new" / "figures")
    assert dict(matplotlib.rcParams) == before
    stems = {"measures", "perplexity", "cross_entropy", "distinct_n", "tail_coverage", "tail", "model"}
    drawn = {f"{stem}.{kind}" for stem in stems | {"sequence_perplexity"} for kind in ("png", "pdf", "svg")}
    assert {file.name for file in files} == drawn | {"results.parquet", "results.csv"}
    assert set(files) == set((tmp_path / "new" / "figures").iterdir())
    content = {file: file.read_bytes() for file in files}
    begins = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml", ".csv": b"run,seed,", ".parquet": b"PAR1"}
    assert all(content[file].startswith(begins[file.suffix]) for file in files)
    pdf = content[tmp_path / "new" / "figures" / "measures.pdf"]
    assert b"/FontFile2" in pdf and b"Date" not in pdf  # TrueType
    with matplotlib.rc_context({"font.size": 20, "pdf.fonttype": 3, "savefig.dpi": 10}):
        plot(runs, tmp_path / "new" / "figures")
    assert {file: file.read_bytes() for file in files} == content


def test_nothing_is_written_where_a_run_cannot_be_read(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        plot([make_run(), tmp_path / "nowhere"], tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
    (tmp_path / "figures").write_text("a file")
    with pytest.raises(UserError, match="figures: cannot be written"):
        plot([make_run("other")], tmp_path / "figures")


def test_the_lines_are_the_readings(make_run: MakeRun) -> None:
    readings = [collapsing(4), collapsing(6, factor=1.1)]
    figures = measures(tidy([make_run("one", readings[0]), make_run("two", readings[1])]))
    names = {"held-out perplexity": "perplexity", "tail coverage": "tail_coverage"}
    names |= {f"distinct-{n}": f"distinct_{n}" for n in range(1, 5)}
    drawn = panels(figures["measures"])
    assert set(drawn) == set(names)
    assert set().union(*(panels(figures[stem]) for stem in ("perplexity", "distinct_n", "tail_coverage"))) == set(names)
    for label, axes in drawn.items():
        for line, rows in zip(axes.lines, readings, strict=True):
            values = [row[names[label]] for row in rows]
            assert np.asarray(line.get_xdata()).tolist() == list(range(len(rows)))
            assert np.asarray(line.get_ydata()).tolist() == values
            bottom, top = axes.get_ylim()
            assert bottom <= min(values) and max(values) <= top
    legend = figures["measures"].legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["one", "two"]


@pytest.mark.parametrize(("highest", "scale"), [(99.0, "linear"), (101.0, "log"), (1e100, "log")])
def test_perplexity_is_logarithmic_where_it_spans_more_than_five_times(
    make_run: MakeRun, highest: float, scale: str
) -> None:
    axes = measures(tidy([make_run(readings=[{"perplexity": 20.0}, {"perplexity": highest}])]))["perplexity"].axes[0]
    assert axes.get_yscale() == scale
    assert sum(20 <= tick <= highest for tick in axes.get_yticks()) >= 2


@pytest.mark.parametrize("low", [np.nextafter(0.1, 0), 1.0, 1.3, 29.0, 99.999])
@pytest.mark.parametrize("ratio", [4, 5.1, 40, 3e3, 1e9, 1e305])
def test_a_logarithmic_axis_has_a_few_ticks_and_they_enclose_the_values(low: float, ratio: float) -> None:
    axes = Figure().subplots()
    axes.set_yscale("log")
    below, above = log_axis(axes.yaxis, low, low * ratio)
    assert below <= low and above >= low * ratio
    inside = [tick for tick in axes.get_yticks() if low <= tick <= low * ratio]
    assert 1 <= len(inside) <= 9


@pytest.mark.parametrize("generations", [1, 5, 101])
def test_generations_are_whole_numbers(make_run: MakeRun, generations: int) -> None:
    run = make_run(readings=collapsing(generations, factor=1.01))
    for axes in measures(tidy([run]))["measures"].axes:
        assert set(axes.get_xticks()) <= set(range(generations)) and 0 in axes.get_xticks()
    ticks = sequence_perplexity(tidy([run]))["sequence_perplexity"].axes[0].get_yticks()
    assert set(ticks) <= set(range(generations)) and 1 <= len(ticks) <= 8


def heights(axes: Axes) -> list[list[float]]:
    """For each generation the heights of its bars that are not empty, as drawn."""
    found = []
    for g, patch in enumerate(axes.patches):
        tops = patch.get_data().values  # type: ignore[attr-defined]
        found.append([g - top for top in tops if not np.isnan(top)])
    return found


def test_the_histograms_count_every_sequence(make_run: MakeRun) -> None:
    run = make_run(sequences=[[10.0] * 8, [10.0] * 2 + [1000.0] * 6])
    figure = sequence_perplexity(tidy([run]))["sequence_perplexity"]
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert heights(axes) == [pytest.approx([TALLEST]), pytest.approx([TALLEST / 4, TALLEST * 3 / 4])]
    colours = [patch.get_facecolor() for patch in axes.patches]
    assert colours[0] != colours[1]


def test_an_outlier_is_counted_at_the_edge_and_does_not_stretch_the_axis(make_run: MakeRun) -> None:
    many = list(np.geomspace(10, 100, 2000))
    axes = sequence_perplexity(tidy([make_run(sequences=[many, [*many, 1e30]])]))["sequence_perplexity"].axes[0]
    assert axes.get_xlim()[1] < 101
    zero, one = (sum(bars) for bars in heights(axes))
    assert zero == pytest.approx(one)


def test_several_runs_are_panels_with_one_scale(make_run: MakeRun) -> None:
    runs = [make_run(f"run{i}", sequences=[[10.0 + i, 20.0], [30.0, 40.0 * i + 1]]) for i in range(4)]
    axes = sequence_perplexity(tidy(runs))["sequence_perplexity"].axes
    assert [a.get_title() for a in axes] == [f"run{i}" for i in range(4)]
    assert len({a.get_xlim() for a in axes}) == len({a.get_ylim() for a in axes}) == 1


LONG = "replace_gpt2_wikitext2_temperature0.8_" * 6


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["a$b$c^{ \\alpha %s", "_hidden – ä", LONG[:200]])
def test_any_name_of_a_run_fits(make_run: MakeRun, name: str) -> None:
    runs = [make_run(name, collapsing(3)), make_run(LONG + "seed_0"), make_run(LONG + "seed_1")]
    for figure_name in CATALOG["figure"]:
        for figure in find("figure", figure_name)(tidy(runs)).values():
            assert outside(figure) == []
    labels = [text.get_text() for text in measures(tidy(runs))["measures"].legends[0].get_texts()]
    assert len(set(labels)) == 3


def test_a_name_is_shortened_in_its_middle() -> None:
    assert plain("short", 2, lines=1) == "short"
    assert plain("x" * 20 + "-seed-1", 1, lines=1) == "xxxxx…seed-1"
    assert plain("a$b", 2, lines=1) == r"a\$b"


@pytest.mark.parametrize(
    ("readings", "written"),
    [
        (collapsing(1), [[10.0]]),
        ([dict.fromkeys(READINGS)] * 3, None),
        ([{"perplexity": 5.0}, {"perplexity": None}, {"perplexity": 500.0}], None),
        ([dict.fromkeys(READINGS, 1.0)] * 3, [[1.0] * 5] * 3),
        ([dict.fromkeys(READINGS, 0.0)] * 2, None),
        ([{"another_measure": 3.0}], [[math.inf, math.inf]]),
        ([{}, {}], None),
        (collapsing(2), [[], [10.0, math.inf]]),
        (collapsing(1), [[]]),
    ],
    ids=["one generation", "none", "a gap", "constant", "zero", "infinite", "no measures", "some empty", "all empty"],
)
@pytest.mark.filterwarnings("error")
def test_unusual_runs_are_drawn(
    make_run: MakeRun, readings: list[dict[str, Any]], written: list[list[float]] | None
) -> None:
    table = tidy([make_run(readings=readings, sequences=written)])
    figures = [figure for name in CATALOG["figure"] for figure in find("figure", name)(table).values()]
    assert figures or (not any(readings) and not any(map(any, written or [])))
    for figure in figures:
        figure.draw_without_rendering()
