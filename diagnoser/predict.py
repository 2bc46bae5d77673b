"""A trained diagnoser at work, on corpora and on files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from diagnoser.data import ClipDataset, Sample, collate, tokens
from diagnoser.model import Diagnoser
from diagnoser.predictions import Predictions
from diagnoser.text import Words
from resp229k.audio import RATE, Preprocess, load_audio
from resp229k.corpus import Corpus
from training.config import Strict, validate
from training.errors import AudioError, CheckpointError, DataError
from training.files import read_json

if TYPE_CHECKING:
    from beats.encoder import BeatsEncoder

RECORD = "diagnoser.json"
BATCH = 64


class DiagnoserRecord(Strict):
    """``diagnoser.json``: what a trained diagnoser needs beside its weights.

    Attributes:
        beats: the encoder of its features, as ``beats.weights`` of the training config named it.
        beats_digest: SHA-256 over that encoder's config and tensors.
        preprocess: how a clip becomes the encoder's input.
        text: whether it reads narratives.
        seed: of the narratives' wording.
    """

    beats: str
    beats_digest: str
    preprocess: Preprocess
    text: bool
    seed: int


@dataclass(frozen=True)
class FilePrediction:
    """One file: either probabilities, or why there are none.

    ``error`` is the reason and, behind an arrow, the cure.
    """

    path: Path
    label: str | None = None
    probabilities: dict[str, float] | None = None
    error: str | None = None


class Predictor:
    """A diagnoser with its tokenizer and preprocessing.

    Args:
        model: in eval mode.
        record: what was saved beside it.
        words: its tokenizer, None if it does not read.
    """

    def __init__(self, model: Diagnoser, record: DiagnoserRecord, words: Words | None):
        self.model, self.record, self.words = model.eval(), record, words

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder written by ``train_diagnoser``.

        Raises:
            CheckpointError: something is missing or does not fit.
        """
        model = Diagnoser.from_pretrained(folder)
        if not (folder / RECORD).is_file():
            raise CheckpointError(f"no {RECORD}: training did not finish here", path=folder)
        record = validate(DiagnoserRecord, read_json(folder / RECORD), where=str(folder / RECORD))
        if torch.cuda.is_available():
            model.to("cuda")
        return cls(model, record, Words.load(folder) if record.text else None)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities."""
        return self.model.config.classes

    @property
    def task(self) -> str:
        """The task that it was trained for."""
        return self.model.config.task

    def predict_corpus(self, corpus: Corpus, store: Any) -> Predictions:
        """Predict every clip of a corpus that carries a label of the task.

        Args:
            corpus: clips with labels.
            store: their features, e.g. from :meth:`build_store`.

        Raises:
            DataError: no such clips, or one without features.
        """
        known = corpus.subset(task=self.task)
        if not len(known):
            raise DataError(f"no clips with a label of {self.task}", path=corpus.folder)
        ids = [clip.clip_id for clip in known.clips]
        text = tokens(
            known.clips,
            self.words,
            self.model.config.sizes.text_tokens,
            task=self.task,
            seed=self.record.seed,
        )
        return Predictions(
            clip_ids=ids,
            subject_ids=[clip.subject_id for clip in known.clips],
            labels=known.labels(self.task),
            probs=self._probabilities(ClipDataset(ids, store, text)),
            classes=self.classes,
        )

    def build_store(self, corpus: Corpus, folder: Path | None = None, max_gb: float = 20.0) -> Any:
        """Features of a corpus, computed once; by default in ``features`` beside its audio."""
        from beats.cache import FeatureStore

        return FeatureStore.build(
            corpus,
            encoder=self._encoder,
            preprocess=self.record.preprocess,
            folder=folder or corpus.folder / "features",
            max_gb=max_gb,
        )

    def predict_files(self, paths: Sequence[Path], text: str | None = None) -> list[FilePrediction]:
        """Predict recordings; one that cannot be used gets the reason instead.

        A recording longer than the diagnoser's input is cut into windows, whose probabilities are
        averaged. Without ``text`` the diagnoser listens only.
        """
        return [self._file(path, text) for path in paths]

    def predict_file(self, path: Path, text: str | None = None) -> FilePrediction:
        """Predict one recording.

        Raises:
            AudioError: it cannot be used.
        """
        wave = load_audio(path)
        try:
            row = self.probabilities([wave], [text])[0]
        except AudioError as error:  # too short: only here is the file known
            raise AudioError(error.message, path=path, cure=error.cure) from error
        return FilePrediction(
            path=path,
            label=self.classes[int(row.argmax())],
            probabilities={n: round(float(p), 6) for n, p in zip(self.classes, row, strict=True)},
        )

    def probabilities(
        self, waves: Sequence[np.ndarray], texts: Sequence[str | None] | None = None
    ) -> np.ndarray:
        """Probabilities ``(N, C)`` of 16 kHz waves, averaged over windows.

        Raises:
            AudioError: a wave is too short for one column of features.
        """
        from beats.encode import encode_waves

        pieces, owner = [], []
        for index, wave in enumerate(waves):
            for piece in windows(wave, round(self.record.preprocess.seconds * RATE)):
                pieces.append(piece)
                owner.append(index)
        grids = encode_waves(self._encoder, pieces, self.record.preprocess)
        longest = self.model.config.sizes.text_tokens
        told = texts if texts is not None else [None] * len(waves)
        read = [self.words.encode(t, longest) if self.words and t else [] for t in told]
        samples: list[Sample] = [
            {"tokens": read[index], "features": grid} for index, grid in zip(owner, grids, strict=True)
        ]
        each = self._probabilities(samples)
        return np.stack([each[np.array(owner) == index].mean(axis=0) for index in range(len(waves))])

    def _file(self, path: Path, text: str | None) -> FilePrediction:
        try:
            return self.predict_file(path, text)
        except AudioError as error:
            return FilePrediction(path=path, error=str(AudioError(error.message, cure=error.cure)))

    @torch.inference_mode()
    def _probabilities(self, samples: Any) -> np.ndarray:
        device = self.model.projection.weight.device
        found = []
        for first in range(0, len(samples), BATCH):
            batch = collate([samples[i] for i in range(first, min(first + BATCH, len(samples)))])
            logits = self.model(**{name: value.to(device) for name, value in batch.items()}).logits
            found.append(self.model.probabilities(logits.double()).cpu().numpy())
        return np.concatenate(found)

    @cached_property
    def _encoder(self) -> BeatsEncoder:
        import beats
        from training.model import weights_digest

        path = beats.find(self.record.beats)
        encoder = beats.load_encoder(path)
        if weights_digest(encoder) != self.record.beats_digest:
            raise CheckpointError(
                "the encoder is not the one this diagnoser was trained on",
                path=path,
                cure="put the weights of its training run there, or train the diagnoser again",
            )
        return encoder


def windows(wave: np.ndarray, size: int) -> list[np.ndarray]:
    """Evenly spaced windows of ``size`` samples that cover a wave ``(N,)``; a short wave stays whole."""
    if wave.size <= size:
        return [wave]
    count = -(-wave.size // size)
    starts = np.linspace(0, wave.size - size, count).round().astype(int)
    return [wave[start : start + size] for start in starts]
