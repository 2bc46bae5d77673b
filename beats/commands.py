"""One stage of the encoder's training per call: corpora in, one complete folder of weights out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import beats
from beats.config import (
    MaskedStageConfig,
    StageConfig,
    TaggedStageConfig,
    TokenizerStageConfig,
    UnitStageConfig,
)
from beats.encoder import BeatsEncoder
from beats.frames import FrameClips, windows
from beats.label import fit_kmeans, sample_features
from beats.stages import Trained, train_masked, train_tagged, train_tokenizer
from beats.tags import TaggedClips
from beats.tokenizer import BeatsTokenizer
from resp229k.corpus import Corpus
from training.config import Strict, dump_config, expand, weights_path
from training.errors import DataError, RunError
from training.files import new_folder, write_json
from training.fit import meet
from training.progress import console

HEARD = ("pretrain", "train", "select")  # splits; plan and test are never heard


def tagged(folders: Sequence[str], config: TaggedStageConfig, out: Path, *, resume: bool = False) -> Trained:
    """Train an encoder on event tags and write ``out/encoder``.

    Args:
        folders: corpora with annotated events.
        config: sizes, steps, seed.
        out: a new folder.
        resume: go on from the last checkpoint.

    Raises:
        RunError: ``out`` exists.
        ConfigError: ``resume`` without checkpoints.
        DataError: nothing to train on.
        AudioError: a recording cannot be used.
    """
    _refuse(out)
    config.fit.check_resume(resume)
    data = TaggedClips(open_corpora(folders), config.seconds, config.memory_gb)
    trained = train_tagged(data, config, _checkpoints(out), resume=resume)
    _write(out, config, trained)
    return trained


def masked(folders: Sequence[str], config: MaskedStageConfig, out: Path, *, resume: bool = False) -> Trained:
    """Train an encoder by masked prediction and write ``out/encoder``; arguments and errors as :func:`tagged`."""
    _refuse(out)
    tokenizer = (
        None if config.units == "random" else beats.load_tokenizer(weights_path(config.units, files=True))
    )
    data = _frames(folders, config)
    trained = train_masked(data, config, _checkpoints(out), tokenizer=tokenizer, resume=resume)
    _write(out, config, trained)
    return trained


def tokenizer(
    folders: Sequence[str], config: TokenizerStageConfig, out: Path, *, resume: bool = False
) -> Trained:
    """Distil a tokenizer and write ``out/encoder`` and ``out/tokenizer``; arguments and errors as :func:`tagged`."""
    _refuse(out)
    config.fit.check_resume(resume)
    teacher = beats.load_encoder(weights_path(config.teacher, files=True))
    trained = train_tokenizer(_frames(folders, config), teacher, config, _checkpoints(out), resume=resume)
    _write(out, config, trained)
    return trained


def units(folders: Sequence[str], config: UnitStageConfig, out: Path) -> Trained:
    """Fit k-means units to an encoder and write both; arguments and errors as :func:`tagged`."""
    _refuse(out)
    encoder = beats.load_encoder(weights_path(config.encoder, files=True))
    data = FrameClips(open_corpora(folders), config.seconds)
    sample = sample_features(encoder, data, config.clips, config.seed)
    quantizer, report = fit_kmeans(sample, config.codebook, config.seed)
    trained = Trained(BeatsTokenizer(encoder, quantizer), {"units": report})
    _write(out, config, trained)
    return trained


def open_corpora(folders: Sequence[str]) -> list[Corpus]:
    """The real and simulated clips of some corpora that may be heard.

    Raises:
        DataError: a folder is no corpus, or has no clip of these splits.
    """
    corpora = []
    for folder in folders:
        corpus = Corpus.open(expand(folder))
        clips = [clip for clip in corpus.clips if clip.split in HEARD]
        if not clips:
            raise DataError(f"has no clips of {', '.join(HEARD)}", path=corpus.folder)
        corpora.append(Corpus(corpus.folder, clips))
    return corpora


def _frames(folders: Sequence[str], config: StageConfig) -> FrameClips:
    """Whole windows of the clips."""
    corpora = open_corpora(folders)
    whole = [windows(corpus, config.seconds) for corpus in corpora]
    short = sum(clip.seconds < config.seconds - 1e-6 for corpus in corpora for clip in corpus.clips)
    if short:
        console.print(f"{short} clips shorter than {config.seconds:g} s are left out")
    if not any(len(corpus) for corpus in whole):
        raise DataError(
            f"no clip of {config.seconds:g} s", cure="shorten `seconds`, or build corpora of whole recordings"
        )
    return FrameClips(whole, config.seconds, config.memory_gb)


def _refuse(out: Path) -> None:
    if out.exists():
        raise RunError("already exists", path=out, cure="give a new folder")


def _checkpoints(out: Path) -> Path:
    return out.parent / f".{out.name}.fit"


def _write(out: Path, config: Strict, trained: Trained) -> None:
    """Write network, config and report together, from the first process."""
    if int(os.environ.get("RANK", "0")) == 0:
        network: Any = trained.network
        with new_folder(out) as temporary:
            if isinstance(network, BeatsEncoder):
                network.save_pretrained(temporary / "encoder")
            else:
                network.save_pretrained(temporary)
            dump_config(config, temporary / "train.yaml")
            write_json(temporary / "train.json", trained.report)
    meet()
