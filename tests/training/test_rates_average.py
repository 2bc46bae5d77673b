"""Learning rates that differ between layers, and the moving average of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from transformers.utils import ModelOutput

from training.average import Average
from training.errors import ConfigError
from training.fit import fit
from training.fitconfig import FitConfig
from training.rates import rate_factors, rate_groups


class Tower(nn.Module):
    """Two layers and a head that knows its depth."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.low, self.high, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1)

    def depth(self, name: str) -> int:
        return {"head": 0, "high": 1, "low": 2}[name.split(".")[0]]

    def forward(self, x: torch.Tensor) -> ModelOutput:
        return ModelOutput(loss=self.head(torch.tanh(self.high(torch.tanh(self.low(x))))).square().mean())


class Blind(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 1)


POINTS = list(torch.randn(16, 3, generator=torch.Generator().manual_seed(1)))


def train(folder: Path, seen: list[np.ndarray] | None = None, **more: Any) -> tuple[Tower, np.ndarray]:
    """Three full-batch steps at a constant rate; ``seen`` gets the weights of every validation."""
    model = Tower()
    before = flat(model)

    def evaluate(network: nn.Module) -> float:
        assert seen is not None
        seen.append(flat(network))
        return float(len(seen))

    values = {"steps": 3, "warmup": 0.0, "schedule": "constant", "weight_decay": 0.0, **more}
    fit(
        model,
        POINTS,
        collate=lambda rows: {"x": torch.stack(rows)},
        config=FitConfig(batch_size=16, learning_rate=0.01, eval_every=1, **values),
        out=folder,
        evaluate=None if seen is None else evaluate,
    )
    return model, before


def flat(model: nn.Module) -> np.ndarray:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).numpy().copy()


def test_rates_follow_depth_and_part() -> None:
    config = FitConfig(layer_decay=0.5, rates={"low": 0.1, "head.bias": 3.0})
    factors = rate_factors(Tower(), config)
    assert factors == pytest.approx(
        {
            "low.weight": 0.025,
            "low.bias": 0.025,
            "high.weight": 0.5,
            "high.bias": 0.5,
            "head.weight": 1.0,
            "head.bias": 3.0,
        }
    )
    assert set(rate_factors(Blind(), FitConfig()).values()) == {1.0}
    with pytest.raises(ConfigError, match="Blind does not say how deep"):
        rate_factors(Blind(), FitConfig(layer_decay=0.9))
    with pytest.raises(ConfigError, match="'hea', which holds no trainable"):
        rate_factors(Tower(), FitConfig(rates={"hea": 0.5}))


def test_groups_hold_every_parameter_once_highest_rate_first() -> None:
    model, config = Tower(), FitConfig(layer_decay=0.5, learning_rate=0.8, weight_decay=0.3)
    model.low.bias.requires_grad_(False)
    groups = rate_groups(model, rate_factors(model, config), {"head.weight", "low.weight"}, config)
    assert [group["lr"] for group in groups] == pytest.approx([0.8, 0.8, 0.4, 0.2])
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0, 0.0, 0.3]
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_first_step_moves_each_layer_by_its_rate(tmp_path: Path) -> None:
    """Adam's first step is the rate times the gradient's sign."""
    model, before = train(tmp_path / "fit", steps=1, layer_decay=0.5, rates={"high": 0.2})
    moved = np.abs(flat(model) - before)
    low, high, head = moved[:12].max(), moved[12:24].max(), moved[24:].max()
    assert (low, high, head) == pytest.approx((0.0025, 0.001, 0.01), rel=1e-3)


def test_average_in_closed_form() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    average = Average(model, 0.5)
    for step, value in ((1, 3.0), (2, 7.0), (40, 8.0)):
        nn.init.constant_(model.weight, value)
        average.update(step)
    # The first two steps keep 2/11 and 3/12, the last one the 0.5 asked for.
    first = 2 / 11 * 1.0 + 9 / 11 * 3.0
    second = 0.25 * first + 0.75 * 7.0
    with average.applied():
        assert model.weight.item() == pytest.approx(0.5 * second + 0.5 * 8.0)
    assert model.weight.item() == 8.0
    average.take()
    assert model.weight.item() == pytest.approx(0.5 * second + 0.5 * 8.0)


def test_average_is_validated_and_kept_and_training_goes_its_way(tmp_path: Path) -> None:
    plain: list[np.ndarray] = []
    _, start = train(tmp_path / "plain", plain)
    expected, now = [], start
    for step, weights in enumerate(plain, start=1):
        keep = min(0.2, (1 + step) / (10 + step))
        now = keep * now + (1 - keep) * weights
        expected.append(now)
    averaged: list[np.ndarray] = []
    model, _ = train(tmp_path / "validated", averaged, ema=0.2)
    np.testing.assert_allclose(averaged, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(flat(model), averaged[-1])
    alone, _ = train(tmp_path / "alone", ema=0.2)
    np.testing.assert_array_equal(flat(alone), averaged[-1])


def test_average_needs_whole_weights() -> None:
    with pytest.raises(ValidationError, match="not with deepspeed"):
        FitConfig(ema=0.9, deepspeed="zero3")
