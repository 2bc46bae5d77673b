from __future__ import annotations

from pathlib import Path

import pytest
import torch
from generator_fixtures import CODEBOOK, DIM, ROWS
from torch import nn

from generator.config import FlowConfig
from generator.decoder import FlowDecoder
from generator.flow import SMALLEST, UNIT, Condition, FlowMatching, gaussian_velocity, time_grid
from training.errors import DataError


class Exact(nn.Module):
    """A backbone that knows the answer: x₁ ~ N(mean, deviation²)."""

    def __init__(self, mean: float, deviation: float):
        super().__init__()
        self.mean = mean
        self.raw = float(torch.log(torch.expm1(torch.tensor(deviation - SMALLEST)))) - UNIT

    def forward(self, x, t, content, vector, mask):  # type: ignore[no-untyped-def]
        return torch.full_like(x, self.mean), torch.full_like(x, self.raw)


def condition(batch: int, frames: int) -> Condition:
    content, vector = torch.zeros(batch, frames, 4), torch.zeros(batch, 4)
    return Condition(content, vector, content, vector, torch.ones(batch, frames, dtype=torch.bool))


@pytest.mark.parametrize("method", ["euler", "midpoint"])
@pytest.mark.parametrize("sway", [0.0, -1.0])
def test_exact_field_carries_noise_to_the_gaussian(method: str, sway: float) -> None:
    torch.manual_seed(0)
    flow = FlowMatching(Exact(1.5, 0.3), 0.1)
    noise = torch.randn(8, 50, 40)
    for guidance in (1.0, 2.5):  # with equal fields guidance changes nothing
        out = flow.sample(noise, condition(8, 50), steps=100, method=method, sway=sway, guidance=guidance)
        assert abs(float(out.mean()) - 1.5) < 0.02
        assert abs(float(out.std()) - 0.3) < 0.02


def test_exact_field_is_the_conditional_expectation() -> None:
    torch.manual_seed(0)
    mean, deviation, t = 0.7, 0.5, torch.tensor(0.6)
    x0, x1 = torch.randn(400_000), mean + deviation * torch.randn(400_000)
    x = (1 - t) * x0 + t * x1
    near = (x - 0.2).abs() < 0.02
    measured = (x1 - x0)[near].mean()
    assert (
        abs(measured - gaussian_velocity(torch.tensor(0.2), t, torch.tensor(mean), torch.tensor(deviation)))
        < 0.03
    )


def test_loss_is_smallest_for_the_true_distribution() -> None:
    losses = []
    for mean, deviation in ((0.5, 0.4), (0.9, 0.4), (0.5, 1.2)):
        torch.manual_seed(0)
        x1 = 0.5 + 0.4 * torch.randn(64, 40, 20)
        losses.append(float(FlowMatching(Exact(mean, deviation), 0.1).loss(x1, condition(64, 40)).mean()))
    assert losses[0] < min(losses[1:])


def test_time_grid_runs_from_noise_to_data() -> None:
    for sway in (-1.0, 0.0, 0.5):
        grid = time_grid(8, sway)
        assert grid[0] == 0
        assert abs(float(grid[-1]) - 1) < 1e-6
        assert (grid.diff() > 0).all()


def inputs(model: FlowDecoder, frames: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    size, longest = len(frames), max(frames)
    columns = torch.tensor([max(1, n // 8) for n in frames])
    return {
        "units": torch.randint(CODEBOOK, (size, int(columns.max()), ROWS), generator=g),
        "columns": columns,
        "label": torch.arange(size) % len(model.config.pairs),
        "features": torch.randn(size, 4, ROWS, DIM, generator=g),
        "feature_columns": torch.arange(size) % 4 + 1,
        "spectrum": torch.randn(size, 160, generator=g),
        "mel": torch.randn(size, longest, 80, generator=g),
        "frames": torch.tensor(frames),
    }


def awake(config: FlowConfig) -> FlowDecoder:
    """A decoder whose zero-initialised layers have been moved."""
    torch.manual_seed(0)
    model = FlowDecoder(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2 if parameter.dim() > 1 else 0.02)
    return model


def test_padding_never_changes_the_decoder(flow_config: FlowConfig) -> None:
    model = awake(flow_config).eval()
    values = inputs(model, [16, 40, 24])
    keys = ("units", "columns", "label", "features", "feature_columns", "spectrum")
    noise = [torch.randn(n, 80) for n in (16, 40, 24)]
    together = model.sample(*(values[k] for k in keys), noise, steps=2)
    values["units"][0, 2:] = 3
    values["features"][0, 1:] = 50.0
    again = model.sample(*(values[k] for k in keys), noise, steps=2)
    assert torch.allclose(again[0], together[0], atol=1e-4)
    for i in range(3):
        alone = {k: values[k][i : i + 1] for k in keys}
        alone["units"] = alone["units"][:, : int(alone["columns"])]
        alone["features"] = alone["features"][:, : int(alone["feature_columns"])]
        out = model.sample(*(alone[k] for k in keys), noise[i : i + 1], steps=2)[0]
        assert out.shape == noise[i].shape
        assert torch.allclose(out, together[i], atol=2e-3, rtol=1e-3)


def test_loss_ignores_padded_frames(flow_config: FlowConfig) -> None:
    model = awake(flow_config).eval()
    values = inputs(model, [16, 40])
    torch.manual_seed(1)
    first = model(**values).error
    values["mel"][0, 16:] = float("nan")
    torch.manual_seed(1)
    assert torch.equal(model(**values).error, first)


def test_every_parameter_gets_a_gradient(flow_config: FlowConfig) -> None:
    torch.manual_seed(0)
    model = FlowDecoder(flow_config.model_copy(update={"unguided": 0.5})).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    values = inputs(model, [40] * 8)
    for _ in range(3):  # zero-initialised gates open one after the other
        optimizer.zero_grad()
        model(**values).loss.backward()
        optimizer.step()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_guidance_is_dropped_in_training_only_and_keeps_the_timbre(flow_config: FlowConfig) -> None:
    model = awake(flow_config.model_copy(update={"unguided": 0.5}))
    seen = []
    backbone = model.flow.backbone
    backbone.register_forward_pre_hook(lambda _m, args: seen.append(args))
    values = inputs(model, [40] * 32)
    free = model.free_content.expand(40, -1)
    model.train()(**values)
    dropped = sum(torch.equal(c, free) for c in seen[-1][2])
    assert 6 < dropped < 26
    model.eval()(**values)
    assert not any(torch.equal(c, free) for c in seen[-1][2])
    condition = model.condition(*(values[k] for k in list(values) if k != "mel"), 40)
    difference = condition.vector - condition.free_vector
    assert torch.allclose(difference, model.label(values["label"]) - model.free_label, atol=1e-5)


def test_interpolation_holds_the_ends_and_meets_the_centres(flow_config: FlowConfig) -> None:
    model = FlowDecoder(flow_config)
    grid = torch.arange(5.0)[None, :, None].expand(2, 5, 3)
    out = model.interpolate(grid, torch.tensor([5, 2]), 40)
    assert torch.allclose(out[0, :4, 0], torch.tensor([0.0, 0, 0, 0]))
    assert torch.allclose(out[0, 11:13, 0].mean(), torch.tensor(1.0))
    assert torch.allclose(out[1, 16:, 0], torch.ones(24))


def test_overfits_one_batch(flow_config: FlowConfig) -> None:
    torch.manual_seed(0)
    model = FlowDecoder(flow_config).train()
    values = inputs(model, [40] * 4)
    values["mel"] = values["mel"].mean(1, keepdim=True).expand(-1, 40, -1) * 5
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = model(**values).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_save_and_load(flow_config: FlowConfig, tmp_path: Path) -> None:
    model = awake(flow_config).eval()
    model.save_pretrained(tmp_path / "flow")
    again = FlowDecoder.from_pretrained(tmp_path / "flow")
    values = inputs(model, [24, 40])
    torch.manual_seed(3)
    first = model(**values).error
    torch.manual_seed(3)
    assert torch.equal(again(**values).error, first)


def test_unknown_label_and_wrong_mels_are_refused(flow_config: FlowConfig) -> None:
    model = FlowDecoder(flow_config)
    with pytest.raises(DataError, match="normal, wheeze"):
        model.label_index("icbhi4", "both")
    values = inputs(model, [16])
    keys = ("units", "columns", "label", "features", "feature_columns", "spectrum")
    with pytest.raises(DataError, match="80 mels"):
        model.sample(*(values[k] for k in keys), [torch.randn(16, 40)])
