"""Text that is none, or hardly any, for every command that reads text."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import yaml

from fuzzing.cases import Case, strict_json
from fuzzing.configurations import FEW, edited

QUICK = ["distinct_n", "type_token_ratio", "zipf", "tail_coverage", "compression_ratio", "repetition"]
SCRIPTS = [
    "日本語のテキスト。",
    "مرحبا بالعالم",
    "Привет, мир.",
    "नमस्ते दुनिया",
    "👩‍👩‍👧‍👦👍🏽",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢",
    "\u202eabc\u202c",
    "a\u0300" * 30,
    "ﬃ ſ İ ı ẞ",
    "\u200b\u200d\ufeff",
]
CONTROLS = [chr(number) for number in range(32)] + [
    "\x7f",
    "\x85",
    "\x9b",
    "\u2028",
    "\u2029",
    "\x1b[31m",
    "\x1b]0;x\x07",
]
HUGE = 20_000_000
"""Characters of the longest line."""


def written(draw: random.Random, text: str) -> bytes:
    """What a file of text may hold, out of a text in which nothing is wrong."""
    words = text.split()
    makers: list[Callable[[], bytes]] = [
        lambda: edited(text.encode(), draw),
        lambda: draw.randbytes(draw.choice([1, 100, 5000])),
        lambda: b"\xef\xbb\xbf" + text.encode(),
        lambda: _spread(text, ["\ufeff"], draw).encode(),
        lambda: text.encode("utf-16"),
        lambda: text.encode("utf-32"),
        lambda: _spread(text, ["caf\xe9"], draw).encode("latin-1"),
        lambda: text.replace("\n", "\r\n").encode(),
        lambda: text.replace("\n", "\r").encode(),
        lambda: _spread(text, ["\r", "\r\n", "\n\r", "\n"], draw).encode(),
        lambda: _spread(text, CONTROLS, draw).encode(),
        lambda: _spread(text, ["\0"], draw).encode(),
        lambda: _spread(text, SCRIPTS, draw).encode(),
        lambda: "\n\n".join(
            draw.choice(SCRIPTS) * draw.randrange(1, 30) for _ in range(draw.randrange(1, 200))
        ).encode(),
        lambda: _spread(text, ["\ud800", "\udfff"], draw).encode("utf-8", "surrogatepass"),
        lambda: _spread(text, ["\uffff", "\U0010ffff", "\ufdd0", "\ue000"], draw).encode(),
        lambda: text.encode() + draw.choice([b"\xe2", b"\xf0\x9f", b"\xc0\x80", b"\xf8\x88\x80\x80\x80"]),
        lambda: b"",
        lambda: (
            draw.choice([" ", "\n", "\n\n\n", "\t \r\n", "\u3000", "\xa0 \u2003", "\0", "\ufeff"]).encode()
            * draw.randrange(1, 500)
        ),
        lambda: draw.choice(["a", "x y", "one two\n\nthree", "日", "!", "..."]).encode(),
        lambda: ("the " * draw.choice([10, 3000])).encode(),
        lambda: ("a\n\n" * draw.choice([10, 3000])).encode(),
        lambda: ("same words in every one of them\n\n" * 300).encode(),
        lambda: (". , ; : ! ?\n\n" * 300).encode(),
        lambda: ("a" * draw.choice([1000, 1_000_000])).encode(),
        lambda: text.replace("\n", " ").encode(),
        lambda: "\n\n".join(words).encode(),
        lambda: ("\n".join(words)).encode(),
        lambda: (text[: draw.randrange(len(text))]).encode(),
        lambda: (text + text).encode(),
    ]
    if draw.random() < 0.004:
        unit = draw.choice(["the cat sat on a mat ", "a", "日本 ", " ", "\0"])
        return (unit * (HUGE // len(unit)))[:HUGE].encode()
    return draw.choice(makers)()


def _spread(text: str, pieces: list[str], draw: random.Random) -> str:
    """A text with pieces strewn in."""
    parts = []
    last = 0
    for place in sorted(draw.randrange(len(text)) for _ in range(draw.choice([1, 3, 30, 300]))):
        parts += [text[last:place], draw.choice(pieces)]
        last = place
    return "".join([*parts, text[last:]])


def file_of_text(folder: Path, name: str, draw: random.Random, text: str) -> Path:
    """A file that holds it; now and then something that is no file."""
    file = folder / "in" / name
    what = draw.random()
    if what < 0.01:
        file.mkdir()
    elif what < 0.02:
        file.symlink_to(file)
    elif what < 0.03:
        file.symlink_to(folder / "nowhere")
    elif what > 0.04:
        data = written(draw, text)
        if file.suffix == ".jsonl":
            lines = data.decode(
                "utf-8",
                draw.choice(["surrogateescape", "replace", "surrogatepass", "ignore"])
                if draw.random() < 2 and _decodes(data)
                else "replace",
            ).split("\n\n")
            file.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), encoding="utf-8")
        else:
            file.write_bytes(data)
    return file


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def case(folder: Path, draw: random.Random, human: Path, model: Path) -> Case:
    """Bad text for `measure`, `filter`, `evaluate`, or a run."""
    text = human.read_text(encoding="utf-8")
    what = draw.random()
    suffix = draw.choice(["txt", "txt", "jsonl"])
    if what < 0.45:
        return measured(folder, draw, human, file_of_text(folder, f"bad.{suffix}", draw, text))
    if what < 0.7:
        return filtered(folder, draw, human, file_of_text(folder, f"bad.{suffix}", draw, text))
    if what < 0.85:
        words = ["evaluate", str(model), "--text", str(file_of_text(folder, "bad.txt", draw, text[:2000])), "--json"]
        if draw.random() < 0.3:
            words += ["--reference", str(file_of_text(folder, "reference.txt", draw, text))]
        if draw.random() < 0.2:
            words += ["--window", draw.choice(["1", "2", "16", "0", "-1", "1000000000000"])]
        if draw.random() < 0.2:
            words += ["--windows", "disjoint"]
        return Case(folder, words, seconds=60, right=strict_json)
    return run(folder, draw, file_of_text(folder, "bad.txt", draw, text))


def measured(folder: Path, draw: random.Random, human: Path, bad: Path) -> Case:
    """`lmcollapse measure`."""
    words = ["measure", *(map(str, (bad, human) if draw.random() < 0.6 else (human, bad)))]
    words.insert(2, "--reference")
    if draw.random() < 0.9:
        words += ["--measures", *draw.sample(QUICK, 3)]
    if draw.random() < 0.2:
        words += ["--words", draw.choice(["1", "2", "10", "0", "-5", "100000000000"])]
    if draw.random() < 0.3:
        words += ["--document", draw.choice(["line", "paragraph"])]
    if draw.random() < 0.7:
        return Case(folder, [*words, "--json"], seconds=60, right=strict_json)
    return Case(folder, words, seconds=60)


def filtered(folder: Path, draw: random.Random, human: Path, bad: Path) -> Case:
    """`lmcollapse filter`."""
    places = [str(bad), str(human), str(human)]
    draw.shuffle(places)
    if draw.random() < 0.5 and str(bad) != places[0]:
        places = [str(bad), str(human), str(human)]
    out = folder / "out" / f"clean.{draw.choice(['jsonl', 'parquet', 'parquet', 'txt'])}"
    words = ["filter", places[0], "--human", places[1], "--out", str(out), "--json"]
    if draw.random() < 0.8:
        words += ["--synthetic", places[2]]
    if draw.random() < 0.3:
        words += [draw.choice(["--keep-all", "--document=line"])]
    if draw.random() < 0.3:
        values = [
            "action=importance",
            "action=down_weight",
            "threshold=0",
            "threshold=1",
            "threshold=.nan",
            "repeats=1",
        ]
        words.insert(2, draw.choice([*values, "upsample=1e9", "bias=1e308", "bias=1e-300", "upsample=1e-9", "x=1"]))
    return Case(folder, words, seconds=60, right=strict_json)


def run(folder: Path, draw: random.Random, bad: Path) -> Case:
    """A whole run of n-grams."""
    corpus = {"kind": "files", "path": str(bad), "heldout_fraction": 0.3}
    corpus["document"] = draw.choice(["auto", "paragraph", "line", "file"])
    if draw.random() < 0.2:
        corpus["document_start"] = draw.choice(["^", "", ".", "(", "[a-z]+", "\0", "^ = [^=]", "(a+)+$"])
    if draw.random() < 0.1:
        corpus["pattern"] = draw.choice(["*", "**", "", "/etc/*", "../*", "[", "*.txt", "\0", "**/**"])
        corpus["path"] = str(folder / "in")
    given = {"substrate": "ngram", "order": 2, "vocabulary": 300, "generations": 2, "measures": FEW, "corpus": corpus}
    file = folder / "in" / "c.yaml"
    file.write_text(yaml.safe_dump(given), encoding="utf-8")
    out = folder / "out" / "run"
    words = ["run", str(file), "--out", str(out), "--no-figures"]
    return Case(folder, words, [["verify", str(out)]], seconds=60)
