"""Style: how the same sounds come out of another recorder, room, placement or chest."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from pydantic import Field
from scipy import fft

from resp229k.audio import RATE
from resp229k.simulate.config import EQ_KNOTS, RATES, Style
from resp229k.simulate.seeds import between, log_uniform, stream
from resp229k.simulate.sounds import coloured_noise, render_heart, render_thumps
from training.config import Strict


class Placement(Strict):
    """What changes within one source from subject to subject: contact, pressure, quiet of the room."""

    tilt: float = 0.0  # dB per octave on top of the device response
    noise_db: float = 0.0
    heart: float = Field(default=1.0, ge=0)
    level_db: float = 0.0


@lru_cache(maxsize=512)
def source_style(source: str) -> Style:
    """The style of a source, drawn from its name alone."""
    rng = stream("style", source)
    steps = rng.normal(0.0, 3.0, len(EQ_KNOTS))
    eq = np.clip(np.cumsum(steps) - np.cumsum(steps).mean(), -18.0, 18.0)
    return Style(
        source=source,
        device=f"simulated recorder {source}",
        sample_rate=int(rng.choice(RATES, p=(0.25, 0.25, 0.2, 0.3))),
        eq=tuple(round(float(value), 2) for value in eq),
        noise_db=round(between(rng, (-38.0, -18.0)), 2),
        noise_tilt=round(between(rng, (-6.0, 0.0)), 2),
        room_seconds=round(between(rng, (0.04, 0.25)), 3),
        room_wet=round(between(rng, (0.0, 0.35)), 3),
        heart=round(log_uniform(rng, 0.05, 1.5), 3),
        thumps=round(float(rng.choice((0.0, 0.1, 0.4))), 2),
        level_db=round(between(rng, (-28.0, -18.0)), 2),
    )


def draw_placement(rng: np.random.Generator) -> Placement:
    """A subject's placement."""
    return Placement(
        tilt=rng.normal(0.0, 0.7),
        noise_db=rng.normal(0.0, 3.0),
        heart=log_uniform(rng, 0.5, 2.0),
        level_db=rng.normal(0.0, 2.0),
    )


@lru_cache(maxsize=64)
def _device(style: Style, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Transfer function of device and room, and the pass band of its sample rate, both ``(size // 2 + 1,)``."""
    frequencies = np.maximum(fft.rfftfreq(size, 1 / RATE), 20.0)
    level = np.interp(np.log2(frequencies), np.log2(EQ_KNOTS), style.eq)
    response = _minimum_phase(level * np.log(10) / 20, size)
    rng = stream("room", style.source)
    count = round(style.room_seconds * RATE)
    decay = 10 ** (-3 * np.arange(count) / count)
    tail = rng.standard_normal(count) * decay
    tail[: round(0.002 * RATE)] = 0.0  # the first reflection comes after the direct sound
    tail *= style.room_wet / max(float(np.sqrt(np.sum(tail**2))), 1e-12)
    tail[0] = 1.0
    limit = 0.45 * min(style.sample_rate, RATE)
    band = 1 / (1 + np.exp(np.clip((frequencies - limit) / (0.012 * limit), -40, 40)))
    return (response * fft.rfft(tail, size)).astype(np.complex64), band.astype(np.float32)


def _minimum_phase(log_gain: np.ndarray, size: int) -> np.ndarray:
    """Causal transfer function ``(size // 2 + 1,)`` with this log amplitude, through the folded cepstrum.

    A causal response keeps the steep first edge of a crackle; a zero-phase one would ring before it.
    """
    cepstrum = fft.irfft(log_gain, size)
    fold = np.zeros(size)
    fold[0] = 1.0
    fold[1 : (size + 1) // 2] = 2.0
    if size % 2 == 0:
        fold[size // 2] = 1.0
    return np.exp(fft.rfft(cepstrum * fold, size))


def apply_style(
    lung: np.ndarray,
    style: Style,
    placement: Placement,
    rng: np.random.Generator,
    *,
    heart_rate: float = 75.0,
) -> np.ndarray:
    """Play lung sounds ``(N,)`` through a style; nothing moves in time. Returns ``(N,)`` float32 in [-1, 1].

    Heart sounds and thumps enter at the chest, before device and room; the noise floor behind them;
    the sample rate limits the band of everything.
    """
    size = lung.size
    chest = lung
    if style.heart > 0:
        chest = chest + style.heart * placement.heart * render_heart(size, heart_rate, rng)
    if style.thumps > 0:
        chest = chest + render_thumps(size, style.thumps, rng)
    length = fft.next_fast_len(size + round(style.room_seconds * RATE), real=True)
    device, band = _device(style, length)
    frequencies = np.maximum(fft.rfftfreq(length, 1 / RATE), 50.0).astype(np.float32)
    octaves = np.log2(frequencies / np.float32(400.0))
    spectrum = fft.rfft(chest.astype(np.float32), length) * device
    spectrum *= 10 ** (placement.tilt / 20 * octaves)
    floor = 10 ** ((style.noise_db + placement.noise_db) / 20)
    if floor > 1e-8:
        colour = 10 ** (style.noise_tilt / 20 * octaves)
        noise = coloured_noise(length, colour.astype(np.float32), rng) * np.float32(floor)
        spectrum += fft.rfft(noise)
    wave = fft.irfft(spectrum * band, length)[:size]
    loudness = max(float(np.sqrt(np.mean(wave**2))), 1e-9)
    wave *= np.float32(10 ** ((style.level_db + placement.level_db) / 20) / loudness)
    peak = float(np.abs(wave).max())
    return (wave if peak <= 0.98 else wave * np.float32(0.98 / peak)).astype(np.float32)
