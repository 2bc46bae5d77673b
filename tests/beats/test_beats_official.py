"""Published checkpoints: parity with an independent statement of the network, and strict reading."""

import numpy as np
import pytest
import torch
from beats_restated import (
    BASE,
    SMALL,
    classify,
    code_distances,
    encode,
    filterbank,
    project,
    random_file,
    token_mask,
)

import beats
from beats.classifier import BeatsClassifier
from beats.encoder import BeatsEncoder, official_tokens
from beats.fbank import fbank
from beats.tokenizer import BeatsTokenizer

CONFIGS = {
    "published structure": SMALL,
    "no deep-norm": SMALL | {"deep_norm": False},
    "no projection": SMALL | {"embed_dim": 32},
    "odd kernel, other distances": SMALL | {"conv_pos": 7, "num_buckets": 16, "max_distance": 1280},
    "one head, one group": SMALL | {"encoder_attention_heads": 1, "conv_pos_groups": 1, "encoder_layers": 1},
}
CODES = {"quant_n": 40, "quant_dim": 12}
TUNED = {"finetuned_model": True, "predictor_class": 11}
SAMPLES = 12_345  # 75 frames: 4 columns, 11 frames left over


def write(folder, content):
    path = folder / "model.pt"
    torch.save(content, path)
    return path


def wave_of(samples, seed=3):
    """A swept tone that comes and goes, over noise: places of the grid differ."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / 16000
    tone = np.sin(2 * np.pi * (300 + 2500 * time) * time) * (np.sin(20 * time + seed) > 0)
    return (0.3 * tone + 0.01 * rng.standard_normal(samples)).astype(np.float32)


def arrays(content):
    return {name: tensor.double().numpy() for name, tensor in content["model"].items()}


def batch_of(*waves, samples=None, padding=0.0):
    lengths = torch.tensor([wave.size for wave in waves])
    batch = torch.full((len(waves), samples or int(lengths.max())), padding)
    for row, wave in zip(batch, waves, strict=True):
        row[: wave.size] = torch.from_numpy(wave)
    return batch, lengths


@pytest.mark.parametrize("name", CONFIGS)
def test_features_equal_the_restatement(tmp_path, name):
    content = random_file(CONFIGS[name])
    encoder = BeatsEncoder.from_official(write(tmp_path, content))
    whole, part = wave_of(SAMPLES), wave_of(6_000, seed=4)
    with torch.no_grad():
        features, columns = encoder.encode(*batch_of(whole, part))
        double, lengths = batch_of(whole)
        exact = encoder.double().encode(double.double(), lengths).features
    assert columns.tolist() == [4, 2]
    for row, wave in zip(features, (whole, part), strict=True):
        wanted = encode(wave, arrays(content), CONFIGS[name])
        found = row.flatten(0, 1).numpy()
        np.testing.assert_allclose(found[: len(wanted)], wanted, atol=1e-4)
        assert not found[len(wanted) :].any()
    np.testing.assert_allclose(
        exact[0].flatten(0, 1).numpy(), encode(whole, arrays(content), CONFIGS[name]), atol=1e-9
    )


@pytest.mark.parametrize(("length", "samples"), [(6_000, SAMPLES), (3_001, 9_999), (9_000, 9_000)])
def test_the_official_mask_equals_the_restatement(tmp_path, length, samples):
    content = random_file(SMALL)
    encoder = BeatsEncoder.from_official(write(tmp_path, content))
    padded = np.zeros(samples, np.float32)
    padded[:length] = wave_of(length)
    batch, lengths = batch_of(wave_of(length), wave_of(samples), samples=samples)
    with torch.no_grad():
        features, columns = encoder.encode(batch, lengths, "official")
    masked = token_mask(length, samples)
    wanted = encode(padded, arrays(content), SMALL, masked)
    np.testing.assert_allclose(features[0].flatten(0, 1).numpy(), wanted, atol=1e-4)
    assert columns.tolist() == [-(-int((~masked).sum()) // 8), len(masked) // 8]


def test_the_official_fold():
    lengths = torch.tensor([1, 2_800, 32_000, 32_001, 159_999, 160_000])
    assert official_tokens(lengths, 160_000).tolist()[2] == 100
    for samples in (2_800, 5_123, 32_000, 77_777, 160_000):
        for length in lengths[lengths <= samples].tolist():
            wanted = int((~token_mask(length, samples)).sum())
            assert official_tokens(torch.tensor([length]), samples).tolist() == [wanted], (length, samples)


def test_exact_features_do_not_see_the_padding(tmp_path):
    encoder = BeatsEncoder.from_official(write(tmp_path, random_file(SMALL)))
    wave = wave_of(SAMPLES)
    with torch.no_grad():
        alone = encoder.encode(*batch_of(wave)).features
        for extra, padding in [(1, 0.0), (159, 9.0), (160, -1.0), (2_561, 3.0), (40_000, float("nan"))]:
            padded = encoder.encode(*batch_of(wave, samples=SAMPLES + extra, padding=padding))
            assert padded.columns.tolist() == [4]
            torch.testing.assert_close(padded.features, alone, atol=1e-5, rtol=0)
            longer = batch_of(wave, wave_of(SAMPLES + extra), padding=padding)
            torch.testing.assert_close(encoder.encode(*longer).features[:1, :4], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_units_equal_the_restatement(tmp_path, name):
    cfg = CONFIGS[name] | CODES
    content = random_file(cfg)
    waves = [wave_of(n, seed=n) for n in (SAMPLES, 9_001, 5_400)]
    restated = [encode(wave, arrays(content), cfg) for wave in waves]
    # Random codes lie all on one side of a random network's features: take codes among these.
    vectors = project(np.concatenate(restated), arrays(content))[:40]
    content["model"]["quantize.embedding.weight"] = torch.from_numpy(vectors).float().roll(1, dims=0)
    tokenizer = BeatsTokenizer.from_official(write(tmp_path, content))
    units, columns = tokenizer.units(*batch_of(*waves))
    assert units.dtype == torch.int64
    assert units.shape == (3, 4, 8)
    assert len(units.unique()) > 20
    wrong, total = 0, 0
    for row, count, features in zip(units, columns.tolist(), restated, strict=True):
        distances = code_distances(features, arrays(content))
        found = row[:count].flatten().numpy()
        margins = distances[np.arange(len(found)), found] - distances.min(-1)
        different = found != distances.argmin(-1)
        assert (margins[different] < 1e-5).all()
        wrong, total = wrong + different.sum(), total + len(found)
    assert wrong <= 0.001 * total


def test_a_fine_tuned_head_equals_the_restatement(tmp_path):
    cfg = SMALL | TUNED
    content = random_file(cfg) | {"label_dict": {i: f"/m/{i}" for i in range(11)}}
    path = write(tmp_path, content)
    model = BeatsClassifier.from_official(path)
    assert model.labels[10] == "/m/10"
    wave = wave_of(6_000)
    padded = np.zeros(SAMPLES, np.float32)
    padded[:6_000] = wave
    batch, lengths = batch_of(wave, samples=SAMPLES)
    state, masked = arrays(content), token_mask(6_000, SAMPLES)
    features = encode(wave, state, cfg)
    exact = classify(features, state, np.zeros(len(features), bool))
    official = classify(encode(padded, state, cfg, masked), state, masked)
    with torch.no_grad():
        np.testing.assert_allclose(model(batch, lengths)[0].numpy(), exact, atol=1e-5)
        np.testing.assert_allclose(model(batch, lengths, "official")[0].numpy(), official, atol=1e-5)
    encoder = BeatsEncoder.from_official(path)
    np.testing.assert_allclose(
        encoder.encode(*batch_of(wave)).features[0].flatten(0, 1).detach().numpy(), features, atol=1e-4
    )
    assert encoder.provenance.notes["official"]["left_aside"] == ["predictor.bias", "predictor.weight"]


def test_the_filterbank_equals_the_restatement():
    wave = wave_of(SAMPLES)
    batch, lengths = batch_of(wave)
    wanted = filterbank(wave)
    single = fbank(batch, lengths)[0][0].numpy()
    resolved = wanted > wanted.max(axis=1, keepdims=True) - 14.0  # below: single precision's own rounding
    assert resolved.mean() > 0.8
    np.testing.assert_allclose(single[resolved], wanted[resolved], atol=1e-3)
    np.testing.assert_allclose(fbank(batch.double(), lengths)[0][0].numpy(), wanted, atol=1e-9)


def test_gradients_reach_everything(tmp_path):
    tokenizer = BeatsTokenizer.from_official(write(tmp_path, random_file(SMALL | CODES)))
    batch, lengths = batch_of(wave_of(SAMPLES), wave_of(6_000, seed=4))
    batch.requires_grad_()
    projected = tokenizer.quantizer.project(tokenizer.encoder.encode(batch, lengths).features)
    torch.manual_seed(0)
    (projected * torch.randn(projected.shape)).sum().backward()
    for name, parameter in tokenizer.named_parameters():
        assert parameter.grad is not None, name
        # softmax does not see a key's bias (the same for every key), so its gradient is zero in theory.
        assert name.endswith("k_proj.bias") or parameter.grad.abs().sum() > 0, name
    assert batch.grad[0].abs().sum() > 0
    assert batch.grad[1, :5_400].abs().sum() > 0
    assert batch.grad[1, 6_000:].abs().sum() == 0


@pytest.mark.slow
def test_the_published_base_size(tmp_path):
    """Loads strictly, gives 62 x 8 for 10 s, and equals the restatement."""
    cfg = BASE | {"quant_n": 1024, "quant_dim": 256}
    content = random_file(cfg)
    assert len(content["model"]) == 259
    tokenizer = BeatsTokenizer.from_official(write(tmp_path, content))
    assert tokenizer.units(*batch_of(wave_of(160_000))).units.shape == (1, 62, 8)
    wave = wave_of(SAMPLES)
    with torch.no_grad():
        features = tokenizer.encoder.encode(*batch_of(wave)).features[0].flatten(0, 1)
    wanted = encode(wave, arrays(content), cfg)
    np.testing.assert_allclose(features.numpy(), wanted, atol=1e-4)
    distances = code_distances(wanted, arrays(content))
    found = tokenizer.quantizer.units(features).numpy()
    assert (distances[np.arange(len(found)), found] - distances.min(-1) < 1e-5).all()


def test_saved_as_our_own_weights(tmp_path):
    path = write(tmp_path, random_file(SMALL | CODES))
    batch = batch_of(wave_of(SAMPLES))
    official = beats.load_tokenizer(path)
    official.save_pretrained(tmp_path / "ours")
    ours = beats.load_tokenizer(tmp_path / "ours")
    assert torch.equal(ours.units(*batch).units, official.units(*batch).units)
    encoder = beats.load_encoder(tmp_path / "ours")
    assert encoder.provenance.notes["official"]["file"] == "model.pt"
    torch.testing.assert_close(encoder.encode(*batch), official.encoder.encode(*batch), atol=0, rtol=0)
    encoder_file = write(tmp_path, random_file(SMALL))
    torch.testing.assert_close(
        beats.load_encoder(encoder_file).encode(*batch), encoder.encode(*batch), atol=0, rtol=0
    )
    assert not any(p.requires_grad for p in [*ours.parameters(), *encoder.parameters()])


def test_the_shipped_units_through_the_same_interface():
    from training.config import weights_path

    tokenizer = beats.load_tokenizer(weights_path("tiny/beats"))
    batch = batch_of(wave_of(SAMPLES))
    encoder, units = beats.load(weights_path("tiny/beats"))
    found = tokenizer.units(*batch)
    assert torch.equal(found.units, units.units(encoder.encode(*batch).features))
    assert found.columns.tolist() == [4]
