"""One case: a command in a child of this process, watched; and what came of it.

A case has a folder of its own. `in` holds what it is given, `out` what it may write; `home`, the working directory
`cwd` and `sentinel`, which links in the input may point to, stay as they are. The child is forked from a process that
has imported everything, so that a case takes as long as what it does.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from lmcollapse import cli

Outcome = Literal["right", "error", "defect"]

MEMORY = 4 << 30
"""Bytes of address space that a case may take beyond what this process has."""
FILE = 1 << 30
"""Bytes of the largest file that it may write."""
PATIENCE = 10.0
"""Seconds for a case that was asked to end."""
WAITING = 6
"""Times as long by the clock as by the processor a case may take, before it hangs in the place of being slow."""
LONGEST = 4000
"""Characters of a message; longer ones nobody reads."""
WROTE = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod")
"""Audit events of what changes files, by their paths."""
PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
HARMLESS_PROGRAMS = ("uname", "lscpu", "/sbin/ldconfig", "fc-list")
"""What the standard library asks about the machine."""


@dataclass
class Case:
    """What is given to the command line.

    words : as after `lmcollapse`.
    then : commands that follow where the first one ended well.
    seconds : of processor, or many times that of the clock, after which it hangs.
    may_go_on : whether it may rightly take longer; then it is asked to end, and must.
    right : for a case that ended with status 0 or 1, whether that was right; a sentence where it was not.
    stand_ins : put in the place of parts of the product, in the child: what would take long.
    work : in the place of the command line.
    """

    folder: Path
    words: list[str]
    then: list[list[str]] = field(default_factory=list)
    seconds: float = 20.0
    may_go_on: bool = False
    right: Callable[[Case, Done], str | None] | None = None
    stand_ins: Callable[[], None] | None = None
    work: Callable[[], object] | None = None

    @property
    def given(self) -> Path:
        """What the case reads."""
        return self.folder / "in"

    @property
    def out(self) -> Path:
        """What it may write."""
        return self.folder / "out"


@dataclass
class Done:
    """How a case ended."""

    status: int
    seconds: float
    stdout: str
    stderr: str
    timed_out: bool = False
    asked: bool = False
    outside: list[str] = field(default_factory=list)


def new_folder(folder: Path) -> Path:
    """The folder of a case, empty but for what must not be touched."""
    for name in ("in", "out", "home", "cwd", "sentinel", "tmp"):
        (folder / name).mkdir(parents=True)
    (folder / "sentinel" / "precious.txt").write_text("do not touch\n", encoding="utf-8")
    (folder / "sentinel" / "step.json").write_text("{}\n", encoding="utf-8")
    return folder


@dataclass
class Running:
    """A case whose child is at work."""

    case: Case
    process: int
    began: float
    before: dict[str, Any]
    asked: float | None = None
    killed: bool = False

    def look(self) -> Done | None:
        """What came of it, where it has ended; a child that takes too long is asked to, then killed."""
        found, status = os.waitpid(self.process, os.WNOHANG)
        now = time.monotonic()
        if found:
            return self._done(os.waitstatus_to_exitcode(status), now - self.began)
        if self.asked is None and self._hangs(now - self.began):
            self.asked = now
            os.killpg(self.process, signal.SIGTERM if self.case.may_go_on else signal.SIGKILL)
            self.killed = not self.case.may_go_on
        elif self.asked is not None and not self.killed and now - self.asked > PATIENCE:
            self.killed = True
            os.killpg(self.process, signal.SIGKILL)
        return None

    def _hangs(self, took: float) -> bool:
        """Whether it should have ended by now; on a busy machine it may just have waited for its turn."""
        if took < self.case.seconds:
            return False
        times = psutil.Process(self.process).cpu_times()
        return times.user + times.system > self.case.seconds or took > WAITING * self.case.seconds

    def _done(self, status: int, seconds: float) -> Done:
        def text(name: str) -> str:
            with (self.case.folder / name).open("rb") as stream:
                return stream.read(1 << 22).decode("utf-8", "replace")

        outside = text("outside").splitlines()
        after = _snapshot(self.case.folder)
        changed = [name for name in sorted({*self.before, *after}) if self.before.get(name) != after.get(name)]
        outside += [f"changed: {name}" for name in changed]
        return Done(status, seconds, text("stdout"), text("stderr"), self.killed, self.asked is not None, outside)


def start(case: Case) -> Running:
    """Begin a case."""
    before = _snapshot(case.folder)
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if not process:
        _child(case)
    return Running(case, process, time.monotonic(), before)


def carried_out(case: Case) -> Done:
    """A case from its beginning to its end."""
    running = start(case)
    while (done := running.look()) is None:
        time.sleep(0.002)
    return done


def judged(case: Case, done: Done) -> tuple[Outcome, str]:
    """What to think of it, and why."""
    if done.timed_out:
        return "defect", "hang" if not case.may_go_on else "hang: asked to end, it did not"
    if done.status < 0:
        return "defect", f"crash: {signal.Signals(-done.status).name}"
    for sign in ("Traceback (most recent call last)", "Exception ignored in", "Fatal Python error"):
        if sign in done.stderr or sign in done.stdout:
            return "defect", f"traceback: {_last_line(done.stderr)}"
    if done.outside:
        return "defect", f"file outside: {done.outside[0]}"
    if done.status == 130 and done.asked:
        return "right", "went on until it was asked to end"
    if done.status == 2:
        return _clear(case, done)
    if done.status not in (0, 1):
        return "defect", f"exit status {done.status}"
    try:
        wrong = case.right(case, done) if case.right is not None else None
    except Exception as error:  # what is left cannot even be looked at
        wrong = repr(error)
    if wrong is None and done.status == 1 and case.right is None:
        wrong = f"exit status 1: {_last_line(done.stderr)}"
    return ("right", "") if wrong is None else ("defect", f"wrong answer: {wrong}")


def _clear(case: Case, done: Done) -> tuple[Outcome, str]:
    """Whether there is one clear line that says what is wrong."""
    lines = [line for line in done.stderr.split("\n") if line.startswith("lmcollapse: ")]
    if len(lines) != 1 or _last_line(done.stderr) != lines[0]:
        if "Parsing error" in done.stderr or "Invalid value" in done.stderr or "Unrecognized" in done.stderr:
            return "error", "refused by the command line's own parser"
        return "defect", f"error: {len(lines)} lines in the place of one at the end: {_last_line(done.stderr)}"
    if len(lines[0]) > LONGEST:
        return "defect", f"error: a line of {len(lines[0])} characters"
    if any(unicodedata.category(character) == "Cc" for character in lines[0]):
        return "defect", f"error: control characters in {lines[0]!r}"
    if not lines[0].removeprefix("lmcollapse: ").strip():
        return "defect", "error: an empty message"
    return "error", lines[0]


def strict_json(case: Case, done: Done) -> str | None:
    """For a command with --json: its output is JSON, one value a line, with no NaN in it."""
    try:
        for line in done.stdout.splitlines() or [""]:
            json.loads(line, parse_constant=_refused)
    except ValueError as error:
        return f"no strict JSON ({error}): {done.stdout[:200]!r}"
    return None


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.split("\n")) if line.strip()), "")


def _snapshot(folder: Path) -> dict[str, Any]:
    """What must stay as it is: of each file its kind, its size, when it was changed, and where a link leads."""
    found: dict[str, Any] = {}
    for place in ("in", "home", "cwd", "sentinel"):
        for root, folders, files in os.walk(folder / place):
            for name in (*folders, *files):
                path = Path(root, name)
                facts = path.lstat()
                link = path.readlink() if path.is_symlink() else None
                kept = (facts.st_mode, facts.st_size, facts.st_mtime_ns, facts.st_ino, link)
                found[str(path.relative_to(folder))] = kept if name not in folders else (facts.st_mode, link)
    return found


def _child(case: Case) -> None:
    """The case itself; it does not come back."""
    status = 70
    try:
        os.setsid()
        for number, name in ((1, "stdout"), (2, "stderr")):
            descriptor = os.open(case.folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, number)
        sys.stdout = open(1, "w", encoding="utf-8", errors="strict")  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        log = os.open(case.folder / "outside", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(case.folder / "cwd")
        os.environ["HOME"], os.environ["TMPDIR"] = str(case.folder / "home"), str(case.folder / "tmp")
        for number in (signal.SIGSEGV, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        _limit(case)
        if case.stand_ins is not None:
            case.stand_ins()
        sys.addaudithook(_watcher(log, [case.folder / "out", case.folder / "tmp", *SHARED]))
        status = _status(case.work or (lambda: cli.main(case.words)))
        for words in case.then:
            status = status or _status(lambda words=words: cli.main(words))  # type: ignore[misc]
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


SHARED: list[Path] = []
"""Folders that cases have in common and may write to: caches."""


def _status(work: Callable[[], object]) -> int:
    try:
        work()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _limit(case: Case) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _watcher(log: int, allowed: list[Path]) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that writes down what is changed outside of the folders that may be."""
    roots = [os.path.realpath(folder) for folder in allowed]

    def place(path: Any, folder: int = -1) -> str:
        whole = Path(f"/proc/self/fd/{folder}" if folder >= 0 else ".", os.fsdecode(path))
        return str(whole.parent.resolve() / whole.name)

    def inside(path: Any, folder: int) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return True  # a descriptor: whoever opened it was seen
        where = place(path, folder)
        return where.startswith("/dev/") or any(where == root or where.startswith(f"{root}/") for root in roots)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in WROTE:
            paths = arguments[:2] if event in ("os.rename", "os.link") else arguments[:1]
            if event == "open":
                path, _, flags = arguments
                if not (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or isinstance(path, int):
                    return
            elif event == "os.symlink":
                paths = arguments[1:2]
            folder = arguments[-1] if event in ("os.mkdir", "os.remove", "os.rmdir", "os.chmod") else -1
            for path in paths:
                if not inside(path, folder if isinstance(folder, int) else -1):
                    os.write(log, f"{event} {path!r}\n".encode("utf-8", "replace"))
        elif event in PROGRAMS:
            program = arguments[0] if event != "subprocess.Popen" else (arguments[1] or [arguments[0]])[0]
            if os.fsdecode(program) not in HARMLESS_PROGRAMS:
                os.write(log, f"{event} {program!r}\n".encode("utf-8", "replace"))
        elif event == "socket.connect":
            os.write(log, f"{event} {arguments[1]!r}\n".encode("utf-8", "replace"))

    return hook


def remove(case: Case) -> None:
    """Its folder."""
    shutil.rmtree(case.folder, ignore_errors=True)
