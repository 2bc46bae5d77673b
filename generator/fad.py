"""Fréchet audio distance of generated to real clips: a distance of two Gaussians in an encoder's features.

Kilgour et al., "Fréchet Audio Distance" (2019). It falls with the number of clips, so that one number says
nothing without its n: Chong & Forsyth, "Effectively Unbiased FID and Inception Score" (2020), and for sound
Gui et al., "Adapting Frechet Audio Distance for Generative Music Evaluation" (2024), draw it on to n = ∞.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resp229k.audio import Preprocess
from training.errors import DataError

if TYPE_CHECKING:
    from beats.encoder import BeatsEncoder


@dataclass(frozen=True)
class Fad:
    """A distance with all that is needed to read it.

    Attributes:
        fad: of all clips.
        infinite: drawn on to infinitely many generated clips; the real ones stay as many as they are.
        slope: of the distance over 1 / clips.
        r2: share of the distances' variance that the line explains; below 0.9 do not trust ``infinite``.
        clips_made, clips_real, rows_made, rows_real: how many.
        dim: D of the features.
        singular: there are not more rows than D on a side, so that a covariance is only partly known.
    """

    fad: float
    infinite: float
    slope: float
    r2: float
    clips_made: int
    clips_real: int
    rows_made: int
    rows_real: int
    dim: int
    singular: bool


def columns(
    encoder: BeatsEncoder,
    waves: Sequence[np.ndarray],
    preprocess: Preprocess | None = None,
    batch: int = 32,
) -> list[np.ndarray]:
    """Features of each wave's columns of 160 ms ``(T, D)`` float32, mean over the grid's rows.

    Raises:
        AudioError: a prepared wave is shorter than one column.
    """
    from beats.encode import encode_waves  # loads torch, which no figure below needs

    grids = encode_waves(encoder, waves, preprocess or Preprocess(), batch)
    return [grid.astype(np.float32).mean(axis=1) for grid in grids]


def embeddings(
    encoder: BeatsEncoder,
    waves: Sequence[np.ndarray],
    preprocess: Preprocess | None = None,
    batch: int = 32,
) -> np.ndarray:
    """One vector a wave ``(N, D)``: the mean over time and frequency of its features.

    Raises:
        AudioError: a prepared wave is shorter than one column.
    """
    return np.stack([clip.mean(axis=0) for clip in columns(encoder, waves, preprocess, batch)])


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance of the Gaussians of two samples ``(N, D)`` and ``(M, D)``.

    |μa − μb|² + tr Σa + tr Σb − 2 tr (Σa Σb)^½. With centred samples A and B the last trace is the nuclear
    norm of A Bᵀ / √((N − 1)(M − 1)): no square root of a matrix is taken, and fewer rows than D do no harm
    to the arithmetic (they do to what it means: see :class:`Fad`).

    Raises:
        DataError: fewer than two rows, another D, or values that are not finite.
    """
    return _distance(_Gaussian.of(a), _Gaussian.of(b))


@dataclass(frozen=True)
class _Gaussian:
    """Mean ``(D,)`` and a root ``(min(N, D), D)`` of the covariance of a sample."""

    mean: np.ndarray
    root: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> _Gaussian:
        x = np.asarray(rows, dtype=np.float64)
        if x.ndim != 2 or len(x) < 2:
            raise DataError(f"a covariance needs two rows, not shape {x.shape}", cure="give more clips")
        if not np.isfinite(x).all():
            raise DataError("embeddings hold NaN or infinite values", cure="look at the encoder's input")
        mean = x.mean(axis=0)
        root: np.ndarray = np.linalg.qr((x - mean) / math.sqrt(len(x) - 1), mode="r")  # type: ignore[assignment]
        return cls(mean, root)


def _distance(a: _Gaussian, b: _Gaussian) -> float:
    if a.mean.size != b.mean.size:
        raise DataError(f"embeddings of {a.mean.size} and {b.mean.size} values", cure="use one encoder")
    shared = np.linalg.svd(a.root @ b.root.T, compute_uv=False).sum()
    own = np.square(a.root).sum() + np.square(b.root).sum()
    # Equal samples may round below zero.
    return max(0.0, float(np.square(a.mean - b.mean).sum() + own - 2 * shared))


def fad(
    made: Sequence[np.ndarray],
    real: Sequence[np.ndarray],
    *,
    seed: int = 0,
    points: int = 15,
    draws: int = 8,
    least: int | None = None,
) -> Fad:
    """Distance of generated to real clips, and what it would be with infinitely many generated ones.

    A row is a column of a clip, as the published FAD takes frames and not files: 100 clips of 4 s are 2,500
    rows, more than D. Rows of a clip belong together, so n counts clips and whole clips are left out.

    Args:
        made: features of each generated clip ``(T, D)``, as :func:`columns` gives them.
        real: of each real clip.
        seed: of the random subsets of ``made``.
        points: sizes of subsets, evenly spaced in 1 / n.
        draws: subsets of a size; the distance at that size is their mean.
        least: clips of the smallest subset; by default a quarter of all, or up to half of all where fewer
            would have no more rows than D.

    Raises:
        DataError: fewer than four generated clips or two real rows, another D, or values that are not finite.
    """
    count = len(made)
    if count < 4 or not len(real):
        raise DataError(
            f"{count} generated and {len(real)} real clips are too few for a distance",
            cure="give four generated clips and one real one, or more",
        )
    stacked, other = np.concatenate(made), np.concatenate(real)
    dim = stacked.shape[1]
    if least is None:
        enough = math.ceil((dim + 1) / (len(stacked) / count))
        least = min(max(count // 4, enough, 2), max(count // 2, 2))
    target = _Gaussian.of(other)
    rng = np.random.default_rng(seed)
    sizes = np.unique(np.round(1 / np.linspace(1 / count, 1 / least, points)).astype(int))
    values = []
    for size in sizes:
        # One draw's chance hides the line; of all clips there is one subset.
        subsets = [rng.choice(count, size, replace=False) for _ in range(draws if size < count else 1)]
        parts = [_Gaussian.of(np.concatenate([made[i] for i in chosen])) for chosen in subsets]
        values.append(float(np.mean([_distance(part, target) for part in parts])))
    found = np.array(values)
    slope, infinite = np.polyfit(1 / sizes, found, 1)
    spread = np.square(found - found.mean()).sum()
    rest = np.square(found - (infinite + slope / sizes)).sum()
    return Fad(
        fad=values[-1],
        infinite=float(infinite),
        slope=float(slope),
        r2=float(1 - rest / spread) if spread > 0 else 1.0,
        clips_made=count,
        clips_real=len(real),
        rows_made=len(stacked),
        rows_real=len(other),
        dim=dim,
        singular=min(len(stacked), len(other)) <= dim,
    )
