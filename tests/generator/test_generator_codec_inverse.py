from __future__ import annotations

import librosa
import numpy as np
import pytest
from scipy.signal import butter, find_peaks, sosfilt, stft

from generator.codec import MelCodec
from generator.codec_config import MelConfig
from generator.codec_eval import log_mel
from generator.codec_inverse import invert
from resp229k.audio import RATE


def mel_of(wave: np.ndarray, codec: MelCodec) -> np.ndarray:
    """Magnitudes in the codec's bands ``(L, M)``, before any logarithm, by another library's transform."""
    size, hop = codec.config.n_fft, codec.config.hop
    _, _, spectrum = stft(
        wave,
        window="hann",
        nperseg=size,
        noverlap=size - hop,
        boundary="zeros",
        padded=False,
        scaling="spectrum",
    )
    return (codec.filters @ np.abs(spectrum[:, : wave.size // hop] * size / 2)).T


def fluctuation(wave: np.ndarray) -> float:
    """Standard deviation of the change from one 25 ms window to the next, 10 ms on, in dB."""
    return float(np.diff(log_mel(wave), axis=0).std())


@pytest.mark.parametrize("seed", [0, 1])
def test_what_comes_back_has_the_spectrogram_that_was_asked_for(seed: int) -> None:
    codec = MelCodec()
    time = np.arange(2 * RATE) / RATE
    breath = np.random.default_rng(5).normal(size=time.size) * (0.1 + np.sin(np.pi * time) ** 2)
    wanted = mel_of(breath, codec)
    wave = invert(wanted, codec.filters, 320, iterations=16, seed=seed)
    assert wave.shape == time.shape
    ratio = mel_of(wave, codec)[3:-3] / wanted[3:-3]
    assert np.median(np.abs(np.log(ratio))) < 0.06
    assert abs(np.log(ratio).mean()) < 0.03


def test_noise_comes_back_as_steady_as_it_was() -> None:
    noise = np.random.default_rng(3).normal(size=2 * RATE).astype(np.float32) * 0.05
    codec = MelCodec()
    back = fluctuation(codec.decode(codec.encode(noise), seed=4))
    assert back == pytest.approx(fluctuation(noise), rel=0.05)

    magnitude = np.linalg.pinv(codec.filters) @ mel_of(noise, codec).T
    first = librosa.griffinlim(np.maximum(magnitude, 0), n_iter=16, hop_length=320, random_state=0)
    assert fluctuation(first) > 1.1 * fluctuation(noise)  # what the inversion is for


def test_a_tone_stays_one_line() -> None:
    time = np.arange(2 * RATE) / RATE
    tone = (0.1 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    codec = MelCodec()
    spectrum = np.abs(np.fft.rfft(codec.decode(codec.encode(tone), seed=0)[4000:-4000] * np.hanning(24_000)))
    peak = int(spectrum.argmax())
    assert abs(peak * RATE / 24_000 - 440) < 20
    others, _ = find_peaks(spectrum)
    far = others[np.abs(others - peak) * RATE / 24_000 > 60]
    assert spectrum[far].max() < 0.1 * spectrum[peak]


def test_more_iterations_come_nearer() -> None:
    codec = MelCodec()
    click = np.zeros(RATE, dtype=np.float32)
    click[4000::3000] = 1.0
    wanted = mel_of(click + 1e-3 * np.random.default_rng(0).normal(size=RATE), codec)

    def error(iterations: int) -> float:
        wave = invert(wanted, codec.filters, 320, iterations=iterations, seed=0)
        return float(np.abs(np.log(mel_of(wave, codec)[3:-3] / wanted[3:-3])).mean())

    assert error(64) < error(16) < error(2)


def test_nothing_sounds_where_no_band_reaches() -> None:
    noise = np.random.default_rng(6).normal(size=4 * RATE)
    noise = sosfilt(butter(4, (100, 3000), "band", fs=RATE, output="sos"), noise).astype(np.float32)

    def share(wave: np.ndarray, low: float, high: float) -> float:
        power = np.abs(np.fft.rfft(wave)) ** 2
        hertz = np.fft.rfftfreq(wave.size, 1 / RATE)
        return float(power[(hertz >= low) & (hertz < high)].sum() / power.sum())

    codec = MelCodec()
    assert share(codec.decode(codec.encode(noise), seed=1), 0, 20) < 0.002
    half = MelCodec(MelConfig(fmax=4000.0, mels=40))
    assert share(half.decode(half.encode(noise), seed=1), 4500, 8000) < 1e-4


@pytest.mark.parametrize(
    "config", [MelConfig(), MelConfig(fmax=4000.0, mels=40), MelConfig(n_fft=512, hop=160)]
)
def test_a_single_frame_stays_finite(config: MelConfig) -> None:
    codec = MelCodec(config)
    wave = invert(np.full((1, config.mels), 1e-4), codec.filters, config.hop, iterations=4, seed=0)
    assert wave.shape == (config.hop,)
    assert np.isfinite(wave).all()
    assert 0 < np.abs(wave).max() < 1
