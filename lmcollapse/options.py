"""Options: typed, frozen, with nothing unknown let in; the same rules for every component of the project."""

from __future__ import annotations

import difflib
import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, create_model, field_validator

from lmcollapse.types import UserError


class Options(BaseModel):
    """Base of all option classes. The string under an attribute is its description in `--help`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """`generations: yes` is not one generation."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError(f"neither true nor false is meant here, but {type_name(annotation)}")
        return value


O = TypeVar("O", bound=Options)


def bind(cls: type[O], given: Mapping[str, Any], where: str) -> O:
    """`given` as an instance of `cls`, or a UserError that names each wrong key, what is allowed and the nearest name.

    where : what the user calls this place: a file name, or a section such as "policy".
    """
    try:
        return cls.model_validate(dict(given))
    except ValidationError as error:
        lines = [_explain(cls, problem) for problem in error.errors(include_url=False)]
        raise UserError(f"{where}: " + "; ".join(lines)) from None


def _explain(cls: type[BaseModel], problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    key = ".".join(path) or "the whole"
    if problem["type"] == "extra_forbidden":
        known = sorted(_fields_at(cls, path[:-1]))
        return f"unknown key '{key}'" + suggestion(path[-1], known)
    if problem["type"] == "missing":
        return f"'{key}' is missing: it has no default and must be given"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message[0].lower() + message[1:] if message[:5] in ("Input", "Value") else message
    shown = repr(problem.get("input"))
    return f"'{key}' is {shown if len(shown) < 80 else shown[:77] + '...'}: {message}"


def suggestion(given: str, known: list[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, else all of them."""
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'? (known: {', '.join(known)})"
    return f"; known: {', '.join(known)}"


def _fields_at(cls: type[BaseModel], path: list[str]) -> set[str]:
    """The keys that the option class at this dotted path knows."""
    for part in path:
        field = cls.model_fields.get(part)
        inner = field and next(iter(_option_classes(field.annotation)), None)
        if inner is None:
            return set()
        cls = inner
    return set(cls.model_fields)


def _option_classes(annotation: Any) -> Iterator[type[BaseModel]]:
    for candidate in (annotation, *get_args(annotation)):
        if inspect.isclass(candidate) and get_origin(candidate) is None and issubclass(candidate, BaseModel):
            yield candidate


def options_of(function: Callable[..., Any]) -> type[Options]:
    """The option class of a component that is a function: one field for each of its keyword-only parameters.

    Descriptions are read from the docstring, from lines of the form `name : what it is`.
    """
    if not callable(function):
        raise UserError(f"{str(function)[:200]} is no component: it must be a function or a class")
    described = _described(inspect.getdoc(function) or "")
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if parameter.annotation is inspect.Parameter.empty:
            raise UserError(f"{function} is no component: its keyword-only parameter '{name}' has no type")
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[name] = (parameter.annotation, Field(default, description=described.get(name)))
    name = getattr(function, "__name__", "component")
    return composed(f"{name}_options", Options, fields, inspect.getdoc(function))


class _Composed(BaseModel):
    """Turns the reading of docstrings under attributes off: a class without source has none, and pydantic would go
    through the whole stack for each (measured: most of the time that a configuration takes to bind)."""

    model_config = ConfigDict(use_attribute_docstrings=False)


def composed(name: str, base: type[O], fields: Mapping[str, Any], doc: str | None = None) -> type[O]:
    """A subclass of the option class `base` with more `fields`, which bring their own descriptions."""
    made = create_model(name, __base__=(base, _Composed), __doc__=doc, **cast(Any, fields))
    return cast(type[O], made)


def _described(docstring: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name = None
    for line in docstring.splitlines():
        if match := re.match(r"(\w+) : (.*)", line):
            name = match[1]
            found[name] = match[2].strip()
        elif name and line.startswith("    "):
            found[name] += " " + line.strip()
        else:
            name = None
    return found


def describe(cls: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, Any, str]]:
    """Every option below `cls` as (dotted name, type, default, description)."""
    for name, field in cls.model_fields.items():
        inner = next(iter(_option_classes(field.annotation)), None)
        if inner is not None:
            yield from describe(inner, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else field.get_default(call_default_factory=True)
            yield f"{prefix}{name}", type_name(field.annotation), default, field.description or ""


def type_name(annotation: Any) -> str:
    """A type as a user reads it: `int`, `float | null`, `base | previous | scratch`."""
    if annotation is type(None):
        return "null"
    if get_origin(annotation) is Annotated:
        return type_name(get_args(annotation)[0])
    if isinstance(annotation, types.UnionType) or str(get_origin(annotation)) == "typing.Union":
        return " | ".join(type_name(a) for a in get_args(annotation))
    if str(get_origin(annotation)) == "typing.Literal":
        return " | ".join(str(a) for a in get_args(annotation))
    if get_origin(annotation) is not None:
        inner = ", ".join(type_name(a) for a in get_args(annotation) if a is not ...)
        return f"{get_origin(annotation).__name__}[{inner}]"
    return str(getattr(annotation, "__name__", annotation))
