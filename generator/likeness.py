"""Are generated clips as different from one another as real ones, and are any of them copies?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft

from generator.codec import level
from resp229k.audio import RATE
from training.errors import DataError

COPIES = 0.005  # share of the real clips of other subjects that may lie as near to a training clip

ROWS = 32  # mel bands of a fingerprint
STEP = 640  # samples between its frames: 40 ms
BAND = (60.0, 1200.0)  # Hz: almost every recorder passes it
SOFT = 0.3  # of a band's mean
CHUNK = 128  # clips of each side that are compared at a time


@dataclass(frozen=True)
class ClassDiversity:
    """Mean pairwise distance of a class's generated and real clips, ``n`` on each side; ``ratio`` of the two."""

    made: float
    real: float
    ratio: float
    n: int


@dataclass(frozen=True)
class Diversity:
    """``ratio`` is the mean over classes; ``left_out`` are those with fewer than two clips on a side."""

    ratio: float
    classes: dict[str, ClassDiversity]
    left_out: tuple[str, ...]


def diversity(
    made: np.ndarray,
    made_labels: Sequence[str],
    real: np.ndarray,
    real_labels: Sequence[str],
    *,
    seed: int = 0,
    draws: int = 20,
) -> Diversity:
    """Spread of generated clips within a class against that of real clips: 1 alike, 0 all the same.

    Args:
        made: embeddings of generated clips ``(N, D)``, one a clip.
        made_labels: their classes ``(N,)``.
        real: embeddings of real clips ``(M, D)``.
        real_labels: their classes ``(M,)``.
        seed: of the subsets that bring both sides of a class to the same count.
        draws: subsets; the side that is small enough is taken whole.

    Raises:
        DataError: no class has two different real clips and two generated ones.
    """
    labels, truths = np.array(made_labels), np.array(real_labels)
    rng = np.random.default_rng(seed)
    classes: dict[str, ClassDiversity] = {}
    left_out = []
    for label in sorted({*made_labels, *real_labels}):
        a, b = made[labels == label], real[truths == label]
        n = min(len(a), len(b))
        spreads = [_spread(side, n, draws, rng) for side in (a, b)] if n > 1 else [0.0, 0.0]
        if spreads[1] == 0:
            left_out.append(label)
            continue
        classes[label] = ClassDiversity(spreads[0], spreads[1], spreads[0] / spreads[1], n)
    if not classes:
        raise DataError("no class has two real and two generated clips", cure="generate more clips a class")
    ratio = float(np.mean([one.ratio for one in classes.values()]))
    return Diversity(ratio, classes, tuple(left_out))


def _spread(rows: np.ndarray, n: int, draws: int, rng: np.random.Generator) -> float:
    """Mean distance of different rows of ``(N, D)``, in subsets of ``n``."""
    from scipy.spatial.distance import pdist

    if len(rows) == n:
        return float(pdist(rows).mean())
    return float(np.mean([pdist(rows[rng.choice(len(rows), n, replace=False)]).mean() for _ in range(draws)]))


def fingerprint(wave: np.ndarray) -> np.ndarray:
    """What of a wave ``(N,)`` at 16 kHz stays when it is scaled, filtered, shifted or noisier, ``(L, 32)``.

    Mel bands at 25 frames/s, each over its own mean: level and recorder go. The logarithm starts at 0.3 of
    that mean, so that what noise covers says little. Then each band's mean over time goes, and each frame's
    over the bands: the rhythm of breath, which many clips share, must not make a copy.

    Raises:
        AudioError: the wave is empty or silent.
    """
    import librosa

    mel = librosa.feature.melspectrogram(
        y=wave / level(wave),
        sr=RATE,
        n_fft=1024,
        hop_length=STEP,
        n_mels=ROWS,
        fmin=BAND[0],
        fmax=BAND[1],
        power=1.0,
        pad_mode="constant",
    ).T
    frames = np.log(SOFT + mel / np.maximum(mel.mean(axis=0), 1e-9))
    frames -= frames.mean(axis=0)
    return (frames - frames.mean(axis=1, keepdims=True)).astype(np.float32)


def similarities(made: Sequence[np.ndarray], train: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The nearest training clip of each generated one, by fingerprints ``(L, R)``.

    Similarity is the normalised cross-correlation at the best shift, among those at which at least half of
    the shorter clip lies over the other.

    Returns:
        rows of ``train`` ``(N,)`` and similarities ``(N,)``, -1 to 1.

    Raises:
        DataError: there is no training clip.
    """
    if not len(train):
        raise DataError("there is no training clip to compare with")
    size = fft.next_fast_len(max(map(len, made), default=1) + max(map(len, train)) - 1, real=True)
    nearest = np.zeros(len(made), dtype=int)
    best = np.full(len(made), -np.inf)
    blocks = [_Block.of(train[first : first + CHUNK], size) for first in range(0, len(train), CHUNK)]
    for first in range(0, len(made), CHUNK):
        mine = _Block.of(made[first : first + CHUNK], size)
        part = slice(first, first + CHUNK)
        for number, block in enumerate(blocks):
            found = _best(mine, block, size)
            rows = found.argmax(axis=1)
            values = found[np.arange(len(rows)), rows]
            closer = values > best[part]
            best[part] = np.where(closer, values, best[part])
            nearest[part] = np.where(closer, rows + CHUNK * number, nearest[part])
    return nearest, best


@dataclass(frozen=True)
class _Block:
    """Spectra over time of clips ``(K, N, R)``, of their energy ``(N, K)`` and of their extent ``(N, K)``."""

    spectra: np.ndarray
    energy: np.ndarray
    inside: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, clips: Sequence[np.ndarray], size: int) -> _Block:
        padded = np.zeros((len(clips), size, clips[0].shape[1]), dtype=np.float32)
        inside = np.zeros((len(clips), size), dtype=np.float32)
        for row, clip in enumerate(clips):
            padded[row, : len(clip)] = clip
            inside[row, : len(clip)] = 1.0
        energy = np.square(padded).sum(axis=2)
        spectra = np.ascontiguousarray(fft.rfft(padded, axis=1).transpose(1, 0, 2))
        lengths = np.array([len(clip) for clip in clips])
        return cls(spectra, fft.rfft(energy, axis=1), fft.rfft(inside, axis=1), lengths)


def _best(a: _Block, b: _Block, size: int) -> np.ndarray:
    """Best normalised cross-correlation ``(N, M)`` of two blocks."""
    shared = fft.irfft(np.matmul(a.spectra, b.spectra.conj().transpose(0, 2, 1)), size, axis=0)

    def over(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Sums over the overlap at each shift ``(size, N, M)``."""
        return fft.irfft(x.T[:, :, None] * y.conj().T[:, None, :], size, axis=0)

    energies = over(a.energy, b.inside) * over(a.inside, b.energy)
    least = 0.5 * np.minimum(a.lengths[:, None], b.lengths[None, :])
    allowed = over(a.inside, b.inside) > least - 0.5
    bottom = np.sqrt(np.maximum(energies, 1e-6))
    return np.where(allowed, shared / bottom, -1.0).max(axis=0)


def copy_threshold(usual: np.ndarray) -> float:
    """Similarity to the nearest training clip above which a clip is a copy.

    Args:
        usual: that of held-out real clips ``(N,)`` of subjects that are not among the training clips; at most
            :data:`COPIES` of them pass, none of fewer than 1 / COPIES.

    Raises:
        DataError: there are none.
    """
    if not len(usual):
        raise DataError("nothing says how near real clips of other subjects come to the training clips")
    return float(np.sort(usual)[-1 - int(COPIES * len(usual))])
