"""Units: k-means over encoder features, one unit per place of the time x frequency grid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from beats.config import UnitsConfig
from training.config import Strict
from training.errors import DataError
from training.model import Model

CHUNK = 65_536  # vectors compared with the codebook at a time


class UnitTokenizer(Model):
    """Nearest centroid of standardised features.

    The centroids are fitted, not trained by gradient: all tensors are buffers.
    """

    config_class: ClassVar[type[Strict]] = UnitsConfig
    config: UnitsConfig
    mean: Tensor
    scale: Tensor
    centroids: Tensor

    def __init__(self, config: UnitsConfig):
        super().__init__(config)
        self.register_buffer("mean", torch.zeros(config.dim))
        self.register_buffer("scale", torch.ones(config.dim))
        self.register_buffer("centroids", torch.zeros(config.codebook, config.dim))

    @torch.no_grad()
    def units(self, features: Tensor) -> Tensor:
        """Units of features ``(B, T, F, D)`` as ``(B, T, F)`` int64 in [0, codebook).

        Any leading shape goes; columns past a clip's end give a unit too, which the caller masks.

        Raises:
            DataError: the features have another width than the codebook.
        """
        if features.shape[-1] != self.config.dim:
            raise DataError(f"features are {features.shape[-1]} wide, the units {self.config.dim}")
        flat = (features.reshape(-1, self.config.dim).to(self.mean) - self.mean) / self.scale
        return nearest(flat, self.centroids).view(features.shape[:-1])


def nearest(vectors: Tensor, codes: Tensor) -> Tensor:
    """Index ``(N,)`` of the code ``(K, D)`` nearest to each vector ``(N, D)``."""
    # The vectors' own length is the same for every code.
    offset = codes.square().sum(-1)
    found = [torch.addmm(offset, part, codes.T, alpha=-2.0).argmin(-1) for part in vectors.split(CHUNK)]
    return torch.cat(found or [torch.zeros(0, dtype=torch.int64, device=vectors.device)])


class ResidualUnits(Model):
    """Several codebooks, each of what the ones before leave: finer than one, for comparisons.

    Args:
        config: of the first codebook; the others have its size.
        depth: codebooks Q.
    """

    config_class: ClassVar[type[Strict]] = UnitsConfig
    config: UnitsConfig
    mean: Tensor
    scale: Tensor
    centroids: Tensor

    def __init__(self, config: UnitsConfig, depth: int):
        super().__init__(config)
        self.register_buffer("mean", torch.zeros(config.dim))
        self.register_buffer("scale", torch.ones(config.dim))
        self.register_buffer("centroids", torch.zeros(depth, config.codebook, config.dim))

    @torch.no_grad()
    def units(self, features: Tensor) -> Tensor:
        """Units of features ``(B, T, F, D)`` as ``(B, T, F, Q)`` int64, the coarsest first."""
        left = (features.reshape(-1, self.config.dim).to(self.mean) - self.mean) / self.scale
        found = []
        for codes in self.centroids:
            found.append(nearest(left, codes))
            left = left - codes[found[-1]]
        return torch.stack(found, dim=-1).view(*features.shape[:-1], -1)


def fit_units(
    features: Iterable[np.ndarray], config: UnitsConfig, *, seed: int, vectors: int = 200_000
) -> UnitTokenizer:
    """Fit the centroids to a random sample of feature vectors.

    Args:
        features: per clip ``(T, F, D)``, valid columns only.
        config: codebook and width.
        seed: of the sample and of k-means.
        vectors: size of the sample.

    Raises:
        DataError: fewer vectors than units, or another width than the config's.
    """
    sample, mean, scale = _standardised(features, config, seed, vectors)
    tokenizer = UnitTokenizer(config)
    tokenizer.mean.copy_(mean)
    tokenizer.scale.copy_(scale)
    tokenizer.centroids.copy_(_kmeans(sample, config.codebook, seed))
    return tokenizer.eval()


def fit_residual_units(
    features: Iterable[np.ndarray], config: UnitsConfig, *, depth: int, seed: int, vectors: int = 200_000
) -> ResidualUnits:
    """As :func:`fit_units`, codebook after codebook."""
    sample, mean, scale = _standardised(features, config, seed, vectors)
    tokenizer = ResidualUnits(config, depth)
    tokenizer.mean.copy_(mean)
    tokenizer.scale.copy_(scale)
    left = torch.from_numpy(sample)
    for codes in tokenizer.centroids:
        codes.copy_(_kmeans(left.numpy(), config.codebook, seed))
        left = left - codes[nearest(left, codes)]
    return tokenizer.eval()


def _standardised(
    features: Iterable[np.ndarray], config: UnitsConfig, seed: int, vectors: int
) -> tuple[np.ndarray, Tensor, Tensor]:
    """A sample ``(V, D)`` float32 of feature vectors, with the mean and scale taken off it."""
    parts = [np.asarray(clip).reshape(-1, clip.shape[-1]) for clip in features]
    total = sum(len(part) for part in parts)
    if total < config.codebook:
        raise DataError(f"{total} feature vectors cannot give {config.codebook} units", cure="use more clips")
    if parts[0].shape[1] != config.dim:
        raise DataError(f"features are {parts[0].shape[1]} wide, the config says {config.dim}")
    rng = np.random.default_rng(seed)
    share = min(1.0, vectors / total)
    sample = np.concatenate([part[rng.random(len(part)) < share] for part in parts] if share < 1 else parts)
    sample = sample.astype(np.float64)
    mean, scale = sample.mean(0), np.maximum(sample.std(0), 1e-6)
    return ((sample - mean) / scale).astype(np.float32), torch.from_numpy(mean), torch.from_numpy(scale)


def _kmeans(sample: np.ndarray, codebook: int, seed: int) -> Tensor:
    """Centroids ``(K, D)`` of a sample."""
    from sklearn.cluster import MiniBatchKMeans

    means = MiniBatchKMeans(codebook, random_state=seed, batch_size=4096, n_init=3, max_iter=50)
    return torch.from_numpy(means.fit(sample).cluster_centers_)


@dataclass(frozen=True)
class UnitUsage:
    """How a codebook is used: ``perplexity`` (of at most ``codebook``) and units that never occur."""

    perplexity: float
    dead: int


def unit_usage(units: Iterable[np.ndarray], codebook: int) -> UnitUsage:
    """Usage over the units ``(T, F)`` of some clips."""
    counts = np.zeros(codebook, dtype=np.int64)
    for clip in units:
        counts += np.bincount(np.asarray(clip).ravel(), minlength=codebook)
    share = counts[counts > 0] / max(1, counts.sum())
    return UnitUsage(float(np.exp(-(share * np.log(share)).sum())), int((counts == 0).sum()))
