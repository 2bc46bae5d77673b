from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import beats
from agent.cli import app
from generator import codec_eval
from generator.codec_crackles import KINDS, crackled, detect, timing, waves_of
from generator.codec_eval import evaluate_codecs, log_mel, through
from generator.codec_page import HEADER, markdown, table
from resp229k.audio import RATE, write_wav
from resp229k.simulate.sounds import crackle
from training.config import weights_path
from training.errors import CheckpointError, ConfigError, DataError


def wave(seed: int, seconds: float = 1.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    return np.convolve(noise, np.hanning(9 + seed) / 8, mode="same").astype(np.float32)


def codec(change=lambda frames: frames) -> SimpleNamespace:  # type: ignore[no-untyped-def]
    """Frames of one sample each: nothing is lost but what ``change`` takes."""
    return SimpleNamespace(
        encode=lambda wave: wave[:, None],
        decode=lambda frames, *, samples, seed: 3 * change(frames[:samples, 0]),  # at a level of its own
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noisy", [False, True])
def test_crackles_are_found_when_they_were_rendered(kind: str, noisy: bool) -> None:
    waves = [crackled(kind, noisy, seed) for seed in range(4)]
    found = timing(waves, lambda wave: wave)
    assert found.crackles > 4 * 8 and found.found == 1.0 and found.extra == 0.0
    assert found.median_ms is not None and found.late_ms is not None
    assert found.median_ms < 0.3 and found.late_ms < 1.0


def test_peaks_lie_within_the_crackle() -> None:
    item = crackled("coarse", False, 0)
    size = crackle(*KINDS["coarse"]).size
    first = np.flatnonzero(np.abs(item.wave) > 1e-6)[0]
    assert first <= item.peaks[0] * RATE <= first + size
    assert np.diff(item.peaks).min() >= 0.1 - 1e-6


def test_delay_loss_and_echo_are_told_apart() -> None:
    waves = [crackled("fine", False, seed) for seed in range(4)]
    late = timing(waves, lambda wave: np.concatenate([np.zeros(80, np.float32), wave[:-80]]))
    assert late.median_ms == pytest.approx(5.0, abs=0.1) and late.found == 1.0
    far = timing(waves, lambda wave: np.concatenate([np.zeros(800, np.float32), wave[:-800]]))
    assert far.found == 0.0 and far.median_ms is None and far.extra > 0.8

    half = timing(waves, lambda wave: np.where(np.arange(wave.size) < wave.size // 2, wave, 0))
    assert 0.3 < half.found < 0.7 and half.extra == 0.0
    echo = timing(waves, lambda wave: wave + 0.8 * np.concatenate([np.zeros(700, np.float32), wave[:-700]]))
    assert echo.found == 1.0 and echo.extra == pytest.approx(1.0, abs=0.1)
    assert detect(np.zeros(RATE, np.float32), 5).size == 0


def test_waves_of_crackles_follow_their_seed() -> None:
    one, again, other = (waves_of(1, seed)["fine, over noise"][0] for seed in (0, 0, 1))
    assert np.array_equal(one.wave, again.wave) and not np.array_equal(one.wave, other.wave)


def test_the_analysis_hears_sound_and_not_gain() -> None:
    assert np.allclose(log_mel(wave(0)), log_mel(4 * wave(0)), atol=0.05)
    assert np.abs(log_mel(wave(0)) - log_mel(wave(1))).mean() > 1
    assert np.ptp(log_mel(wave(0))) <= 60.0


def test_nothing_lost_is_zero_and_a_lowpass_is_not() -> None:
    encoder = beats.load_encoder(weights_path("tiny/beats"))
    waves = [wave(seed, 0.5) for seed in range(6)]
    lowpass = np.hanning(33) / 16
    codecs = {"exact": codec(), "dull": codec(lambda x: np.convolve(x, lowpass, mode="same"))}
    report = evaluate_codecs(codecs, waves, list("aabbcc"), encoder)  # type: ignore[arg-type]
    none, exact, dull = report.rows
    assert (none.name, exact.name, dull.name) == ("none", "exact", "dull")
    assert none.mel_db == 0.0 and none.fad == pytest.approx(0, abs=1e-6) and none.mean is None
    assert exact.mel_db < 0.01 and exact.fad < 1e-3 and exact.crackles.found == 1.0
    assert dull.mel_db > 1 and dull.fad > 100 * max(exact.fad, 1e-6) and len(dull.mean or []) == 1
    assert set(exact.by_kind) == {f"{kind}, {how}" for kind in KINDS for how in ("alone", "over noise")}
    assert report.clips == 6 and report.seconds == pytest.approx(3.0) and report.halves > 0
    assert len(report.examples) == codec_eval.SHOWN and set(report.examples[0]) == {"none", "exact", "dull"}
    assert len(table(report)) == 4 and markdown(report).startswith(f"| {HEADER[0]} |")
    with pytest.raises(DataError, match="2 recordings of 1 subjects"):
        evaluate_codecs({}, waves[:2], ["a", "a"], encoder)


def test_a_reconstruction_has_the_recordings_level() -> None:
    assert np.allclose(through(codec(), wave(0), 0), wave(0), atol=1e-5)  # type: ignore[arg-type]


def test_the_command_writes_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_eval, "WAVES", 1)
    for seed in range(4):
        write_wav(tmp_path / "in" / f"{seed}.wav", wave(seed, 0.4), synthetic=False)
    write_wav(tmp_path / "in" / "short.wav", wave(9, 0.1), synthetic=False)
    arguments = ["generator", "codec-eval", str(tmp_path / "in"), "--codec", "mel,iterations=1", "--markdown"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "| mel,iterations=1 |" in result.stdout and "left out: 1" in result.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"codec-eval.{suffix}" for suffix in ("json", "md", "png")
    }
    assert str(tmp_path) not in (tmp_path / "out" / "codec-eval.json").read_text()


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ("opus", ConfigError, "no codec 'opus'"),
        ("mel,hopp=3", ConfigError, "unknown key 'hopp'"),
        ("mel,kind=vocos", ConfigError, "kind"),
        ("vocos", CheckpointError, "needs weights"),
        ("encodec,weights=/nowhere", CheckpointError, "config.json"),
    ],
)
def test_codecs_are_checked_before_recordings(asked: str, error: type, message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["generator", "codec-eval", str(tmp_path / "none"), "--codec", asked])
    assert isinstance(result.exception, error) and message in str(result.exception)
