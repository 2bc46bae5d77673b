"""Audio in, audio out: lengths, loops, bandwidth, and errors that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resp229k.audio import (
    RATE,
    Preprocess,
    is_tagged_synthetic,
    load_audio,
    loop,
    prepare,
    write_wav,
)
from training.errors import AudioError


def sine(hertz: float, seconds: float) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE).astype(np.float32) * 0.5


def test_a_loop_has_no_click() -> None:
    wave = sine(101.3, 0.37)  # ends far from where it begins
    looped = loop(wave, 4 * RATE)
    assert looped.shape == (4 * RATE,)
    steepest = np.abs(np.diff(wave)).max()
    assert np.abs(np.diff(looped)).max() < 1.5 * steepest
    assert np.abs(np.diff(np.tile(wave, 3))).max() > 3 * steepest


@pytest.mark.parametrize("size", [1, 2, 3, 639, 640, 641])
def test_even_a_few_samples_loop(size: int) -> None:
    assert np.isfinite(loop(np.ones(size, dtype=np.float32), RATE)).all()


def test_fit_decides_the_length() -> None:
    short, long = sine(200, 1), sine(200, 9)
    assert prepare(short, Preprocess(fit="mask")).size == RATE
    assert prepare(short, Preprocess(fit="loop")).size == 4 * RATE
    middle = prepare(long, Preprocess())
    assert np.array_equal(middle, long[int(2.5 * RATE) : int(6.5 * RATE)])


def test_bandwidth_removes_what_lies_above() -> None:
    both = sine(500, 4) + sine(3000, 4)
    narrow = prepare(both, Preprocess(bandwidth=2000))
    spectrum = np.abs(np.fft.rfft(narrow)) / np.abs(np.fft.rfft(both)).max()
    assert narrow.size == both.size
    assert spectrum[3000 * 4] < 1e-3
    assert spectrum[500 * 4] > 0.95


def test_stereo_and_rates_become_16_khz_mono(tmp_path: Path) -> None:
    import soundfile as sf

    sf.write(tmp_path / "a.wav", np.stack([np.full(8000, 0.2), np.full(8000, 0.4)], axis=1), 8000)
    wave = load_audio(tmp_path / "a.wav")
    assert wave.shape == (RATE,)
    assert wave[4000:12000].mean() == pytest.approx(0.3, abs=1e-3)


def test_a_stretch_is_cut_in_seconds(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.linspace(0, 1, 2 * RATE), synthetic=False)
    part = load_audio(tmp_path / "a.wav", 0.5, 1.0)
    assert part.size == RATE // 2
    assert part[0] == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("harm", ["missing", "corrupt", "empty", "silent", "no samples"])
def test_bad_recordings_are_named(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "the-file.wav"
    if harm == "corrupt":
        path.write_bytes(b"RIFFxxxxWAVEnonsense")
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "silent":
        write_wav(path, np.zeros(RATE), synthetic=False)
    elif harm == "no samples":
        write_wav(path, np.zeros(0), synthetic=False)
    with pytest.raises(AudioError, match=r"the-file\.wav"):
        load_audio(path)


def test_synthetic_files_say_so(tmp_path: Path) -> None:
    write_wav(tmp_path / "real.wav", sine(100, 1), synthetic=False)
    write_wav(tmp_path / "made.wav", sine(100, 1), synthetic=True)
    assert is_tagged_synthetic(tmp_path / "made.wav")
    assert not is_tagged_synthetic(tmp_path / "real.wav")
