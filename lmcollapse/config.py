"""The configuration of a run: a YAML file, dotted overrides on top, checked against the options of what it names.

Nothing is computed here. Which keys there are depends on what the file names (the options of `corpus` are those of
the corpus of that kind), so the class that holds a configuration is put together for each file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field

from lmcollapse.catalog import CATALOG, find, only_own
from lmcollapse.metrics.scene import parts
from lmcollapse.options import Options, bind, composed, options_of, suggestion
from lmcollapse.substrates.chain import ChainSubstrate
from lmcollapse.types import Start, Substrate, UserError
from lmcollapse.yaml_files import lay_over, read, spelled_out


class CorpusOptions(Options):
    """What every kind of human text has in common."""

    train_words: int | None = Field(None, gt=0)
    """Size of the training part in words (runs of non-blanks), drawn at random by document; null for all there is."""
    heldout_words: int | None = Field(None, gt=0)
    """Size of the held-out part, likewise."""
    reserve_words: int | None = Field(None, gt=0)
    """Size of a part that is kept back from generation 0, for policies that bring in fresh text; null for none."""


class ImageCorpusOptions(Options):
    """What every kind of human images has in common."""

    train_images: int | None = Field(None, gt=0)
    """Size of the training part, drawn at random; null for all there is."""
    heldout_images: int | None = Field(None, gt=0)
    """Size of the held-out part, likewise."""
    reserve_images: int | None = Field(None, gt=0)
    """Size of a part that is kept back from generation 0, for policies that bring in fresh images; null for none."""


class CurationOptions(Options):
    """What every way to keep the best of several samples has in common (Feng et al. 2024, arXiv 2406.07515)."""

    candidates: int = Field(4, ge=2)
    """Samples of each document; m."""
    keep: int = Field(1, gt=0)
    """How many of them are kept; k."""
    noise: float = Field(0.0, ge=0, le=1)
    """Share of the documents for which the choice is made at random, as by a verifier that is not always right."""


class DetectorOptions(Options):
    """Labels are hidden from whoever trains: a detector guesses, and what it finds is dealt with."""

    action: Literal["drop", "down_weight", "importance"] = "drop"
    """Leave out rows that seem synthetic; keep each with the probability that it is human; or draw rows anew by weights
    (human probability to the power of `bias`), as arXiv 2502.15654 does."""
    threshold: float = Field(0.5, ge=0, le=1)
    """drop: the probability of being synthetic from which a row is left out; error rates are measured there."""
    bias: float = Field(10.0, gt=0)
    """importance: the power."""
    upsample: float = Field(1.5, gt=0)
    """importance: how many rows are drawn, times those of the pool."""
    repeats: int = Field(3, gt=0)
    """importance: how often a row may be drawn."""


COMMON: dict[str, type[Options]] = {"curation": CurationOptions, "detector": DetectorOptions}
"""What every kind of a section has in common, beside the options of its own."""


class PopulationOptions(Options):
    """Several models that train on each other's output, each in a run directory of its own; of chains, so many side by
    side."""

    members: int = Field(3, ge=2)
    """How many models there are."""
    exchange: Literal["ring", "shared"] = "ring"
    """In the place of what it wrote itself, each is offered what its neighbour wrote (ring), or as many rows drawn from
    what all of them wrote (shared)."""


class MeasureOptions(Options):
    """Beside it each measure has a field of its name with its options, or null to leave it out."""


class TextMeasureOptions(MeasureOptions):
    """What the measures of text have in common."""

    words: int | None = Field(None, gt=0)
    """How many words of each corpus are looked at (null: a quarter of the human training part's, or as many as the
    held-out part has if these are fewer)."""


class ImageMeasureOptions(MeasureOptions):
    """What the measures of images have in common."""

    images: int | None = Field(None, gt=0)
    """How many images of each corpus are looked at (null: as many as the smaller of the human parts has, 10,000 at
    most)."""


@dataclass(frozen=True)
class Reads:
    """What the configuration of a substrate that reads such data looks like.

    corpora, measures : the parts of the catalogue that it may name.
    default : where human data come from unless the file says so.
    """

    corpora: str
    default: str
    sizes: type[Options]
    measures: str
    size: type[MeasureOptions]


READS = {
    "text": Reads("corpus", "docs", CorpusOptions, "measure", TextMeasureOptions),
    "images": Reads("image corpus", "digits", ImageCorpusOptions, "image measure", ImageMeasureOptions),
}


class Config(Options):
    """A whole experiment. The fields below belong to every one; the sections that a substrate adds come beside them."""

    seed: int = Field(0, ge=0, lt=2**63)
    """Everything random in the run follows from it."""
    generations: int = Field(5, gt=0, le=1_000_000)
    """How many models are fitted; generation 0 is the one fitted to human text."""
    start: Start = "base"
    """Each generation starts from the base model, from the previous generation's, or from random weights."""
    substrate: str = "causal_lm"
    """What is fitted and sampled, by name."""
    corpus: Options | None
    """Human data; null for a substrate that draws them from a distribution of its own."""
    policy: Options
    curation: Options | None = None
    """Keep the best of several samples; null to keep what is written."""
    detector: Options | None = None
    """Hide from the policy's choice which rows are synthetic, and let a detector guess; null to go by the labels."""
    population: PopulationOptions | None = None
    """Several models in the place of one; null for one."""
    measures: MeasureOptions | None
    """Null for a substrate that has measures of its own."""

    def section(self, name: str) -> tuple[str, dict[str, Any]]:
        """A section with a kind as (kind, options)."""
        options = getattr(self, name).model_dump()
        return options.pop("kind"), options

    def chosen_measures(self) -> dict[str, dict[str, Any]]:
        """The measures to take, by name, and the options of each."""
        given = {name: options for name, options in self.measures or () if isinstance(options, Options)}
        return {name: options.model_dump() for name, options in given.items()}

    @property
    def measured(self) -> int | None:
        """How much of each corpus is measured, in words or in images; None to leave it to what there is."""
        return getattr(self.measures, "words", None) or getattr(self.measures, "images", None)

    @property
    def of_chains(self) -> bool:
        """Whether it is of many chains of a simple model, in arrays."""
        return issubclass(find("substrate", self.substrate), ChainSubstrate)

    def build_substrate(self) -> Substrate:
        """The substrate with its sections of the configuration."""
        substrate = find("substrate", self.substrate)
        return cast(Substrate, substrate(**{name: getattr(self, name) for name in substrate.model_fields}))


def load(file: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a YAML file, with overrides of the form `key=value` or `section.key=value` laid over it.

    A file with `extends: other.yaml` is laid over that one, section by section; a section that names another `kind`
    takes its place.

    Raises UserError, in one line, for a file that cannot be read, an unknown key (with the nearest known one), a value
    of the wrong type or out of range, a missing key.
    """
    given = read(file)
    lay_over(given, overrides)
    return parse(given, str(file))


def parse(given: Mapping[str, Any], where: str = "configuration") -> Config:
    """A configuration from a nested mapping, as a YAML file holds it."""
    given = dict(given)
    _check_keys(given, where)
    substrate = _substrate(given)
    for name in {"corpus", "policy", "curation", "detector", "model"} & given.keys():
        given[name] = spelled_out(name, given[name])
    data: str = cast(Any, substrate).reads
    reads = READS.get(data)
    given.setdefault("policy", {"kind": "replace"})
    if reads is not None:
        given.setdefault("corpus", {"kind": reads.default})
        given.setdefault("measures", {})
    refused = {
        "nothing": ("corpus", "curation", "detector", "measures"),
        "some text": ("curation", "detector", "measures"),
    }.get(data, ())
    sections: dict[str, Any] = {}
    makers: dict[str, Callable[[Mapping[str, Any]], type[Options]]] = {
        "corpus": lambda section: _component("corpus", section, where, reads or READS["text"]),
        "policy": lambda section: _component("policy", section, where),
        "curation": lambda section: _component("curation", section, where),
        "detector": lambda section: _component("detector", section, where),
        "measures": lambda section: _measures(section, reads or READS["text"]),
    }
    for name, options in makers.items():
        section = given.setdefault(name, None)
        if section is None and (name in ("curation", "detector") or (name != "policy" and reads is None)):
            sections[name] = (None, None)
            continue
        if not isinstance(section, Mapping):
            raise UserError(f"{where}: '{name}' is {section!r}; it must be a name or a section of `key: value` lines")
        if name in refused:
            raise UserError(f"{where}: '{name}' has no effect with substrate {given['substrate']}; leave it out")
        sections[name] = (options(section), ...)
    for name, field in substrate.model_fields.items():
        sections[name] = (field.annotation, field)
    return bind(composed("Config", Config, sections, Config.__doc__), given, where)


def _substrate(given: Mapping[str, Any]) -> type[Options]:
    name = str(given.get("substrate", Config.model_fields["substrate"].default))
    found = find("substrate", name)
    if not (isinstance(found, type) and issubclass(found, Options) and hasattr(found, "reads")):
        raise UserError(
            f"substrate '{name}' is no substrate: it must be a subclass of lmcollapse.options.Options with a class "
            "variable `reads`, 'text' or 'images'"
        )
    return found


def _check_keys(given: Mapping[str, Any], where: str) -> None:
    """Refuse a mistyped section by its nearest name, before it is missed as a missing one."""
    substrate = _substrate(given)
    known = sorted({*Config.model_fields, *substrate.model_fields})
    for key in given:
        if key == "sweep":
            raise UserError(f"{where}: has a section 'sweep', so it stands for many runs; take `lmcollapse sweep`")
        if key not in known:
            raise UserError(f"{where}: unknown key '{key}'" + suggestion(str(key), known))


def _component(section: str, given: Mapping[str, Any], where: str, reads: Reads | None = None) -> type[Options]:
    """The option class of a section whose `kind` names a component: the component's own options and `kind`.

    reads : of a corpus, what it holds.
    """
    group = {"curation": "scorer"}.get(section, section) if reads is None else reads.corpora
    if not isinstance(given.get("kind"), str):
        raise UserError(f"{where}: '{section}' names no kind; known: {', '.join(sorted(CATALOG[group]))}")
    own = options_of(find(group, given["kind"]))
    fields = {name: (field.annotation, field) for name, field in own.model_fields.items()}
    kind = (str, Field(given["kind"], description=f"which {group}, by name"))
    base = COMMON.get(section, Options) if reads is None else reads.sizes
    return composed(section, base, {"kind": kind, **fields}, own.__doc__)


def _measures(given: Mapping[str, Any], reads: Reads) -> type[MeasureOptions]:
    """One field a measure: its options, or null to leave it out. All in the catalogue are taken unless left out."""
    fields: dict[str, Any] = {}
    for name in (*CATALOG[reads.measures], *(name for name in given if ":" in str(name))):
        measure = find(reads.measures, name)
        parts(measure)  # refuses what is no measure
        options = options_of(measure)
        fields[name] = (options | None, Field(default_factory=options, description=options.__doc__))
    return composed("measures", reads.size, fields)


def recorded(config: Mapping[str, Any]) -> Config:
    """A configuration as the manifest of a run has it, for those who only read the run.

    Raises UserError as `load` does, and for names from outside the project: a run directory may come from anybody, and
    looking at it runs no code that it names.
    """
    with only_own():
        return parse(dict(config))


def condition(policy: Mapping[str, Any]) -> str:
    """A data policy in words, without the options that are as usual: "replace", "mix human_fraction=0.1"."""
    kind = str(policy.get("kind"))
    try:
        usual = {name: field.default for name, field in options_of(find("policy", kind)).model_fields.items()}
    except UserError:  # from outside the project, and not here
        usual = {}
    given = {key: value for key, value in policy.items() if key != "kind" and value is not None}
    return " ".join([kind, *(f"{key}={value}" for key, value in given.items() if value != usual.get(key))])


def dotted(config: Any, prefix: str = "") -> dict[str, Any]:
    """A configuration as dumped, one entry a dotted key."""
    if not isinstance(config, Mapping) or not config:
        return {prefix.removesuffix("."): config}
    return {key: value for name, part in config.items() for key, value in dotted(part, f"{prefix}{name}.").items()}


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two configurations as dumped, one entry a dotted key."""
    # a section without options says nothing
    a, b = ({key: value for key, value in dotted(config).items() if value != {}} for config in (there, here))
    absent = "(absent)"
    return [
        f"{key}: {a.get(key, absent)} there, {b.get(key, absent)} here"
        for key in sorted({*a, *b})
        if a.get(key, absent) != b.get(key, absent)
    ]
