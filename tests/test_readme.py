"""The README is held to the code: its commands parse, its trees are what is on disk, its Python runs."""

from __future__ import annotations

import inspect
import re
import shlex
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tyro

from lmcollapse import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The contents of the README's fenced blocks in one language ("" for none)."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [content for name, content in fenced if name == language]


def commands() -> Iterator[list[str]]:
    """Every `lmcollapse …` in the README's shell blocks, comments removed."""
    for block in blocks("bash"):
        for line in block.splitlines():
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                if words and Path(words[0]).name == "lmcollapse":
                    yield words[1:]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_parses(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    def stub(function: Callable[..., None]) -> Callable[..., None]:
        """The same command line, and nothing done."""

        def nothing(*_: object, **__: object) -> None:
            pass

        nothing.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
        nothing.__annotations__ = typing.get_type_hints(function, include_extras=True)
        nothing.__doc__ = function.__doc__
        return nothing

    commands = {name: stub(function) for name, function in cli.COMMANDS.items()}
    try:
        tyro.extras.subcommand_cli_from_dict(commands, prog="lmcollapse", args=words)
    except SystemExit as end:
        assert not end.code, capsys.readouterr().err
    for word in words:
        if word.startswith("configs/"):
            assert (ROOT / word).is_file(), word


def test_there_are_commands_to_parse() -> None:
    assert {words[0] for words in commands()} == set(cli.COMMANDS)


def tree(first_line: str) -> set[str]:
    """The paths that a drawn tree shows, relative to its first line; entries marked with … stand for others like it."""
    block = next(block for block in blocks("") if block.startswith(first_line))
    found: set[str] = set()
    path: list[str] = []
    for line in block.splitlines()[1:]:
        match = re.match(r"^((?:[│ ] {3})*)[├└]── (\S+)\s*(…)?", line)
        assert match, line
        path = [*path[: len(match[1]) // 4], match[2]]
        if not match[3]:
            found.add("/".join(path))
    return found


def test_the_run_directory_is_drawn_as_it_is(finished: Path) -> None:
    run = finished / "run"
    drawn = tree("runs/")
    there = {str(entry.relative_to(run)) for entry in run.rglob("*")}
    assert drawn <= there, drawn - there
    for folder in ("", "human", "rows", "generation_000", "generation_000/train", "generation_000/scores"):
        inside = {entry.name for entry in (run / folder).iterdir()} - {"step.json", ".lmcollapse.lock", "facts.json"}
        shown = {name for name in inside if f"{folder}/{name}".lstrip("/") in drawn or name == "generation_001"}
        assert inside == shown, folder


def test_the_house_is_drawn_as_it_is() -> None:
    package = ROOT / "lmcollapse"
    there = {entry.name for entry in package.iterdir() if not entry.name.startswith(("_", "."))}
    assert tree("lmcollapse\n") == there


def test_links_and_pictures_are_there() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_python_runs(finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("lmcollapse.loop.run", lambda config, out: finished / "run")
    monkeypatch.chdir(ROOT)
    for block in blocks("python"):
        exec(block, {})
    assert "perplexity" in capsys.readouterr().out
