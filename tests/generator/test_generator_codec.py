from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from generator.codec import MelCodec, frames_of, level, make_codec
from generator.codec_config import CodecConfig, EncodecConfig, MelConfig, VocosConfig
from resp229k.audio import RATE
from training.errors import AudioError


def breath(seconds: float = 4.0) -> np.ndarray:
    """Low-pass noise in two breaths with a wheeze in the second."""
    rng = np.random.default_rng(0)
    t = np.arange(round(seconds * RATE)) / RATE
    noise = np.convolve(rng.normal(size=t.size), np.hanning(24) / 12, mode="same")
    envelope = np.sin(np.pi * t / 2) ** 2 + 0.02
    return (0.02 * envelope * noise + 0.03 * np.sin(2 * np.pi * 400 * t) * (t > 2)).astype(np.float32)


def test_round_trip_keeps_the_mel() -> None:
    codec = MelCodec()
    frames = codec.encode(breath())
    assert frames.shape == (200, 80)
    wave = codec.decode(frames, samples=4 * RATE, seed=1)
    assert wave.shape == (4 * RATE,)
    assert np.abs(codec.encode(wave) - frames).mean() < 0.15
    assert abs(level(wave) - codec.config.rms) < 0.2 * codec.config.rms


def test_decoding_follows_its_seed() -> None:
    codec = MelCodec()
    frames = codec.encode(breath(1.0))
    assert np.array_equal(codec.decode(frames, seed=1), codec.decode(frames, seed=1))
    assert not np.array_equal(codec.decode(frames, seed=1), codec.decode(frames, seed=2))


def test_frames_do_not_depend_on_gain() -> None:
    codec = MelCodec()
    assert np.allclose(codec.encode(breath()), codec.encode(10 * breath()), atol=1e-4)


def test_eight_frames_are_one_column() -> None:
    assert MelCodec().length(2560) == 8
    assert MelCodec().encode(breath(0.16)).shape == (8, 80)


def test_silence_is_refused() -> None:
    with pytest.raises(AudioError, match="silent"):
        MelCodec().encode(np.zeros(16_000, dtype=np.float32))


def test_a_config_without_a_kind_means_mel() -> None:
    codec = TypeAdapter(CodecConfig)
    assert codec.validate_python({"iterations": 3}) == MelConfig(iterations=3)
    assert codec.validate_python({"kind": "vocos"}) == VocosConfig()
    assert codec.validate_python({"kind": "encodec", "mean": [0.0] * 128}).dim == 128
    for config in (MelConfig(), VocosConfig(hop=300), EncodecConfig(std=2.0)):
        assert codec.validate_python(codec.dump_python(config, mode="json")) == config
    for wrong in ({"kind": "opus"}, {"kind": ["mel"]}, "mel", None):
        with pytest.raises(ValidationError, match="kind mel, vocos or encodec"):
            codec.validate_python(wrong)
    for sizes in ({"n_fft": 1023}, {"n_fft": 320}):
        with pytest.raises(ValidationError, match="n_fft must be even and above hop"):
            codec.validate_python(sizes)
    with pytest.raises(ValidationError, match="weights"):
        codec.validate_python({"weights": "x"})


def test_the_default_is_mel_and_rates_need_be_no_integers() -> None:
    assert isinstance(make_codec(MelConfig()), MelCodec)
    assert (MelConfig().dim, MelConfig().frame_rate) == (80, 50.0)
    assert (VocosConfig().dim, VocosConfig().frame_rate) == (87, 93.75)
    assert (EncodecConfig().dim, EncodecConfig().frame_rate) == (128, 75.0)


@given(st.integers(1, 10**7), st.sampled_from([16_000, 24_000, 44_100]), st.integers(1, 1024))
def test_frames_cover_the_wave_and_no_more(samples: int, rate: int, hop: int) -> None:
    frames = frames_of(samples, rate, hop)
    assert (frames - 1) * hop * RATE < samples * rate <= frames * hop * RATE
