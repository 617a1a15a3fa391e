"""Configurations as they are written: YAML that is read safely, files laid over each other, overrides.

What comes out are nested mappings; what they mean is `config`'s business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from lmcollapse.types import UserError

LARGEST = 1 << 20
"""Bytes of a configuration file."""
DEEPEST = 50
"""Levels of nesting in one."""
MOST_NODES = 100_000
"""Entries in one, with every alias written out."""


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


def lay_over(given: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set dotted keys, from `key=value` each. Raises UserError for what is not of that form."""
    for override in overrides:
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
        inner = spelled_out(part, place.get(part))
        place[part] = dict(inner) if isinstance(inner, Mapping) else {}
        place = place[part]
    place[last] = value


def spelled_out(section: str, value: Any) -> Any:
    """A section that may be in short form: `policy: replace` is short for `policy: {kind: replace}`."""
    return {"name" if section == "model" else "kind": value} if isinstance(value, str) else value


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
