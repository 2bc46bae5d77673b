"""Training pairs of the generator: a target clip and the recording that lends it its style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from generator.codec import Codec
from generator.config import GeneratorPretrainConfig
from generator.decoder import COLUMN, FlowDecoder
from generator.mllm import RespMLLM
from generator.prompt import event_text
from generator.targets import Store, Targets
from resp229k.audio import FADE, RATE, Preprocess, prepare
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from training.errors import ConfigError


class Mels:
    """A codec's frames of clips, computed at first use and kept as fp16 (4 s of log-mel take 32 kB)."""

    def __init__(self, codec: Codec, preprocess: Preprocess):
        self.codec, self.preprocess = codec, preprocess
        self.kept: dict[str, np.ndarray] = {}
        self.spectra: dict[str, np.ndarray] = {}

    def __call__(self, clip: Clip, corpus: Corpus) -> np.ndarray:
        """Normalised frames ``(L, M)``."""
        if clip.clip_id not in self.kept:
            wave = prepare(corpus.audio(clip), self.preprocess)
            self.kept[clip.clip_id] = self.codec.encode(wave).astype(np.float16)
        return self.kept[clip.clip_id]

    def spectrum(self, clip: Clip, corpus: Corpus) -> np.ndarray:
        """:func:`spectrum_of` the clip, computed once: every clip is the reference of many."""
        if clip.clip_id not in self.spectra:
            self.spectra[clip.clip_id] = spectrum_of(self(clip, corpus))
        return self.spectra[clip.clip_id]


def spectrum_of(mel: np.ndarray) -> np.ndarray:
    """Mean and deviation over time ``(2 M,)`` of frames ``(L, M)``."""
    mel = mel.astype(np.float32)
    return np.concatenate([mel.mean(0), mel.std(0)])


def prefix_length(share: float, frames: int, reference: int) -> int:
    """Most frames of a reference of ``reference`` that may stand before a clip of ``frames``."""
    return min(int(share * frames), reference)


def disjoint(
    clip: Clip, columns: int, how: Preprocess, rng: np.random.Generator
) -> tuple[slice, slice] | None:
    """Cut a clip's columns in two, one part for the target, the other for its reference.

    Each has a quarter of them at least. A clip that was repeated to its length is cut before it repeats: what
    follows is heard twice.

    Args:
        clip: as it was recorded.
        columns: of its grid, prepared.
        how: it was prepared.
        rng: draws the cut and the sides.

    Returns:
        columns of target and reference; none if there are fewer than four to cut.
    """
    if how.fit == "loop" and clip.seconds < how.seconds:
        columns = min(columns, int((clip.seconds * RATE - FADE) // COLUMN))
    if columns < 4:
        return None
    cut = int(rng.integers(-(-columns // 4), columns - -(-columns // 4) + 1))
    before, after = slice(0, cut), slice(cut, columns)
    return (before, after) if rng.random() < 0.5 else (after, before)


class UnitPairs:
    """Samples for the Resp-MLLM: prompt text, a reference's features, the target's units.

    The features of a reference that is a crop of the target's clip were computed from the whole clip: they may
    know a little of the target through the encoder's attention.
    """

    def __init__(self, targets: Targets, store: Store, model: RespMLLM):
        self.targets, self.store, self.model = targets, store, model

    def __len__(self) -> int:
        return len(self.targets.items)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        target, config = self.targets.items[index], self.model.config
        rng = _generator()
        units = _units(self.store, target.clip, config.codebook)
        share = self.targets.draw.disjoint_crop
        cut = None
        if share and rng.random() < share:
            cut = disjoint(target.clip, len(units), config.preprocess, rng)
        if cut is None:
            reference, _ = self.targets.reference(target.clip, rng)
            features = self.store.features(reference.clip_id)
        else:
            units, features = units[cut[0]], self.store.features(target.clip.clip_id)[cut[1]]
        events = event_text(target.clip, config.kinds) if config.events else None
        if events is not None and rng.random() < config.event_dropout:
            events = None
        return {
            "text": self.model.text.ids(target.task, target.label, events),
            "features": _float(features),
            "units": units,
        }


class MelPairs:
    """Samples for the flow decoder: the target's units and frames, a reference's features and spectrum.

    A decoder with a prefix gets frames of the reference as well: as many as it draws, from where it draws.

    Args:
        targets: what to learn.
        store: features and units.
        model: the decoder.
        mels: frames of all clips.
        crop: columns of the random stretch that is taken of each target; none: all of it. Units are cut on
            whole columns, frames at the nearest frame, so that both are the same stretch of time.
    """

    def __init__(
        self, targets: Targets, store: Store, model: FlowDecoder, mels: Mels, crop: int | None = None
    ):
        self.targets, self.store, self.model, self.mels, self.crop = targets, store, model, mels, crop

    def __len__(self) -> int:
        return len(self.targets.items)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        target = self.targets.items[index]
        rng = _generator()
        reference, corpus = self.targets.reference(target.clip, rng)
        units = _units(self.store, target.clip, self.model.config.codebook)
        mel = self.mels(target.clip, target.corpus)
        if self.crop is not None and len(units) > self.crop:
            first = int(rng.integers(len(units) - self.crop + 1))
            ratio = COLUMN * self.model.config.codec.frame_rate / RATE  # frames of a column
            units = units[first : first + self.crop]
            mel = mel[round(ratio * first) : round(ratio * (first + self.crop))]
        sample = {
            "label": torch.tensor(self.model.label_index(target.task, target.label)),
            "features": _float(self.store.features(reference.clip_id)),
            "spectrum": torch.from_numpy(self.mels.spectrum(reference, corpus)),
            "units": units,
            "mel": _float(mel),
        }
        if self.model.config.prefix:
            heard = self.mels(reference, corpus)
            length = int(rng.integers(prefix_length(self.model.config.prefix, len(mel), len(heard)) + 1))
            start = int(rng.integers(len(heard) - length + 1))
            sample["prefix"] = _float(heard[start : start + length])
        return sample


class First:
    """The first samples of a dataset, evenly spread over it: a validation set of bounded cost."""

    def __init__(self, dataset: Any, size: int):
        self.dataset = dataset
        self.places = np.linspace(0, len(dataset) - 1, min(size, len(dataset))).round().astype(int)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.places[index])]


LENGTHS = {"features": "feature_columns", "units": "columns", "mel": "frames", "prefix": "prefix_frames"}


def collate(samples: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join samples: sequences are padded with zeros, and their lengths stand beside them."""
    batch: dict[str, Tensor] = {}
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        if name in LENGTHS:
            batch[name] = pad_sequence(values, batch_first=True)
            batch[LENGTHS[name]] = torch.tensor([len(value) for value in values])
        else:
            batch[name] = torch.stack(values)
    return batch


def unigram_entropy(targets: Targets, store: Store, config: GeneratorPretrainConfig, valid: Any) -> float:
    """Nats per unit on ``valid`` of the units' frequencies in training: what a language model must beat."""
    counts = np.ones(config.codebook)
    for clip, _ in targets.clips:
        counts += np.bincount(store.units(clip.clip_id).ravel(), minlength=config.codebook)
    information = -np.log(counts / counts.sum())
    seen = [valid[index]["units"].numpy().ravel() for index in range(len(valid))]
    return float(information[np.concatenate(seen)].mean())


def _generator() -> np.random.Generator:
    """A generator that follows torch's global seed, which training sets for every batch."""
    return np.random.default_rng(int(torch.randint(2**62, (1,))))


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float32))


def _units(store: Store, clip: Clip, codebook: int) -> Tensor:
    units = torch.from_numpy(np.asarray(store.units(clip.clip_id), dtype=np.int64))
    if int(units.max()) >= codebook:
        raise ConfigError(
            f"clip {clip.clip_id} has unit {int(units.max())}, outside a codebook of {codebook}",
            cure="set codebook to the tokenizer's",
        )
    return units
