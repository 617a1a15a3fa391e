"""Text that nobody vouches for, made safe to show: what steers a browser or a terminal becomes a sign."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode categories that show as a sign: controls, formats (bidirectional, zero-width), private, unassigned."""
FILLERS = "\u115f\u1160\u3164\uffa0\u2800"
"""Letters and a symbol that are blank, and wider than one would think."""
MARKS = 3
"""Marks on one letter that are shown; more of them climb over the lines above and below."""
KEPT = "\n\t"

_PLAIN = re.compile(r"[\x20-\x7e\n\t]*")


def visible(text: str) -> str:
    """The text with a sign such as ⟨U+202E⟩ for each character that is not seen, or that moves others.

    Line feeds and tabs stay. What comes out has no control characters, no bidirectional or zero-width ones, and is not
    yet escaped for HTML.
    """
    return text if _PLAIN.fullmatch(text) else "".join(_signs(text))


def _signs(text: str) -> Iterator[str]:
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        if category in ("Mn", "Me"):
            marks += 1
            if marks <= MARKS:
                yield character
            continue
        if marks > MARKS:
            yield _more(marks)
        marks = 0
        hidden = category in HIDDEN or character in FILLERS
        yield f"⟨U+{ord(character):04X}⟩" if hidden and character not in KEPT else character
    if marks > MARKS:
        yield _more(marks)


def _more(marks: int) -> str:
    return f"⟨{marks - MARKS} more marks⟩"


def excerpt(text: str, most: int) -> str:
    """The beginning of a text on one line, in at most about so many characters of what is seen.

    Line ends show as ⏎, many of them as ⏎×17; a cut as ….
    """
    head = text[: 4 * most]
    lines = re.sub(r"\s*\n\s*", _ends, re.sub(r"[ \t]+", " ", head)).strip()
    pieces: list[str] = []
    size = 0
    for piece in _signs(lines):
        if size + len(piece) > most:
            return "".join(pieces).rstrip() + " …"
        pieces.append(piece)
        size += len(piece)
    return "".join(pieces) + (" …" if len(text) > len(head) else "")


def _ends(found: re.Match[str]) -> str:
    ends = found.group().count("\n")
    return " ⏎ " if ends == 1 else f" ⏎×{ends} "


def short(text: str, most: int = 60) -> str:
    """A name on one line, what is too much left out of its middle."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: (most - 1) // 2]}…{line[-(most // 2) :]}"


def embedded(value: Any) -> str:
    """JSON that may stand within a `script` element: nothing in it can end the element or begin a comment."""
    plain = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return plain.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
