"""Training of the judge: real clips, classes in balance, other devices by augmentation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from beats.augment import augment, roll
from beats.config import JudgeConfig, JudgeTrainConfig
from beats.judge import FLOOR, Judge, judge_frames
from resp229k.corpus import Corpus
from resp229k.tasks import get_task
from training.errors import ContaminationError, DataError
from training.fit import fit
from training.model import Provenance
from training.progress import track
from training.seeds import derive, seed_all

CHUNK = 64
SCALE = 16.0  # log-mel values of 0 to 30 are kept in fp16


class JudgeDataset:
    """Log-mel frames of a corpus in memory, with class indices; training rows get augmented."""

    def __init__(self, corpus: Corpus, config: JudgeConfig, *, train: bool):
        self.train = train
        self.labels = [config.classes.index(clip.labels[config.task]) for clip in corpus.clips]
        parts = []
        for first in track(range(0, len(corpus), CHUNK), "judge: log-mel"):
            waves = [corpus.audio(clip) for clip in corpus.clips[first : first + CHUNK]]
            parts.append((judge_frames(waves, config) / SCALE).half())
        self.frames = torch.cat(parts)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, bool]:
        return self.frames[index], self.labels[index], self.train


def collate(rows: list[tuple[Tensor, int, bool]]) -> dict[str, Tensor]:
    """Keyword arguments of the judge's forward; training rows are rolled, and get another device."""
    frames = torch.stack([row[0] for row in rows]).float() * SCALE
    if rows[0][2]:
        frames = augment(roll(frames, frames.shape[1] // 2), math.log(FLOOR))
    return {"frames": frames, "labels": torch.tensor([row[1] for row in rows])}


def train_judge(corpus: Corpus, config: JudgeTrainConfig, work: Path) -> Judge:
    """Train a judge on the real training clips of a corpus.

    Args:
        corpus: clips of split ``train`` (or ``pretrain``) carry the task's labels; split ``select``,
            where there is one, chooses the step.
        config: task, sizes, steps, seed.
        work: folder for checkpoints, removed at the end.

    Raises:
        DataError: fewer than two classes have training clips.
        ContaminationError: a training clip is synthetic.
        AudioError: a recording cannot be used, named by path.
    """
    parts = {name: corpus.subset(split=name, task=config.task) for name in ("pretrain", "train", "select")}
    clips = parts["pretrain"].clips + parts["train"].clips
    made = [clip.clip_id for clip in clips if clip.synthetic]
    if made:
        raise ContaminationError(
            f"{len(made)} training clips of the judge are synthetic, e.g. {made[0]}",
            path=corpus.folder,
            cure="train the judge on real clips: it judges the synthetic ones",
        )
    classes = tuple(
        c for c in get_task(config.task).classes if any(x.labels[config.task] == c for x in clips)
    )
    if len(classes) < 2:
        raise DataError(
            f"only {len(classes)} classes of {config.task} have training clips: a judge needs two",
            path=corpus.folder,
        )
    sizes = JudgeConfig(
        task=config.task,
        classes=classes,
        preprocess=config.preprocess,
        mels=config.mels,
        channels=config.channels,
    )
    train = JudgeDataset(Corpus(corpus.folder, clips), sizes, train=True)
    known = [clip for clip in parts["select"].clips if clip.labels[config.task] in classes]
    select = JudgeDataset(Corpus(corpus.folder, known), sizes, train=False) if known else None
    counts = np.bincount(train.labels, minlength=len(classes))
    seed_all(derive(config.seed, "judge"))
    judge = Judge(sizes)
    fit(
        judge,
        train,
        collate=collate,
        config=config.fit.model_copy(update={"seed": derive(config.seed, "judge fit")}),
        out=work,
        valid=select,
        metric=mean_recall,
        weights=1.0 / counts[train.labels],
        description=f"judge ({config.task})",
    )
    judge.provenance = Provenance.of(
        [clip.subject_id for clip in clips + known], command="train judge", seed=config.seed
    )
    return judge


def mean_recall(outputs: list) -> float:
    """Recall averaged over the classes that occur."""
    found = torch.cat([output.logits for output in outputs]).argmax(-1)
    labels = torch.cat([output.labels for output in outputs])
    recalls = [(found[labels == c] == c).float().mean() for c in labels.unique()]
    return float(torch.stack(recalls).mean())
