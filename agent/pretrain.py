"""Make a set of weights: BEATs, judges, Resp-MLLM, flow decoder. Every stage is kept and not repeated."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import beats
from agent.config_pretrain import HeardConfig, PretrainConfig
from agent.model_card import write_model_card
from beats.cache import FeatureStore, StoreSet
from beats.config import JudgeTrainConfig
from beats.frames import windows
from beats.judge import Judge
from beats.judge_train import train_judge
from beats.pretrain import pretrain_beats, read_given, write_given
from generator.pretrain import train_flow, train_mllm
from resp229k.build import pretrain_corpus
from resp229k.corpus import Corpus
from resp229k.simulate import simulate_events
from resp229k.simulate.config import SIMULATED
from training.config import Strict, dump_config
from training.errors import ConfigError, RunError
from training.files import digest, folder_digest, new_folder, read_json, write_json
from training.progress import console
from training.seeds import derive

REAL = "sprsound"
EVENT_TASKS = ("icbhi4", "spr_event")
RECORD = "pretrain.yaml"
WEIGHT_FILES = ("*.safetensors", "config.json")


def pretrain(config: PretrainConfig, out: Path, work: Path) -> None:
    """Run all stages and replace the weights in ``out`` together.

    Args:
        config: sizes, steps, seed.
        out: gets ``beats/{encoder,tokenizer} judge-<task>/ mllm/ flow/``, the config and a model card.
        work: keeps corpora, features and every finished stage.

    Raises:
        ConfigError: ``root`` names an environment variable that is not set, or ``generator.codebook`` is not
            the tokenizer's.
        CheckpointError: ``beats.weights`` names no tokenizer.
        DataError: the real recordings are not there.
    """
    given = None if config.beats.weights is None else read_given(config.beats.weights)
    check_codebook(config, config.beats.units.codebook if given is None else given.codebook)
    heard_by = gather(config, work)
    corpora, judged = heard_by.generator, heard_by.judges

    def stage(
        name: str, settings: Strict, data: Sequence[Corpus], make: Callable[[Path], Any], *needs: Path
    ) -> Path:
        # Labels, preparation and subjects of what a stage builds on stand in its config.json.
        built_on = [[folder_digest(path, f"**/{kind}") for kind in WEIGHT_FILES] for path in needs]
        key = digest([settings.model_dump(mode="json"), [corpus.digest for corpus in data], built_on])
        return run_stage(work / name, key, make)

    if given is None:
        base = stage(
            "beats",
            config.beats,
            heard_by.encoder,
            lambda folder: pretrain_beats(heard_by.encoder, config.beats, folder),
        )
    else:
        base = run_stage(work / "beats", digest([given.name, given.sha256]), partial(write_given, given))
    folders = {"beats/encoder": base / "encoder", "beats/tokenizer": base / "tokenizer"}
    for judge in config.judges:
        name = f"judge-{judge.task}"
        folders[name] = stage(name, judge, [judged], partial(make_judge, judged, judge))
    encoder, tokenizer = beats.load(base)
    store = StoreSet(
        [
            FeatureStore.build(
                corpus,
                encoder=encoder,
                tokenizer=tokenizer,
                preprocess=config.generator.preprocess,
                folder=work / "features",
            )
            for corpus in corpora
        ]
    )
    settings = config.generator
    heard = set(judged.subjects)
    taught = [
        Corpus(corpus.folder, [clip for clip in corpus.clips if clip.subject_id not in heard])
        for corpus in corpora
    ]
    folders["mllm"] = stage(
        "mllm", settings, taught, lambda folder: train_mllm(taught, store, settings, folder), base
    )
    folders["flow"] = stage(
        "flow", settings, taught, lambda folder: train_flow(taught, store, settings, folder), base
    )
    publish(folders, base / "pretrain.json", config, out)


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


class Gathered(NamedTuple):
    """Who hears what."""

    encoder: list[Corpus]
    generator: list[Corpus]
    judges: Corpus


def gather(config: PretrainConfig, work: Path) -> Gathered:
    """The corpora of encoder, generator and judges.

    The encoder hears all simulated classes, and all the real events there are: it needs them. One that is
    given (``beats.weights``) hears nothing. The judges hear simulated sources of their own and every second
    real subject; Resp-MLLM and flow decoder are never trained on those.
    """
    given = config.beats.weights is not None
    encoder = [] if given else encoder_corpora(config, work)
    generator = [_simulated(config, work / "sim", config.events, config.classes, 0)]
    judges = [_simulated(config, work / "sim-judge", config.judge_events, config.classes, 1)]
    for real in real_corpora(config, work) if given else encoder[1:]:
        generator.append(real)
        judges.append(_half(real, 0))
    return Gathered(encoder, generator, join(judges, work))


def encoder_corpora(config: HeardConfig, work: Path) -> list[Corpus]:
    """What the encoder hears: simulated events of all classes, then the real ones."""
    simulated = _simulated(config, work / "sim-encoder", config.encoder_events, SIMULATED, 2)
    return [simulated, *real_corpora(config, work)]


def real_corpora(config: HeardConfig, work: Path) -> list[Corpus]:
    """The real events, one corpus, or none without ``root``."""
    if config.root is None:
        return []
    real = only_event_tasks(pretrain_corpus(config.root, work / REAL))
    # In both halves, so that the judges, who hear one of them, have their share to be measured on.
    halves = [with_held_out(_half(real, which), config.held_out, config.seed) for which in (0, 1)]
    return [Corpus(real.folder, [clip for half in halves for clip in half.clips])]


def _half(corpus: Corpus, which: int) -> Corpus:
    """The clips of every second subject."""
    half = set(corpus.subjects[which::2])
    return Corpus(corpus.folder, [clip for clip in corpus.clips if clip.subject_id in half])


def window_corpora(config: HeardConfig, corpora: Sequence[Corpus], work: Path) -> list[Corpus]:
    """The same simulated clips and, for the real events, all recordings of their subjects, in whole windows."""
    found = [corpora[0]]
    if config.root is not None:
        recordings = pretrain_corpus(config.root, work / f"{REAL}-recordings", clip="recording")
        found.append(with_held_out(recordings, config.held_out, config.seed))
    return [windows(corpus, config.seconds) for corpus in found]


def _simulated(config: HeardConfig, folder: Path, count: int, classes: Sequence[str], offset: int) -> Corpus:
    corpus = simulate_events(
        count, config.seed + offset, folder, classes=classes, seconds=config.seconds, workers=config.workers
    )
    return with_held_out(corpus, config.held_out, config.seed)


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
            if (clip.source == REAL) == real and clip.labels[config.task] in judge.classes
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


def join(corpora: Sequence[Corpus], folder: Path) -> Corpus:
    """One corpus over corpora that lie side by side in ``folder``."""
    clips = [
        clip.model_copy(update={"path": f"{corpus.folder.name}/{clip.path}"})
        for corpus in corpora
        for clip in corpus.clips
    ]
    return Corpus(folder, clips)


def only_event_tasks(corpus: Corpus) -> Corpus:
    """A corpus of single events without the disease of their subject: a second of sound does not say it."""
    clips = [
        clip.model_copy(update={"labels": {k: v for k, v in clip.labels.items() if k in EVENT_TASKS}})
        for clip in corpus.clips
    ]
    return Corpus(corpus.folder, clips)


def with_held_out(corpus: Corpus, share: float, seed: int) -> Corpus:
    """The corpus with a share of its sources, or of its subjects where it has one source, in ``select``."""
    sources = {clip.source for clip in corpus.clips}
    by = "source" if len(sources) > 1 else "subject_id"
    groups = sorted({getattr(clip, by) for clip in corpus.clips})
    size = max(1, round(share * len(groups)))
    rng = np.random.default_rng(derive(seed, "held out", by))
    chosen = {groups[i] for i in rng.permutation(len(groups))[:size]}
    clips = [
        clip.model_copy(update={"split": "select"}) if getattr(clip, by) in chosen else clip
        for clip in corpus.clips
    ]
    return Corpus(corpus.folder, clips)


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
