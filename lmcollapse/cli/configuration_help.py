"""The second half of `lmcollapse run --help`: every option of a configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lmcollapse.catalog import CATALOG, find
from lmcollapse.config import READS, load, parse
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
        print(f"  {key}: {json.dumps(value, ensure_ascii=False)}  ({kind})\n      {text}")
    reads = READS.get(config.build_substrate().reads, READS["text"])
    sections = {"corpus": reads.corpora, "policy": "policy", "curation": "scorer", "detector": "detector"}
    for section, group in sections.items():
        given = getattr(config, section)
        if group == reads.corpora and given is None:
            continue
        for name in CATALOG[group]:
            if given is None or name != given.kind:
                print(f"\n  with {section}.kind={name}:")
                for key, kind, default, text in describe(options_of(find(group, name)), f"{section}."):
                    print(f"  {key}: {json.dumps(default)}  ({kind})\n      {text}")
