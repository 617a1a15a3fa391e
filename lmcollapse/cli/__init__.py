"""The command line: parses, then calls one library function a command.

Every import of the library stands inside the command that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
    # a `kill` ends a run as Ctrl-C does: work files are removed, and the next start goes on from the last finished step
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    processes.prepare()
    try:
        _dispatch(given)
    except UserError as error:
        sys.exit(_fail(str(error)))
    except KeyboardInterrupt:
        if processes.is_first():
            print("interrupted; the same command goes on from the last finished step", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output (`| head`) has gone; there is nobody left to tell
    except OSError as error:
        sys.exit(_fail(f"{error.filename or 'input or output'}: {error.strerror or error}"))
    except MemoryError as error:
        sys.exit(_fail(f"there is not enough memory for this: {str(error) or 'a list is too long'}; make it smaller"))
    except Exception as error:
        damage = _damage(given, error)
        if damage is None:
            raise
        sys.exit(_fail(damage))


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
