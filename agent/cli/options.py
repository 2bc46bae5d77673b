"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from training.errors import DataError

out = Console()  # results go to stdout; progress and errors go to stderr

Override = Annotated[
    list[str] | None,
    typer.Option("--override", "-o", metavar="KEY=VALUE", help="Change one config value, e.g. `-o seed=1`."),
]
Draw = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        "-o",
        metavar="KEY=VALUE",
        help="Change how clips are drawn, e.g. `-o label_guidance=3`; repeatable.",
    ),
]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown tables.")]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.")]


def check_folder(folder: Path, option: str = "--out") -> None:
    """Refuse an output folder that cannot be made, before any work is done for it.

    Raises:
        DataError: it, or the nearest existing folder above it, is a file.
    """
    for place in (folder, *folder.parents):
        if place.is_dir():
            return
        if place.exists():
            raise DataError("is a file, not a folder", path=place, cure=f"give another folder with {option}")


def check_file(file: Path) -> None:
    """Refuse an output file that cannot be written, before any work is done for it.

    Raises:
        DataError: it is a folder, or one cannot be made above it.
    """
    if file.is_dir():
        raise DataError("is a folder, not a file", path=file, cure="give a file name with --out")
    check_folder(file.parent)


def print_rows(
    rows: Sequence[Sequence[str]],
    markdown: bool,
    lines: Callable[[Sequence[str]], Sequence[str]] | None = None,
) -> None:
    """Print a header and rows as a table, numbers to the right; nothing where there are no rows.

    Args:
        rows: all of the same length.
        markdown: whether the table is Markdown.
        lines: of a row, printed under its first cell where the output is too narrow for the table.
    """
    from rich.box import SIMPLE_HEAD
    from rich.measure import Measurement
    from rich.table import Table

    if len(rows) == 1:
        return
    if markdown:
        table_rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
        text = "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in table_rows)
        out.print(text, soft_wrap=True, markup=False, highlight=False)
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, *column in zip(*rows, strict=True):
        numeric = any(cell[:1].isdigit() for cell in column)
        short = name in ("source", "task", "planner", "best", "method", "step")
        justify: Literal["left", "right"] = "right" if numeric else "left"
        word = max(map(len, name.split()))  # headings break between words only
        table.add_column(name, no_wrap=short, overflow="fold", justify=justify, min_width=word)
    for row in rows[1:]:
        table.add_row(*map(escape, row))
    wide = out.options.update(width=10_000)
    if lines is None or Measurement.get(out, wide, table).maximum <= out.width:
        out.print(table)
        return
    for row in rows[1:]:
        print_block(row[0], [line for line in lines(row) if line])


def print_block(name: str, lines: Sequence[str]) -> None:
    """Print a name in bold and lines under it; what has no space, like a URL, stays whole."""
    from rich.padding import Padding
    from rich.text import Text

    out.print(Text(name, "bold"), soft_wrap=True)
    for line in lines:
        if " " in line:
            out.print(Padding(Text(line), (0, 0, 0, 2)))
        else:
            out.print(f"  {line}", soft_wrap=True, markup=False, highlight=False)
    out.print()
