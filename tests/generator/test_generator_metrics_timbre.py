from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import signal

from generator.timbre import style_pairs, style_similarity, style_vector
from resp229k.audio import RATE
from resp229k.simulate import SIMULATED, simulate_clip
from training.errors import AudioError, DataError

SOURCES = 4


@pytest.fixture(scope="module")
def clips() -> tuple[list[np.ndarray], list[str], list[str]]:
    """Waves of different subjects and classes, their sources and subjects."""
    waves, sources, subjects = [], [], []
    for n in range(32):
        sources.append(f"timbre-{n % SOURCES}")
        subjects.append(f"s{n}")
        waves.append(
            simulate_clip(SIMULATED[(n // SOURCES) % 16], seed=n, source=sources[-1], seconds=3.0).wave
        )
    return waves, sources, subjects


def sides(vectors: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return vectors[pairs[:, 0]], vectors[pairs[:, 1]]


def test_hears_the_recorder_of_clips_of_other_subjects_and_classes(clips) -> None:
    waves, sources, subjects = clips
    vectors = np.stack([style_vector(wave) for wave in waves])
    same, other = (sides(vectors, pairs) for pairs in style_pairs(sources, subjects))
    made = np.stack(
        [
            style_vector(simulate_clip("Asthma", seed=900 + n, source=sources[n], seconds=3.0).wave)
            for n in range(8)
        ]
    )
    found = style_similarity(made, vectors[:8], same, other, standardise=True)
    elsewhere = np.concatenate([np.roll(vectors[:8], shift, axis=0) for shift in (1, 2, 3)])
    missed = style_similarity(np.tile(made, (3, 1)), elsewhere, same, other, standardise=True)
    assert found.auroc > 0.85 and not found.blind
    assert found.position > 0.6 and missed.position < 0.4
    assert (found.n, found.n_same, found.n_other) == (8, len(same[0]), len(other[0]))


def test_does_not_depend_on_level_but_on_the_recorder(clips) -> None:
    wave = clips[0][0]
    vector = style_vector(wave)
    assert np.isfinite(vector).all() and vector.shape == (53,)
    assert style_vector(0.03 * wave) == pytest.approx(vector, abs=1e-3)
    dull = signal.sosfilt(signal.butter(2, 500, fs=RATE, output="sos"), wave)
    change = style_vector(dull) - vector
    assert change[20:24].mean() < -5 < 0 < change[:8].mean()
    assert change[49] < 0 and change[50] < 0  # where the energy ends
    with pytest.raises(AudioError, match="silent"):
        style_vector(np.zeros(RATE))


def line(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_position_lies_between_the_real_pairs() -> None:
    zero = line(np.zeros(40))
    same, other = (zero, line(np.full(40, 0.1))), (zero, line(np.full(40, 1.0)))
    for angle, position in ((0.1, 1.0), (1.0, 0.0), (0.0, 1.01)):
        found = style_similarity(line(np.full(5, angle)), zero[:5], same, other)
        assert found.cosine == pytest.approx(math.cos(angle))
        assert found.position == pytest.approx(position, abs=0.002)
        assert found.auroc == 1.0 and found.same == pytest.approx(math.cos(0.1))


def test_a_measure_that_hears_no_recorder_is_called_blind() -> None:
    rng = np.random.default_rng(0)
    noise = 5 + rng.normal(size=(8, 200, 6))
    found = style_similarity(noise[0], noise[1], (noise[2], noise[3]), (noise[4], noise[5]))
    assert found.blind and math.isnan(found.position)
    assert found.cosine > 0.9  # high, and empty


def test_pairs_are_of_two_subjects() -> None:
    devices = ["a", "a", "a", "b", "b"]
    subjects = ["1", "1", "2", "3", "3"]
    same, other = style_pairs(devices, subjects)
    assert sorted(map(tuple, same.tolist())) == [(0, 2), (1, 2)]
    assert len(other) == 6
    assert len(style_pairs(devices, subjects, count=4)[1]) == 4
    with pytest.raises(DataError, match="two recorders"):
        style_pairs(["a", "a"], ["1", "2"])
    with pytest.raises(DataError, match="one recorder"):
        style_pairs(["a", "b"], ["1", "2"])
