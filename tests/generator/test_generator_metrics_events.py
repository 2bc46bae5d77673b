from __future__ import annotations

import math

import numpy as np
import pytest

from generator.events import (
    EventFigures,
    crackles,
    event_faithfulness,
    event_figures,
    wheezes,
)
from resp229k.audio import RATE
from resp229k.simulate.sounds import crackle
from training.errors import AudioError

SECONDS = 4.0


def breath(seed: int = 0) -> np.ndarray:
    """Falling noise in two breaths, RMS about 0.03."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(SECONDS * RATE)) / RATE
    noise = np.convolve(rng.normal(size=t.size), np.hanning(24) / 12, mode="same")
    return 0.06 * (np.sin(np.pi * t / 2) ** 2 + 0.05) * noise


def add_crackles(wave: np.ndarray, times: np.ndarray, gain: float) -> np.ndarray:
    out = wave.copy()
    sound = gain * crackle(0.0007, 0.005)
    for time in times:
        first = round(time * RATE)
        out[first : first + sound.size] += sound
    return out


def add_tone(wave: np.ndarray, start: float, seconds: float, hertz: float, gain: float) -> np.ndarray:
    out = wave.copy()
    t = np.arange(round(seconds * RATE)) / RATE
    first = round(start * RATE)
    edge = np.minimum(1, np.minimum(t, seconds - t) / 0.02)
    out[first : first + t.size] += gain * edge * np.sin(2 * np.pi * hertz * t)
    return out


def test_crackles_are_counted_and_timed() -> None:
    times = np.arange(0.3, 3.8, 0.11)
    found = crackles(add_crackles(breath(), times, 0.4))
    nearest = np.abs(found[:, None] - times[None, :] - 0.002).min(axis=1)
    assert found.size == pytest.approx(times.size, abs=3)
    assert np.mean(nearest < 0.004) > 0.9


def test_breath_alone_holds_next_to_nothing() -> None:
    for seed in range(4):
        found = event_figures(breath(seed))
        assert found.crackle_rate <= 0.5 and found.wheeze_seconds <= 0.1


@pytest.mark.parametrize("hertz", [150.0, 400.0, 900.0])
def test_a_wheeze_is_timed_and_pitched_and_is_no_crackle(hertz: float) -> None:
    wave = add_tone(breath(), 1.2, 0.6, hertz, 0.1)
    found = event_figures(wave)
    assert found.wheeze_hertz == pytest.approx(hertz, abs=10)
    assert found.wheeze_seconds == pytest.approx(0.6, abs=0.1)
    assert found.wheeze_share == pytest.approx(found.wheeze_seconds / SECONDS)
    assert found.crackle_rate <= 0.5
    tone = max(wheezes(wave), key=lambda tone: tone.height)
    assert tone.start == pytest.approx(1.2, abs=0.06) and tone.end == pytest.approx(1.8, abs=0.06)


def test_harmonics_do_not_change_the_pitch_and_short_tones_are_none() -> None:
    wave = breath()
    for number, gain in ((1, 0.1), (2, 0.08), (3, 0.06)):
        wave = add_tone(wave, 1.0, 0.5, 250.0 * number, gain)
    assert event_figures(wave).wheeze_hertz == pytest.approx(250.0, abs=10)
    assert wheezes(add_tone(breath(), 1.0, 0.02, 400.0, 0.1)) == []


def test_figures_do_not_depend_on_level() -> None:
    wave = add_tone(add_crackles(breath(), np.arange(0.3, 1.0, 0.1), 0.4), 2.0, 0.5, 300.0, 0.1)
    assert event_figures(0.05 * wave) == event_figures(wave)


def test_silence_is_refused_and_short_clips_are_not() -> None:
    with pytest.raises(AudioError, match="silent"):
        event_figures(np.zeros(RATE))
    found = event_figures(breath()[:600])
    assert found.crackle_rate == 0 and math.isnan(found.wheeze_hertz)


def clips(rates: np.ndarray, hertz: float = math.nan) -> list[EventFigures]:
    return [EventFigures(float(rate), 0.5, 0.1, hertz) for rate in rates]


def test_distances_of_shifted_distributions_are_the_shift() -> None:
    rng = np.random.default_rng(0)
    people = {"a": [f"s{n // 4}" for n in range(400)]}
    real = {"a": clips(rng.normal(10, 1, 400))}
    made = {"a": clips(rng.normal(13, 1, 500)), "b": clips(np.ones(3))}
    found = event_faithfulness(made, real, people)
    assert found.keys() == {"a"}
    rate = found["a"]["crackle_rate"]
    assert rate.wasserstein == pytest.approx(3.0, abs=0.2) and rate.ks > 0.8
    assert rate.real_wasserstein < 0.3 and rate.real_ks < 0.2
    assert rate.made - rate.real == pytest.approx(3.0, abs=0.2)
    assert (rate.n_made, rate.n_real) == (500, 400)
    assert found["a"]["wheeze_share"].wasserstein == 0.0


def test_alike_generated_clips_are_as_far_as_real_ones() -> None:
    rng = np.random.default_rng(1)
    people = {"a": [f"s{n}" for n in range(60)]}
    found = event_faithfulness(
        {"a": clips(rng.normal(10, 1, 40))}, {"a": clips(rng.normal(10, 1, 60))}, people
    )["a"]["crackle_rate"]
    assert found.wasserstein < 2 * found.real_wasserstein


def test_pitch_is_compared_where_there_is_one() -> None:
    made = {"a": clips(np.ones(4), 400.0) + clips(np.ones(6))}
    real = {"a": clips(np.ones(3), 300.0) + clips(np.ones(5))}
    pitch = event_faithfulness(made, real, {"a": [f"s{n}" for n in range(8)]})["a"]["wheeze_hertz"]
    assert (pitch.n_made, pitch.n_real, pitch.wasserstein, pitch.real_wasserstein) == (4, 3, 100.0, 0.0)
    one = event_faithfulness(made, real, {"a": ["s"] * 8})["a"]["wheeze_hertz"]
    assert one.wasserstein == 100.0 and math.isnan(one.real_wasserstein)
    none = event_faithfulness({"a": clips(np.ones(4))}, real, {"a": ["s"] * 8})["a"]["wheeze_hertz"]
    assert none.n_made == 0 and math.isnan(none.wasserstein) and math.isnan(none.made)
