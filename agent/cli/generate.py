"""``resp-agent generate``: synthetic clips of a class in the style of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.options import Override, Seed, check_folder, out
from training.errors import AudioError


def generate(
    label: Annotated[str, typer.Option(help="Class to synthesize, e.g. `Asthma`.")],
    style: Annotated[Path, typer.Option(help="Recording whose style (device, noise, room) the clips take.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for the WAV and provenance files.")],
    task: Annotated[str, typer.Option(help="Task that the label belongs to.")] = "disease16",
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many clips.")] = 1,
    seconds: Annotated[float, typer.Option(help="Length of each clip, s.")] = 4.0,
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
    override: Override = None,
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
    from resp229k.tasks import get_task

    get_task(task).index(label)  # what is wrong is told before anything heavy is loaded
    check_folder(folder)
    if not style.is_file():
        raise AudioError("no such recording", path=style, cure="give a style recording with --style")
    import beats
    from generator.config import FlowConfig, SampleConfig
    from resp229k.audio import load_audio
    from training.config import validate, weights_path

    drawn = validate(SampleConfig, sample or {}, where="generate")
    wave = load_audio(style)
    source = weights_path(weights)
    FlowConfig.of_weights(source).check(task, label, seconds)
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
