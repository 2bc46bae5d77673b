from __future__ import annotations

from pathlib import Path

import pytest
import torch
from generator_fixtures import CODEBOOK, DIM, ROWS
from torch import nn

from generator.config import FlowConfig
from generator.decoder import FlowDecoder
from training.errors import DataError


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
    with pytest.raises(DataError, match="80 values"):
        model.sample(*(values[k] for k in keys), [torch.randn(16, 40)])
