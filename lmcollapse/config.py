"""The configuration of a run: a YAML file, dotted overrides on top, checked against the options of what it names.

Nothing is computed here. Which keys there are depends on what the file names (the options of `corpus` are those of
the corpus of that kind), so the class that holds a configuration is put together for each file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import Field

from lmcollapse.catalog import CATALOG, find, only_own
from lmcollapse.metrics.scene import parts
from lmcollapse.options import Options, bind, composed, options_of, suggestion
from lmcollapse.types import Start, Substrate, UserError

LARGEST = 1 << 20
"""Bytes of a configuration file."""
DEEPEST = 50
"""Levels of nesting in one."""
MOST_NODES = 100_000
"""Entries in one, with every alias written out."""


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
    for override in overrides:
        lay_over(given, override)
    return parse(given, str(file))


def parse(given: Mapping[str, Any], where: str = "configuration") -> Config:
    """A configuration from a nested mapping, as a YAML file holds it."""
    given = dict(given)
    _check_keys(given, where)
    substrate = _substrate(given)
    for name, key in [
        ("corpus", "kind"),
        ("policy", "kind"),
        ("curation", "kind"),
        ("detector", "kind"),
        ("model", "name"),
    ]:
        if isinstance(given.get(name), str):  # `policy: replace` is short for `policy: {kind: replace}`
            given[name] = {key: given[name]}
    reads = READS.get(reads_of(substrate))
    given.setdefault("policy", {"kind": "replace"})
    if reads is not None:
        given.setdefault("corpus", {"kind": reads.default})
        given.setdefault("measures", {})
    refused = {
        "nothing": ("corpus", "curation", "detector", "measures"),
        "some text": ("curation", "detector", "measures"),
    }.get(reads_of(substrate), ())
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


def read(file: Path, by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file laid over the one that it extends, if any."""
    given = _content(file)
    if file.resolve() in by:
        raise UserError(f"{file}: extends itself, by way of {' and '.join(str(other) for other in by)}")
    if "extends" not in given:
        return given
    base = given.pop("extends")
    if not isinstance(base, str):
        raise UserError(f"{file}: 'extends' is {base!r}; it must be the path of another configuration, from this one's")
    return laid_over(read(file.parent / base, (*by, file.resolve())), given)


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One nested mapping over another, section by section; a section of another kind takes the place of the old one."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        sections = isinstance(value, Mapping) and isinstance(under, Mapping)
        merged[key] = laid_over(cast(Any, under), value) if sections and _of_one_kind(under, value) else value
    return merged


def _of_one_kind(below: Any, above: Any) -> bool:
    return bool(above.get("kind", below.get("kind")) == below.get("kind"))


def _content(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            text = stream.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise UserError(f"{file}: larger than {LARGEST:,} bytes; give the path of a YAML configuration")
        content = _loaded(text.decode("utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); give the path of a YAML configuration") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{file}: holds a {type(content).__name__}; a configuration is a list of `key: value` lines")
    return content


def _loaded(text: str) -> Any:
    """What a text says as YAML; yaml.YAMLError where it is none."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise
    except Exception as error:  # 2020-99-99, !!bool x: a value that is not what its tag says, each with its own error
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from None


class _Refused(yaml.YAMLError):
    """YAML that says more than any configuration does."""


class _Loader(yaml.SafeLoader):
    """Safe YAML without what takes a reader down: aliases of aliases that stand for more than memory holds, nodes that
    contain themselves, nesting without end. A key that is given twice is an error and not a silent choice of the last
    one."""

    depth = 0

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        _weigh(node, {}, set())
        return self.construct_document(node)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _Refused(f"nested more than {DEEPEST} levels deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        if isinstance(text, str) and ("\0" in text or any("\ud800" <= character <= "\udfff" for character in text)):
            raise _Refused(f"line {node.start_mark.line + 1} holds a character that no file name and no text can have")
        return text

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(str(key.value) for key, _ in node.value)  # as written: merges (<<) are laid in below
        if twice := sorted(key for key, times in keys.items() if times > 1):
            raise yaml.constructor.ConstructorError(None, None, f"given twice: {', '.join(twice)}", node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        number = super().construct_yaml_int(node)
        if number.bit_length() > 64:
            raise _Refused(f"a whole number of more than 64 bits in line {node.start_mark.line + 1}")
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _weigh(node: yaml.Node, known: dict[yaml.Node, tuple[int, int]], above: set[yaml.Node]) -> tuple[int, int]:
    """How many nodes one stands for, and how many levels, with every alias written out. Raises _Refused where these
    are too many, or have no end.

    known : what was weighed before. above : what it is in.
    """
    if node in known:
        return known[node]
    if node in above:
        raise _Refused(f"what begins in line {node.start_mark.line + 1} contains itself")
    inside = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    weights = [_weigh(part, known, above | {node}) for part in inside] if isinstance(inside, list) else []
    nodes = 1 + sum(nodes for nodes, _ in weights)
    levels = 1 + max((levels for _, levels in weights), default=0)
    if nodes > MOST_NODES:
        raise _Refused(f"its aliases stand for more than {MOST_NODES:,} entries")
    if levels > DEEPEST or len(above) > DEEPEST:
        raise _Refused(f"nested more than {DEEPEST} levels deep")
    known[node] = nodes, levels
    return known[node]


def lay_over(given: dict[str, Any], override: str) -> None:
    """Set one dotted key, from `key=value`."""
    key, equals, value = override.partition("=")
    if not equals or not all(part for part in key.split(".")):
        raise UserError(f"override '{override}' is not of the form key=value; for example train.epochs=2")
    if key.count(".") > DEEPEST:
        raise UserError(f"override '{override}': nested more than {DEEPEST} levels deep")
    try:
        parsed = _loaded(value)
    except _Refused as error:
        raise UserError(f"override '{override}': {error}") from None
    except yaml.YAMLError:
        parsed = value
    put(given, key, parsed)


def put(given: dict[str, Any], key: str, value: Any) -> None:
    """Set one dotted key; sections on the way are made where they are missing or in short form."""
    *path, last = key.split(".")
    place = given
    for part in path:
        inner = place.get(part)
        if isinstance(inner, str):
            inner = {"name" if part == "model" else "kind": inner}
        place[part] = dict(inner) if isinstance(inner, Mapping) else {}
        place = place[part]
    place[last] = value


def reads_of(substrate: Any) -> str:
    """Which human data a substrate reads."""
    return str(substrate.reads)


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


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two configurations as dumped, one entry a dotted key."""

    def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in config.items():
            found.update(flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
        return found

    a, b = flat(there), flat(here)
    absent = "(absent)"
    return [
        f"{key}: {a.get(key, absent)} there, {b.get(key, absent)} here"
        for key in sorted({*a, *b})
        if a.get(key, absent) != b.get(key, absent)
    ]
