"""``resp-agent generate``: synthetic clips of a class in the style of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.options import Draw, Seed, check_folder, out
from training.errors import AudioError, ConfigError

if TYPE_CHECKING:
    import numpy as np


def generate(
    label: Annotated[
        str, typer.Option(help="Class to synthesize, e.g. `Asthma`; a wrong one tells which there are.")
    ],
    style: Annotated[
        Path,
        typer.Option(
            help="Recording whose style (device, noise, room) the clips take; of a longer one its middle 4 s."
        ),
    ],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for the WAV and provenance files.")],
    task: Annotated[
        str, typer.Option(help="Task that the label belongs to; `tiny` knows `disease16` and `icbhi4`.")
    ] = "disease16",
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many clips.")] = 1,
    seconds: Annotated[float, typer.Option(help="Length of each clip, s; up to 4 with `tiny`.")] = 4.0,
    weights: Annotated[str, typer.Option(help="Weights folder or shipped set.")] = "tiny",
    beats_weights: Annotated[
        str | None,
        typer.Option(
            "--beats",
            help="BEATs folder or published tokenizer that the weights were trained with, if it is not in them.",
        ),
    ] = None,
    events: Annotated[
        str | None,
        typer.Option(
            help="What is heard and how often in 10 s, e.g. `12 crackle, 2 wheeze`; for weights that were trained with "
            "events, which `tiny` was not."
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Of the units' draw; lower is nearer to the likeliest. [default: 1.25]"),
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Of the flow towards units and label; 1 adds nothing. [default: 2.0]")
    ] = None,
    override: Draw = None,
    seed: Seed = 0,
) -> None:
    """Write synthetic clips of a class in the style of a recording, each with its provenance.

    `-o` sets whatever else of the draw, as in `generator.sample` of a loop: `label_guidance`, `top_p`, `steps`,
    `method`, `batch` and more.

    **Examples**

        resp-agent generate --task disease16 --label Asthma --style ref.wav -n 4 --out clips

        resp-agent generate --label Asthma --style ref.wav -o label_guidance=3 -o steps=8 --out clips
    """
    asked = {"temperature": temperature, "guidance": guidance}
    given = [f"{name}={value}" for name, value in asked.items() if value is not None]
    for name in (one.partition("=")[0] for one in given):
        if any(change.partition("=")[0].strip() == name for change in override or []):
            raise ConfigError(f"{name} is given twice", cure=f"give --{name} or -o {name}=VALUE")
    from generator.config import SampleConfig
    from training.config import load_config

    files = make_clips(
        label,
        style,
        out_folder,
        task=task,
        number=number,
        seconds=seconds,
        weights=weights,
        beats_weights=beats_weights,
        sample=load_config(SampleConfig, None, [*(override or []), *given]).model_dump(exclude_unset=True),
        events=events,
        seed=seed,
    )
    for file in files:
        out.print(str(file), soft_wrap=True, highlight=False)


def make_clips(
    label: str,
    style: Path,
    folder: Path,
    *,
    task: str,
    number: int,
    seconds: float,
    weights: str,
    beats_weights: str | None = None,
    sample: dict[str, Any] | None = None,
    events: str | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write ``number`` clips with their provenance; what each argument means says :func:`generate`.

    Raises:
        DataError: there is no such task, label or events, or a clip would overwrite another one.
        AudioError: the style recording cannot be used.
        ConfigError: ``sample`` holds what cannot be set.
        CheckpointError: the weights are missing or do not fit.
    """
    from generator.config import FlowConfig, SampleConfig
    from training.config import validate, weights_path

    # What is wrong is told before anything heavy is loaded.
    source = weights_path(weights)
    FlowConfig.of_weights(source).check(task, label, seconds)
    check_folder(folder)
    drawn = validate(SampleConfig, sample or {}, where="generate")
    wave = _heard(style)
    import beats

    beats_path = None if beats_weights is None else beats.find(beats_weights)
    from generator.sample import Generator, Request
    from generator.write import write_clips

    generator = Generator.load(source, drawn, beats_path=beats_path)
    request = Request(
        task, label, wave, reference_id=style.name, subject_id="unknown", seconds=seconds, events=events
    )
    return write_clips(
        generator.generate([request] * number, seed=seed),
        folder,
        weights=generator.digests,
        subjects_hash=generator.subjects_hash,
        sample=generator.config,
    )


def _heard(style: Path) -> np.ndarray:
    """The recording that lends its style, 16 kHz mono ``(N,)``.

    Raises:
        AudioError: there is none, it cannot be read, or it is too short to have a style.
    """
    from generator.config import SHORTEST
    from resp229k.audio import RATE, load_audio

    if not style.is_file():
        what = "is a folder" if style.is_dir() else "no such recording"
        raise AudioError(what, path=style, cure="give one recording with --style")
    wave = load_audio(style)
    if wave.size < SHORTEST * RATE:
        raise AudioError(
            f"holds {wave.size / RATE:.3f} s, too little to have a style",
            path=style,
            cure=f"give {SHORTEST} s or more; 4 s are best",
        )
    return wave
