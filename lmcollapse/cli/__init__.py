"""The command line: parses, then calls one library function a command.

Every import of the library stands inside the command that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import tyro

import lmcollapse
from lmcollapse import processes
from lmcollapse.cli.asking import advise, reproduce
from lmcollapse.cli.installed import fetch, list_, selfcheck
from lmcollapse.cli.measuring import evaluate, filter_, measure, sample
from lmcollapse.cli.running import run, sweep
from lmcollapse.cli.showing import export, plot, report, status, verdicts, verify, watch
from lmcollapse.types import UserError

LONGEST = 3000
"""Characters of a message about something that cannot be used."""

COMMANDS: dict[str, Callable[..., Any]] = {
    "run": run,
    "sweep": sweep,
    "evaluate": evaluate,
    "measure": measure,
    "filter": filter_,
    "verdicts": verdicts,
    "advise": advise,
    "reproduce": reproduce,
    "verify": verify,
    "export": export,
    "selfcheck": selfcheck,
    "plot": plot,
    "report": report,
    "sample": sample,
    "status": status,
    "watch": watch,
    "list": list_,
    "fetch": fetch,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `lmcollapse`.

    Exit status: 0 done, 1 a check failed, 2 something given cannot be used, or a run ended before its last generation
    (its fit diverged, nothing was left to train on), 130 interrupted.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    _settle_streams()
    # a `kill` ends a run as Ctrl-C does: work files are removed, and the next start goes on from the last finished step
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    processes.prepare()
    try:
        _check_words(given)
        _dispatch(given)
        if sys.stdout is not None:  # it may be closed
            sys.stdout.flush()  # here, where an error of it is told, and not when Python has ended
    except UserError as error:
        sys.exit(_fail(str(error)))
    except KeyboardInterrupt:
        if processes.is_first():
            print("interrupted; the same command goes on from the last finished step", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        _silence(sys.stdout)  # the reader of our output (`| head`) has gone; there is nobody left to tell
    except OSError as error:
        _silence(sys.stdout)  # what is left of it may be what could not be written
        sys.exit(_fail(f"{error.filename or 'input or output'}: {error.strerror or error}"))
    except MemoryError as error:
        sys.exit(_fail(f"there is not enough memory for this: {str(error) or 'a list is too long'}; make it smaller"))
    except Exception as error:
        damage = _damage(given, error)
        if damage is None:
            raise
        sys.exit(_fail(damage))


def _settle_streams() -> None:
    """Show what the terminal's encoding lacks as an escape: `LC_ALL=C` ends no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _silence(stream: TextIO) -> None:
    """Let what is still to be written to a stream go nowhere: Python tries again at its end, and complains."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _check_words(given: Sequence[str]) -> None:
    """UserError for bytes that are no UTF-8: parquet, safetensors and JSON can neither name such a file nor tell it."""
    for word in given:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UserError(f"{word!r} is no UTF-8; rename what it names, or give another name") from None


def _dispatch(given: Sequence[str]) -> None:
    try:
        tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="lmcollapse", description=lmcollapse.__doc__, args=given)
    except SystemExit as end:
        if not end.code and given[:1] == ["run"]:
            from lmcollapse.cli.configuration_help import print_configuration_help

            print_configuration_help(given[1:])
        raise


def _damage(given: Sequence[str], error: Exception) -> str | None:
    """What is damaged in the run directories that a command was about; None where nothing is, and the error a bug.

    What a damaged file does to its reader cannot be foreseen: readers do not look for damage, verification does.
    """
    from lmcollapse.verify import first_mismatch

    paths = [Path(word) for word in given]
    try:
        found = first_mismatch([*paths, *(Path("runs") / path.stem for path in paths if path.suffix == ".yaml")])
    except UserError as damaged:
        return str(damaged)
    except Exception:  # a word that is no path, a folder that cannot be looked at: the error itself is to be told
        return None
    if found is None:
        return None
    run, mismatch = found
    return (
        f"{run} is damaged: {mismatch} (met as {error!r}); `lmcollapse verify {run}` tells all of it; a damaged step "
        "whose folder is removed is made again by `lmcollapse run`"
    )


def _fail(message: str) -> int:
    if not processes.is_first():
        try:
            time.sleep(30)  # as a rule the first process has met with the same, says so and ends all of them
        except KeyboardInterrupt:
            return 130
    from lmcollapse.progress import printable

    line = printable(" ".join(message.split()))
    if len(line) > LONGEST:  # somebody's text is in it
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 4 :]}"
    print(f"lmcollapse: {line}", file=sys.stderr)
    return 2
