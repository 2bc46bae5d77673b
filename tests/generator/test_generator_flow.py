from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from generator_fixtures import CODEBOOK, DIM, ROWS
from torch import nn

from generator.config import FlowConfig
from generator.decoder import FlowDecoder
from generator.dit import attend
from training.config import PACKAGE_DATA
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


@pytest.mark.parametrize("patch", [1, 3])  # the lengths are no multiples of 3
def test_padding_never_changes_the_decoder(flow_config: FlowConfig, patch: int) -> None:
    model = awake(flow_config.model_copy(update={"patch": patch})).eval()
    values = inputs(model, [16, 40, 25])
    keys = ("units", "columns", "label", "features", "feature_columns", "spectrum")
    noise = [torch.randn(n, 80) for n in (16, 40, 25)]
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


@pytest.mark.parametrize("patch", [1, 3])
def test_loss_ignores_padded_frames(flow_config: FlowConfig, patch: int) -> None:
    model = awake(flow_config.model_copy(update={"patch": patch})).eval()
    values = inputs(model, [16, 40])
    torch.manual_seed(1)
    first = model(**values).error
    values["mel"][0, 16:] = float("nan")
    torch.manual_seed(1)
    assert torch.equal(model(**values).error, first)


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"predict": "x", "content": "none"},
        {"predict": "velocity", "prefix": 0.3, "times": "logit_normal"},
        {"patch": 2},
    ],
)
def test_every_parameter_gets_a_gradient(flow_config: FlowConfig, chosen: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = FlowConfig.model_validate(flow_config.model_dump() | {"unguided": 0.5} | chosen)
    model = FlowDecoder(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    values = inputs(model, [24] * 8)
    if config.prefix:
        values |= {"prefix": torch.randn(8, 6, 80), "prefix_frames": torch.arange(8) % 7}
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


def test_guidance_of_one_is_the_conditional_field_and_of_none_the_free_one(flow_config: FlowConfig) -> None:
    model = awake(flow_config).eval()
    values = inputs(model, [16, 24])
    c = model.condition(*(values[k] for k in list(values) if k != "mel"), 24)
    x, t = torch.randn(2, 24, 80), torch.tensor(0.4)
    given = model.flow.velocity(x, t.expand(2), c.content, c.vector, c.mask)
    free = model.flow.velocity(x, t.expand(2), c.free_content, c.free_vector, c.mask)
    assert torch.equal(model.flow._field(c, 1.0)(t, x), given)
    assert torch.allclose(model.flow._field(c, 1.0001)(t, x), given, atol=1e-2)
    assert torch.allclose(model.flow._field(c, 0.0)(t, x), free, atol=1e-4)
    assert torch.allclose(model.flow._field(c, 3.0)(t, x), 3 * given - 2 * free, atol=1e-3)
    assert not torch.isclose(given, free, atol=1e-2).all()


def test_another_style_moves_the_timbre_and_keeps_label_and_content(flow_config: FlowConfig) -> None:
    model = awake(flow_config).eval()
    values = inputs(model, [24, 24])
    keys = [k for k in values if k != "mel"]
    c = model.condition(*(values[k] for k in keys), 24)
    other = values | {"features": values["features"].flip(0), "spectrum": values["spectrum"].flip(0)}
    swapped = model.condition(*(other[k] for k in keys), 24)
    assert torch.equal(swapped.content, c.content)
    assert not torch.isclose(swapped.vector, c.vector).all()
    label = model.label(values["label"]) - model.free_label
    for one in (c, swapped):
        assert torch.allclose(one.vector - one.free_vector, label, atol=1e-5)
    relabelled = model.condition(*((values | {"label": values["label"] + 1})[k] for k in keys), 24)
    assert torch.equal(relabelled.free_vector, c.free_vector)
    assert not torch.isclose(relabelled.vector, c.vector).all()


def test_without_units_only_label_and_style_matter(flow_config: FlowConfig) -> None:
    chosen = FlowConfig.model_validate(flow_config.model_dump() | {"content": "none"})
    model = awake(chosen).eval()
    assert not [name for name, _ in model.named_parameters() if name.startswith(("unit.", "rows."))]
    values = inputs(model, [16, 24])
    style = (values["features"], values["feature_columns"], values["spectrum"])
    noise = [torch.randn(n, 80) for n in (16, 24)]
    out = model.sample(None, None, values["label"], *style, noise, steps=2)
    again = model.sample(values["units"], values["columns"], values["label"], *style, noise, steps=2)
    other = model.sample(None, None, values["label"] + 1, *style, noise, steps=2)
    for a, b, c in zip(out, again, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.isclose(a, c).all()
    with pytest.raises(DataError, match="trained on units"):
        awake(flow_config).sample(None, None, values["label"], *style, noise)


def test_given_frames_help_bear_no_loss_and_leave_the_length(flow_config: FlowConfig) -> None:
    chosen = FlowConfig.model_validate(flow_config.model_dump() | {"prefix": 0.5})
    model = awake(chosen).eval()
    values = inputs(model, [16, 24])
    given = {"prefix": torch.randn(2, 9, 80), "prefix_frames": torch.tensor([9, 4])}
    torch.manual_seed(1)
    first = model(**values, **given).error
    given["prefix"][1, 4:] = float("nan")  # padding
    torch.manual_seed(1)
    assert torch.equal(model(**values, **given).error, first)
    noise = [torch.randn(n, 80) for n in (16, 24)]
    known = [values[k] for k in ("units", "columns", "label", "features", "feature_columns", "spectrum")]
    out = model.sample(*known, noise, steps=2, **given)
    assert [x.shape for x in out] == [n.shape for n in noise]
    given["prefix"][0] += 1.0
    moved = model.sample(*known, noise, steps=2, **given)
    assert torch.isclose(moved[0], out[0]).float().mean() < 0.5
    assert torch.allclose(moved[1], out[1], atol=1e-4)
    alone = {"prefix": given["prefix"][1:, :4], "prefix_frames": given["prefix_frames"][1:]}
    single = model.sample(*(v[1:] for v in known), noise[1:], steps=2, **alone)[0]
    assert torch.allclose(single, out[1], atol=2e-3, rtol=1e-3)


def test_a_decoder_of_defaults_has_the_parameters_it_always_had(flow_config: FlowConfig) -> None:
    old = flow_config.model_dump(exclude={"predict", "times", "content", "prefix", "patch"})
    names = {name for name, _ in FlowDecoder(FlowConfig.model_validate(old)).named_parameters()}
    assert {"unit.weight", "rows.weight", "flow.backbone.leave.weight"} <= names and "given" not in names
    shipped = FlowDecoder.from_pretrained(PACKAGE_DATA / "weights" / "tiny" / "flow")
    assert shipped.config.predict == "texture"
    assert shipped.flow.backbone.leave.out_features == 2 * 80 * shipped.config.patch


def test_bf16_training_attends_in_fp32_on_a_cpu() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 8, requires_grad=True) for _ in range(3))
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])[:, None, None]
    scores = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(~mask, -torch.inf)
    wanted = scores.softmax(-1) @ v
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (q @ k.transpose(-1, -2)).dtype == torch.bfloat16
        found = attend(q, k, v, mask)
        half = attend(q, k, v.bfloat16(), mask)
    assert found.dtype == half.dtype == torch.float32
    assert torch.allclose(found, wanted, atol=1e-5) and torch.allclose(half, wanted, atol=2e-2)
    ours, exact = (torch.autograd.grad(out.sum(), v)[0] for out in (found, wanted))
    assert torch.allclose(ours, exact, atol=1e-5) and not ours[1, :, 3:].any()


def test_interpolation_holds_the_ends_and_meets_the_centres(flow_config: FlowConfig) -> None:
    model = FlowDecoder(flow_config)
    grid = torch.arange(5.0)[None, :, None].expand(2, 5, 3)
    out = model.interpolate(grid, torch.tensor([5, 2]), 40)
    assert torch.allclose(out[0, :4, 0], torch.tensor([0.0, 0, 0, 0]))
    assert torch.allclose(out[0, 11:13, 0].mean(), torch.tensor(1.0))
    assert torch.allclose(out[1, 16:, 0], torch.ones(24))


def test_interpolation_is_over_time_at_any_frame_rate(flow_config: FlowConfig) -> None:
    seconds = torch.arange(6.0) * 0.16 + 0.08  # centres of the columns
    for rate, hop in ((75.0, 320), (16_000 / 186, 186)):
        codec = {"kind": "encodec", "hop": 320, "dim": 128} if rate == 75 else {"hop": hop}
        model = FlowDecoder(FlowConfig.model_validate(flow_config.model_dump() | {"codec": codec}))
        frames = round(0.96 * rate)
        out = model.interpolate(seconds[None, :, None], torch.tensor([6]), frames)[0, :, 0]
        middle = (torch.arange(frames) + 0.5) / rate
        assert torch.allclose(out, middle.clamp(0.08, 0.88), atol=1e-4)


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
