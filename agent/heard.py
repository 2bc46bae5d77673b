"""Who hears what: the clips of encoder, generator and judges, and which of them are held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agent.config_pretrain import HeardConfig, PretrainConfig
from beats.frames import windows
from resp229k.build import pretrain_corpus
from resp229k.corpus import Corpus
from resp229k.simulate import simulate_events
from resp229k.simulate.config import SIMULATED
from training.seeds import derive

REAL = "sprsound"
FURTHER = 3  # added to the seed for the further clips of the generator
EVENT_TASKS = ("icbhi4", "spr_event")


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
    # Before hours of simulation: the recordings may not be there.
    found = real_corpora(config, work) if given else encoder[1:]
    generator = [_simulated(config, work / "sim", config.events, config.classes, 0)]
    judges = [_simulated(config, work / "sim-judge", config.judge_events, config.classes, 1)]
    for real in found:
        generator.append(real)
        judges.append(_half(real, 0))
    if config.further_events:
        made = _simulated(config, work / "sim-further", config.further_events, config.classes, FURTHER)
        # Validated is on the same clips as without.
        generator.append(Corpus(made.folder, [clip for clip in made.clips if clip.split != "select"]))
    return Gathered(encoder, generator, join(judges, work))


def encoder_corpora(config: HeardConfig, work: Path) -> list[Corpus]:
    """What the encoder hears: simulated events of all classes, then the real ones."""
    real = real_corpora(config, work)
    return [_simulated(config, work / "sim-encoder", config.encoder_events, SIMULATED, 2), *real]


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
