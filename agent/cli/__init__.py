"""The ``resp-agent`` command. Heavy imports happen inside the commands, so that help is instant."""

from __future__ import annotations

import os
import sys

import typer
from rich.markup import escape

from agent.cli import data, doctor, loop, models, train
from training.errors import RespError
from training.progress import console

app = typer.Typer(
    name="resp-agent",
    help="Closed-loop respiratory sound analysis: diagnose, plan, synthesize, retrain. Research only.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
)
app.command()(loop.loop)
app.command()(models.generate)
app.command()(models.diagnose)
app.command()(models.evaluate)
app.add_typer(train.app, name="train")
app.add_typer(data.app, name="data")
app.command()(doctor.doctor)


def main() -> None:
    """Run the command; wrong input ends with one line that names file and cure, and exit code 2."""
    # The library's notes on padding would end up between our own lines.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app()
    except RespError as error:
        console.print(f"[bold red]error[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(2)
