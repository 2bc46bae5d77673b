"""Distilled units: the codes' running means, the straight-through gradient, padding, resuming."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from beats_small import Clips, noise, small_encoder
from torch.nn import functional as F

from beats.config import DistilConfig, QuantizerConfig, UnitsConfig
from beats.distil import RunningCodes, UnitDistiller
from beats.fbank import DEVIATION
from beats.tokenizer import BeatsTokenizer, Quantizer
from beats.units import UnitTokenizer, nearest
from training.errors import DataError
from training.fit import fit
from training.fitconfig import FitConfig

CODEBOOK, CODE_DIM = 12, 8


def distiller(stem: str = "patch", **config: float) -> UnitDistiller:
    torch.manual_seed(0)
    quantizer = Quantizer(QuantizerConfig(codebook=CODEBOOK, dim=32, code_dim=CODE_DIM))
    tokenizer = BeatsTokenizer(small_encoder(stem), quantizer)
    return UnitDistiller(small_encoder(dim=48), tokenizer, DistilConfig(layers=1, **config))  # type: ignore[arg-type]


def directions(*shape: int, seed: int = 2) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_gradients_reach_all_but_the_teacher(stem):
    network = distiller(stem).train()
    network(*noise(3, 5)).loss.backward()
    for name, parameter in network.named_parameters():
        if name.startswith("teacher."):
            assert parameter.grad is None
            assert not parameter.requires_grad
        else:
            assert parameter.grad is not None, name
            # softmax does not see a key's bias, so its gradient is zero in theory.
            if not name.endswith("k_proj.bias"):
                assert parameter.grad.abs().sum() > 0, name
    assert not network.teacher.training
    assert network.tokenizer.encoder.training


def test_codes_move_as_computed_by_hand():
    codes = directions(4, 3).double()
    vectors = directions(6, 3, seed=3).double()
    units = torch.tensor([0, 0, 2, 0, 2, 1])
    expected = []
    for number, code in enumerate(codes.tolist()):
        mine = [vectors[i].tolist() for i in range(6) if units[i] == number]
        if not mine:
            expected.append(code)
            continue
        mean = [sum(values) / len(mine) for values in zip(*mine, strict=True)]
        length = sum(value**2 for value in mean) ** 0.5
        moved = [0.9 * old + 0.1 * new / length for old, new in zip(code, mean, strict=True)]
        length = sum(value**2 for value in moved) ** 0.5
        expected.append([value / length for value in moved])
    running = RunningCodes(DistilConfig(decay=0.9), 4)
    running.update(codes, vectors, units)
    torch.testing.assert_close(codes, torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0)
    assert running.idle.tolist() == [0, 0, 0, 1]


def test_codes_find_clusters_and_follow_them():
    centres = directions(8, 16)
    generator = torch.Generator().manual_seed(4)

    def batch(turned: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cluster = torch.randint(8, (600,), generator=generator)
        return F.normalize(turned[cluster] + 0.05 * torch.randn(600, 16, generator=generator)), cluster

    torch.manual_seed(0)
    codes = directions(64, 16, seed=5)
    running = RunningCodes(DistilConfig(decay=0.9), 64)
    vectors, cluster = batch(centres)
    running.start(codes, vectors)
    found = codes.clone()
    running.start(codes, batch(centres)[0])
    assert torch.equal(codes, found)  # once
    units = nearest(vectors, codes)
    assert (vectors * codes[units]).sum(-1).min() > 0.9
    for unit in units.unique():
        assert cluster[units == unit].unique().numel() == 1
    torch.testing.assert_close(codes.norm(dim=-1), torch.ones(64))
    axis = directions(1, 16, seed=6)
    for step in range(1, 41):
        vectors, _ = batch(F.normalize(centres + step / 40 * axis, dim=-1))
        running.update(codes, vectors, nearest(vectors, codes))
    vectors, cluster = batch(F.normalize(centres + axis, dim=-1))
    units = nearest(vectors, codes)
    assert (vectors * codes[units]).sum(-1).mean() > 0.97
    assert (vectors * found[nearest(vectors, found)]).sum(-1).mean() < 0.9


def test_codes_without_use_are_replaced():
    codes = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    vectors = F.normalize(torch.tensor([[1.0, 0.1], [1.0, 0.2], [1.0, 0.3]]), dim=-1)
    running = RunningCodes(DistilConfig(patience=3), 2)
    for _ in range(2):
        running.update(codes, vectors, torch.zeros(3, dtype=torch.int64))
        assert codes[1].tolist() == [-1, 0]
    running.update(codes, vectors, torch.zeros(3, dtype=torch.int64))
    assert any(torch.equal(codes[1], vector) for vector in vectors)
    assert running.idle.tolist() == [0, 0]


def test_more_codes_than_vectors():
    codes = directions(5, 3)
    before = codes.clone()
    RunningCodes(DistilConfig(), 5).start(codes, directions(2, 3, seed=3))
    assert torch.equal(codes[2:], before[2:])
    assert codes.norm(dim=-1).allclose(torch.ones(5))


def test_the_gradient_goes_straight_through():
    """Of the vectors: what the estimator's input gets, and 2 (e - code) / places from the commitment."""
    network = distiller().eval()
    frames, counts = noise(2, 3)
    vectors = directions(2, 24, CODE_DIM).requires_grad_()
    network.quantizer.project = lambda features: vectors  # type: ignore[method-assign]
    out = network(frames, counts)
    out.loss.backward()
    codes = network.quantizer.codes[nearest(vectors.detach().flatten(0, 1), network.quantizer.codes)]
    entered = codes.view(2, 24, CODE_DIM).requires_grad_()
    target = network.teacher.encode_frames(frames, counts).features.flatten(1, 2)
    estimate = network.leave(network.estimator(network.enter(entered), None))
    cosine = F.cosine_similarity(estimate, target, dim=-1).mean()
    (-cosine).backward()
    difference = vectors.detach() - entered.detach()
    expected = entered.grad + 2 * difference / 48
    torch.testing.assert_close(vectors.grad, expected, atol=1e-7, rtol=1e-4)
    assert out.cosine.item() == pytest.approx(cosine.item(), abs=1e-6)
    commitment = difference.square().sum(-1).mean().item()
    assert out.loss.item() == pytest.approx(commitment - cosine.item(), abs=1e-5)


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_padding_never_counts(stem):
    frames, _ = noise(2, 5)
    counts = torch.tensor([53, 80])
    network = distiller(stem).eval()
    with torch.no_grad():
        together = network(frames, counts).loss.item()
        first = network(frames[:1, :48], counts[:1]).loss.item()
        second = network(frames[1:], counts[1:]).loss.item()
    assert together == pytest.approx((3 * first + 5 * second) / 8, abs=1e-5)
    held = []
    for padding in (0.0, float("nan")):
        padded = frames.clone()
        padded[0, 48:] = padding
        network = distiller(stem).train()
        torch.manual_seed(7)
        loss = network(padded, counts).loss
        loss.backward()
        held.append((loss.detach(), network.quantizer.codes, network.enter.weight.grad, network.running.idle))
    for a, b in zip(*held, strict=True):
        assert torch.equal(a, b)


def test_the_teacher_is_centred_by_the_first_batch():
    network = distiller().train()
    frames, _ = noise(2, 5)
    frames[1] += 3 * DEVIATION  # clips that differ in their mean
    counts = torch.tensor([53, 80])
    with torch.no_grad():
        alone = [
            network.teacher.encode_frames(frames[[i], :real], torch.tensor([real])).features.flatten(0, 2)
            for i, real in ((0, 48), (1, 80))
        ]
    assert not network.centre.any()
    network(frames, counts)
    centre = network.centre.clone()
    torch.testing.assert_close(centre, torch.cat(alone).mean(0), atol=1e-5, rtol=0)
    network(frames.flip(0)[:, :64], torch.tensor([64, 16]))
    assert torch.equal(network.centre, centre)

    network.eval()
    with torch.no_grad():
        out = network(frames[1:], counts[1:])
        vectors = network.quantizer.project(
            network.tokenizer.encoder.encode_frames(frames[1:], counts[1:])[0]
        )
        codes = network.quantizer.codes[nearest(vectors.flatten(0, -2), network.quantizer.codes)]
        estimate = network.leave(network.estimator(network.enter(codes[None]), None))[0]
    commitment = (codes - vectors.flatten(0, -2)).square().sum(-1).mean()

    def loss(target: torch.Tensor) -> float:
        lengths = estimate.square().sum(-1).sqrt() * target.square().sum(-1).sqrt()
        return (commitment - ((estimate * target).sum(-1) / lengths).mean()).item()

    assert out.loss.item() == pytest.approx(loss(alone[1] - centre), abs=1e-5)
    assert abs(out.loss.item() - loss(alone[1])) > 0.01


def test_codes_move_in_training_alone():
    network = distiller().eval()
    frames, counts = noise(2, 4)
    before = network.quantizer.codes.clone()
    with torch.no_grad():
        first = network(frames, counts)
        assert torch.equal(network(frames, counts).loss, first.loss)
        assert torch.equal(network.quantizer.codes, before)
        assert not network.running.started
        network.train()(frames, counts)
    assert network.running.started
    assert not torch.equal(network.quantizer.codes, before)
    assert 1 <= first.perplexity.item() <= CODEBOOK


def test_perplexity_of_a_batch():
    network = distiller().eval()
    frames, counts = noise(1, 2)
    codes = network.quantizer.codes
    network.quantizer.project = lambda features: codes[torch.arange(16) % 4][None]  # type: ignore[method-assign]
    out = network(frames, counts)
    assert out.perplexity.item() == pytest.approx(4, abs=1e-4)
    assert out.loss.item() == pytest.approx(-out.cosine.item(), abs=1e-5)  # no distance to the codes


def test_refuses_units_of_another_kind():
    tokenizer = BeatsTokenizer(small_encoder(), UnitTokenizer(UnitsConfig(codebook=4, dim=32)))
    with pytest.raises(DataError, match="UnitTokenizer"):
        UnitDistiller(small_encoder(), tokenizer, DistilConfig())


def eight(left: int | None = None) -> Clips:
    frames, counts = noise(8, 4)
    return Clips(left, frames=frames, counts=counts)


def test_resumed_equals_unbroken_and_what_was_trained_is_saved(tmp_path: Path):
    """With a code replaced now and then, and random choices in the first batch."""
    config = FitConfig(steps=6, batch_size=4, learning_rate=5e-3, checkpoint_every=2, log_every=1)
    shared = {"collate": torch.utils.data.default_collate, "config": config}
    whole, killed, resumed = (distiller(patience=1) for _ in range(3))
    straight = fit(whole, eight(), out=tmp_path / "a", **shared)  # type: ignore[arg-type]
    losses = [entry["loss"] for entry in straight.history if "loss" in entry]
    assert losses[-1] < losses[0]
    with pytest.raises(KeyboardInterrupt):
        fit(killed, eight(left=14), out=tmp_path / "b", **shared)  # type: ignore[arg-type]
    again = fit(resumed, eight(), out=tmp_path / "b", resume=True, **shared)  # type: ignore[arg-type]
    assert again.history == straight.history
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    whole.tokenizer.save_pretrained(tmp_path / "tokenizer")
    saved = BeatsTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert torch.equal(saved.quantizer.codes, whole.quantizer.codes)
    features = saved.encoder.encode_frames(*noise(2, 4)).features.detach()
    assert torch.equal(saved.quantizer.units(features), whole.quantizer.units(features))


SCRIPT = """
import sys
import torch
import torch.distributed as dist
sys.path.insert(0, {here!r})
from test_beats_distil import DistilConfig, RunningCodes, directions, nearest
rank, out = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method="file://" + out + "/meet", rank=rank, world_size=2)
torch.manual_seed(rank)
mine = directions(90, 8).split([40, 50])[rank]
codes, running = directions(6, 8, seed=rank + 10), RunningCodes(DistilConfig(patience=2), 6)
running.start(codes, mine)
started = codes.clone()
running.update(codes, mine, nearest(mine, codes))
updated = codes.clone()
codes[3] = -directions(90, 8).sum(0)
for _ in range(2):
    units = nearest(mine, codes)
    running.update(codes, mine, torch.where(units == 3, 0, units))
torch.save([started, updated, codes, running.idle], out + f"/rank{{rank}}.pt")
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_hold_the_codes_of_one(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(here=str(Path(__file__).parent)))
    runs = [
        subprocess.Popen(
            [sys.executable, script, str(rank), tmp_path], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        for rank in range(2)
    ]
    for run in runs:
        run.wait(timeout=120)
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    started, updated, replaced, idle = first
    vectors = directions(90, 8)
    running = RunningCodes(DistilConfig(), 6)
    running.update(started, vectors, nearest(vectors, started))
    torch.testing.assert_close(updated, started, atol=1e-6, rtol=0)
    assert any(torch.equal(replaced[3], vector) for vector in vectors[:40])  # of the first process's
    assert idle[3] == 0
