"""Make a set of weights: BEATs, judges, Resp-MLLM, flow decoder. Every stage is kept and not repeated."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import beats
from agent.config_pretrain import PretrainConfig
from agent.heard import gather
from agent.model_card import write_model_card
from beats.cache import FeatureStore, StoreSet
from beats.config import JudgeTrainConfig
from beats.judge import Judge
from beats.judge_train import train_judge
from beats.pretrain import pretrain_beats, read_given, write_given
from generator.config import Network
from generator.pretrain import train_flow, train_mllm
from resp229k.corpus import Corpus
from resp229k.simulate.config import is_simulated
from training.config import dump_config
from training.errors import ConfigError, RunError
from training.files import digest, folder_digest, new_folder, read_json, write_json
from training.progress import console

RECORD = "pretrain.yaml"
WEIGHT_FILES = ("*.safetensors", "config.json")


def pretrain(config: PretrainConfig, out: Path, work: Path) -> None:
    """Run all stages and replace the weights in ``out`` together.

    Args:
        config: sizes, steps, seed.
        out: gets ``beats/{encoder,tokenizer} judge-<task>/ mllm/ flow/``, the config and a model card;
            no ``mllm/`` for a flow decoder that reads no units.
        work: keeps corpora, features and every finished stage.

    Raises:
        ConfigError: ``root`` names an environment variable that is not set, or ``generator.codebook`` is not
            the tokenizer's.
        CheckpointError: ``beats.weights`` names no tokenizer.
        DataError: the real recordings are not there.
    """
    ready = prepare(config, work)
    folders = {"beats/encoder": ready.base / "encoder", "beats/tokenizer": ready.base / "tokenizer"}
    for judge in config.judges:
        name = f"judge-{judge.task}"
        make: Callable[[Path], Any] = partial(make_judge, ready.judged, judge)
        folders[name] = _stage(work / name, judge.model_dump(mode="json"), [ready.judged], make)
    settings = config.generator
    trainers: dict[Network, Callable[..., Any]] = {"mllm": train_mllm, "flow": train_flow}
    for name, train in trainers.items():
        if name == "mllm" and settings.flow.content == "none":
            continue  # nobody would read what it writes
        make = partial(train, ready.taught, ready.store, settings)
        folders[name] = _stage(work / name, settings.of(name), ready.taught, make, ready.base)
    publish(folders, ready.base / "pretrain.json", config, out)


class Prepared(NamedTuple):
    """What generators are trained on.

    Attributes:
        base: folder of encoder and tokenizer.
        judged: clips of the judges.
        taught: clips of the generator, none of a judge's subject.
        store: their features and units.
    """

    base: Path
    judged: Corpus
    taught: list[Corpus]
    store: StoreSet


def prepare(config: PretrainConfig, work: Path) -> Prepared:
    """Gather the clips, train or take BEATs, and compute features and units; as :func:`pretrain` says."""
    given = None if config.beats.weights is None else read_given(config.beats.weights)
    check_codebook(config, config.beats.units.codebook if given is None else given.codebook)
    heard_by = gather(config, work)
    if given is None:
        make = partial(pretrain_beats, heard_by.encoder, config.beats)
        base = _stage(work / "beats", config.beats.model_dump(mode="json"), heard_by.encoder, make)
    else:
        base = run_stage(work / "beats", digest([given.name, given.sha256]), partial(write_given, given))
    encoder, tokenizer = beats.load(base)
    stores = [
        FeatureStore.build(
            corpus,
            encoder=encoder,
            tokenizer=tokenizer,
            preprocess=config.generator.preprocess,
            folder=work / "features",
        )
        for corpus in heard_by.generator
    ]
    heard = set(heard_by.judges.subjects)
    taught = [
        Corpus(corpus.folder, [clip for clip in corpus.clips if clip.subject_id not in heard])
        for corpus in heard_by.generator
    ]
    return Prepared(base, heard_by.judges, taught, StoreSet(stores))


def _stage(
    folder: Path,
    settings: dict[str, Any],
    data: Sequence[Corpus],
    make: Callable[[Path], Any],
    *needs: Path,
) -> Path:
    """Make a stage's folder unless settings, clips and what it builds on are those it was made with."""
    # Labels, preparation and subjects of what a stage builds on stand in its config.json.
    built_on = [[folder_digest(path, f"**/{kind}") for kind in WEIGHT_FILES] for path in needs]
    return run_stage(folder, digest([settings, [corpus.digest for corpus in data], built_on]), make)


def check_codebook(config: PretrainConfig, codebook: int) -> None:
    """Refuse a generator for another number of units than the tokenizer gives.

    Raises:
        ConfigError: with the key to set.
    """
    if config.generator.codebook != codebook:
        raise ConfigError(
            f"generator.codebook is {config.generator.codebook}, the tokenizer has {codebook} units",
            path=config.beats.weights,
            cure=f"set generator.codebook={codebook}",
        )


def run_stage(folder: Path, key: str, make: Callable[[Path], Any]) -> Path:
    """Make a stage's folder unless it exists with the same key.

    ``make`` gets the path of a folder to create, under a temporary parent that is renamed at the end.

    Raises:
        RunError: the folder is there and was not made by this command.
    """
    done = folder / "done.json"
    if done.is_file() and read_json(done)["key"] == key:
        console.print(f"{folder.name}: done before")
        return folder / "result"
    if folder.exists():
        if not done.is_file():
            raise RunError("is no stage of an earlier run", path=folder, cure="choose another --work folder")
        shutil.rmtree(folder)
    with new_folder(folder) as temporary:
        make(temporary / "result")
        write_json(temporary / "done.json", {"key": key})
    console.print(f"{folder.name}: done")
    return folder / "result"


def make_judge(corpus: Corpus, config: JudgeTrainConfig, folder: Path) -> None:
    """Train a judge and write it with its recall on the held-out clips."""
    judge = train_judge(corpus, config, folder.with_name("fit"))
    judge.save_pretrained(folder, half=True)
    judge = Judge.from_pretrained(folder)
    metrics: dict[str, Any] = {
        "steps": config.fit.steps,
        "clips": len(corpus.subset(split="pretrain", task=config.task)),
    }
    held_out = corpus.subset(split="select", task=config.task).clips
    for kind, real in (("simulated", False), ("real", True)):
        clips = [
            clip
            for clip in held_out
            if is_simulated(clip.source) != real and clip.labels[config.task] in judge.classes
        ]
        if not clips:
            continue
        guesses = judge.probabilities([corpus.audio(clip) for clip in clips]).argmax(1)
        truth = np.array([judge.classes.index(clip.labels[config.task]) for clip in clips])
        metrics[f"recall on {len(clips)} held-out {kind} clips"] = {
            name: float((guesses[truth == index] == index).mean())
            for index, name in enumerate(judge.classes)
            if (truth == index).any()
        }
    write_json(folder / "metrics.json", metrics)


def publish(folders: dict[str, Path], report: Path, config: PretrainConfig, out: Path) -> None:
    """Copy the finished weights to ``out`` in one step and write the model card.

    Raises:
        RunError: ``out`` holds something else than weights of this command.
    """
    if out.exists() and not (out / RECORD).is_file():
        raise RunError(f"exists and holds no {RECORD}", path=out, cure="give a new folder")
    fresh = out.with_name(f"{out.name}.new")
    if fresh.exists():
        shutil.rmtree(fresh)
    with new_folder(fresh) as temporary:
        for name, folder in folders.items():
            (temporary / name).mkdir(parents=True)
            for file in sorted(folder.iterdir()):
                if file.suffix in (".safetensors", ".json"):
                    shutil.copyfile(file, temporary / name / file.name)
        shutil.copyfile(report, temporary / "beats" / "pretrain.json")
        dump_config(config, temporary / RECORD)
        write_model_card(temporary, out.name)
    if out.exists():
        old = out.with_name(f"{out.name}.old")
        out.replace(old)
        fresh.replace(out)
        shutil.rmtree(old)
    else:
        fresh.replace(out)
