from __future__ import annotations

import numpy as np
import pytest

from generator.metrics import (
    compare_frames,
    frame_variance,
    modulation_distance,
    modulation_spectrum,
    texture,
)

RATE = 50.0  # frames per second


def noise(clips: int = 20, length: int = 200, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(length, 8)).astype(np.float32) for _ in range(clips)]


def test_texture_of_a_ramp_is_its_slope() -> None:
    ramp = np.outer(np.arange(50.0), np.ones(3)) * 0.25
    assert texture([ramp]) == pytest.approx(0.25)


def test_variance_is_split_into_between_clips_and_over_time() -> None:
    total, within = frame_variance(noise())
    assert total == pytest.approx(1.0, abs=0.05) and within == pytest.approx(1.0, abs=0.05)
    still = [np.full((40, 8), level) for level in (-1.0, 1.0)]
    assert frame_variance(still) == (1.0, 0.0)


def test_a_tone_of_loudness_stands_in_its_band() -> None:
    t = np.arange(200) / RATE
    hertz, power = modulation_spectrum([np.sin(2 * np.pi * 7.0 * t)[:, None]], RATE)
    assert hertz[power.argmax()] == 7.0 and hertz[0] == 1.0 and hertz[-1] == 25.0
    assert power[np.abs(hertz - 7) > 1.5].max() < 1e-3 * power.max()


@pytest.mark.parametrize("length", [33, 50, 200])
def test_the_spectrum_of_noise_is_flat_and_sums_to_its_variance(length: int) -> None:
    _, power = modulation_spectrum(noise(200, length), RATE)
    assert power[1:-1] == pytest.approx(np.full(power.size - 2, 2 / RATE), rel=0.15)


def test_low_frame_rates_limit_the_spectrum() -> None:
    assert modulation_spectrum(noise(), 31.25)[0][-1] == 15.0


def test_a_scaled_set_is_apart_by_its_scale() -> None:
    real = noise()
    assert modulation_distance(real, real, RATE) == 0.0
    assert modulation_distance([2 * f for f in real], real, RATE) == pytest.approx(20 * np.log10(2), abs=1e-3)


def test_blur_and_noise_move_the_figures_to_opposite_sides() -> None:
    rng = np.random.default_rng(1)
    real = [np.cumsum(f, axis=0) * 0.2 for f in noise()]
    same = compare_frames(real, real, RATE)
    assert same == {"texture_ratio": 1, "variance_ratio": 1, "time_variance_ratio": 1, "modulation_db": 0}
    kernel = np.ones(9) / 9
    blurred = [np.apply_along_axis(np.convolve, 0, f, kernel, mode="same") for f in real]
    noisy = [f + rng.normal(size=f.shape) for f in real]
    blur, rough = (compare_frames(made, real, RATE) for made in (blurred, noisy))
    assert blur["texture_ratio"] < 0.7 < 1.5 < rough["texture_ratio"]
    assert blur["time_variance_ratio"] < 1 < rough["time_variance_ratio"]
    assert blur["modulation_db"] > 3 and rough["modulation_db"] > 3
