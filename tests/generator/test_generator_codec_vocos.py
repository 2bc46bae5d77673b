from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import vocos_restated as restated
from safetensors.torch import save_file

from generator.codec import make_codec
from generator.codec_config import VocosConfig
from generator.vocos import filters, load_vocos, log_mel
from resp229k.audio import RATE, resample
from training.errors import CheckpointError, ConfigError

FB = "feature_extractor.mel_spec.mel_scale.fb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cfg = restated.published()
    return restated.write(tmp_path_factory.mktemp("vocos"), cfg, restated.random_state(cfg))


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


@pytest.mark.parametrize("padding", ["center", "same"])
def test_the_network_is_the_published_one(padding: str, tmp_path: Path) -> None:
    cfg = restated.published(padding)
    state = restated.random_state(cfg, seed=1)
    restated.write(tmp_path, cfg, state)
    model = load_vocos(VocosConfig(weights=str(tmp_path), padding=padding))
    mel = np.random.default_rng(2).normal(-5, 2, (100, 9))
    ours = model(torch.from_numpy(mel).float()[None])[0].detach().numpy()
    theirs = restated.decode(mel, state, cfg)
    assert ours.shape == theirs.shape == ((8 if padding == "center" else 9) * 256,)
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("padding", ["center", "same"])
def test_the_mel_is_the_published_one(padding: str) -> None:
    config, cfg = VocosConfig(padding=padding), restated.published(padding)
    wave = noise(256 * 12)
    theirs = restated.log_mel(wave, cfg)
    assert np.allclose(log_mel(wave, 12, config, filters(config)), theirs[:, :12], atol=2e-4)
    assert np.abs(filters(config) - restated.htk(cfg).T).max() < 1e-6


def test_an_impulse_stands_in_its_own_frame() -> None:
    for padding, nearest in (("center", 10), ("same", 9)):  # a hop's beginning is its frame, or between two
        config = VocosConfig(padding=padding)
        wave = np.zeros(256 * 20, dtype=np.float32)
        wave[256 * 10] = 1.0
        energy = np.exp(log_mel(wave, 20, config, filters(config))).sum(0)
        assert energy.argmax() in ({nearest} if padding == "center" else {9, 10})
        assert np.allclose(energy[9], energy[11 if padding == "center" else 10], rtol=1e-4)


@pytest.mark.parametrize("padding", ["center", "same"])
@pytest.mark.parametrize("samples", [1, 171, 511, 512, 5_003, RATE])
def test_lengths_are_exact(padding: str, samples: int, tmp_path: Path) -> None:
    cfg = restated.published(padding)
    restated.write(tmp_path, cfg, restated.random_state(cfg))
    codec = make_codec(VocosConfig(weights=str(tmp_path), padding=padding))
    frames = codec.encode(noise(samples))
    assert frames.shape == (codec.length(samples), 87) == (-(-samples * 3 // 512), 87)
    assert frames.dtype == np.float32 and np.isfinite(frames).all()
    wave = codec.decode(frames, samples=samples)
    assert wave.shape == (samples,) and wave.dtype == np.float32 and np.isfinite(wave).all()


def test_frames_end_where_recordings_do() -> None:
    config = VocosConfig()
    peaks = filters(config).argmax(1) * config.rate / config.n_fft
    assert peaks[config.dim - 1] <= RATE / 2 < peaks[config.dim]
    assert VocosConfig(rate=RATE).dim == 100
    loud = log_mel(resample(noise(RATE), RATE, config.rate), 90, config, filters(config))
    assert loud[config.dim + 3 :, 5:-5].max() < loud[: config.dim].min() - 4


def test_frames_do_not_depend_on_gain_and_decoding_not_on_the_seed(folder: Path) -> None:
    codec = make_codec(VocosConfig(weights=str(folder)))
    frames = codec.encode(noise(8_000))
    assert np.allclose(frames, codec.encode(10 * noise(8_000)), atol=1e-4)
    assert np.array_equal(codec.decode(frames, seed=1), codec.decode(frames, seed=2))
    assert np.isfinite(codec.decode(np.full_like(frames, 1e4))).all()  # a broken prediction stays bounded


def test_safetensors_load_as_the_pickle_does(folder: Path, tmp_path: Path) -> None:
    cfg = restated.published()
    (tmp_path / "config.yaml").write_text((folder / "config.yaml").read_text())
    save_file({k: v.clone() for k, v in restated.random_state(cfg).items()}, tmp_path / "model.safetensors")
    one, other = (load_vocos(VocosConfig(weights=str(path))).state_dict() for path in (folder, tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_weights_are_asked_for_with_their_place() -> None:
    with pytest.raises(
        CheckpointError, match=r"needs weights.*huggingface.co/charactr/vocos-mel-24khz \(MIT"
    ):
        make_codec(VocosConfig())
    with pytest.raises(ConfigError, match="NO_SUCH_VOCOS"):
        make_codec(VocosConfig(weights="${NO_SUCH_VOCOS}"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head.out.bias": None}, "misses head.out.bias"),
        ({FB: None}, f"misses {FB}"),
        ({"backbone.convnext.2.gamma": torch.ones(12)}, "unexpected backbone.convnext.2.gamma"),
        ({"backbone.norm.bias": torch.ones(13)}, r"backbone.norm.bias has shape \(13,\), not \(12,\)"),
        ({FB: torch.zeros(513, 100)}, f"another analysis: {FB}"),
        ({"note": "text"}, "more than tensors"),
    ],
)
def test_wrong_tensors_are_named(change: dict, message: str, tmp_path: Path) -> None:
    cfg = restated.published()
    state = restated.random_state(cfg) | change
    restated.write(tmp_path, cfg, {k: v for k, v in state.items() if v is not None})
    with pytest.raises(CheckpointError, match=message):
        load_vocos(VocosConfig(weights=str(tmp_path)))


def test_another_config_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="hop 256"):
        load_vocos(VocosConfig(weights=str(folder), hop=320))
    with pytest.raises(CheckpointError, match=r"config\.yaml: no such file"):
        load_vocos(VocosConfig(weights=str(tmp_path)))
    for text in ("[", "feature_extractor: 3", "{}"):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(CheckpointError, match="no config of a mel Vocos"):
            load_vocos(VocosConfig(weights=str(tmp_path)))


def test_damaged_and_foreign_files_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((folder / "config.yaml").read_text())
    config = VocosConfig(weights=str(tmp_path))
    with pytest.raises(CheckpointError, match=r"no pytorch_model\.bin"):
        load_vocos(config)
    content = (folder / "pytorch_model.bin").read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2]):
        (tmp_path / "pytorch_model.bin").write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            load_vocos(config)
    torch.save({"x": Path("code")}, tmp_path / "pytorch_model.bin")  # an object, which is not unpickled
    with pytest.raises(CheckpointError, match="no file of tensors"):
        load_vocos(config)
    (tmp_path / "model.safetensors").write_bytes(b"text")
    with pytest.raises(CheckpointError, match="damaged"):
        load_vocos(config)
