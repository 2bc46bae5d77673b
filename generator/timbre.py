"""Does a generated clip sound like its reference: recorder, noise floor and room, not the events?

The paper's Style-Sim is the cosine of two clips' time-averaged BEATs features (:func:`generator.fad.embeddings`).
Any two lung sounds have a high one, so that it says nothing by itself: here it stands beside the cosines of
real pairs from one recorder and from two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import signal

from generator.codec import level
from resp229k.audio import RATE
from training.errors import DataError

WINDOW, HOP = 512, 160  # samples: 32 ms, 10 ms apart
EDGES = np.geomspace(50.0, 7600.0, 25)  # Hz: 24 bands, 0.3 octaves each
QUIET = 15  # %: frames no louder than this are taken for the noise floor
FLOOR_DB = -80.0  # below the clip's level: no recorder's own noise
BLIND = 0.6  # AUROC of same against other recorders


def style_vector(wave: np.ndarray) -> np.ndarray:
    """What speaks of the recording rather than of the lung, of a wave ``(N,)`` at 16 kHz.

    All in dB or octaves, so that level cancels: the quiet frames' spectrum in 24 bands (recorder and noise
    floor), the median frames' (recorder and breath), the floor below the median, the frequencies below which
    90 and 99 % of the energy lie, the slope of the floor (colour of the noise), and how steeply loudness falls
    (room).

    Returns:
        ``(53,)``.

    Raises:
        AudioError: the wave is empty or silent.
    """
    hertz, _, spectrum = signal.stft(wave / level(wave), RATE, nperseg=WINDOW, noverlap=WINDOW - HOP)
    power = np.abs(spectrum) ** 2
    band = np.digitize(hertz, EDGES) - 1
    # A band narrower than a bin has the nearest bin's power.
    rows = [np.flatnonzero(band == n) for n in range(len(EDGES) - 1)]
    centres = np.sqrt(EDGES[1:] * EDGES[:-1])
    rows = [
        row if row.size else np.abs(hertz - centre).argmin(keepdims=True)
        for row, centre in zip(rows, centres, strict=True)
    ]
    bands = 10 * np.log10(np.stack([power[row].mean(axis=0) for row in rows]) + 10 ** (FLOOR_DB / 10))
    loudness = 10 * np.log10(power[hertz > 50].sum(axis=0) + 10 ** (FLOOR_DB / 10))
    quiet = loudness <= np.percentile(loudness, QUIET)
    floor, usual = bands[:, quiet].mean(axis=1), np.median(bands, axis=1)
    share = np.cumsum(power.sum(axis=1)) / power.sum()
    rolls = np.log2(np.maximum(hertz[np.searchsorted(share, (0.9, 0.99))], hertz[1]))
    slope = np.polyfit(np.log2(centres), floor, 1)[0]
    falls = -np.diff(loudness)
    return np.concatenate(
        [
            floor - floor.mean(),
            usual - usual.mean(),
            [usual.mean() - floor.mean(), *rolls, slope, np.percentile(falls, 95)],
        ]
    )


def style_pairs(
    devices: Sequence[str], subjects: Sequence[str], *, seed: int = 0, count: int = 500
) -> tuple[np.ndarray, np.ndarray]:
    """Random pairs of real clips, always of two subjects: of one recorder, and of two.

    Args:
        devices: recorder, or source, of each clip.
        subjects: of each clip.
        seed: of the draw.
        count: pairs of a kind, at most.

    Returns:
        rows of the clips, ``(P, 2)`` and ``(Q, 2)``.

    Raises:
        DataError: there is no pair of one of the kinds.
    """
    device, subject = np.unique(devices, return_inverse=True)[1], np.unique(subjects, return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(len(device), 1)
    apart = subject[first] != subject[second]
    same = device[first] == device[second]
    found = []
    for kind, name in ((same & apart, "one recorder"), (~same & apart, "two recorders")):
        rows = np.flatnonzero(kind)
        if not rows.size:
            raise DataError(
                f"no two subjects' clips of {name}", cure="give clips of more subjects and devices"
            )
        rows = rng.permutation(rows)[:count]
        found.append(np.stack([first[rows], second[rows]], axis=1))
    return found[0], found[1]


Pairs = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class StyleSimilarity:
    """How near generated clips are to their references.

    Attributes:
        cosine: mean over generated clips, as the paper gives it.
        position: of that mean between real pairs of two recorders (0) and of one (1); a clip may come nearer
            to its reference than another subject's clip does (above 1). NaN where the measure is blind.
        auroc: how well the cosine tells real pairs of one recorder from pairs of two; 0.5 is chance.
        same: mean cosine of real pairs of one recorder.
        other: of two.
        blind: ``auroc`` is below 0.6: neither figure says anything of style.
        n: generated clips.
        n_same: real pairs of one recorder.
        n_other: of two.
    """

    cosine: float
    position: float
    auroc: float
    same: float
    other: float
    blind: bool
    n: int
    n_same: int
    n_other: int


def style_similarity(
    made: np.ndarray, reference: np.ndarray, same: Pairs, other: Pairs, *, standardise: bool = False
) -> StyleSimilarity:
    """Cosines of generated clips to their references, calibrated by real pairs.

    Args:
        made: one vector a generated clip ``(N, D)``.
        reference: those of their style references ``(N, D)``.
        same: both sides ``(P, D)`` of real pairs of one recorder and two subjects.
        other: both sides ``(Q, D)`` of real pairs of two recorders.
        standardise: bring every value to mean 0 and deviation 1 over the real pairs first. Off for BEATs
            features (the paper's figure), on for :func:`style_vector`, whose values have different units.

    Raises:
        DataError: no generated clip, or no pair of a kind.
    """
    from sklearn.metrics import roc_auc_score

    if not len(made) or not len(same[0]) or not len(other[0]):
        raise DataError("style similarity needs generated clips and real pairs of both kinds")
    mean, deviation = 0.0, 1.0
    if standardise:
        real = np.concatenate([*same, *other])
        mean, deviation = real.mean(axis=0), np.maximum(real.std(axis=0), 1e-9)

    def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        x, y = ((side - mean) / deviation for side in (a, b))
        lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        return (x * y).sum(axis=1) / np.maximum(lengths, 1e-12)

    mine, alike, unlike = cosines(made, reference), cosines(*same), cosines(*other)
    truth = np.repeat([1, 0], [len(alike), len(unlike)])
    auroc = float(roc_auc_score(truth, np.concatenate([alike, unlike])))
    blind = auroc < BLIND
    span = float(alike.mean() - unlike.mean())
    return StyleSimilarity(
        cosine=float(mine.mean()),
        position=float("nan") if blind or span <= 0 else float((mine.mean() - unlike.mean()) / span),
        auroc=auroc,
        same=float(alike.mean()),
        other=float(unlike.mean()),
        blind=blind,
        n=len(mine),
        n_same=len(alike),
        n_other=len(unlike),
    )
