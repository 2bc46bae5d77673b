"""``resp-agent generator``: what the parts of the generator can do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.diagnose import recordings
from agent.cli.options import Markdown, Override, Seed, check_folder, out, print_rows
from training.errors import AudioError, ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

    from generator.codec_config import CodecConfig
    from generator.codec_eval import CodecReport

app = typer.Typer(help="Look at the parts of the generator.", no_args_is_help=True)


@app.callback()
def _commands() -> None:
    """Look at the parts of the generator."""


@app.command("codec-eval")
def codec_eval(
    data: Annotated[
        Path, typer.Argument(help="A built corpus, or a folder of recordings; a file is a subject.")
    ],
    codec: Annotated[
        list[str] | None,
        typer.Option(
            help="mel, vocos or encodec, repeatable, with values of its config: `mel,iterations=64`.",
            metavar="KIND[,KEY=VALUE…]",
        ),
    ] = None,
    clips: Annotated[int, typer.Option(min=4, help="Recordings drawn, at most.")] = 100,
    seed: Seed = 0,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for `codec-eval.json`, `.md` and `.png`.")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="BEATs weights that FAD is measured with: a folder, file or shipped set.")
    ] = "tiny/beats",
    markdown: Markdown = False,
) -> None:
    """Measure what acoustic codecs lose: recordings and known crackles, through them and back.

    The row `none` is no codec: its figures are the floor. Log-mel is compared in the filterbank of BEATs,
    which no codec uses. Crackles are rendered at known times, alone and over noise, and looked for in the
    envelope of what comes back. `CPU s per s` is the processor time of encoding and decoding a second of sound.

    **Examples**

        resp-agent generator codec-eval corpora/spr --codec mel --codec mel,iterations=64

        resp-agent generator codec-eval recordings/ --codec vocos,weights=~/vocos-mel-24khz --out runs/codecs
    """
    asked = {text: codec_config(text) for text in dict.fromkeys(codec or ["mel"])}
    if out_folder is not None:
        check_folder(out_folder)
    from generator.codec import make_codec

    codecs = {_name(text, asked): make_codec(config) for text, config in asked.items()}
    import beats
    from generator.codec_eval import evaluate_codecs
    from generator.codec_page import notes, table

    encoder = beats.load_encoder(beats.find(weights))
    waves, subjects, left_out = _waves(data, clips, seed)
    report = evaluate_codecs(codecs, waves, subjects, encoder, seed=seed)
    print_rows(table(report), markdown)
    for line in (*notes(report), *([f"left out: {left_out} too short or silent"] if left_out else [])):
        out.print(line, soft_wrap=True, markup=False, highlight=False)
    if out_folder is not None:
        _write(report, out_folder)


@app.command()
def compare(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for tables, figures and plot.")],
    config: Annotated[
        str, typer.Option(help="A preset or YAML file that names the designs.")
    ] = "generator-designs",
    design: Annotated[
        list[str] | None, typer.Option(help="One design, repeatable; all of the config by default.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per design.")] = 3,
    clips: Annotated[int, typer.Option(min=4, help="Clips per class that are made and measured.")] = 32,
    work: Annotated[
        Path, typer.Option(help="Keeps clips, features and finished designs, which are not repeated.")
    ] = Path("cache/designs"),
    override: Override = None,
    markdown: Markdown = False,
) -> None:
    """Train designs of the generator on the same clips, measure each as evaluate-generator does, print tables.

    A design is a name with settings of `train pretrain` (`generator.…`) and of how clips are drawn. Encoder,
    units and judges are those of the config's `weights`; `-o` changes what the designs are trained on. The
    steps of the shipped designs bring their processor times near each other; what each took is told. Three designs with three
    seeds take about two hours of one core; all, on the clips of the shipped weights, a day.

    **Examples**

        RESP_DATA=~/data resp-agent generator compare --out runs/designs

        resp-agent generator compare --design shipped --design "label only" --seeds 1 -o root=null --out runs/try
    """
    from agent.config_designs import DesignsConfig
    from training.config import load_config

    settings = load_config(DesignsConfig, config)
    check_folder(out_folder)
    from agent.designs import compare_designs
    from agent.designs_report import compute_table, doubts, table, write

    found = compare_designs(settings, design or list(settings.designs), seeds, clips, override or [], work)
    write(found, settings, clips, out_folder)
    print_rows(compute_table(found), markdown)
    for what in found[0].results:
        for sentence in (f"\n{what}", *doubts(found, what)):
            out.print(sentence, markup=False, highlight=False)
        print_rows(table(found, what), markdown)
    out.print(f"written to {out_folder}", soft_wrap=True, highlight=False)


def codec_config(text: str) -> CodecConfig:
    """A codec's config from ``KIND,key=value,…``.

    Raises:
        ConfigError: there is no such kind, key or value.
    """
    from generator.codec_config import EncodecConfig, MelConfig, VocosConfig
    from training.config import load_config

    kinds: dict[str, type[MelConfig | VocosConfig | EncodecConfig]] = {
        "mel": MelConfig,
        "vocos": VocosConfig,
        "encodec": EncodecConfig,
    }
    kind, *values = text.split(",")
    if kind not in kinds:
        raise ConfigError(f"no codec {kind!r}", cure=f"choose one of {', '.join(kinds)}")
    return load_config(kinds[kind], overrides=values)


def _name(text: str, asked: Collection[str]) -> str:
    """How a codec is called in the figures: without its folder, a user's own, unless others differ by it only."""

    def short(one: str) -> str:
        return ",".join(part for part in one.split(",") if not part.startswith("weights="))

    return text if [short(one) for one in asked].count(short(text)) > 1 else short(text)


def _waves(data: Path, count: int, seed: int) -> tuple[list[np.ndarray], list[str], int]:
    """Recordings drawn at random, their subjects, and how many of those drawn hold no or too little sound."""
    import numpy as np

    from generator.codec import level
    from generator.codec_eval import SECONDS
    from generator.config import SHORTEST
    from resp229k.audio import RATE, Preprocess, load_audio, prepare
    from resp229k.corpus import Corpus

    every: list[tuple[Path, float, float | None, str]]
    if (data / "manifest.parquet").is_file():
        corpus = Corpus.open(data)
        every = [(corpus.folder / clip.path, clip.start, clip.end, clip.subject_id) for clip in corpus.clips]
    else:
        paths, names = recordings(data)
        every = [(path, 0.0, None, name) for path, name in zip(paths, names, strict=True)]
    chosen = np.sort(np.random.default_rng(seed).permutation(len(every))[:count])
    waves, subjects = [], []
    for path, start, end, subject in (every[index] for index in chosen):
        wave = prepare(load_audio(path, start, end, silent_ok=True), Preprocess(seconds=SECONDS))
        try:
            level(wave)
        except AudioError:
            continue
        if wave.size >= SHORTEST * RATE:
            waves.append(wave)
            subjects.append(subject)
    if not waves:
        raise DataError("holds no recordings with sound", path=data, cure="give another folder")
    return waves, subjects, len(chosen) - len(waves)


def _write(report: CodecReport, folder: Path) -> None:
    from generator.codec_page import markdown, plot
    from training.files import write_json, write_text

    record = asdict(report)
    del record["examples"]
    write_json(folder / "codec-eval.json", record)
    write_text(folder / "codec-eval.md", markdown(report))
    plot(report, folder / "codec-eval.png")
    out.print(f"written to {folder / 'codec-eval.json'}, .md and .png", soft_wrap=True, highlight=False)
