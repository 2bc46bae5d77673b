"""``resp-agent train``: one process trains one network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli import train_beats
from agent.cli.options import Override, out

app = typer.Typer(help="Train one network, or make the shipped weights.", no_args_is_help=True)
for stage in (train_beats.tagged, train_beats.masked, train_beats.tokenizer, train_beats.units):
    app.command()(stage)


@app.command()
def diagnoser(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder to write the diagnoser to.")],
    config: Annotated[
        str, typer.Option(help="A preset or YAML file with diagnoser settings.")
    ] = "diagnoser-small",
    override: Override = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in OUT.")] = False,
) -> None:
    """Train the modality-weaving diagnoser on a corpus.

    **Example**

        resp-agent train diagnoser -o corpus=corpora/sim3 --out models/sim3
    """
    from diagnoser.config import DiagnoserTrainConfig
    from training.config import load_config

    settings = load_config(DiagnoserTrainConfig, config, override or [])
    from diagnoser.train import train_diagnoser

    train_diagnoser(settings, out_folder, resume=resume)
    out.print(f"diagnoser written to {out_folder}")


@app.command()
def pretrain(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder to write the weights to.")],
    config: Annotated[str, typer.Option(help="A preset or YAML file.")] = "tiny",
    work: Annotated[
        Path, typer.Option(help="Folder of intermediate results; finished stages are not repeated.")
    ] = Path("cache/pretrain"),
    override: Override = None,
) -> None:
    """Make BEATs, judge, Resp-MLLM and flow weights from the simulator and the SPRSound `pretrain` subjects.

    With `beats.weights` the encoder and its units are not trained but taken from a folder or published file. Without the
    recordings `-o root=null` trains on simulated clips alone. On two cores the generator of `tiny` takes about two hours; what
    is finished stays in `--work`.

    **Examples**

        RESP_DATA=~/data resp-agent train pretrain --config tiny --out weights/tiny

        resp-agent train pretrain -o root=null -o beats.weights=Tokenizer_iter3_plus_AS2M.pt -o generator.codebook=1024 --out weights/mine
    """
    from agent.config_pretrain import PretrainConfig
    from training.config import load_config

    settings = load_config(PretrainConfig, config, override or [])
    from agent.pretrain import pretrain as run

    run(settings, out_folder, work)
    out.print(f"weights written to {out_folder}")
