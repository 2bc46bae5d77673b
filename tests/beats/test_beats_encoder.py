"""The encoder: its grid, exact masks, gradients, names."""

import numpy as np
import pytest
import torch

import beats
from beats.config import BeatsConfig, beats_config
from beats.encoder import BeatsEncoder, grid_shape
from beats.layers import offset_buckets
from training.config import weights_path
from training.errors import CheckpointError, ConfigError, DataError
from training.model import weights_digest


def build(stem: str) -> BeatsEncoder:
    torch.manual_seed(0)
    return BeatsEncoder(beats_config("tiny", stem)).eval()


def noise(*samples: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(n, generator=generator) for n in samples]


STEMS = pytest.mark.parametrize("stem", ["patch", "conv"])


@STEMS
def test_ten_seconds_give_62_by_8(stem):
    encoder = build(stem)
    with torch.no_grad():
        out = encoder.encode(noise(160000)[0][None], torch.tensor([160000]))
    assert out.features.shape == (1, 62, 8, 96)
    assert out.columns.tolist() == [62]
    assert grid_shape(10) == (62, 8)
    assert grid_shape(4) == (24, 8)


@STEMS
@pytest.mark.parametrize("padding", [7.0, float("nan")])  # what stands there must not matter
def test_alone_equals_padded(stem, padding):
    encoder = build(stem)
    waves = noise(2800, 16333, 40000)
    lengths = torch.tensor([w.numel() for w in waves])
    batch = torch.full((3, 41000), padding)
    for row, wave in zip(batch, waves, strict=True):
        row[: wave.numel()] = wave
    with torch.no_grad():
        together = encoder.encode(batch, lengths)
        for i, wave in enumerate(waves):
            alone = encoder.encode(wave[None], lengths[i : i + 1])
            columns = int(alone.columns[0])
            assert columns == int(together.columns[i])
            torch.testing.assert_close(
                together.features[i, :columns], alone.features[0], atol=1e-5, rtol=1e-5
            )
            assert together.features[i, columns:].abs().sum() == 0


@STEMS
def test_every_parameter_gets_a_gradient(stem):
    encoder = build(stem).train()
    waves = torch.stack(noise(20000, 20000))
    features = encoder.encode(waves, torch.tensor([20000, 12000])).features
    (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        # softmax does not see a key's bias (the same for every key), so its gradient is zero in theory.
        if not name.endswith("k_proj.bias"):
            assert parameter.grad.abs().sum() > 0, name


def test_tiny_size():
    for stem in ("patch", "conv"):
        count = sum(p.numel() for p in build(stem).parameters())
        assert 0.3e6 < count < 0.5e6


def test_names_and_shapes_of_the_published_base_size():
    with torch.device("meta"):
        encoder = BeatsEncoder(BeatsConfig())
    shapes = {name: tuple(p.shape) for name, p in encoder.state_dict().items()}
    assert shapes["patch_embedding.weight"] == (512, 1, 16, 16)
    assert shapes["post_extract_proj.weight"] == (768, 512)
    convolution = "encoder.pos_conv.0.parametrizations.weight.original"
    assert shapes[convolution + "0"] == (1, 1, 128)
    assert shapes[convolution + "1"] == (768, 48, 128)
    assert shapes["encoder.relative_attention_bias.weight"] == (320, 12)
    assert shapes["encoder.layers.11.self_attn.grep_linear.weight"] == (8, 64)
    assert shapes["encoder.layers.0.self_attn.grep_a"] == (1, 12, 1, 1)
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(90.3e6, rel=0.01)


def test_position_buckets():
    place = torch.arange(1000)
    table = offset_buckets(place[None, :] - place[:, None], 320, 800)
    assert table.min() == 0
    assert table.max() == 319
    assert table[5, 5] == 0
    assert table[10, 3] == 7  # before: exact
    assert table[3, 10] == 167  # after: the other half
    assert table[0, 900] == 319


def test_too_short_names_the_cure():
    encoder = build("patch")
    with pytest.raises(DataError, match="2800 samples"):
        encoder.encode(noise(2799)[0][None], torch.tensor([2799]))


def test_save_and_load(tmp_path):
    encoder = build("conv")
    encoder.save_pretrained(tmp_path / "encoder", half=True)
    again = BeatsEncoder.from_pretrained(tmp_path / "encoder")
    wave, length = noise(16000)[0][None], torch.tensor([16000])
    with torch.no_grad():
        a, b = encoder.encode(wave, length).features, again.encode(wave, length).features
    torch.testing.assert_close(a, b, atol=0.05, rtol=0.05)
    (tmp_path / "encoder" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        BeatsEncoder.from_pretrained(tmp_path / "encoder")


def test_unknown_size():
    with pytest.raises(ConfigError, match="tiny or base"):
        beats_config("huge")  # type: ignore[arg-type]


def test_the_shipped_weights_give_what_they_gave():
    """Golden values: whoever holds cached features or trained heads relies on them."""
    encoder, tokenizer = beats.load(weights_path("tiny/beats"))
    assert weights_digest(encoder).startswith("e8d367a7716b9d1e586045d1c2cb357244b1dadfb181ba5f")
    assert weights_digest(tokenizer).startswith("d1d46c04bb48b0f5ffce1ef4a9220afda0c7320e0cbdd60b")
    samples, short = 32077, 20000
    time = np.arange(samples) / 16000
    tone = 0.2 * np.sin(2 * np.pi * (150 + 220 * time) * time)
    wave = (tone + 0.05 * np.random.default_rng(5).standard_normal(samples)).astype(np.float32)
    batch = torch.from_numpy(np.stack([wave, np.where(np.arange(samples) < short, wave, 0)]))
    with torch.no_grad():
        features, columns = encoder.encode(batch, torch.tensor([samples, short]))
    assert columns.tolist() == [12, 7]
    close = {"atol": 1e-6, "rtol": 1e-6}
    whole = [
        [-0.815631628036499, 1.0280468463897705, 0.4310014545917511],
        [-0.9069273471832275, 0.7426165342330933, 0.38621172308921814],
    ]
    padded = [
        [-0.14641405642032623, 0.4655057191848755],
        [-0.0023720921017229557, 0.43830662965774536],
        [0.0, 0.0],
    ]
    torch.testing.assert_close(features[0, ::6, 3, :3], torch.tensor(whole), **close)
    torch.testing.assert_close(features[1, ::4, 6, 40:42], torch.tensor(padded), **close)
    units = tokenizer.units(features)
    assert units[0, :, 0].tolist() == [88] + 11 * [202]
    assert units[0, :, 4].tolist() == 10 * [32] + 2 * [118]
    assert units[1, :7, 2].tolist() == [32, 118, 118, 118, 118, 225, 244]
