"""Masked prediction and random units: nothing leaks, shares are exact, targets are learnt."""

import math
from pathlib import Path

import pytest
import torch
from beats_small import Clips, noise, small_encoder
from torch.nn import functional as F

from beats.config import MaskedConfig, RandomUnitsConfig
from beats.encoder import BeatsEncoder
from beats.fbank import DEVIATION, MEAN, fbank, normalise
from beats.masked import MaskedPredictor
from beats.random_units import RandomUnits
from beats.units import unit_usage
from training.errors import DataError
from training.fit import fit
from training.fitconfig import FitConfig

CODEBOOK = 16
STEMS = pytest.mark.parametrize("stem", ["patch", "conv"])


def small(stem: str = "patch") -> BeatsEncoder:
    torch.manual_seed(0)
    return small_encoder(stem)


def model(stem: str = "patch", **config: float) -> MaskedPredictor:
    encoder = small(stem)
    return MaskedPredictor(encoder, CODEBOOK, MaskedConfig(**config))  # type: ignore[arg-type]


def some_units(clips: int, columns: int) -> torch.Tensor:
    return torch.randint(CODEBOOK, (clips, columns, 8), generator=torch.Generator().manual_seed(2))


def hide(frames: torch.Tensor, hidden: torch.Tensor, value: float) -> torch.Tensor:
    """Frames whose hidden patches hold something else."""
    changed = frames.clone()
    for clip, tokens in enumerate(hidden.tolist()):
        for token in tokens:
            column, row = divmod(token, 8)
            changed[clip, 16 * column : 16 * column + 16, 16 * row : 16 * row + 16] = value
    return changed


@STEMS
@pytest.mark.parametrize("value", [50.0, float("nan")])
def test_what_is_hidden_reaches_nothing(stem, value):
    network = model(stem).eval()
    frames, counts = noise(2, 5, over=3)
    kept, hidden = network.choose(2, 40, frames.device)
    everywhere = torch.arange(40).expand(2, -1)
    with torch.no_grad():
        features = network.encoder.encode_visible(frames, counts, kept)
        logits = network.predict(frames, counts, kept, everywhere)
        other = hide(frames, hidden, value)
        assert torch.equal(network.encoder.encode_visible(other, counts, kept), features)
        assert torch.equal(network.predict(other, counts, kept, everywhere), logits)
        # What is seen does: the test would notice a network that looks at nothing.
        changed = network.predict(hide(frames, kept[:, :1], 50.0), counts, kept, everywhere)
    assert (changed - logits).abs().amax(dim=-1).gt(1e-6).all()


@STEMS
def test_keeping_every_token_is_the_encoder(stem):
    encoder = small(stem).eval()
    frames, counts = noise(2, 4, over=3)
    with torch.no_grad():
        whole = encoder.encode_frames(frames, counts).features.flatten(1, 2)
        kept = encoder.encode_visible(frames, counts, torch.arange(32).expand(2, -1))
    torch.testing.assert_close(kept, whole, atol=1e-5, rtol=1e-5)


def test_views_of_the_conv_stem_are_blank_where_hidden():
    """No edge stands between a visible patch and a blank one, in the change in time least of all."""
    encoder = small("conv").eval()
    frames, counts = noise(1, 3, over=3)
    kept = torch.tensor([[2, 10, 21]])  # two columns of row 2, the last of row 5
    seen: list[torch.Tensor] = []
    encoder.stem.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        encoder.encode_visible(frames, counts, kept)
    plain, centred, change = seen[0][0]
    mask = torch.zeros(48, 128, dtype=torch.bool)
    mask[:32, 32:48] = mask[32:, 80:96] = True
    assert plain[~mask].abs().sum() == centred[~mask].abs().sum() == change[~mask].abs().sum() == 0
    frames = frames[0, :48]
    torch.testing.assert_close(plain[mask], ((frames - MEAN) / (2 * DEVIATION))[mask])
    torch.testing.assert_close(centred[:32, 32:48].mean(0), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(centred[:32, 32:48].diff(dim=0), frames[:32, 32:48].diff(dim=0) / DEVIATION)
    steps = frames.diff(dim=0).abs() / DEVIATION
    torch.testing.assert_close(change[1:32, 32:48], steps[:31, 32:48])
    torch.testing.assert_close(change[33:, 80:96], steps[32:, 80:96])
    assert change[[0, 32]].abs().sum() == 0


@STEMS
def test_visible_tokens_of_a_padded_clip(stem):
    encoder = small(stem).eval()
    frames, _ = noise(2, 5, over=3)
    kept = torch.tensor([[0, 9, 17, 22], [3, 12, 30, 38]])
    with torch.no_grad():
        together = encoder.encode_visible(frames, torch.tensor([50, 83]), kept)
        alone = encoder.encode_visible(frames[:1, :50], torch.tensor([50]), kept[:1])
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)
    with pytest.raises(DataError, match="past its clip's end"):
        encoder.encode_visible(frames, torch.tensor([50, 83]), kept + 2)


@STEMS
def test_every_parameter_gets_a_gradient(stem):
    network = model(stem).train()
    frames, counts = noise(4, 5, over=3)
    network(frames=frames, counts=counts, units=some_units(4, 5)).loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # softmax does not see a key's bias, so its gradient is zero in theory.
        if not name.endswith("k_proj.bias"):
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("share", "tokens", "expected"), [(0.75, 40, 30), (0.6, 8, 5), (0.99, 8, 7), (0.01, 8, 1)]
)
def test_the_share_is_exact(share, tokens, expected):
    kept, hidden = model(share=share).train().choose(5, tokens, torch.device("cpu"))
    assert hidden.shape == (5, expected)
    assert kept.shape == (5, tokens - expected)
    assert (kept.diff(dim=1) > 0).all()
    both = torch.cat([kept, hidden], dim=1).sort(dim=1).values
    assert (both == torch.arange(tokens)).all()
    if expected == 30:
        assert len({tuple(row) for row in kept.tolist()}) == 5  # every clip has its own


def test_every_token_is_hidden_as_often():
    network = model().train()
    torch.manual_seed(0)
    hidden = network.choose(1000, 16, torch.device("cpu"))[1]
    rate = torch.bincount(hidden.flatten(), minlength=16) / 1000
    assert (rate - 0.75).abs().max() < 0.06


def test_validation_hides_the_same_every_time():
    network = model().eval()
    batch = {**dict(zip(("frames", "counts"), noise(3, 4, over=3), strict=True)), "units": some_units(3, 4)}
    with torch.no_grad():
        first = network(**batch)
        before = torch.get_rng_state()
        again = network(**batch)
        assert torch.equal(before, torch.get_rng_state())
        assert torch.equal(first.loss, again.loss)
        network.train()
        assert not torch.equal(network(**batch).loss, network(**batch).loss)
        torch.manual_seed(3)
        drawn = network(**batch).loss
        torch.manual_seed(3)
        assert torch.equal(network(**batch).loss, drawn)


@STEMS
def test_the_first_loss_is_that_of_guessing(stem):
    frames, counts = noise(4, 6, over=3)
    with torch.no_grad():
        out = model(stem).eval()(frames=frames, counts=counts, units=some_units(4, 6))
    assert float(out.loss) == pytest.approx(math.log(CODEBOOK), rel=0.02)
    assert 0 <= float(out.accuracy) < 0.3


def test_loss_and_accuracy_are_of_hidden_tokens_alone():
    """Closed form: a head that always names unit 3, with logit 2."""
    network = model().eval()
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.zero_()
        network.head.bias[3] = 2.0
    frames, counts = noise(2, 5, over=3)
    _, hidden = network.choose(2, 40, frames.device)
    units = torch.zeros(2, 40, dtype=torch.int64).scatter(1, hidden, 3)
    with torch.no_grad():
        out = network(frames=frames, counts=counts, units=units.view(2, 5, 8))
    assert float(out.accuracy) == 1
    assert float(out.loss) == pytest.approx(math.log(math.exp(2) + CODEBOOK - 1) - 2, abs=1e-5)
    seen = 3 - units
    assert float(network(frames=frames, counts=counts, units=seen.view(2, 5, 8)).accuracy) == 0


def test_it_learns_the_units_of_eight_clips():
    network = model().train()
    frames, counts = noise(8, 2, over=3)
    batch = {"frames": frames, "counts": counts, "units": some_units(8, 2)}
    steps = 100
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    torch.manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        network(**batch).loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        out = network.eval()(**batch)
    assert float(out.accuracy) > 0.8  # 1 in 16 by guessing
    assert float(out.loss) < 0.8  # 2.8 nats by guessing


def eight(left: int | None = None) -> Clips:
    frames, counts = noise(8, 3, over=3)
    return Clips(left, frames=frames, counts=counts, units=some_units(8, 3))


def test_a_resumed_run_hides_what_the_unbroken_one_does(tmp_path: Path):
    config = FitConfig(steps=4, batch_size=4, checkpoint_every=2, eval_every=2)
    shared = {"collate": torch.utils.data.default_collate, "config": config, "valid": eight()}
    whole, killed, resumed = model(), model(), model()
    straight = fit(whole, eight(), out=tmp_path / "a", **shared)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        fit(killed, eight(left=14), out=tmp_path / "b", **shared)  # type: ignore[arg-type]
    again = fit(resumed, eight(), out=tmp_path / "b", resume=True, **shared)  # type: ignore[arg-type]
    assert again.history == straight.history
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_refuses():
    network = model()
    frames, counts = noise(2, 4, over=3)
    units = some_units(2, 4)
    with pytest.raises(DataError, match="3 and of 4 columns"):
        network(frames=frames, counts=torch.tensor([67, 63]), units=units)
    with pytest.raises(DataError, match=r"units \(2, 3, 8\)"):
        network(frames=frames, counts=counts, units=units[:, :3])
    with pytest.raises(DataError, match="to 16, not of 16"):
        network(frames=frames, counts=counts, units=units.clamp(min=CODEBOOK))


def random_units(codebook: int = 64, code_dim: int = 32) -> RandomUnits:
    torch.manual_seed(0)
    return RandomUnits(RandomUnitsConfig(codebook=codebook, code_dim=code_dim))


def test_level_and_recorder_change_no_random_unit():
    tokenizer = random_units()
    frames, counts = noise(3, 6, over=3)
    units = tokenizer.units_of_frames(frames, counts)
    assert units.shape == (3, 6, 8)
    response = 8 * torch.randn(3, 1, 128, generator=torch.Generator().manual_seed(4))
    heard = tokenizer.units_of_frames(frames + 5 + response, counts)
    assert (heard == units).float().mean() > 0.99
    assert (tokenizer.units_of_frames(frames.flip(2), counts) == units).float().mean() < 0.2


def test_random_units_do_not_collapse():
    """On clips as recordings are: a spectrum that falls by 60 dB, the same for all, and little on top."""
    frames, counts = noise(60, 20, over=3)
    quiet = MEAN + torch.linspace(0, -14, 128) + 0.1 * (frames - MEAN)
    usage = unit_usage([random_units().units_of_frames(quiet, counts).numpy()], 64)
    assert usage.dead == 0
    assert usage.perplexity > 45


@pytest.mark.real
def test_recordings_use_hundreds_of_random_units_and_few_without_the_centring(resp_data: Path):
    from beats.units import nearest
    from resp229k.audio import load_audio

    torch.manual_seed(0)
    tokenizer = RandomUnits(RandomUnitsConfig())
    files = [
        path for name in ("SPRSound", "ICBHI_2017") for path in sorted((resp_data / name).rglob("*.wav"))
    ]
    waves = [torch.from_numpy(load_audio(path)[:64000]) for path in files[:: len(files) // 60]]
    waves = [wave for wave in waves if len(wave) == 64000]
    frames, counts = fbank(torch.stack(waves), torch.full((len(waves),), 64000))
    centred = unit_usage([tokenizer.units_of_frames(frames, counts).numpy()], 1024)
    patches = normalise(frames[:, :384]).unflatten(1, (-1, 16)).unflatten(3, (8, 16)).transpose(2, 3)
    flat = F.normalize(patches.reshape(-1, 256) @ tokenizer.projection, dim=-1)
    plain = unit_usage([nearest(flat, tokenizer.codes).numpy()], 1024)
    assert centred.perplexity > 300
    assert plain.perplexity < 15


def test_every_random_unit_can_be_reached():
    """A patch and its opposite are centred already; the pseudo-inverse leads to the code."""
    tokenizer = random_units()
    patch = 20 * (tokenizer.codes @ torch.linalg.pinv(tokenizer.projection)).view(64, 16, 16)
    frames = torch.zeros(64, 32, 128)
    frames[:, :16, 32:48] = patch
    frames[:, 16:, 32:48] = -patch
    units = tokenizer.units_of_frames(frames, torch.full((64,), 32))
    assert units[:, 0, 2].tolist() == list(range(64))


def test_random_units_of_a_padded_clip():
    tokenizer = random_units()
    frames, _ = noise(2, 6, over=3)
    frames[0, 48:] = float("nan")
    together = tokenizer.units_of_frames(frames, torch.tensor([50, 98]))
    assert torch.equal(together[0, :3], tokenizer.units_of_frames(frames[:1, :48], torch.tensor([48]))[0])


def test_random_units_are_saved(tmp_path: Path):
    tokenizer = random_units()
    tokenizer.save_pretrained(tmp_path / "units")
    torch.manual_seed(9)
    again = RandomUnits.from_pretrained(tmp_path / "units")
    frames, counts = noise(2, 4, over=3)
    assert torch.equal(again.units_of_frames(frames, counts), tokenizer.units_of_frames(frames, counts))
    assert not list(again.parameters())
    torch.testing.assert_close(F.normalize(again.codes, dim=-1), again.codes)
