"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

out = Console()  # results go to stdout; progress and errors go to stderr

Override = Annotated[
    list[str] | None,
    typer.Option("--override", "-o", metavar="KEY=VALUE", help="Change one config value, e.g. `-o seed=1`."),
]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.")]
