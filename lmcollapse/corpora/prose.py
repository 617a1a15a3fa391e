"""English prose out of docstrings: reStructuredText and numpydoc in, whole sentences out.

Three sieves, one after the other. Lines: code, doctests, tables, directives, section titles and the sections that are
lists of names go. Paragraphs: what is left is put together by indentation and bullets, and mark-up becomes plain words.
Sentences: what does not read like one (parameter lines, formulas, signatures, headings) goes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

UNDERLINE = re.compile(r"\s*([=\-~*^+#\"'`])\1{2,}\s*$")
TABLE = re.compile(r"\s*[=\-+]{2,}(\s+[=\-+]{2,})+\s*$|\s*\+[-=+]+\+\s*$|\s*\|.*\|\s*$")
BULLET = re.compile(r"\s*(?:[-*+•]|\(?(?:\d{1,2}|#)[.)])\s+(?=\S)")
DIRECTIVE = re.compile(r"\s*\.\.(?:\s+|$)(?:([\w-]+)::)?\s*(.*)")
FIELD = re.compile(r"\s*:\w[^:`]*:(\s|$)")
VERSION = re.compile(r"(?:New|Added|Changed|Deprecated|Removed) (?:in|since) ", re.IGNORECASE)

ADMONITIONS = {"note", "warning", "caution", "tip", "important", "attention", "danger", "hint", "admonition"}
"""Directives whose body is prose; all others go with theirs."""
UNREAD = {"references", "see also", "raises", "warns", "methods"}
"""Sections that hold names and citations, not sentences."""

CITATION = r"\[[\w+, .-]*\]_"
GAP = "\ufffd"
"""Stands where a removed citation leaves a hole in its sentence; no sentence with it is kept."""
BEFORE_A_GAP = r"(see|in|of|from|by|and|or|to|with|on|at|also|than|as|is|per|following|eqs?\.?|refs?\.?|e\.g\.)"

_FUNCTION_WORDS = """
a an the this that these those it its they them their there he she his her we our us you your i who which what
whose whom one ones is are was were be been being am has have had having do does did done doing can could will
would shall should may might must not no nor and or but if then else than so as at by for from in into of off on
onto out over to up upon with within without about above after again against all also always any because before
below between both during each either every few how however instead more most much neither never often only other
otherwise own per rather same several since some such thus too under unless until very via when whenever where
whereas whether while why yet another first last just here
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
ABBREVIATION = re.compile(
    r"\b(?:e\.g|i\.e|vs|cf|etc|al|eqs?|figs?|sec|refs?|no|pp?|dr|mr|(?-i:[A-Z]))\.$", re.IGNORECASE
)
BOUNDARY = re.compile(r"(?<=[.!?])[\"')”’]*\s+(?=[\"'(“‘]*[A-Z])")
END = re.compile(r"[.!?][\"')”’]*(\s|$)")
SENTENCE = re.compile(r"[\"'(“‘]*[A-Z].*(?<!\.)[.!?][\"')”’]*", re.DOTALL)
WORD = re.compile(r"[\"'(“‘]*[^\W\d_]+(?:['’-][^\W\d_]+)*[\"')”’]*[.,;:!?]*[\"')”’]*")
CAMEL = re.compile(r"[a-z][A-Z]")
NOT_PROSE = re.compile(
    r"[{}<>|\\^~@#$*`\ufffd]|(?<!\w)=|=(?![\w(])"  # mark-up, operators; an option as in axis=0 may stay
    r"|\]_|::|%\(|%[sdr]|://|www\.|\)\(|\s:\s"  # roles, templates, addresses, definitions
    r"|\s[,;)]|\s\.(?!\w)|[(,;]\s*[,;]|(?<!\w)\(\)"  # what the removal of something else has left
)
LENGTH = range(4, 81)
LEAST_WORDS = 0.8
"""Share of a sentence's tokens that must be plain words: no numbers, no identifiers."""
LEAST_FUNCTION_WORDS = 0.15


def prose(text: str) -> Iterator[list[str]]:
    """The paragraphs of a docstring that read like prose, each as the list of its sentences.

    Sentences that stood apart, because one between them was dropped, are different paragraphs; a paragraph that is
    mostly not prose is dropped as a whole.
    """
    lines = inspect.cleandoc(text).splitlines()
    for block in _blocks(_visible(lines)):
        if not END.search(block) or VERSION.match(block):
            continue
        paragraph = plain(block)
        runs: list[list[str]] = [[]]
        dropped = 0
        for sentence in sentences(paragraph):
            if is_prose(sentence):
                runs[-1].append(sentence)
            else:
                dropped += len(sentence)
                runs.append([])
        if dropped < len(paragraph) / 2:
            yield from filter(None, runs)


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def _visible(lines: list[str]) -> Iterator[str]:
    """The lines that may be prose. An empty line stands for what was dropped, an admonition becomes a bullet."""
    hidden: int | None = None  # lines deeper than this belong to something that was dropped
    until_blank = unread = False
    for line, following in pairwise([*lines, ""]):
        column = _indentation(line)
        if not line.strip():
            until_blank = False
            yield ""
            continue
        if until_blank or (hidden is not None and column > hidden):
            continue
        hidden = None
        if UNDERLINE.match(following):
            unread = line.strip().lower().rstrip(":") in UNREAD
            yield ""
        elif UNDERLINE.match(line):
            yield ""
        elif unread:
            continue
        elif line.lstrip().startswith(">>>") or TABLE.match(line):
            until_blank = True
            yield ""
        elif directive := DIRECTIVE.match(line):
            yield ""
            if directive[1] not in ADMONITIONS:
                hidden = column
            elif directive[2] and directive[1] != "admonition":
                yield " " * column + "* " + directive[2]
        elif FIELD.match(line):
            hidden = column
            yield ""
        else:
            if line.endswith("::"):
                hidden = column
            yield line


def _blocks(lines: Iterable[str]) -> Iterator[str]:
    """Lines put together to paragraphs: up to an empty line, a bullet or another indentation."""
    block: list[str] = []
    column = 0
    opened = False  # of a bullet there is only the first line: the next one shows the indentation of its text
    for line in lines:
        bullet = BULLET.match(line)
        if block and line and not bullet and (opened or _indentation(line) == column):
            block.append(line.strip())
            column, opened = _indentation(line), False
            continue
        if block:
            yield "\n".join(block)
        block = [line[bullet.end() if bullet else 0 :].strip()] if line else []
        column, opened = _indentation(line), bullet is not None
    if block:
        yield "\n".join(block)


def _name(role: re.Match[str]) -> str:
    """What a reader sees of `text <target>`, `~package.name` or `.name`."""
    shown = re.sub(r"\s*<[^>]*>$", "", role[1])
    return shown[1:].rpartition(".")[2] if shown.startswith("~") else shown.lstrip(".!")


def plain(text: str) -> str:
    """A paragraph without its reStructuredText mark-up, on one line."""
    text = re.sub(r"(?<=\w)-\n(?=\w)", "-", text)
    text = re.sub(r"``(.+?)``", r"\1", text, flags=re.DOTALL)
    text = re.sub(r"(?::(?:[\w+-]+:)+)?`([^`]+)`(?:__?(?!\w))?", _name, text)
    text = re.sub(rf"\b{BEFORE_A_GAP}[\s,]+{CITATION}", rf"\1 {GAP}", text, flags=re.IGNORECASE)
    text = re.sub(rf"\s*{CITATION}", "", text)
    text = re.sub(r"(?<![\w*])(\*{1,2})(?=\S)([^*]+)(?<=\S)\1(?![\w*])", r"\2", text)
    text = re.sub(r"(?<!\w)\|(\w[^|]*)\|(?!\w)", r"\1", text)
    return " ".join(text.replace("\\ ", "").split())


def sentences(text: str) -> Iterator[str]:
    """A paragraph cut after each full stop that a capital letter follows, abbreviations and initials aside."""
    start = 0
    for boundary in BOUNDARY.finditer(text):
        if not ABBREVIATION.search(text, start, boundary.start()):
            yield text[start : boundary.end()].strip()
            start = boundary.end()
    if rest := text[start:].strip():
        yield rest


def is_prose(sentence: str) -> bool:
    """Whether this reads like a sentence: its beginning and end, its characters, its share of (function) words."""
    if not SENTENCE.fullmatch(sentence) or NOT_PROSE.search(sentence) or not sentence.isprintable():
        return False
    if sum(map(sentence.count, "([")) != sum(map(sentence.count, ")]")) or sentence.count('"') % 2:
        return False
    tokens = sentence.split()
    words = [token for token in tokens if WORD.fullmatch(token) and not CAMEL.search(token)]
    common = sum(word.strip("\"'(),.;:!?“”‘’").lower() in FUNCTION_WORDS for word in words)
    return (
        len(tokens) in LENGTH
        and len(words) >= LEAST_WORDS * len(tokens)
        and common >= LEAST_FUNCTION_WORDS * len(tokens)
    )
