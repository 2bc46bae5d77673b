from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from generator.likeness import copy_threshold, diversity, fingerprint, similarities
from resp229k.audio import RATE, loop
from resp229k.simulate import SIMULATED, simulate_clip
from training.errors import AudioError, DataError

LABELS = ["a"] * 30 + ["b"] * 20


def cloud(seed: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.repeat([[0.0], [50.0]], [30, 20], axis=0)
    return centres + scale * rng.normal(size=(50, 8))


def test_diversity_of_copies_is_zero_and_of_real_clips_one() -> None:
    real = cloud(0)
    assert diversity(np.repeat(real[[0, 40]], [30, 20], axis=0), LABELS, real, LABELS).ratio == 0.0
    assert diversity(cloud(1), LABELS, real, LABELS).ratio == pytest.approx(1.0, abs=0.1)
    assert diversity(real, LABELS, real, LABELS).ratio == pytest.approx(1.0)


def test_diversity_looks_within_classes_and_means_over_them() -> None:
    made = cloud(1, 0.5)
    made[30:] = 50 + 2 * (cloud(1)[30:] - 50)
    found = diversity(made, LABELS, cloud(0), LABELS)
    assert found.classes["a"].ratio == pytest.approx(0.5, abs=0.06)
    assert found.classes["b"].ratio == pytest.approx(2.0, abs=0.25)
    assert found.ratio == pytest.approx((found.classes["a"].ratio + found.classes["b"].ratio) / 2)
    # Distances between the classes are 140; none of them is in the figure.
    assert found.classes["b"].made < 15


def test_diversity_matches_counts_and_names_what_it_leaves_out() -> None:
    real, few = cloud(0), cloud(1)[[0, 1, 2, 3, 40]]
    found = diversity(few, ["a"] * 4 + ["b"], real, LABELS, seed=3)
    assert found.classes["a"].n == 4 and found.left_out == ("b",)
    assert found == diversity(few, ["a"] * 4 + ["b"], real, LABELS, seed=3)
    with pytest.raises(DataError, match="no class"):
        diversity(few[4:], ["b"], real, LABELS)


def direct(a: np.ndarray, b: np.ndarray) -> float:
    """Best normalised cross-correlation, shift by shift."""
    found = []
    for shift in range(-len(b) + 1, len(a)):
        x = a[max(0, shift) : shift + len(b)]
        y = b[max(0, -shift) :][: len(x)]
        if len(x) >= 0.5 * min(len(a), len(b)):
            found.append((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()))
    return max(found)


def test_similarity_is_the_best_correlation_of_all_shifts() -> None:
    rng = np.random.default_rng(0)
    made = [rng.normal(size=(n, 4)).astype(np.float32) for n in (9, 14, 5)]
    train = [rng.normal(size=(n, 4)).astype(np.float32) for n in (12, 7, 20, 9)]
    nearest, best = similarities(made, train)
    table = np.array([[direct(a, b) for b in train] for a in made])
    assert best == pytest.approx(table.max(axis=1), abs=1e-5)
    assert nearest.tolist() == table.argmax(axis=1).tolist()


def test_blocks_do_not_change_similarities(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    made, train = (list(rng.normal(size=(n, 10, 3)).astype(np.float32)) for n in (7, 11))
    nearest, best = similarities(made, train)
    monkeypatch.setattr("generator.likeness.CHUNK", 3)
    again, values = similarities(made, train)
    assert again.tolist() == nearest.tolist() and values == pytest.approx(best, abs=1e-5)


@pytest.fixture(scope="module")
def waves() -> list[np.ndarray]:
    """Clips of different subjects in four styles."""
    return [
        simulate_clip(SIMULATED[n % 16], seed=n, source=f"copies-{n % 4}", seconds=3.0).wave
        for n in range(40)
    ]


@pytest.fixture(scope="module")
def prints(waves: list[np.ndarray]) -> list[np.ndarray]:
    return [fingerprint(wave) for wave in waves]


def moved(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.roll(wave, rng.integers(RATE // 2, 2 * RATE))


def filtered(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return signal.sosfilt(signal.butter(2, (200, 700), "bandpass", fs=RATE, output="sos"), wave)


def noisy(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return wave + rng.normal(size=wave.size) * np.sqrt(np.mean(wave**2)) * 10 ** (-10 / 20)


def everything(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 0.1 * noisy(filtered(moved(wave, rng), rng), rng)


def cut_and_looped(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return loop(wave[: round(1.8 * RATE)], wave.size)


@pytest.mark.parametrize(
    ("change", "least"), [(moved, 8), (filtered, 8), (noisy, 8), (cut_and_looped, 8), (everything, 7)]
)
def test_copies_are_found_and_other_subjects_are_not(
    waves: list[np.ndarray], prints: list[np.ndarray], change, least: int
) -> None:
    rng = np.random.default_rng(0)
    train, held_out, independent = prints[:16], prints[16:28], prints[28:]
    made = [fingerprint(change(wave, rng)) for wave in waves[:8]]
    usual = similarities(held_out, train)[1]
    nearest, similarity = similarities(made + independent, train)
    assert list(nearest[:8]) == list(range(8))
    copied = similarity > copy_threshold(usual)
    assert copied[:8].sum() >= least and copied[8:].sum() <= 2
    assert copy_threshold(usual) == usual.max() < 0.6


def test_one_in_two_hundred_held_out_clips_may_pass() -> None:
    rng = np.random.default_rng(0)
    prints = list(rng.normal(size=(420, 6, 4)).astype(np.float32))
    usual = similarities(prints[20:], prints[10:20])[1]
    assert np.sum(usual > copy_threshold(usual)) == 2
    assert similarities(prints[:10], prints[10:20])[1].shape == (10,)


def test_refuses_silence_and_empty_sets() -> None:
    with pytest.raises(AudioError, match="silent"):
        fingerprint(np.zeros(RATE, dtype=np.float32))
    one = [np.ones((4, 2), dtype=np.float32)]
    with pytest.raises(DataError, match="other subjects"):
        copy_threshold(np.zeros(0))
    with pytest.raises(DataError, match="no training clip"):
        similarities(one, [])
