"""The flow without a network: exact backbones, known fields and distributions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from generator.config import Method, Predict, SampleConfig
from generator.flow import (
    CLOSEST,
    SMALLEST,
    UNIT,
    Condition,
    FlowMatching,
    gaussian_velocity,
    point_velocity,
    time_grid,
)
from training.config import load_config
from training.errors import ConfigError

MEAN, DEVIATION = 1.5, 0.3


class Exact(nn.Module):
    """A backbone that knows the answer for x₁ ~ N(mean, deviation²), in the terms that are asked for."""

    def __init__(self, mean: float, deviation: float, predict: Predict = "texture"):
        super().__init__()
        self.mean, self.deviation, self.predict = mean, deviation, predict

    def forward(self, x: Tensor, t: Tensor, content: Tensor, vector: Tensor, mask: Tensor) -> Tensor:
        place = t[:, None, None]
        if self.predict == "texture":
            raw = float(torch.log(torch.expm1(torch.tensor(self.deviation - SMALLEST)))) - UNIT
            return torch.cat([torch.full_like(x, self.mean), torch.full_like(x, raw)], dim=-1)
        if self.predict == "x":  # E[x₁ | x_t] of two joint Gaussians
            share = place * self.deviation**2 / (place.square() * self.deviation**2 + (1 - place).square())
            return self.mean + share * (x - place * self.mean)
        return gaussian_velocity(x, place, torch.tensor(self.mean), torch.tensor(self.deviation))


def exact(mean: float, deviation: float, predict: Predict = "texture") -> FlowMatching:
    return FlowMatching(Exact(mean, deviation, predict), 0.1, predict)


def condition(batch: int, frames: int, given: Tensor | None = None) -> Condition:
    content, vector = torch.zeros(batch, frames, 4), torch.zeros(batch, 4)
    mask = torch.ones(batch, frames, dtype=torch.bool)
    return Condition(content, vector, content, vector, mask, given)


@pytest.mark.parametrize("predict", ["texture", "x", "velocity"])
def test_every_parametrisation_gives_the_exact_field_of_a_gaussian(predict: Predict) -> None:
    torch.manual_seed(0)
    x, t = torch.randn(64, 5, 4), torch.linspace(0, 1 - CLOSEST, 64)
    c = condition(64, 5)
    out = exact(MEAN, DEVIATION, predict).velocity(x, t, c.content, c.vector, c.mask)
    right = gaussian_velocity(x, t[:, None, None], torch.tensor(MEAN), torch.tensor(DEVIATION))
    assert torch.allclose(out, right, atol=2e-4, rtol=1e-3)


def test_the_field_of_a_point_is_the_straight_line_and_stays_bounded() -> None:
    torch.manual_seed(0)
    x0, x1 = torch.randn(1000), torch.full((1000,), 2.0)
    for at in (0.0, 0.5, 1 - CLOSEST):
        t = torch.tensor(at)
        assert torch.allclose(point_velocity((1 - t) * x0 + t * x1, t, x1), x1 - x0, atol=1e-4)
    end = point_velocity(x0, torch.tensor(1.0), x1)
    assert torch.allclose(end, (x1 - x0) / CLOSEST)
    narrow = gaussian_velocity(
        x0, torch.tensor(0.5), x1, torch.tensor(1e-4)
    )  # a Gaussian so narrow is a point
    assert torch.allclose(narrow, point_velocity(x0, torch.tensor(0.5), x1), atol=1e-4)


@pytest.mark.parametrize("predict", ["texture", "x", "velocity"])
@pytest.mark.parametrize(
    ("method", "steps", "sway"),
    [
        ("euler", 100, 0.0),
        ("euler", 100, -1.0),
        ("midpoint", 40, -1.0),
        ("rk4", 20, 0.0),
        ("dopri5", None, 0.0),
    ],
)
def test_noise_is_carried_to_the_gaussian(
    predict: Predict, method: Method, steps: int | None, sway: float
) -> None:
    torch.manual_seed(0)
    flow = exact(MEAN, DEVIATION, predict)
    noise = torch.randn(4, 50, 40)
    for guidance in (1.0, 2.5):  # with equal fields guidance changes nothing
        out = flow.sample(noise, condition(4, 50), steps=steps, method=method, sway=sway, guidance=guidance)
        assert abs(float(out.mean()) - MEAN) < 0.02
        assert abs(float(out.std()) - DEVIATION) < 0.02
        # The field of a Gaussian keeps the order of its points: each noise has one end.
        assert torch.allclose(out, MEAN + DEVIATION * noise, atol=0.1)


@pytest.mark.parametrize(("method", "steps"), [("euler", 4), ("midpoint", 32), ("rk4", 4), ("dopri5", None)])
def test_a_point_is_met_from_any_noise(method: Method, steps: int | None) -> None:
    class Point(nn.Module):
        def forward(self, x: Tensor, t: Tensor, *_: Tensor) -> Tensor:
            return torch.full_like(x, 2.0)

    noise = torch.randn(2, 10, 3)
    out = FlowMatching(Point(), 0.1, "x").sample(noise, condition(2, 10), steps=steps, method=method)
    assert torch.allclose(out, torch.full_like(out, 2.0), atol=1e-4)


@pytest.mark.parametrize(
    ("method", "steps", "each"), [("euler", 6, 1), ("midpoint", 6, 2), ("rk4", 6, 4), ("dopri5", None, 0)]
)
def test_evaluations_are_counted(method: Method, steps: int | None, each: int) -> None:
    flow = exact(MEAN, DEVIATION)
    calls: list[int] = []
    flow.backbone.register_forward_pre_hook(lambda _m, args: calls.append(len(args[0])))
    for guidance, width in ((1.0, 3), (2.0, 6)):
        calls.clear()
        flow.sample(torch.randn(3, 9, 4), condition(3, 9), steps=steps, method=method, guidance=guidance)
        if steps is not None:
            assert calls == [width] * (steps * each)
            assert flow.evaluations == steps * each
        else:  # every clip chooses its own; the slowest counts
            assert set(calls) == {width // 3}
            assert len(calls) / 3 <= flow.evaluations < len(calls)


def test_an_adaptive_clip_does_not_depend_on_its_batch_nor_leave_the_times() -> None:
    torch.manual_seed(0)
    flow = exact(MEAN, 0.06)
    times: list[float] = []
    flow.backbone.register_forward_pre_hook(lambda _m, args: times.append(float(args[1].max())))
    noise, c = torch.randn(2, 12, 4), condition(2, 12)
    c.mask[1, 7:] = False
    together = flow.sample(noise, c, steps=None, method="dopri5")
    alone = flow.sample(noise[1:, :7], condition(1, 7), steps=None, method="dopri5")
    assert torch.equal(together[1, :7], alone[0])
    assert max(times) <= 1.0
    flow.sample(noise, c, steps=None, method="dopri5", rtol=1e-6, atol=1e-6)
    strict = flow.evaluations
    flow.sample(noise, c, steps=None, method="dopri5", rtol=1e-2, atol=1e-2)
    assert flow.evaluations < strict


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "dopri5"}, "steps to null"),
        ({"method": "dopri5", "steps": None, "sway": -1.0}, "sway to 0"),
        ({"method": "euler", "steps": None}, "needs a number of steps"),
        ({"rtol": 1e-3}, "dopri5's"),
        ({"method": "rk4", "atol": 1e-3}, "dopri5's"),
    ],
)
def test_settings_of_another_solver_are_refused(settings: dict[str, object], message: str) -> None:
    overrides = [f"{k}={'null' if v is None else v}" for k, v in settings.items()]
    with pytest.raises(ConfigError, match=message):
        load_config(SampleConfig, overrides=overrides)
    with pytest.raises(ConfigError, match=message):
        exact(0, 1).sample(torch.randn(1, 4, 2), condition(1, 4), **{"steps": 4, **settings})  # type: ignore[arg-type]


def test_records_hold_a_solvers_settings_only_where_asked() -> None:
    assert {"rtol", "atol"}.isdisjoint(SampleConfig().model_dump(mode="json"))
    adaptive = SampleConfig(method="dopri5", steps=None, sway=0, rtol=1e-4)
    record = adaptive.model_dump(mode="json")
    assert (record["steps"], record["rtol"]) == (None, 1e-4)
    assert SampleConfig.model_validate(record) == adaptive


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


@pytest.mark.parametrize("predict", ["texture", "x", "velocity"])
def test_loss_is_smallest_for_the_true_distribution(predict: Predict) -> None:
    losses = []
    for mean, deviation in ((0.5, 0.4), (0.9, 0.4), (0.5, 1.2)):
        torch.manual_seed(0)
        x1 = 0.5 + 0.4 * torch.randn(64, 40, 20)
        losses.append(float(exact(mean, deviation, predict).loss(x1, condition(64, 40)).mean()))
    assert losses[0] < min(losses[1:])


def test_a_known_point_has_no_loss_at_any_time() -> None:
    flow = FlowMatching(Exact(2.0, 0.0, "x"), 0.1, "x")
    assert float(flow.loss(torch.full((64, 8, 4), 2.0), condition(64, 8)).max()) < 1e-8


@pytest.mark.parametrize("predict", ["texture", "x", "velocity"])
def test_given_frames_bear_no_loss_enter_clean_and_stay(predict: Predict) -> None:
    given = torch.zeros(3, 12, dtype=torch.bool)
    given[0, :4] = given[1, :7] = True
    flow, c = exact(MEAN, DEVIATION, predict), condition(3, 12, given)
    seen: list[Tensor] = []
    flow.backbone.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    torch.manual_seed(1)
    x1 = torch.randn(3, 12, 5)
    torch.manual_seed(2)
    first = flow.loss(x1, c)
    assert torch.equal(seen[-1][given], x1[given])
    assert not torch.isclose(seen[-1][~given], x1[~given]).all(-1).any()
    changed = torch.where(given[..., None], 100.0, x1)
    torch.manual_seed(2)
    assert torch.equal(flow.loss(changed, c), first)
    torch.manual_seed(2)
    whole = flow.loss(x1, condition(3, 12))
    assert torch.equal(whole[2], first[2]) and not torch.isclose(whole[:2], first[:2]).any()
    for guidance in (1.0, 3.0):
        out = flow.sample(x1, c, steps=3, guidance=guidance)
        assert torch.equal(out[given], x1[given])
        assert not torch.isclose(out[~given], x1[~given]).all(-1).any()


def test_training_times_are_stratified_and_may_gather_in_the_middle() -> None:
    torch.manual_seed(0)
    even = FlowMatching(nn.Identity(), 0.1).draw_times(4000, torch.device("cpu"))
    assert torch.allclose(even.sort().values, (torch.arange(4000) + 0.5) / 4000, atol=2e-4)
    middle = FlowMatching(nn.Identity(), 0.1, times="logit_normal").draw_times(4000, torch.device("cpu"))
    assert ((middle > 0) & (middle < 1)).all()
    logits = torch.logit(middle.double())
    assert abs(float(logits.mean())) < 0.01 and abs(float(logits.std()) - 1) < 0.01


def test_time_grid_runs_from_noise_to_data() -> None:
    for sway in (-1.0, 0.0, 0.5):
        grid = time_grid(8, sway)
        assert grid[0] == 0
        assert abs(float(grid[-1]) - 1) < 1e-6
        assert (grid.diff() > 0).all()
    assert time_grid(8, -1.0)[1] < 1 / 8  # sway takes its small steps near the noise
