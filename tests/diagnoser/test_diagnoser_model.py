"""The network: masks, equality with the library's attention, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from diagnoser.config import Anchors, DiagnoserConfig, DiagnoserSizes
from diagnoser.model import Diagnoser


def build(**sizes: Any) -> Diagnoser:
    torch.manual_seed(0)
    defaults = {
        "hidden": 32,
        "heads": 4,
        "inner": 48,
        "window": 8,
        "rows": 4,
        "vocabulary": 64,
        "text_tokens": 12,
        "max_columns": 20,
        "anchors": Anchors(every_columns=4, rows=(0, 2)),
    }
    config = DiagnoserConfig(
        task="icbhi4",
        classes=("normal", "crackle", "wheeze", "both"),
        feature_dim=10,
        sizes=DiagnoserSizes(**{**defaults, **sizes}),
    )
    model = Diagnoser(config).eval()
    # Weights far from their start, so that a leak through a mask would show.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def batch(size: int = 5, text: int = 12, columns: int = 20, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, columns + 1, (size,), generator=generator)
    words = torch.randint(0, text + 1, (size,), generator=generator)
    return {
        "text_ids": torch.randint(5, 64, (size, text), generator=generator),
        "text_mask": torch.arange(text) < words[:, None],
        "features": torch.randn(size, columns, 8, 10, generator=generator),
        "columns": lengths,
    }


@pytest.mark.parametrize("attention", ["dense", "library"])
@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_padding_never_changes_a_logit(attention: str, pool: str) -> None:
    model = build(attention=attention, pool=pool)
    given = batch()
    with torch.no_grad():
        together = model(**given).logits
        for i in range(5):
            words, columns = int(given["text_mask"][i].sum()), int(given["columns"][i])
            alone = model(
                text_ids=given["text_ids"][i : i + 1, :words],
                text_mask=given["text_mask"][i : i + 1, :words],
                features=given["features"][i : i + 1, :columns],
                columns=given["columns"][i : i + 1],
            ).logits
            torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-5)


def test_what_lies_in_the_padding_is_never_read() -> None:
    model = build()
    given = batch()
    other = {key: value.clone() for key, value in given.items()}
    for i in range(5):
        other["features"][i, int(given["columns"][i]) :] = 1e3
        other["text_ids"][i, int(given["text_mask"][i].sum()) :] = 7
    with torch.no_grad():
        torch.testing.assert_close(model(**given).logits, model(**other).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("window", [4, 16, 64])
@pytest.mark.parametrize("anchors", [Anchors(every_columns=50), Anchors(rows=(0, 1, 2, 3)), None])
def test_dense_equals_the_library(window: int, anchors: Anchors | None) -> None:
    dense = build(window=window, anchors=anchors, attention="dense")
    library = build(window=window, anchors=anchors, attention="library")
    library.load_state_dict(dense.state_dict())
    for seed in range(3):
        given = batch(seed=seed)
        with torch.no_grad():
            torch.testing.assert_close(dense(**given).logits, library(**given).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["dense", "library"])
@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_every_trainable_tensor_gets_a_gradient(attention: str, pool: str) -> None:
    model = build(attention=attention, pool=pool).train()
    model(**batch(), labels=torch.tensor([0, 1, 2, 3, 0])).loss.backward()
    # A constant added to all keys of a softmax cancels, so key biases are held to "has a gradient" only.
    without = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad
        and (p.grad is None or not (p.grad.abs().sum() > 0 or name.endswith(("key.bias", "key_global.bias"))))
    ]
    assert without == []


def test_weights_scale_the_loss() -> None:
    model = build()
    given, labels = batch(), torch.tensor([0, 1, 2, 3, 0])
    with torch.no_grad():
        plain = model(**given, labels=labels).loss
        double = model(**given, labels=labels, weights=torch.full((5,), 2.0)).loss
    assert float(double) == pytest.approx(2 * float(plain), rel=1e-5)


def test_dropout_only_in_training() -> None:
    model = build(text_dropout=0.5, audio_dropout=0.5)
    given = batch()
    with torch.no_grad():
        assert torch.equal(model(**given).logits, model(**given).logits)
        model.train()
        assert not torch.equal(model(**given).logits, model(**given).logits)


def test_audio_alone_and_longer_inputs() -> None:
    """No text at all works; text and audio beyond the limits are cut."""
    model = build()
    given = batch(text=0)
    with torch.no_grad():
        assert model(**given).logits.shape == (5, 4)
        long = batch(text=30, columns=40)
        cut = {**long, "text_ids": long["text_ids"][:, :12], "text_mask": long["text_mask"][:, :12]}
        cut["features"], cut["columns"] = long["features"][:, :20], long["columns"].clamp_max(20)
        torch.testing.assert_close(model(**long).logits, model(**cut).logits)


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="must divide"):
        DiagnoserConfig(task="t", classes=("a", "b"), feature_dim=4, sizes=DiagnoserSizes(rows=3))
    with pytest.raises(ValueError, match="heads"):
        DiagnoserSizes(hidden=10, heads=3)
    with pytest.raises(ValueError, match="below rows 4"):
        DiagnoserSizes(rows=4, anchors=Anchors(rows=(0, 4)))
    with pytest.raises(ValueError, match="must ascend"):
        Anchors(rows=(4, 0))
    with pytest.raises(ValueError, match="more than 1"):
        DiagnoserSizes(whole_text_dropout=0.6, whole_audio_dropout=0.6)


def test_saved_and_read_back(tmp_path: Any) -> None:
    model = build()
    model.temperature.fill_(1.7)
    model.save_pretrained(tmp_path)
    again = Diagnoser.from_pretrained(tmp_path)
    assert float(again.temperature) == pytest.approx(1.7)
    with torch.no_grad():
        assert torch.equal(model(**batch()).logits, again(**batch()).logits)
