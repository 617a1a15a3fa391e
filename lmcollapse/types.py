"""The vocabulary of the project: what a corpus is, and what the parts of the loop hand to each other.

Imports numpy, the standard library and `spool` only, so that every part can import it for free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from lmcollapse.spool import Spool, Texts, ends, joined, taken

HUMAN = -1
"""The `generation` of rows that no model wrote."""

Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]
"""`(images, height, width, channels)`, one channel (grey) or three (red, green, blue)."""

Values = npt.NDArray[Any]
"""`(chains, rows, …)` what chains read and write."""

State = dict[str, npt.NDArray[Any]]
"""Arrays by name, each with the chains as its first axis: the models of many chains, or what a fit needs of rows."""


class UserError(ValueError):
    """Something the user gave cannot be used. The message says what was given, what is allowed and what to do.

    The command line prints it as one line and exits with status 2; a notebook sees an ordinary ValueError.
    """


class Ended(UserError):
    """A generation cannot be made, for what has become of the numbers. The run ends there: often that is the result.

    state : of the run, in a word.
    where : in the generation, for a person.
    figures : what was found, JSON-able.
    """

    state: ClassVar[str]

    def __init__(self, message: str, where: str, **figures: Any) -> None:
        super().__init__(message)
        self.where, self.figures = where, figures


class Diverged(Ended):
    """The loss of a fit, its gradient, or a weight that it leaves is no finite number.

    step : optimizer step, from 1 on.
    loss, gradient_norm : what they were.
    what : is no finite number, where it is neither of these.
    option : that a user may lower.
    """

    state = "diverged"

    def __init__(
        self, step: int, loss: float, gradient_norm: float, what: str | None = None, option: str = "train.learning_rate"
    ) -> None:
        lower = f"lower {option}"
        if what is None:
            lower = lower if step > 1 else "no weight has changed yet, so it began with a model that was broken before"
            what = f"its loss is {loss}" if not math.isfinite(loss) else f"the norm of its gradient is {gradient_norm}"
        # as words, since what is not finite is no JSON number
        figures: dict[str, Any] = {"step": step, "loss": str(loss), "gradient_norm": str(gradient_norm)}
        super().__init__(f"the fit diverged: {what} at step {step}; {lower}", f"step {step} of the fit", **figures)


class Speechless(Ended):
    """A model from which nothing can be drawn, since what it computes is no finite number."""

    state = "diverged"

    def __init__(self, why: str) -> None:
        super().__init__(f"the model can write nothing: {why}", "corpus")


class Emptied(Ended):
    """Nothing is left to train on, or to prompt with: generations wrote nothing, or a filter has taken all of it."""

    state = "emptied"

    def __init__(self, message: str, where: str = "train") -> None:
        super().__init__(message, where)


@dataclass(frozen=True)
class Documents:
    """Human text before any model reads it.

    texts : one string a document.
    sources : where each document came from, in words a person can look up (`"numpy.linalg.norm"`, `"book.txt"`).
    """

    texts: Sequence[str]
    sources: Sequence[str]

    def __post_init__(self) -> None:
        assert len(self.texts) == len(self.sources), (len(self.texts), len(self.sources))

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Documents:
        """Documents out of their texts and sources, which are gone through once."""
        return cls(*Texts.columns(pairs, 2))

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Iterable[int]) -> Documents:
        """These documents, in this order."""
        chosen = np.fromiter(rows, np.int64)
        return Documents(_of_rows(self.texts, chosen), _of_rows(self.sources, chosen))


@dataclass(frozen=True, eq=False)
class Images:
    """Human images before any model sees them.

    sources : where each came from.
    """

    pixels: Pixels
    sources: list[str]

    def __post_init__(self) -> None:
        assert self.pixels.ndim == 4 and self.pixels.dtype == np.uint8, (self.pixels.shape, self.pixels.dtype)
        assert self.pixels.shape[3] in (1, 3) and len(self.pixels) == len(self.sources), self.pixels.shape

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, rows: Iterable[int]) -> Images:
        """These images, in this order."""
        rows = list(rows)
        return Images(self.pixels[rows], [self.sources[i] for i in rows])


Data = TypeVar("Data", Documents, Images)


@dataclass(frozen=True)
class Human(Generic[Data]):
    """Human text, or human images, in disjoint parts.

    reserve : what generation 0 does not read, and policies may bring in later; None for nothing.
    facts : what a reader must know to obtain the same data again (package versions, data set revision, documents
        dropped and why); JSON-able, goes into the manifest.
    """

    train: Data
    heldout: Data
    facts: dict[str, Any] = field(default_factory=dict)
    reserve: Data | None = None


@dataclass(frozen=True)
class Corpus:
    """Rows with an origin: what human beings or one generation wrote, or what a policy picked from several such.

    values : `(tokens,)` int32 token ids of all rows end to end where `offsets` is given; else `(rows, height, width,
        channels)` uint8 images.
    offsets : `(rows + 1,)` int64, row `i` is `values[offsets[i]:offsets[i + 1]]`.
    generation : `(rows,)` int32, the generation that wrote each row, HUMAN (-1) for human rows.
    row : `(rows,)` int64, the index of each row within the corpus that it was born in.
    prompt : `(rows,)` int64, the row of the prompt corpus that prompted this one, -1 for none.
    texts : the rows as text, for rows of tokens.
    sources : for human rows the name of the document (empty for synthetic ones).
    """

    values: npt.NDArray[Any]
    generation: Ints
    row: Ints
    prompt: Ints
    offsets: Ints | None = None
    texts: Sequence[str] | None = None
    sources: Sequence[str] | None = None

    def __post_init__(self) -> None:
        rows = len(self)
        for name in ("row", "prompt", "texts", "sources"):
            column = getattr(self, name)
            assert column is None or len(column) == rows, f"{name}: {len(column)} entries for {rows} rows"
        if self.offsets is not None:
            assert len(self.offsets) == rows + 1 and self.offsets[-1] == len(self.values), "offsets do not fit values"

    def __len__(self) -> int:
        return len(self.generation)

    @property
    def lengths(self) -> Ints:
        """`(rows,)` tokens in each row (1 for images)."""
        return np.ones(len(self), np.int64) if self.offsets is None else np.diff(self.offsets)

    def rows(self) -> Iterator[Ints]:
        """The token ids of each row."""
        return (self.tokens(row) for row in range(len(self)))

    def tokens(self, row: int) -> Ints:
        """The token ids of one row."""
        assert self.offsets is not None, "images have no tokens"
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: Ints) -> Corpus:
        """These rows, in this order, each with its origin; a row may be taken more than once."""
        rows = np.asarray(rows, np.int64)
        if len(rows) == len(self) and bool((rows == np.arange(len(rows))).all()):
            return self
        if self.offsets is None:
            values, offsets = self.values[rows], None
        else:
            values, offsets = taken(self.values, self.offsets, rows)
        return Corpus(
            values=values,
            offsets=offsets,
            generation=self.generation[rows],
            row=self.row[rows],
            prompt=self.prompt[rows],
            texts=None if self.texts is None else _of_rows(self.texts, rows),
            sources=None if self.sources is None else _of_rows(self.sources, rows),
        )

    @classmethod
    def of_tokens(
        cls,
        rows: Iterable[Sequence[int] | Ints],
        generation: int,
        *,
        texts: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
        prompt: Ints | None = None,
    ) -> Corpus:
        """A newborn corpus of token rows: row `i` is its own origin. Rows are gone through once."""
        values, sizes = Spool(np.int32), Spool(np.int64)
        source = iter(rows)
        while some := [np.asarray(row, np.int32) for row in islice(source, 256)]:
            values.append(np.concatenate(some))
            sizes.append([len(row) for row in some])
        return cls.of_stream(values.finish(), ends(sizes.finish()), generation, texts, sources, prompt)

    @classmethod
    def of_stream(
        cls,
        values: Ints,
        offsets: Ints,
        generation: int,
        texts: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
        prompt: Ints | None = None,
    ) -> Corpus:
        """The same from tokens end to end."""
        rows = len(offsets) - 1
        return cls(
            values=values,
            offsets=offsets,
            generation=np.full(rows, generation, np.int32),
            row=np.arange(rows, dtype=np.int64),
            prompt=np.full(rows, -1, np.int64) if prompt is None else np.asarray(prompt, np.int64),
            texts=texts,
            sources=sources,
        )

    @classmethod
    def of_images(cls, pixels: Pixels, generation: int, *, sources: Sequence[str] | None = None) -> Corpus:
        """A newborn corpus of images."""
        rows = len(pixels)
        return cls(
            values=pixels,
            generation=np.full(rows, generation, np.int32),
            row=np.arange(rows, dtype=np.int64),
            prompt=np.full(rows, -1, np.int64),
            sources=sources,
        )

    @staticmethod
    def concatenate(parts: Sequence[Corpus]) -> Corpus:
        """The rows of all parts, one after the other."""

        if len(parts) == 1:
            return parts[0]
        if parts[0].offsets is None:
            values, offsets = np.concatenate([part.values for part in parts]), None
        else:
            values = joined((part.values for part in parts), parts[0].values.dtype)
            offsets = ends(np.concatenate([part.lengths for part in parts]))
        return Corpus(
            values=values,
            offsets=offsets,
            generation=np.concatenate([part.generation for part in parts]),
            row=np.concatenate([part.row for part in parts]),
            prompt=np.concatenate([part.prompt for part in parts]),
            texts=_of_parts([part.texts for part in parts]),
            sources=_of_parts([part.sources for part in parts]),
        )


def _of_rows(strings: Sequence[str], rows: Ints) -> Sequence[str]:
    return strings.take(rows) if isinstance(strings, Texts) else [strings[i] for i in rows]


def _of_parts(parts: Sequence[Sequence[str] | None]) -> Sequence[str] | None:
    """All strings of all parts; None where a part has none."""
    there = [part for part in parts if part is not None]
    return Texts.concatenate([Texts.of(part) for part in there]) if len(there) == len(parts) else None


@dataclass(frozen=True)
class Pool:
    """What a policy may choose from: how many rows there are of each origin, and nothing of what is in them.

    human : rows of the human training part, which generation 0 reads.
    synthetic : rows that each generation so far has written, generation 0 first.
    reserve : human rows that generation 0 does not read; they come after the others, from number `human` on.
    chains : how many independent chains choose at once, each for itself; None for one that stands for itself.
    seed : for what is drawn once and stays the same in every generation; numpy's `default_rng` takes it.
    """

    human: int
    synthetic: tuple[int, ...] = ()
    reserve: int = 0
    chains: int | None = None
    seed: tuple[int, ...] = (0,)

    @property
    def generation(self) -> int:
        """The generation that is about to be fitted."""
        return len(self.synthetic)

    def rows(self, origin: int) -> int:
        """Rows of one origin: of the human training part (HUMAN), or of a generation."""
        return self.human if origin == HUMAN else self.synthetic[origin]


@dataclass(frozen=True)
class Selection:
    """Row references: which rows a generation trains on.

    generation : `(rows,)` int32, HUMAN or the generation whose corpus the row is in; `(chains, rows)` where chains
        choose each for itself.
    row : which row there, int64 of the same shape.
    whole : origins of which every row is chosen once, beside those.
    same_steps : whether the fit is to take as many optimizer steps as on the human part, however many rows there are.
    """

    generation: Ints
    row: Ints
    whole: tuple[int, ...] = ()
    same_steps: bool = False

    def spelled_out(self, pool: Pool) -> Selection:
        """The same rows one by one, ordered by origin; for one chain."""
        assert self.row.ndim == 1, self.row.shape
        counts = [pool.rows(origin) for origin in self.whole]
        generation = np.concatenate([np.repeat(np.array(self.whole, np.int32), counts), self.generation])
        row = np.concatenate([*(np.arange(count, dtype=np.int64) for count in counts), self.row])
        order = np.argsort(generation, kind="stable")
        return Selection(generation[order], row[order], same_steps=self.same_steps)

    def __len__(self) -> int:
        """How many rows are referred to one by one (in each chain)."""
        return int(self.row.shape[-1])


@dataclass(frozen=True)
class TokenScores:
    """A model's predictions of every token of a corpus, `(tokens,)` each, in the order of `Corpus.values`.

    nats : float32, minus the natural log of the token's probability.
    confidence : float32, the probability of the token that the model finds most likely.
    correct : bool, whether that is the token.
    """

    nats: Floats
    confidence: Floats
    correct: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Latents:
    """What a model infers of the latent variables behind each row: independent normals.

    mean, variance : `(rows, latent)` float32.
    """

    mean: Floats
    variance: Floats


@dataclass(frozen=True)
class Scores:
    """How likely a model finds each row of a corpus.

    nats : `(rows,)` float64, minus the natural log of the row's probability, summed over its tokens; of a model with
        latent variables the negative evidence lower bound.
    tokens : `(rows,)` int64, tokens (of an image: values of pixels) scored in each row, every one exactly once.
    by_token : the predictions token by token, where they were asked for.
    latents : of models that have latent variables.
    """

    nats: Floats
    tokens: Ints
    by_token: TokenScores | None = None
    latents: Latents | None = None


@dataclass(frozen=True)
class Reading:
    """One number that a measure reads off a generation; None where it is not defined, and then `note` says why.

    low, high : 95 % interval, where the value is an estimate and its uncertainty is known.
    """

    name: str
    value: float | None
    note: str = ""
    low: float | None = None
    high: float | None = None


Start = Literal["base", "previous", "scratch"]


Advance = Callable[..., None]
"""`advance(units, **figures)`: so much more of a piece of work is done, and what its figures are now."""


class Progress(Protocol):
    """Where long work says how far it is. `Silent` is the do-nothing default."""

    def stage(self, label: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Advance]:
        """A context manager around one piece of work of `total` units."""

    def started(self, generation: int, generations: int) -> None:
        """What follows belongs to this generation, out of so many."""

    def finished(self, generation: int, readings: Mapping[str, float | None]) -> None:
        """A generation is complete, these are its measures."""

    def say(self, line: str) -> None:
        """One line for the user."""


class Silent:
    """Progress that nobody watches."""

    @contextmanager
    def stage(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        """See `Progress`."""
        yield lambda units=1, **figures: None

    def started(self, generation: int, generations: int) -> None:
        """See `Progress`."""

    def finished(self, generation: int, readings: Mapping[str, float | None]) -> None:
        """See `Progress`."""

    def say(self, line: str) -> None:
        """See `Progress`."""


class Substrate(Protocol):
    """What can be fitted, sampled and scored: a frozen bundle of options with these verbs.

    A fitted model is a value that `fit` returns (or `load`); the substrate itself never changes.
    """

    reads: ClassVar[str]
    """Which human data: "text" or "images"."""
    starts: ClassVar[tuple[Start, ...]]
    iterative: ClassVar[bool]
    """Whether a fit takes optimizer steps; then it has a parameter `passes`."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """All options as JSON-able values (pydantic's method; substrates are `lmcollapse.options.Options`)."""

    @classmethod
    def model_validate(cls, obj: Any) -> Self:
        """The substrate with these options (pydantic's method)."""

    def check(self, start: Start) -> None:
        """Raise UserError for all that can be known to fail before any compute is spent."""

    def decide(self) -> Self:
        """The same options with every choice that is left to the machine made: device, precision, threads, batches."""

    def prepare(self, human: Human[Any], folder: Path, seed: int) -> None:
        """Write into `folder` whatever is settled once, before generation 0 (a tokenizer, an initial model)."""

    def encode(self, base: Path, human: Human[Any]) -> tuple[Corpus, Corpus]:
        """The human training and held-out parts as rows."""

    def fit(
        self,
        base: Path,
        train: Corpus,
        start: Start,
        previous: Path | None,
        seed: int,
        progress: Progress,
        bench: Path,
    ) -> Any:
        """A model fitted to `train`, starting from the base, from the model in `previous`, or from nothing.

        An iterative substrate takes `passes: float = 1.0` as well: the share of the rows that counts as an epoch.

        bench : a folder for the state of a long fit; a killed step that is made again finds it there. Raises Diverged
            where the loss is not finite.
        """

    def sample(
        self,
        model: Any,
        human: Corpus,
        previous: Corpus,
        generation: int,
        seed: int,
        progress: Progress,
        bench: Path,
    ) -> Corpus:
        """A new corpus, written by `model`; `human` and `previous` may prompt it.

        bench : a folder for parts that are finished; a killed step that is made again finds them there.
        """

    def score(self, model: Any, corpus: Corpus, progress: Progress, *, by_token: bool = False) -> Scores:
        """How likely `model` finds every row of `corpus`; with the predictions of every token where asked for."""

    @property
    def judges(self) -> tuple[str, ...]:
        """Names of models, from outside the run, that judge what each generation writes."""

    def judge(self, name: str, corpus: Corpus, progress: Progress) -> Scores:
        """How likely the judge of that name finds the text of every row of `corpus`."""

    def save(self, model: Any, folder: Path) -> None:
        """Write a fitted model into an empty folder; the same model leaves the same bytes."""

    def load(self, folder: Path) -> Any:
        """What `save` wrote."""
