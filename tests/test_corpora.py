"""Human text: what is read, how it is divided, cleaned and cut to size, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmcollapse.cache import cache_folder
from lmcollapse.catalog import CATALOG, find
from lmcollapse.corpora import docs as docs_module
from lmcollapse.corpora import load_human
from lmcollapse.corpora.docs import docs, docstrings, passages
from lmcollapse.corpora.files import files
from lmcollapse.corpora.hub import datasets, open_splits
from lmcollapse.corpora.parts import TEXT, divide, fingerprint, finish, normalised
from lmcollapse.corpora.prose import is_prose, plain, prose, sentences
from lmcollapse.corpora.twins import Twins
from lmcollapse.files import write_atomically
from lmcollapse.options import bind, options_of
from lmcollapse.types import Documents, Human, UserError
from tests.text import documents, text_file


def named(texts: list[str]) -> Documents:
    return Documents(texts, [f"document {i}" for i in range(len(texts))])


def words_of(part: Documents) -> int:
    return sum(len(text.split()) for text in part.texts)


def loaded(kind: str, **given: Any) -> Human[Documents]:
    """A whole corpus the way that a configuration asks for it."""
    options = bind(options_of(find("corpus", kind)), given, "corpus")
    return load_human(kind, options, seed=0)


def the_error(function: Callable[..., Any], **given: Any) -> str:
    """The message of the UserError that a call must end with; it must be one line."""
    with pytest.raises(UserError) as caught:
        function(**given)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- prose out of docstrings ---------------------------------------------------------------------------------------

NUMPYDOC = """Draw a sample from the urn, one ball after the other.

    .. versionadded:: 1.4
       It was slower in the days before that version came out.

    Balls are put back `after` each draw, see :func:`~urn.draw` and the
    well-
    known book [1]_. The second sentence of this paragraph has no citation.

    Parameters
    ----------
    size : int, optional
        The number of balls that are drawn from the urn.
    out : ndarray
        If given, the result is *stored* in this array.

        .. note:: The array must be large enough
           for all of the balls.

    Returns
    -------
    balls : list of int
        The numbers of the balls, in the order in which they came.

    Raises
    ------
    ValueError
        If the number of balls is below zero in the call.

    See Also
    --------
    draw : Draw one ball from the urn and put it back.

    Notes
    -----
    - The first item of the list goes
      over two lines of text.
    - The second item follows it without an empty line.

    The time that it takes is as in this code::

        This indented line. It is the code of the block.

    ======  ===========================
    Colour  How many there are of them.
    ======  ===========================

    References
    ----------
    .. [1] The Author. The Book on the Urn and on all of its Balls.

    Examples
    --------
    Draw two balls from an urn with three of them.

    >>> draw(2)
    This output is not a sentence of the text.

    .. plot::

       The plot directive takes this body with it.

    :param size: The number of the balls as in other projects.
    """


def test_a_docstring_becomes_prose() -> None:
    assert [" ".join(paragraph) for paragraph in prose(NUMPYDOC)] == [
        "Draw a sample from the urn, one ball after the other.",
        "Balls are put back after each draw, see draw and the well-known book. "
        "The second sentence of this paragraph has no citation.",
        "The number of balls that are drawn from the urn.",
        "If given, the result is stored in this array.",
        "The array must be large enough for all of the balls.",
        "The numbers of the balls, in the order in which they came.",
        "The first item of the list goes over two lines of text.",
        "The second item follows it without an empty line.",
        "Draw two balls from an urn with three of them.",
    ]


@pytest.mark.parametrize(
    ("marked", "shown"),
    [
        ("the ``axis`` and `other` and *this* or **that**", "the axis and other and this or that"),
        (":class:`~a.b.C`, `~a.b.D`, `.E`, :py:func:`f`", "C, D, E, f"),
        ("see `the guide <https://a.b>`_ now", "see the guide now"),
        ("as *args and **kwargs", "as *args and **kwargs"),
        ("the method __init__ of |Cls|", "the method __init__ of Cls"),
        ("as was shown [1]_, [Knuth97]_.", "as was shown,."),
        ("a\n  line", "a line"),
    ],
)
def test_mark_up_becomes_words(marked: str, shown: str) -> None:
    assert plain(marked) == shown


def test_a_citation_that_is_part_of_its_sentence_takes_it_along() -> None:
    assert list(prose("This is explained at length in [1]_. It was known before. It always was so.")) == [
        ["It was known before.", "It always was so."]
    ]


def test_sentences_end_at_full_stops_only() -> None:
    text = 'Use it, e.g. A or Eq. B of J. Smith. It is "fine." The next one? Yes! And 3.5 is no end.'
    assert list(sentences(text)) == [
        "Use it, e.g. A or Eq. B of J. Smith.",
        'It is "fine."',
        "The next one?",
        "Yes!",
        "And 3.5 is no end.",
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "The array is sorted in place.",
        "If axis=0 is given, the columns are taken one by one.",
        '(This is what "sorted" means for an array of numbers.)',
        "Isn't it the well-known Cramér rule of the théorie?",
    ],
)
def test_sentences_that_are_prose(sentence: str) -> None:
    assert is_prose(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "the array is sorted in place.",  # begins in the middle
        "The array is sorted in place",  # has no end
        "The array is sorted in place...",
        "The result of x = y is the sum of the two.",
        "The name is {name} in the text of this.",
        "The value of %(name)s is in the text of this.",
        "The array (is sorted in place.",
        "It is called.",  # too short
        "Sorted array input output buffer.",  # no function words
        "The a_b, c.d and e() or f(x) of it.",  # identifiers
        "The 1 2 3 and 4 5 6 of it.",
        "It is a surrogate \ud800 in the text.",
        "size : The number of the balls in the urn.",
    ],
)
def test_sentences_that_are_not_prose(sentence: str) -> None:
    assert not is_prose(sentence)


def test_a_paragraph_that_is_mostly_something_else_goes_as_a_whole() -> None:
    assert list(prose("It is so. x = y + z for the long formula of a_b, c_d, e_f and of all that is in it.")) == []


def test_sentences_that_stood_apart_are_not_put_together() -> None:
    text = "The first sentence of the text is this. X = 1. The last sentence of the text is that."
    assert list(prose(text)) == [
        ["The first sentence of the text is this."],
        ["The last sentence of the text is that."],
    ]


def test_near_duplicates_are_found_whatever_their_punctuation_and_case() -> None:
    twins = Twins()
    text = "The axis along which the sum is taken, by default all of them at once."
    assert not twins.repeats(text)
    assert twins.repeats(text.upper().replace(",", ";"))
    assert twins.repeats(text.replace("sum", "product"))
    assert not twins.repeats("The axis along which nothing is taken because there is not a thing to take.")
    assert not twins.repeats("All of them.") and twins.repeats("All of them.")


SOURCE = '''"""The module's own."""
if True:
    def plain():
        """Of the function."""
        text = """Inside of the
        function."""
class Shape:
    """Of the class."""
    SIDES = 3
    """Of the attribute."""
    async def area(self):
        """Of the method."""
add_newdoc("compiled", """
    Of the compiled
    function.""")
TITLE = "one line"
'''


def test_docstrings_of_a_source_file() -> None:
    found = [(name, " ".join(text.split())) for name, text in docstrings(SOURCE.encode(), "m")]
    assert found == [
        ("m", "The module's own."),
        ("m.plain", "Of the function."),
        ("m.Shape", "Of the class."),
        ("m.Shape", "Of the attribute."),
        ("m.Shape.area", "Of the method."),
        ("m", "Of the compiled function."),
    ]
    assert list(docstrings(b"def broken(:", "m")) == list(docstrings(b"\0", "m")) == []


def test_passages_keep_to_their_limit_and_divide_between_sentences() -> None:
    ten = "One two three four five six seven eight nine ten."
    assert list(passages([[ten], [ten]], 20)) == [f"{ten} {ten}"]
    assert list(passages([[ten], [ten], [ten]], 25)) == [f"{ten} {ten}", ten]
    assert list(passages([[ten] * 3], 20)) == [f"{ten} {ten}", ten]
    assert list(passages([["Too short for a passage."]], 20)) == []


# --- the corpus docs -----------------------------------------------------------------------------------------------

MODULES = [f"part{i}" for i in range(12)]


def module(words: list[str]) -> str:
    """A module that fails when it is imported; its two docstrings share no run of five words with another's."""
    a, b, c, d, e, f = words
    return f'''"""The {a} of the {b} is in the {c}."""
raise ImportError("must not be imported")
def make():
    """Give the {d} to the {e} and keep the {f}."""
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a dozen modules that can be found, and an empty cache."""
    folder = tmp_path / "site" / "shop"
    (folder / "tests").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "tests" / "test_it.py").write_text(module(list("abcdef")), encoding="utf-8")
    for i, name in enumerate(MODULES):
        words = ["abcdefghijkl"[i] + word for word in ("urn", "ball", "shelf", "window", "river", "engine")]
        (folder / f"{name}.py").write_text(module(words), encoding="utf-8")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setenv("LMCOLLAPSE_CACHE", str(tmp_path / "cache"))
    return folder


def read_shop(**options: Any) -> Human[Documents]:
    return docs(packages=("shop",), **{"heldout_fraction": 0.3, **options})


def test_docs_are_read_and_not_imported(package: Path) -> None:
    human = read_shop()
    texts = dict(
        zip([*human.train.sources, *human.heldout.sources], [*human.train.texts, *human.heldout.texts], strict=True)
    )
    assert set(texts) == {f"shop.{name}{what}" for name in MODULES for what in ("", ".make")}
    assert re.fullmatch(r"Give the \w+ to the \w+ and keep the \w+\.", texts["shop.part7.make"])
    assert human.facts["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert human.facts["versions"]["shop"].startswith("sha256 ")
    assert human.facts["words_by_package"] == {"shop": words_of(human.train) + words_of(human.heldout)}


def test_docs_divide_by_module(package: Path) -> None:
    human = read_shop()
    parts = [{source.removesuffix(".make") for source in part.sources} for part in (human.train, human.heldout)]
    assert parts[0] and parts[1] and parts[0].isdisjoint(parts[1])
    assert 0.1 < words_of(human.heldout) / human.facts["words_by_package"]["shop"] <= 0.3


def test_a_twin_in_another_module_is_kept_once(package: Path) -> None:
    before = read_shop()
    original = (package / "part3.py").read_text(encoding="utf-8")
    (package / "twin.py").write_text(original.replace("Give the", "Give  THE"), encoding="utf-8")
    (package / "zwin.py").write_text(original.replace("Give the", "Take the"), encoding="utf-8")
    after = read_shop()
    assert after.facts["versions"] != before.facts["versions"]
    assert (after.train, after.heldout) == (before.train, before.heldout)
    assert after.facts["near_duplicate_paragraphs_dropped"] == 4


def test_docs_are_the_same_bytes_in_two_processes(package: Path, tmp_path: Path) -> None:
    code = "from lmcollapse.corpora.docs import docs; docs(packages=('shop',))"
    contents = []
    for seed in ("1", "2"):  # of Python's own hash, which must not matter
        cache = tmp_path / f"cache-{seed}"
        paths = os.pathsep.join([str(package.parent), *sys.path])
        environment = os.environ | {"PYTHONHASHSEED": seed, "LMCOLLAPSE_CACHE": str(cache), "PYTHONPATH": paths}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        contents.append([(path.name, path.read_bytes()) for path in (cache / "docs").iterdir()])
    assert len(contents[0]) == 1 and contents[0] == contents[1]


def test_docs_do_not_depend_on_the_order_of_directories(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = read_shop()
    (path,) = cache_folder("docs").iterdir()
    path.unlink()
    listed = Path.rglob

    def reversed_order(folder: Path, pattern: str) -> list[Path]:
        return sorted(listed(folder, pattern), reverse=True)

    monkeypatch.setattr(Path, "rglob", reversed_order)
    assert read_shop() == built


def test_docs_come_from_the_cache(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = read_shop()
    with monkeypatch.context() as patch:
        patch.delattr(docs_module, "_build")
        assert read_shop() == built
    assert read_shop(passage_words=40) == built  # the same text here, yet a corpus of its own
    assert len(list(cache_folder("docs").iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"not JSON\n", b'["a list"]\n', b'{"sha256": "", "facts": {}}\n'])
def test_a_damaged_cache_is_built_again(package: Path, damage: bytes) -> None:
    built = read_shop()
    (path,) = cache_folder("docs").iterdir()
    content = path.read_bytes()
    changed = [bytes(c ^ (place == at) for at, c in enumerate(content)) for place in (0, 40, 70, 90, 120)]
    for broken in (damage, content[:-20], content.replace(b"Give", b"give", 1), *changed):
        path.write_bytes(broken)
        assert read_shop() == built
        assert path.read_bytes() == content


def test_a_cache_that_cannot_be_written_to_is_no_reason_to_stop(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = read_shop()
    (path,) = cache_folder("docs").iterdir()
    path.unlink()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(docs_module, "_write", full)
    assert read_shop() == built and not list(cache_folder("docs").iterdir())


def test_what_docs_refuses(package: Path) -> None:
    assert "'no_such_package' is no top-level package" in the_error(docs, packages=("no_such_package",))
    assert "'shop.part1' is no top-level package" in the_error(docs, packages=("shop.part1",))
    assert "'sys' is no top-level package" in the_error(docs, packages=("sys",))
    assert "none given" in the_error(docs, packages=())
    (package.parent / "empty").mkdir()
    assert "'empty' has no Python source files" in the_error(docs, packages=("empty",))


COMMON = """
the be to of and a in that have i it for not on with he as you do at this but his by from they we say her she or
an will my one all would there their what so up out if about who get which go me is are was
"""


def test_the_embedded_corpus() -> None:
    """The real one, out of the cache of the session: large, English, nothing but prose, in disjoint parts."""
    human = loaded("docs")
    assert list(human.facts["versions"]) == ["python", "matplotlib", "numpy", "pandas", "scipy"]
    assert human.facts["train"]["words"] + human.facts["heldout"]["words"] > 600_000
    assert 0.09 < human.facts["heldout"]["words"] / human.facts["train"]["words"] < 0.12
    assert all(words > 50_000 for words in human.facts["words_by_package"].values())

    texts = [*human.train.texts, *human.heldout.texts]
    words = re.findall(r"[a-z']+", " ".join(texts).lower())
    common = set(COMMON.split())
    assert 0.33 < sum(word in common for word in words) / len(words) < 0.45  # WikiText: 0.35
    assert not any(sign in text for text in texts for sign in (">>>", "::", "``", "\\", "://"))
    assert all(text[-1] in ".!?\"')”’" for text in texts)

    def runs(part: Documents) -> set[str]:
        split = [re.findall(r"\w+", text.lower()) for text in part.texts]
        return {" ".join(words[i : i + 13]) for words in split for i in range(len(words) - 12)}

    held = runs(human.heldout)
    assert len(held & runs(human.train)) < 0.005 * len(held)


# --- the two parts -------------------------------------------------------------------------------------------------


def finished(train: list[str], heldout: list[str], **given: Any) -> Human[Documents]:
    options = {"train_words": None, "heldout_words": None, "seed": 0} | given
    options = {name.removesuffix("_words"): value for name, value in options.items()}
    return finish(Human(named(train), named(heldout), {"origin": "here"}), TEXT, **options)


def test_finishing_cleans_and_makes_the_parts_disjoint() -> None:
    train, heldout = documents(40), documents(5, seed=1)
    planted = [f"  {heldout[0].upper()}\n", heldout[1].replace(" ", "  \n"), "", " \n"]
    human = finished([*train, *planted], [*heldout, "\t", heldout[2]])
    assert human.train == named(train)
    assert human.heldout.texts == [*heldout, heldout[2]]  # as published, its own duplicate included
    assert human.facts["dropped"] == {"empty": 3, "from_train_as_also_in_heldout": 2}
    assert human.facts["origin"] == "here"
    assert human.facts["train"] == {
        "documents": 40,
        "words": 2400,
        "words_asked": None,
        "words_available": 2400,
        "characters": sum(map(len, train)),
        "sha256": fingerprint(train),
    }
    json.dumps(human.facts)


def test_a_budget_takes_documents_at_random_until_it_is_reached() -> None:
    train, heldout = documents(100), documents(20, seed=1)
    human = finished(train, heldout, train_words=1201, heldout_words=240)
    assert (human.facts["train"]["words"], human.facts["heldout"]["words"]) == (1260, 240)
    assert (human.facts["train"]["words_asked"], human.facts["train"]["words_available"]) == (1201, 6000)
    chosen = [train.index(text) for text in human.train.texts]
    assert len(set(chosen)) == 21 and chosen != sorted(chosen)
    assert human.train.sources == [f"document {i}" for i in chosen]
    assert finished(train, heldout, train_words=1201, heldout_words=240) == human
    other = finished(train, heldout, train_words=1201, heldout_words=240, seed=1)
    assert other.facts["train"]["sha256"] != human.facts["train"]["sha256"]


def test_a_budget_beyond_what_there_is_takes_everything() -> None:
    human = finished(documents(100), documents(20, seed=1), train_words=10**9)
    assert len(human.train) == 100
    assert (human.facts["train"]["words_asked"], human.facts["train"]["words"]) == (10**9, 6000)


def test_parts_that_are_too_small() -> None:
    train, heldout = documents(100), documents(20, seed=1)
    assert "held-out part has 0 words in 0 documents" in the_error(finished, train=train, heldout=[])
    assert "training part has 0 words" in the_error(finished, train=[" "], heldout=heldout)
    assert "training part has 960 words in 16 documents" in the_error(finished, train=train[:16], heldout=heldout)
    assert "raise train_words (70)" in the_error(finished, train=train, heldout=heldout, train_words=70)
    assert "raise heldout_words (9)" in the_error(finished, train=train, heldout=heldout, heldout_words=9)
    assert "(20 documents left it because" in the_error(finished, train=heldout, heldout=heldout)


def test_lone_surrogates_are_refused_by_name() -> None:
    message = the_error(finished, train=[*documents(20), "the \ud83d half"], heldout=documents(20, seed=1))
    assert "document 'document 20': character 4" in message and "U+D83D" in message


def test_the_fingerprint_knows_where_documents_end() -> None:
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"]) != fingerprint(["abc"])
    assert fingerprint(["a", "b"]) != fingerprint(["b", "a"])
    assert fingerprint([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_division_follows_the_text_and_not_its_place() -> None:
    texts = documents(300)
    train, heldout = divide(named([*texts, texts[7].upper(), texts[8] + " "]), 0.1)
    assert 0.09 < words_of(heldout) / words_of(train) < 0.12
    assert {normalised(text) for text in train.texts}.isdisjoint(normalised(text) for text in heldout.texts)
    assert not set(sorted(map(normalised, texts))[:10]) <= {normalised(text) for text in heldout.texts}
    again = divide(named([texts[8], texts[7], *reversed(texts)]), 0.1)
    assert {normalised(text) for text in again[1].texts} == {normalised(text) for text in heldout.texts}


# --- the corpus datasets -------------------------------------------------------------------------------------------

TEXTS = documents(200)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the same rows in every local format; nothing reaches the network or the user's cache."""
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    here = tmp_path / "here"
    (here / "folder" / "data").mkdir(parents=True)
    rows = library.Dataset.from_dict({"text": TEXTS, "count": list(range(200))})
    held = library.Dataset.from_dict({"text": [*documents(20, seed=1), None, TEXTS[3]], "count": list(range(22))})
    rows.to_parquet(here / "rows.parquet")
    rows.to_json(here / "rows.jsonl")
    rows.to_csv(here / "rows.csv")
    (here / "rows.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    rows.to_parquet(here / "folder" / "data" / "train-00000-of-00001.parquet")
    held.to_parquet(here / "folder" / "data" / "test-00000-of-00001.parquet")
    monkeypatch.chdir(here)
    return here


@pytest.mark.parametrize(
    "options",
    [
        {"path": "parquet", "data_files": "rows.parquet"},
        {"path": "json", "data_files": ["rows.jsonl"]},
        {"path": "csv", "data_files": {"train": "rows.csv"}},
        {"path": "text", "data_files": "rows.t*t"},
        {"path": "./folder"},
    ],
)
def test_local_data_sets(hub: Path, capfd: pytest.CaptureFixture[str], options: dict[str, Any]) -> None:
    before = sorted(hub.rglob("*"))
    human = loaded("datasets", **options)
    assert sorted([*human.train.texts, *human.heldout.texts]) == sorted(TEXTS)
    assert 0.08 < human.facts["heldout"]["words"] / human.facts["train"]["words"] < 0.12
    assert human.facts["path"] == str(Path(options["path"])) and human.facts["version"] == "0.0.0"
    assert human.heldout.texts == divide(named(TEXTS), 0.1)[1].texts  # the same in every format
    assert sorted(hub.rglob("*")) == before
    assert "Generating" not in capfd.readouterr().err


def test_splits_by_name(hub: Path) -> None:
    human = loaded("datasets", path="folder", heldout_split="test")
    assert human.heldout.texts == [*documents(20, seed=1), TEXTS[3]]
    assert human.train.texts == [*TEXTS[:3], *TEXTS[4:]]
    assert human.train.sources[3] == "folder train 4"
    assert human.facts["dropped"] == {"empty": 1, "from_train_as_also_in_heldout": 1}


def test_rows_are_joined_to_documents(hub: Path) -> None:
    lines = ["before", " = One = ", "", "text of one", " = = Part = = ", "more", " = Two = ", "text of two"]
    (hub / "wiki.txt").write_text("\n".join(lines), encoding="utf-8")
    parts: dict[str, str | list[str]] = {"train": "wiki.txt", "test": ["wiki.txt"]}
    human = datasets(path="text", data_files=parts, heldout_split="test", document_start="^ = [^=]")
    assert human.train.texts == [
        "before\n",
        " = One = \n\ntext of one\n = = Part = = \nmore\n",
        " = Two = \ntext of two\n",
    ]
    assert human.train.sources == ["text train 0", "text train 1", "text train 6"]


def test_what_a_hub_says_about_the_revision_is_recorded(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("datasets")
    rows = library.load_dataset("folder")
    commit = "0123456789abcdef0123456789abcdef01234567"
    rows["train"].info.download_checksums = {f"hf://datasets/a/b@{commit}/c/train.parquet": {}}
    asked: list[Any] = []

    def load_dataset(*given: Any, **options: Any) -> Any:
        asked.append((given, options))
        return rows

    monkeypatch.setattr(library, "load_dataset", load_dataset)
    facts = datasets(path="a/b", name="c", revision="main").facts
    assert facts == {"path": "a/b", "name": "c", "revision": "main", "version": "0.0.0", "commits": [commit]}
    assert asked == [(("a/b", "c"), {"revision": "main", "data_files": None})]  # no trust_remote_code


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"path": "folder", "text_column": "txt"}, "has no column 'txt'; text_column can be text, count"),
        (
            {"path": "folder", "text_column": "count"},
            "column 'count' of data set 'folder' holds Value('int64'), not text",
        ),
        ({"path": "folder", "heldout_split": "tset"}, "has no split 'tset'; it has train, test"),
        ({"path": "folder", "heldout_split": "train"}, "are both 'train'"),
        ({"path": "folder", "name": "other"}, "data set 'folder (other)' cannot be opened"),
        ({"path": "folder", "document_start": "("}, "document_start: '(' is no regular expression: missing )"),
        ({"path": "folder", "document_start": "^never$"}, "document_start: '^never$' matches nowhere"),
        ({"path": "parquet"}, "path 'parquet' is a format and needs data_files"),
        ({"path": "parquet", "data_files": "none.parquet"}, "none.parquet"),
        ({"path": "parquet", "data_files": "rows.txt"}, "not a parquet file"),
        ({"path": "rows.txt"}, "path 'rows.txt' is a file"),
        ({"path": "./none"}, "path './none' does not exist"),
        ({"path": ""}, "path '' does not exist"),
        ({"path": "some/corpus", "name": "raw"}, "the hub cannot be reached for data set 'some/corpus (raw)'"),
    ],
)
def test_what_datasets_refuses(hub: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], part: str) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    assert part in the_error(datasets, **options)


@pytest.mark.parametrize(
    ("format", "content", "byte"),
    [("text", b"na\nca\xefe\n", 5), ("csv", b"text\nc\xe9\n", 6), ("json", b'{"text":"na\xef"}\n', 11)],
)
def test_data_files_that_are_not_utf8(hub: Path, format: str, content: bytes, byte: int) -> None:
    (hub / "latin.txt").write_bytes(content)
    message = the_error(datasets, path=format, data_files={"train": "latin.txt"})
    assert f"latin.txt: not UTF-8 (byte {byte}: " in message


# --- the corpus files ----------------------------------------------------------------------------------------------


def test_one_file_by_paragraphs(tmp_path: Path) -> None:
    path = text_file(tmp_path / "book.txt", count=60)
    human = loaded("files", path=str(path))
    assert sorted([*human.train.texts, *human.heldout.texts]) == sorted(documents(60))
    assert human.train.sources[0] == "book.txt:1" and "book.txt:3" in [*human.train.sources, *human.heldout.sources]
    assert human.facts["path"] == str(path)


def test_a_folder_of_many_files_has_a_document_in_each(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for i, text in enumerate(documents(25)):
        (tmp_path / "sub" / f"{i:02}.txt").write_text(f"{text}\n\nThe end.\n", encoding="utf-8")
    (tmp_path / "notes.md").write_text("not this one", encoding="utf-8")
    human = files(path=str(tmp_path))
    found = dict(
        zip([*human.train.sources, *human.heldout.sources], [*human.train.texts, *human.heldout.texts], strict=True)
    )
    assert found == {f"sub/{i:02}.txt": f"{text}\n\nThe end.\n" for i, text in enumerate(documents(25))}
    apart = files(path=str(tmp_path), document="paragraph")
    assert len(apart.train) + len(apart.heldout) == 50
    few = files(path=str(tmp_path), pattern="0*.txt")
    assert {*few.train.sources, *few.heldout.sources} == {f"sub/0{i}.txt:{line}" for i in range(10) for line in (1, 3)}


def test_lines_and_starts(tmp_path: Path) -> None:
    text = "\ufeff# One\r\nof one\r\n\r\nmore\r# Two\nof two\n"
    (tmp_path / "a.txt").write_bytes(text.encode())
    (tmp_path / "b.txt").write_text("preface\n# Three", encoding="utf-8")
    (tmp_path / "held.md").write_text("# Held", encoding="utf-8")
    held = str(tmp_path / "held.md")
    lines = files(path=str(tmp_path / "a.txt"), heldout=held, document="line").train
    assert lines.texts == ["# One", "of one", "", "more", "# Two", "of two", ""]
    human = files(path=str(tmp_path), heldout=held, document_start="^# ")
    assert [text.strip() for text in human.train.texts] == [
        "# One\nof one\n\nmore",
        "# Two\nof two",
        "preface",
        "# Three",
    ]
    assert human.train.sources == ["a.txt:1", "a.txt:5", "b.txt:1", "b.txt:2"]
    assert human.heldout == Documents(["# Held\n"], ["held.md:1"])


def test_what_files_refuses(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"\xef\xbb\xbfcaf\xe9\n")
    assert f"{tmp_path / 'latin.txt'}: not UTF-8 (byte 6: " in the_error(files, path=str(tmp_path))
    assert "cannot be read (No such file" in the_error(files, path=str(tmp_path / "none.txt"))
    assert "no file in this folder matches '*.md'" in the_error(files, path=str(tmp_path), pattern="*.md")
    (tmp_path / "latin.txt").write_text("text", encoding="utf-8")
    assert "document_start: '^#' matches nowhere" in the_error(files, path=str(tmp_path), document_start="^#")
    assert "document_start: '[' is no regular" in the_error(files, path=str(tmp_path), document_start="[")


# --- options and cache ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CATALOG["corpus"])
def test_every_option_is_described(kind: str) -> None:
    for name, field in options_of(find("corpus", kind)).model_fields.items():
        assert field.description, f"{kind}.{name}"


def test_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMCOLLAPSE_CACHE", str(tmp_path / "own"))
    assert cache_folder("a", "b") == tmp_path / "own" / "a" / "b"
    monkeypatch.delenv("LMCOLLAPSE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder("a") == tmp_path / "xdg" / "lmcollapse" / "a"
    (tmp_path / "file").touch()
    monkeypatch.setenv("LMCOLLAPSE_CACHE", str(tmp_path / "file"))
    assert "cannot be made" in the_error(lambda: cache_folder("a"))


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept"
    write_atomically(path, b"old")

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["null", '\n null\n{"text": "a"}\n', '{"text": "a"}\nnull\n'])
def test_a_row_that_is_null_is_said_and_ends_no_process(content: str, tmp_path: Path) -> None:
    """Arrow 26 dies of a JSON file that begins with one."""
    file = tmp_path / "rows.jsonl"
    file.write_text(content)
    for given in ({"path": "json", "data_files": str(tmp_path / "*.jsonl")}, {"path": str(tmp_path)}):
        with pytest.raises(UserError, match="is null, which is no row"):
            open_splits(given["path"], None, None, given.get("data_files"), "train", None)
