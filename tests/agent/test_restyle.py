"""Restyling: the other recorder is heard, the lung stays."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from scipy import signal

from agent.restyle import measure, restyle
from generator.timbre import style_vector
from resp229k.audio import RATE
from resp229k.simulate import simulate_clip
from training.errors import AudioError

PAIRS = [(0, "sim0-A", "sim0-B"), (1, "sim0-C", "sim0-D"), (2, "sim0-B", "sim0-C"), (3, "sim0-E", "sim0-A"),
         (4, "sim0-D", "sim0-F"), (5, "sim0-F", "sim0-E")]  # fmt: skip


@lru_cache
def clip(seed: int, source: str, label: str = "Pneumonia") -> np.ndarray:
    return simulate_clip(label, seed=seed, source=source, seconds=4.0).wave


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(style_vector(a) - style_vector(b)))


@pytest.mark.parametrize(("seed", "source", "other"), PAIRS)
def test_comes_nearer_to_the_recording_that_lends_its_style(seed: int, source: str, other: str) -> None:
    wave, style = clip(seed, source), clip(100 + seed, other, "Control")
    made = restyle(wave, style, seed=0)
    assert made.shape == wave.shape and made.dtype == np.float32
    assert np.isfinite(made).all()
    assert np.abs(made).max() < 0.999
    assert distance(made, style) < 0.7 * distance(wave, style)


def test_same_seed_same_clip() -> None:
    wave, style = clip(0, "sim0-A"), clip(9, "sim0-B", "Control")
    assert np.array_equal(restyle(wave, style, seed=1), restyle(wave, style, seed=1))
    assert not np.array_equal(restyle(wave, style, seed=1), restyle(wave, style, seed=2))


def clicks(at: list[float], seconds: float = 3.0) -> np.ndarray:
    """Short bursts at 500 Hz in soft noise."""
    wave = 0.01 * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    time = np.arange(round(0.01 * RATE)) / RATE
    for start in at:
        first = round(start * RATE)
        wave[first : first + time.size] += 0.5 * np.sin(2 * np.pi * 500 * time) * np.exp(-400 * time)
    return wave.astype(np.float32)


def test_events_stay_in_their_place() -> None:
    at = [0.5, 1.1, 1.75, 2.6]
    made = restyle(clicks(at), clip(7, "sim0-B", "Control"), seed=0)
    loud = np.abs(signal.sosfilt(signal.butter(2, 200, "high", fs=RATE, output="sos"), made))
    for start in at:
        first = round(start * RATE)
        found = first - 800 + int(loud[first - 800 : first + 800].argmax())
        # The burst itself peaks within 3 ms; filters and reflections come after it, never before.
        assert -0.001 < found / RATE - start < 0.008


def test_a_flat_swap_changes_little() -> None:
    wave = clip(0, "sim0-A")
    made = restyle(wave, wave, seed=0)
    assert np.corrcoef(made, wave)[0, 1] > 0.98


def test_a_lowpass_recorder_is_taken_over() -> None:
    rng = np.random.default_rng(0)
    white = 0.1 * rng.standard_normal(4 * RATE)
    dull = signal.sosfilt(signal.butter(6, 1000, "low", fs=RATE, output="sos"), white)
    made = restyle(white.astype(np.float32), dull.astype(np.float32), seed=0)
    hertz, power = signal.welch(made, RATE)
    assert 10 * np.log10(power[hertz > 3000].mean() / power[(hertz > 200) & (hertz < 800)].mean()) < -30


def test_a_slow_room_makes_falls_slower() -> None:
    wave = clicks(list(np.arange(0.1, 2.9, 0.2)))
    rng = np.random.default_rng(1)
    count = round(0.4 * RATE)
    room = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    room[0] = 8.0
    style = signal.oaconvolve(wave, room)[: wave.size].astype(np.float32)
    before, made = measure(wave).fall, measure(restyle(wave, style, seed=0)).fall
    assert abs(made - measure(style).fall) < 0.5 * abs(before - measure(style).fall)
    assert made < before


def test_silence_lends_and_takes_no_style() -> None:
    for wave, style in ((np.zeros(RATE), clip(0, "sim0-A")), (clip(0, "sim0-A"), np.zeros(RATE))):
        with pytest.raises(AudioError, match="silent"):
            restyle(wave, style, seed=0)
