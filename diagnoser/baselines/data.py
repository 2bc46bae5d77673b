"""What baselines read of one part of a suite, computed once and kept for all rows, seeds and folds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import beats
from beats.cache import FeatureStore, StoreWeights, store_key
from beats.encode import pad_waves
from beats.fbank import DEVIATION, MEAN, fbank
from diagnoser.baselines.rows import slug
from diagnoser.config import DiagnoserTrainConfig
from diagnoser.data import narratives
from diagnoser.suites import SuitePart
from resp229k.audio import Preprocess, prepare
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from resp229k.narrative import told
from resp229k.tasks import get_task
from training.errors import ConfigError, DataError
from training.files import digest, new_folder
from training.model import weights_digest
from training.progress import track

if TYPE_CHECKING:
    from beats.encoder import BeatsEncoder

SPLITS = ("train", "select", "test")
FORMAT = 1  # raised when what is kept would differ
BATCH = 32


class PartData:
    """Clips of one part, their labels for training and choosing, and what is known and heard of them.

    Arrays over clips have one row per clip of the part, those of ``plan`` included, sorted by id:
    the folds of a cross-validation share them. Labels of ``test`` are not in here.

    Attributes:
        part: name, corpus, task and preprocessing.
        config: the budget; its corpus, task, preprocessing, seed and cache are the part's.
        work: keeps features and frames.
        clips: of train, select and test.
        labels: class indices of train and select.
        classes: names.

    Args:
        part: what to train, choose and judge on.
        config: of the diagnoser.
        work: folder of what is computed once.

    Raises:
        ConfigError: the config asks for more than real clips once each, from scratch.
        DataError: a split is empty, or fewer than two classes have training clips.
    """

    def __init__(self, part: SuitePart, config: DiagnoserTrainConfig, work: Path):
        if config.synthetic or config.repeats or config.init or config.tune_encoder:
            raise ConfigError(
                "baselines learn from scratch, from each real clip once and one frozen encoder, and so must "
                "the diagnoser beside them",
                cure="leave out synthetic, repeats, init and tune_encoder",
            )
        known = get_task(part.task)
        self.part, self.work, self.classes = part, work, known.classes
        self.config = config.model_copy(
            update={
                "corpus": str(part.corpus.folder),
                "task": part.task,
                "preprocess": part.preprocess,
                "cache": str(work / "features"),
            }
        )
        self.clips: dict[str, list[Clip]] = {}
        for split in SPLITS:
            self.clips[split] = part.corpus.subset(split=split, task=part.task).clips
            if not self.clips[split]:
                raise DataError(f"no {split} clips with a label of {part.task}", path=part.corpus.folder)
        self.labels = {
            split: np.array([known.index(c.labels[part.task]) for c in self.clips[split]], dtype=np.int64)
            for split in ("train", "select")
        }
        if len(np.unique(self.labels["train"])) < 2:
            raise DataError(f"only one class of {part.task} has training clips", path=part.corpus.folder)
        everyone = part.corpus.subset(task=part.task).clips
        # As if all were of one split: what is computed does not depend on it, and folds can share it.
        alike = [clip.model_copy(update={"split": "train"}) for clip in everyone if not clip.synthetic]
        self._all = Corpus(part.corpus.folder, sorted(alike, key=lambda clip: clip.clip_id))
        self._row = {clip.clip_id: row for row, clip in enumerate(self._all.clips)}

    @property
    def size(self) -> int:
        """Clips of the part, those of ``plan`` included."""
        return len(self._all)

    def seeded(self, seed: int) -> DiagnoserTrainConfig:
        """The config of one training."""
        fit = self.config.fit.model_copy(update={"seed": seed})
        return self.config.model_copy(update={"seed": seed, "fit": fit})

    def scratch(self, name: str, seed: int) -> Path:
        """Folder of one training's checkpoints."""
        return self.work / "fit" / slug(self.part.name) / f"{slug(name)}-{seed}"

    def rows(self, split: str) -> np.ndarray:
        """Rows ``(N,)`` of a split's clips in the arrays over all clips."""
        return np.array([self._row[clip.clip_id] for clip in self.clips[split]])

    def narratives(self, split: str, seed: int) -> list[str]:
        """What the diagnoser reads of a split's clips."""
        return narratives(self.clips[split], self.part.task, seed)

    def raw(self, split: str) -> list[str]:
        """The narrative's facts without its sentences: ``age_years: 6, sex: male``."""
        facts = [told(clip, self.part.task) for clip in self.clips[split]]
        return [", ".join(f"{name}: {value}" for name, value in one.items()) for one in facts]

    @cached_property
    def encoder(self) -> BeatsEncoder:
        """The frozen encoder."""
        return beats.load_encoder(beats.find(self.config.beats.weights))

    @cached_property
    def store(self) -> FeatureStore:
        """Its features of all clips."""
        return FeatureStore.build(
            self._all,
            encoder=self.encoder,
            preprocess=self.part.preprocess,
            folder=self.work / "features",
            max_gb=self.config.max_gb,
        )

    @cached_property
    def key(self) -> str:
        """Digest of what every row depends on: clips, splits, labels, audio, preparation, encoder."""
        weights = StoreWeights(encoder=weights_digest(self.encoder))
        splits = [[clip.clip_id, clip.split] for clip in self.part.corpus.clips]
        return digest([self.part.task, splits, store_key(self._all, weights, self.part.preprocess)])

    @cached_property
    def looped(self) -> Preprocess:
        """The preparation of spectrograms and hand-made features: short clips looped, whatever the part says.

        All are of one length then: there is no padding that could tell how long a clip was.
        """
        return self.part.preprocess.model_copy(update={"fit": "loop"})

    def kept(self, name: str, make: Callable[[list[np.ndarray]], np.ndarray]) -> np.ndarray:
        """An array over all clips, computed once from their waves; read from disk as it is needed.

        Args:
            name: of the file; another name, another content.
            make: waves ``(N,)`` of some clips, prepared and of one length → one row for each.
        """
        recipe = StoreWeights(encoder=f"{name} {FORMAT}")
        folder = self.work / name / store_key(self._all, recipe, self.looped)[:16]
        if not folder.is_dir():
            with new_folder(folder) as temporary:
                found = []
                for first in track(range(0, len(self._all), BATCH), name):
                    part = self._all.clips[first : first + BATCH]
                    found.append(make([prepare(self._all.audio(clip), self.looped) for clip in part]))
                np.save(temporary / "array.npy", np.concatenate(found), allow_pickle=False)
        array: np.ndarray = np.load(folder / "array.npy", mmap_mode="r", allow_pickle=False)
        return array

    @cached_property
    def frames(self) -> np.ndarray:
        """Filterbank frames ``(N, L, 128)`` fp16, (frames - mean) / deviation as BEATs has them."""
        return self.kept("frames", _frames)


def _frames(waves: list[np.ndarray]) -> np.ndarray:
    frames, _ = fbank(*pad_waves(waves))
    found: Any = ((frames - MEAN) / DEVIATION).half().numpy()
    return found
