"""The feature store: a frozen encoder's features and units of a corpus, computed once.

Features lie in sharded fp16 memory maps, units beside them where a tokenizer was given. A store is keyed by
the weights, the preprocessing, the clips and their audio; under its final name it is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch

from beats.config import PATCH, ROWS
from beats.encode import check_length, encode_batch
from beats.encoder import BeatsEncoder, grid_shape
from beats.tokenizer import Quantizer
from beats.units import UnitTokenizer
from resp229k.audio import Preprocess, prepare
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from training.config import Strict
from training.errors import AudioError, ConfigError, DataError
from training.files import digest, file_digest, new_folder, read_json, write_json
from training.model import weights_digest
from training.progress import console, track

FORMAT = 2
SHARD_BYTES = 1 << 30
UNITS = "build it with a tokenizer: weights of ours with encoder and tokenizer, or a published tokenizer"
Place = tuple[int, int, int]  # shard, first column, columns


class StoreWeights(Strict):
    """Digests of what made a store; no tokenizer, no units."""

    encoder: str
    tokenizer: str | None = None


class StoreIndex(Strict):
    """``index.json`` of a store."""

    key: str
    weights: StoreWeights
    dim: int
    rows: int
    codebook: int | None
    shards: list[int]  # columns of each
    clips: dict[str, Place]


class Features(Protocol):
    """What models read: one store, or several chained ones."""

    @property
    def weights(self) -> StoreWeights:
        """Digests of what made the features and units."""
        ...

    def features(self, clip_id: str) -> np.ndarray:
        """``(T, F, D)`` fp16."""
        ...

    def units(self, clip_id: str) -> np.ndarray:
        """``(T, F)`` int64."""
        ...

    def __contains__(self, clip_id: object) -> bool: ...


def store_key(corpus: Corpus, weights: StoreWeights, how: Preprocess) -> str:
    """Key of a store: changes with the weights, the preprocessing, the clips and their audio.

    Args:
        corpus: clips and audio.
        weights: digests of what makes it.
        how: preprocessing.

    Raises:
        AudioError: a file of the corpus is missing.
    """
    sounds = {}
    for path in sorted({clip.path for clip in corpus.clips}):
        if not (corpus.folder / path).is_file():
            raise AudioError(
                "no such recording", path=corpus.folder / path, cure="put it back, or build the corpus again"
            )
        sounds[path] = file_digest(corpus.folder / path)
    return digest(
        {
            "format": FORMAT,
            "weights": weights.model_dump(),
            "preprocess": how.model_dump(mode="json"),
            "clips": corpus.digest,
            "audio": sounds,
        }
    )


class FeatureStore:
    """Features and units of a corpus, by clip id.

    Args:
        folder: written by :meth:`build`.
        index: its ``index.json``.
    """

    def __init__(self, folder: Path, index: StoreIndex):
        self.folder = folder
        self.index = index

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a store (the ``folder`` attribute of a built one).

        Raises:
            DataError: there is no complete store in it.
        """
        if not (folder / "index.json").is_file():
            raise DataError("holds no feature store", path=folder, cure="build it with FeatureStore.build")
        return cls(folder, StoreIndex.model_validate(read_json(folder / "index.json")))

    @classmethod
    def build(
        cls,
        corpus: Corpus,
        *,
        encoder: BeatsEncoder,
        tokenizer: UnitTokenizer | Quantizer | None = None,
        preprocess: Preprocess,
        folder: Path,
        batch: int = 32,
        max_gb: float = 20.0,
    ) -> Self:
        """Encode every clip of a corpus once; a second call with the same inputs only opens.

        Args:
            corpus: clips and audio.
            encoder: in eval mode.
            tokenizer: units of its features; without it the store holds features alone.
            preprocess: how a clip becomes the encoder's input.
            folder: of all stores; this one goes to a subfolder named after its key.
            batch: clips encoded at a time.
            max_gb: refuse a larger store.

        Raises:
            AudioError: a recording cannot be used, named by path.
            ConfigError: the store would be larger than ``max_gb``.
            DataError: the corpus is empty.
        """
        if not corpus.clips:
            raise DataError("the corpus has no clips to encode", path=corpus.folder)
        weights = StoreWeights(
            encoder=weights_digest(encoder),
            tokenizer=None if tokenizer is None else weights_digest(tokenizer),
        )
        key = store_key(corpus, weights, preprocess)
        home = folder / key[:16]
        if (home / "index.json").is_file():
            return cls.open(home)
        gigabytes = estimate_bytes(corpus.clips, preprocess, encoder.width) / 1e9
        console.print(f"features of {len(corpus)} clips: {gigabytes:.2f} GB in {home}")
        if gigabytes > max_gb:
            raise ConfigError(
                f"the feature store would take {gigabytes:.1f} GB, the limit is {max_gb:g} GB",
                path=home,
                cure="raise max_gb, shorten preprocess.seconds, or take a subset of the corpus",
            )
        with new_folder(home) as temporary:
            writer = _Writer(temporary, encoder.width)
            encoder.eval()
            clips = sorted(corpus.clips, key=lambda clip: (clip.seconds, clip.clip_id))
            for first in track(range(0, len(clips), batch), "encode"):
                part = clips[first : first + batch]
                for clip, features in zip(part, _encode(corpus, part, encoder, preprocess), strict=True):
                    writer.add(clip.clip_id, features, _units(tokenizer, features))
            codebook = None if tokenizer is None else tokenizer.config.codebook
            write_json(temporary / "index.json", writer.close(key, weights, codebook))
        return cls.open(home)

    @property
    def weights(self) -> StoreWeights:
        """Digests of what made the features and units."""
        return self.index.weights

    def features(self, clip_id: str) -> np.ndarray:
        """Features ``(T, F, D)`` fp16 of a clip, T its real columns.

        Raises:
            DataError: the clip is not in the store.
        """
        shard, first, columns = self._place(clip_id)
        return self._features[shard][first : first + columns]

    def units(self, clip_id: str) -> np.ndarray:
        """Units ``(T, F)`` int64 of a clip.

        Raises:
            DataError: the clip is not in the store, or the store holds no units.
        """
        if self.index.weights.tokenizer is None:
            raise DataError("this feature store holds no units", path=self.folder, cure=UNITS)
        shard, first, columns = self._place(clip_id)
        return self._units[shard][first : first + columns].astype(np.int64)

    def __contains__(self, clip_id: object) -> bool:
        return clip_id in self.index.clips

    def _place(self, clip_id: str) -> Place:
        if clip_id not in self.index.clips:
            raise DataError(f"clip {clip_id} is not in this feature store", path=self.folder)
        return self.index.clips[clip_id]

    @cached_property
    def _features(self) -> list[np.ndarray]:
        return self._maps("features", "<f2", (self.index.rows, self.index.dim))

    @cached_property
    def _units(self) -> list[np.ndarray]:
        return self._maps("units", "<i4", (self.index.rows,))

    def _maps(self, name: str, kind: str, shape: tuple[int, ...]) -> list[np.ndarray]:
        return [
            np.memmap(self.folder / f"{name}-{number:03d}.bin", kind, "r", shape=(columns, *shape))
            for number, columns in enumerate(self.index.shards)
        ]


class StoreSet:
    """Several stores as one, e.g. of real and of synthetic clips; the first that has a clip gives it."""

    def __init__(self, stores: Sequence[Features]):
        self.stores = list(stores)

    def _holder(self, clip_id: str) -> Features:
        for store in self.stores:
            if clip_id in store:
                return store
        raise DataError(f"clip {clip_id} is in none of {len(self.stores)} feature stores")

    @property
    def weights(self) -> StoreWeights:
        """As :attr:`FeatureStore.weights`.

        Raises:
            DataError: the stores were made with different weights.
        """
        first, *others = [store.weights for store in self.stores]
        if any(other != first for other in others):
            raise DataError("these feature stores were made with different weights", cure="build them alike")
        return first

    def features(self, clip_id: str) -> np.ndarray:
        """As :meth:`FeatureStore.features`."""
        return self._holder(clip_id).features(clip_id)

    def units(self, clip_id: str) -> np.ndarray:
        """As :meth:`FeatureStore.units`."""
        return self._holder(clip_id).units(clip_id)

    def __contains__(self, clip_id: object) -> bool:
        return any(clip_id in store for store in self.stores)


def estimate_bytes(clips: Sequence[Clip], preprocess: Preprocess, dim: int) -> int:
    """Bytes that the features and units of clips take."""
    full = grid_shape(preprocess.seconds)[0]
    looped = preprocess.fit == "loop"
    columns = sum(full if looped else min(full, grid_shape(clip.seconds)[0]) for clip in clips)
    return columns * ROWS * (2 * dim + 4)


def _encode(
    corpus: Corpus, clips: Sequence[Clip], encoder: BeatsEncoder, preprocess: Preprocess
) -> list[np.ndarray]:
    waves = []
    for clip in clips:
        wave = prepare(corpus.audio(clip), preprocess)
        check_length(wave, f"clip {clip.clip_id}", corpus.folder / clip.path)
        waves.append(wave)
    return encode_batch(encoder, waves)


def _units(tokenizer: UnitTokenizer | Quantizer | None, features: np.ndarray) -> np.ndarray | None:
    """Units of a clip, from the rounded features, so that units and stored features always agree."""
    if tokenizer is None:
        return None
    return tokenizer.units(torch.from_numpy(features.astype(np.float32))).numpy()


class _Writer:
    """Appends clips to shards."""

    def __init__(self, folder: Path, dim: int):
        self.folder, self.dim = folder, dim
        self.limit = max(PATCH, SHARD_BYTES // (2 * ROWS * dim))  # columns of a shard
        self.shards: list[int] = []
        self.clips: dict[str, Place] = {}

    def add(self, clip_id: str, features: np.ndarray, units: np.ndarray | None) -> None:
        if not self.shards or self.shards[-1] + len(features) > self.limit:
            self.shards.append(0)
        number = len(self.shards) - 1
        for name, kind, values in (("features", "<f2", features), ("units", "<i4", units)):
            if values is None:
                continue
            with (self.folder / f"{name}-{number:03d}.bin").open("ab") as file:
                file.write(np.ascontiguousarray(values, dtype=kind).tobytes())
        self.clips[clip_id] = (number, self.shards[-1], len(features))
        self.shards[-1] += len(features)

    def close(self, key: str, weights: StoreWeights, codebook: int | None) -> dict[str, object]:
        index = StoreIndex(
            key=key,
            weights=weights,
            dim=self.dim,
            rows=ROWS,
            codebook=codebook,
            shards=self.shards,
            clips=self.clips,
        )
        return index.model_dump(mode="json")
