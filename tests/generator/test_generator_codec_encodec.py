from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import EncodecModel

from generator.codec import Codec, make_codec
from generator.codec_config import EncodecConfig
from generator.encodec import EncodecCodec, load_encodec
from resp229k.audio import RATE
from training.errors import CheckpointError

pytestmark = pytest.mark.slow

SMALL = {"num_filters": 4, "hidden_size": 16, "codebook_size": 8, "upsampling_ratios": [8, 5, 4, 2]}


def write(folder: Path, **changes: object) -> Path:
    torch.manual_seed(0)
    model = EncodecModel(transformers.EncodecConfig(**(SMALL | changes)))
    for layer in model.quantizer.layers:  # random codebooks are zeros
        layer.codebook.embed.normal_()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("encodec"))


def codec_of(folder: Path, **changes: object) -> Codec:
    return make_codec(EncodecConfig.model_validate({"weights": str(folder), "dim": 16} | changes))


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 213, 214, 5_003, RATE])
def test_lengths_are_exact(samples: int, folder: Path) -> None:
    codec = codec_of(folder)
    frames = codec.encode(noise(samples))
    assert frames.shape == (codec.length(samples), 16) == (-(-samples * 3 // 640), 16)
    assert frames.dtype == np.float32 and np.isfinite(frames).all()
    wave = codec.decode(frames, samples=samples)
    assert wave.shape == (samples,) and wave.dtype == np.float32 and np.isfinite(wave).all()


def test_latents_are_the_encoders_and_wave_the_decoders(folder: Path) -> None:
    codec = codec_of(folder, rate=24_000)
    assert isinstance(codec, EncodecCodec)
    frames = codec.encode(noise(RATE))
    model = load_encodec(EncodecConfig(weights=str(folder), dim=16))
    with torch.inference_mode():
        wave = model.decoder(torch.from_numpy(frames.T.copy())[None])[0, 0].numpy()
    assert wave.size == 24_000  # whole hops at the model's rate
    ours = codec.decode(frames, samples=RATE)
    assert np.abs(np.fft.rfft(ours) / RATE - np.fft.rfft(wave)[:8_001] / 24_000)[:7_000].max() < 1e-5


def test_what_follows_does_not_change_frames(folder: Path) -> None:
    codec = codec_of(folder)
    wave = noise(2 * RATE)
    longer, shorter = codec.encode(wave), codec.encode(wave[:RATE])
    # Both are brought to the same level but for the noise's own; resampling looks a little ahead.
    assert longer.shape[0] == 150 and np.abs(longer[:70] - shorter[:70]).max() < 0.02 * np.abs(longer).max()


def test_normalisation_is_undone(folder: Path) -> None:
    plain, wave = codec_of(folder), noise(RATE)
    raw = plain.encode(wave)
    mean, std = raw.mean(0), raw.std(0)
    each = codec_of(folder, mean=tuple(mean.tolist()), std=tuple(std.tolist()))
    frames = each.encode(wave)
    assert np.abs(frames.mean(0)).max() < 1e-4 and np.abs(frames.std(0) - 1).max() < 1e-4
    assert np.allclose(each.decode(frames), plain.decode(raw), atol=1e-5)
    one = codec_of(folder, mean=0.5, std=2.0)
    assert np.allclose(one.encode(wave), (raw - 0.5) / 2.0, atol=1e-6)


def test_the_quantiser_changes_the_sound_when_asked(folder: Path) -> None:
    frames = codec_of(folder).encode(noise(RATE))
    coarse = codec_of(folder, quantise=True).decode(frames)
    assert not np.allclose(coarse, codec_of(folder).decode(frames), atol=1e-3)
    model = load_encodec(EncodecConfig(weights=str(folder), dim=16))
    with torch.inference_mode():
        codes = model.quantizer.encode(torch.from_numpy(frames.T.copy())[None])
        again = model.quantizer.decode(codes)[0].T.numpy()
    assert np.allclose(codec_of(folder).decode(again), coarse, atol=1e-6)


def test_weights_are_asked_for_with_their_place(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"needs weights.*huggingface.co/facebook/encodec_24khz"):
        make_codec(EncodecConfig())
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        codec_of(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling_rate": 32_000}, "sampling_rate 32000"),
        ({"upsampling_ratios": [4, 2]}, "hop_length 8"),
        ({"hidden_size": 8}, "hidden_size 8"),
        ({"audio_channels": 2}, "audio_channels 2"),
        ({"normalize": True}, "normalize True"),
        ({"use_causal_conv": False}, "use_causal_conv False"),
        ({"norm_type": "time_group_norm"}, "norm_type time_group_norm"),
    ],
)
def test_models_with_other_frames_are_refused(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        codec_of(write(tmp_path, **changes))


def test_wrong_tensors_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    state = load_file(folder / "model.safetensors")
    name = "decoder.layers.0.conv.bias"
    for changed, message in (
        ({k: v for k, v in state.items() if k != name}, f"missing tensors: {name}"),
        (state | {"extra": torch.ones(1)}, "unexpected tensors: extra"),
        (state | {name: torch.ones(3)}, f"mismatched tensors: .*{name}"),
    ):
        save_file(changed, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=message):
            codec_of(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"text")
    with pytest.raises(CheckpointError, match="is no EncodecModel"):
        codec_of(tmp_path)


def test_statistics_must_fit_the_frames() -> None:
    with pytest.raises(ValidationError, match="mean has 2 values, not 128"):
        EncodecConfig(mean=(0.0, 1.0))
    with pytest.raises(ValidationError, match="std must be above 0"):
        EncodecConfig(std=0.0)
