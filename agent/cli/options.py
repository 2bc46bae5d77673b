"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from training.errors import DataError

out = Console()  # results go to stdout; progress and errors go to stderr

Override = Annotated[
    list[str] | None,
    typer.Option("--override", "-o", metavar="KEY=VALUE", help="Change one config value, e.g. `-o seed=1`."),
]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.")]


def check_folder(folder: Path) -> None:
    """Refuse an output folder that cannot be made, before any work is done for it.

    Raises:
        DataError: it, or the nearest existing folder above it, is a file.
    """
    for place in (folder, *folder.parents):
        if place.is_dir():
            return
        if place.exists():
            raise DataError("is a file, not a folder", path=place, cure="give another folder with --out")


def check_file(file: Path) -> None:
    """Refuse an output file that cannot be written, before any work is done for it.

    Raises:
        DataError: it is a folder, or one cannot be made above it.
    """
    if file.is_dir():
        raise DataError("is a folder, not a file", path=file, cure="give a file name with --out")
    check_folder(file.parent)
