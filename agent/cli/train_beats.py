"""``resp-agent train tagged | masked | tokenizer | units``: the stages of the audio encoder's training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.options import Override, out

if TYPE_CHECKING:
    from beats.stages import Trained

Corpora = Annotated[
    list[str],
    typer.Option("--corpus", help="Corpus folder, repeatable; its plan and test clips are not heard."),
]
Folder = Annotated[Path, typer.Option("--out", help="Folder to write the weights to.")]
Config = Annotated[str | None, typer.Option(help="A preset or YAML file with settings of this stage.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the last checkpoint (needs `fit.checkpoint_every`).")
]


def tagged(
    corpora: Corpora, folder: Folder, config: Config = None, override: Override = None, resume: Resume = False
) -> None:
    """Train an audio encoder on the events that are annotated in clips.

    **Example**

        resp-agent train tagged --corpus corpora/sim --corpus corpora/spr -o stem=conv --out weights/tagged
    """
    from beats.config import TaggedStageConfig
    from training.config import load_config

    settings = load_config(TaggedStageConfig, config, override or [])
    from beats import commands

    report = _done(commands.tagged(corpora, settings, folder, resume=resume), folder)
    out.print(f"event AUC on the clips held out: {report['event_auc']:.3f}")


def masked(
    corpora: Corpora, folder: Folder, config: Config = None, override: Override = None, resume: Resume = False
) -> None:
    """Train an audio encoder to predict the units of hidden tokens (BEATs; docs/beats.md says what is ours).

    The first iteration predicts units of a random projection, later ones those of a tokenizer.

    **Examples**

        resp-agent train masked --corpus corpora/sim --out weights/iter1

        resp-agent train masked --corpus corpora/sim -o units=weights/tokenizer1 --out weights/iter2

        torchrun --nproc-per-node 8 -m agent.cli train masked --config masked-base --corpus corpora/all --out weights/iter1
    """
    from beats.config import MaskedStageConfig
    from training.config import load_config

    settings = load_config(MaskedStageConfig, config, override or [])
    from beats import commands

    report = _done(commands.masked(corpora, settings, folder, resume=resume), folder)
    out.print(f"cross-entropy on the clips held out: {-report['best_metric']:.3f} nats")


def tokenizer(
    corpora: Corpora, folder: Folder, config: Config = None, override: Override = None, resume: Resume = False
) -> None:
    """Distil a unit tokenizer from an audio encoder (BEATs; docs/beats.md says what is ours).

    **Example**

        resp-agent train tokenizer --corpus corpora/sim -o teacher=weights/iter1 --out weights/tokenizer1
    """
    from beats.config import TokenizerStageConfig
    from training.config import load_config

    settings = load_config(TokenizerStageConfig, config, override or [])
    from beats import commands

    _usage(_done(commands.tokenizer(corpora, settings, folder, resume=resume), folder))


def units(corpora: Corpora, folder: Folder, config: Config = None, override: Override = None) -> None:
    """Fit k-means units to an audio encoder's features.

    **Example**

        resp-agent train units --corpus corpora/sim -o encoder=weights/tagged --out weights/units
    """
    from beats.config import UnitStageConfig
    from training.config import load_config

    settings = load_config(UnitStageConfig, config, override or [])
    from beats import commands

    _usage(_done(commands.units(corpora, settings, folder), folder))


def _done(trained: Trained, folder: Path) -> dict:
    out.print(f"weights written to {folder}", soft_wrap=True, highlight=False)
    return trained.report


def _usage(report: dict) -> None:
    found = report["units"]
    out.print(
        f"units: perplexity {found['perplexity']:.1f} of {found['codebook']}, {found['dead']} dead",
        highlight=False,
    )
