"""The second half of `lmcollapse run --help`: every option of a configuration."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

from lmcollapse.catalog import CATALOG, find
from lmcollapse.config import COMMON, READS, Config, load, parse
from lmcollapse.options import describe, options_of


def print_configuration_help(words: Sequence[str]) -> None:
    """Every option of a configuration; with the values of the file that is named beside `--help`."""
    files = [word for word in words if word.endswith((".yaml", ".yml"))]
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    config = load(Path(files[0]), overrides) if files else parse({})
    values = config.model_dump(mode="json")
    print(f"configuration ({files[0] if files else 'defaults'}); every key may be given as key=value:\n")
    for key, kind, _, text in describe(type(config)):
        value: object = values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        _print_option(key, json.dumps(value, ensure_ascii=False), kind, text or Config.model_fields[key].description)
    reads = READS.get(config.build_substrate().reads, READS["text"])
    sections = {"corpus": reads.corpora, "policy": "policy", "curation": "scorer", "detector": "detector"}
    for section, group in sections.items():
        given = getattr(config, section)
        if group == reads.corpora and given is None:
            continue
        options = {f"{section}.kind={name}": options_of(find(group, name)) for name in CATALOG[group]}
        if given is None:
            options = {f"any {section}.kind": COMMON[section], **options}
        for name, cls in options.items():
            if given is None or name != f"{section}.kind={given.kind}":
                print(f"\n  with {name}:")
                for key, kind, default, text in describe(cls, f"{section}."):
                    _print_option(key, default if default == "required" else json.dumps(default), kind, text)


def _print_option(key: str, value: str, kind: str, text: str | None) -> None:
    width, indent = min(shutil.get_terminal_size().columns, 120), " " * 6
    print(f"  {key}: {value}  ({kind})")
    print(textwrap.fill(" ".join((text or "").split()), width, initial_indent=indent, subsequent_indent=indent))
