"""The ``resp-agent`` command. Heavy imports happen inside the commands, so that help is instant."""

from __future__ import annotations

import errno
import os
import sys
from typing import NoReturn

import typer
from rich.markup import escape

from agent.cli import (
    baselines,
    beats,
    chat,
    compare,
    data,
    diagnose,
    doctor,
    evaluate,
    evaluate_generator,
    generate,
    generator,
    loop,
    runs,
    train,
)
from training.errors import RespError
from training.progress import console

CURES = {
    errno.ENOENT: "check the path",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.EEXIST: "move it away, or choose another name",
    errno.EISDIR: "give a file, not a folder",
    errno.ENOTDIR: "give a folder, not a file",
    errno.ENOSPC: "free some space, or choose another disk",
    errno.EDQUOT: "free some space, or choose another disk",
    errno.ENAMETOOLONG: "choose a shorter name",
}

app = typer.Typer(
    name="resp-agent",
    help="Closed-loop respiratory sound analysis: diagnose, plan, synthesize, retrain. Research only.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
)
app.command()(loop.loop)
app.command()(generate.generate)
app.command()(diagnose.diagnose)
app.command()(evaluate.evaluate)
app.command("evaluate-generator")(evaluate_generator.evaluate_generator)
app.command()(baselines.baselines)
app.command()(compare.compare)
app.command()(chat.chat)
app.add_typer(train.app, name="train")
app.add_typer(data.app, name="data")
app.add_typer(beats.app, name="beats")
app.add_typer(generator.app, name="generator")
app.add_typer(runs.app, name="runs")
app.command()(doctor.doctor)


def main() -> None:
    """Run the command; wrong input ends with one line that names file and cure, and exit code 2."""
    # The library's notes on padding would end up between our own lines.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Threads wait for one another by spinning, by default for milliseconds: with another program on the same
    # cores, a training of small networks is then several times slower.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app()
    except RespError as error:
        _fail(error)
    except OSError as error:
        _fail(explained(error))


def explained(error: OSError) -> RespError:
    """The operating system's refusal as an error that names file and cure."""
    return RespError(
        error.strerror or str(error) or type(error).__name__,
        path=None if error.filename is None else os.fsdecode(error.filename),
        cure=CURES.get(error.errno or 0, "check that the path exists and can be read and written"),
    )


def _fail(error: RespError) -> NoReturn:
    console.print(f"[bold red]error[/] {escape(str(error))}", soft_wrap=True, highlight=False)
    sys.exit(2)
