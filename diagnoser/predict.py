"""A trained diagnoser at work, on corpora and on files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from diagnoser.config import TUNED
from diagnoser.data import ClipDataset, Sample, collate, tokens
from diagnoser.model import Diagnoser
from diagnoser.predictions import Predictions
from diagnoser.text import Words
from diagnoser.weave import present
from resp229k.audio import RATE, Preprocess, load_audio
from resp229k.corpus import Corpus
from training.config import Strict, validate
from training.errors import AudioError, CheckpointError, DataError
from training.files import read_json
from training.progress import track

if TYPE_CHECKING:
    from beats.encoder import BeatsEncoder

RECORD = "diagnoser.json"
BATCH = 64
OVERLAP = 0.25  # of two neighbouring windows at least, so that what one cuts the other hears whole


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

    ``error`` is the reason and, behind an arrow, the cure. Without ``path`` a narrative was read alone.
    """

    path: Path | None
    label: str | None = None
    probabilities: dict[str, float] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Piece:
    """A window of a wave, or a narrative alone, ready for the network.

    Attributes:
        owner: index of its wave.
        start: where it begins in the wave, s.
        sample: of :func:`diagnoser.data.collate`.
    """

    owner: int
    start: float
    sample: Sample


class Predictor:
    """A diagnoser with its tokenizer and preprocessing.

    Args:
        model: in eval mode.
        record: what was saved beside it.
        words: its tokenizer, None if it does not read.
        tuned: folder that holds its own encoder; none: the record names the encoder.
    """

    def __init__(
        self, model: Diagnoser, record: DiagnoserRecord, words: Words | None, tuned: Path | None = None
    ):
        self.model, self.record, self.words, self.tuned = model.eval(), record, words, tuned

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
        tuned = folder if (folder / TUNED).is_dir() else None
        return cls(model, record, Words.load(folder) if record.text else None, tuned)

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
        probs, temperatures = self._probabilities(ClipDataset(ids, store, text))
        return Predictions(
            clip_ids=ids,
            subject_ids=[clip.subject_id for clip in known.clips],
            labels=known.labels(self.task),
            probs=probs,
            classes=self.classes,
            temperatures=temperatures,
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

    def predict_files(
        self, paths: Sequence[Path], text: str | Sequence[str | None] | None = None
    ) -> list[FilePrediction]:
        """Predict recordings; one that cannot be used gets the reason instead.

        A recording longer than ``preprocess.seconds`` is cut into overlapping windows, whose
        probabilities are averaged.

        Args:
            paths: recordings.
            text: narrative of all of them, or of each; without one the diagnoser listens only.
        """
        texts = [text] * len(paths) if text is None or isinstance(text, str) else text
        told = list(zip(paths, texts, strict=True))
        return [self._file(path, one) for path, one in track(told, "diagnose")]

    def predict_file(self, path: Path | None, text: str | None = None) -> FilePrediction:
        """Predict one recording, or without ``path`` a narrative alone.

        Raises:
            AudioError: it cannot be used.
            DataError: neither a recording nor a narrative that the diagnoser reads.
        """
        wave = None if path is None else load_audio(path)
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
        self, waves: Sequence[np.ndarray | None], texts: Sequence[str | None] | None = None
    ) -> np.ndarray:
        """Probabilities ``(N, C)`` of 16 kHz waves, averaged over windows; calibrated for what is there.

        Args:
            waves: ``(S,)`` each; None: the narrative alone.
            texts: narrative of each wave; None: the wave alone.

        Raises:
            AudioError: a wave is too short for one column of features.
            DataError: neither a wave nor a narrative that the diagnoser reads.
        """
        found = self.pieces(waves, texts)
        each, _ = self._probabilities([piece.sample for piece in found])
        owner = np.array([piece.owner for piece in found])
        return np.stack([each[owner == index].mean(axis=0) for index in range(len(waves))])

    def unread(self, texts: Sequence[str]) -> str:
        """What of some narratives is not read, in a sentence; empty where all of it is."""
        if not texts:
            return ""
        if self.words is None:
            return "this diagnoser was trained with text: false and only listens: narratives are not read"
        return self.words.cut(texts, self.model.config.sizes.text_tokens)

    def pieces(
        self, waves: Sequence[np.ndarray | None], texts: Sequence[str | None] | None = None
    ) -> list[Piece]:
        """What the network is given: the windows of every wave in turn, or its narrative alone.

        Args, raises: as :meth:`probabilities`.
        """
        from beats.encode import encode_waves

        size = round(self.record.preprocess.seconds * RATE)
        cut = [
            (index, start, wave[start : start + size])
            for index, wave in enumerate(waves)
            if wave is not None
            for start in starts(wave.size, size)
        ]
        # The encoder is read only where there is something to hear.
        heard = [wave for _, _, wave in cut]
        grids = encode_waves(self._encoder, heard, self.record.preprocess) if heard else []
        told = texts if texts is not None else [None] * len(waves)
        longest = self.model.config.sizes.text_tokens
        read = [self.words.encode(t, longest) if self.words and t else [] for t in told]
        nothing = np.zeros((0, self.model.config.feature_rows, self.model.config.feature_dim), np.float16)
        found = [
            Piece(index, start / RATE, {"tokens": read[index], "features": grid})
            for (index, start, _), grid in zip(cut, grids, strict=True)
        ]
        for index, wave in enumerate(waves):
            if wave is None and not read[index]:
                raise DataError(
                    "neither a recording nor a narrative that this diagnoser reads",
                    cure="give one of them; a diagnoser trained with text: false only listens",
                )
            if wave is None:
                found.append(Piece(index, 0.0, {"tokens": read[index], "features": nothing}))
        return found

    def _file(self, path: Path, text: str | None) -> FilePrediction:
        try:
            return self.predict_file(path, text)
        except AudioError as error:
            return FilePrediction(path=path, error=str(AudioError(error.message, cure=error.cure)))

    @torch.inference_mode()
    def _probabilities(self, samples: Any) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities ``(N, C)`` and the temperatures ``(N,)`` that they were calibrated with."""
        device = self.model.projection.weight.device
        found, temperatures = [], []
        for first in range(0, len(samples), BATCH):
            batch = collate([samples[i] for i in range(first, min(first + BATCH, len(samples)))])
            batch = {name: value.to(device) for name, value in batch.items()}
            there = present(batch["text_mask"], batch["columns"])
            logits = self.model(**batch).logits
            found.append(self.model.probabilities(logits.double(), there).cpu().numpy())
            temperatures.append(self.model.temperatures(there).double().cpu().numpy())
        return np.concatenate(found), np.concatenate(temperatures)

    @cached_property
    def _encoder(self) -> BeatsEncoder:
        import beats
        from training.model import weights_digest

        path = self.tuned or beats.find(self.record.beats)
        encoder = beats.load_encoder(path)
        if weights_digest(encoder) != self.record.beats_digest:
            raise CheckpointError(
                "the encoder is not the one this diagnoser was trained on",
                path=path,
                cure="put the weights of its training run there, or train the diagnoser again",
            )
        return encoder


def starts(length: int, size: int) -> list[int]:
    """First samples of evenly spaced windows of ``size`` samples that cover ``length``; a short wave is one.

    Neighbours share a quarter of a window at least.
    """
    if length <= size:
        return [0]
    count = 1 + math.ceil((length - size) / (size * (1.0 - OVERLAP)))
    return [int(start) for start in np.linspace(0, length - size, count).round()]


def windows(wave: np.ndarray, size: int) -> list[np.ndarray]:
    """The windows of a wave ``(N,)`` that :func:`starts` names."""
    return [wave[start : start + size] for start in starts(wave.size, size)]
