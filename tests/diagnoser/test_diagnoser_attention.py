"""Dense and banded attention against the library's sliding chunks: outputs, gradients, choice by length."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LongformerConfig
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

from diagnoser import attention
from diagnoser.attention import MaskedSelfAttention
from diagnoser.config import Anchors, DiagnoserConfig, DiagnoserSizes
from diagnoser.model import Diagnoser

DIM = 16


def library(window: int) -> LongformerSelfAttention:
    """The library's attention with weights far from their start."""
    torch.manual_seed(0)
    config = LongformerConfig(
        hidden_size=DIM,
        num_attention_heads=2,
        num_hidden_layers=1,
        attention_window=[window],
        attention_probs_dropout_prob=0.0,
    )
    module = LongformerSelfAttention(config, 0).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return module


def masked(reference: LongformerSelfAttention, crossover: int | None) -> MaskedSelfAttention:
    module: Any = copy.deepcopy(reference)
    module.__class__ = MaskedSelfAttention
    module.crossover = crossover
    return module


def case(length: int, window: int, seed: int, share: float) -> dict[str, torch.Tensor]:
    """Random states and masks: padding anywhere, global places anywhere, the first place global."""
    generator = torch.Generator().manual_seed(seed)
    padded = -(-length // window) * window
    padding = torch.rand(3, padded, generator=generator) < 0.2
    padding[:, 0], padding[:, length:] = False, True
    padding[0, :length] = False
    everywhere = (torch.rand(3, padded, generator=generator) < share) & ~padding
    everywhere[:, 0] = True
    return {
        "states": torch.randn(3, padded, DIM, generator=generator),
        "padding": padding,
        "everywhere": everywhere,
        "out": torch.randn(3, padded, DIM, generator=generator),
    }


def run(
    module: torch.nn.Module, given: dict[str, torch.Tensor], length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output at the real places and the gradient of the states, ``(3, length, D)`` each."""
    states = given["states"][:, :length].clone().requires_grad_()
    padding, everywhere = given["padding"][:, :length], given["everywhere"][:, :length]
    merged = torch.zeros(padding.shape).masked_fill(everywhere, 1.0).masked_fill(padding, -1.0)
    module.zero_grad()
    found = module(
        states,
        attention_mask=merged,
        is_index_masked=padding,
        is_index_global_attn=everywhere,
        is_global_attn=True,
    )[0]
    real = ~padding[..., None]
    (found * given["out"][:, :length] * real).sum().backward()
    assert states.grad is not None
    return (found * real).detach(), states.grad


@pytest.mark.parametrize("length", [7, 64, 93])
@pytest.mark.parametrize("window", [4, 16])
@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("crossover", [None, 0])
def test_outputs_and_gradients_are_the_librarys(
    length: int, window: int, share: float, crossover: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "BLOCK", 16)  # several blocks, the last one short
    reference = library(window)
    ours = masked(reference, crossover)
    for seed in range(3):
        given = case(length, window, seed, share)
        padded = given["states"].shape[1]
        expected, slope = run(reference, given, padded)
        found, ours_slope = run(ours, given, length)
        torch.testing.assert_close(found, expected[:, :length], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours_slope, slope[:, :length], atol=1e-5, rtol=1e-5)
        for (name, mine), theirs in zip(ours.named_parameters(), reference.parameters(), strict=True):
            assert mine.grad is not None and theirs.grad is not None, name
            torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-4, rtol=1e-5)


def test_both_forms_call_the_projections_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where parameters are partitioned, processes gather them in step."""
    monkeypatch.setattr(attention, "BLOCK", 16)
    orders = []
    for module in (masked(library(4), None), masked(library(4), 0), library(4)):
        called: list[str] = []

        def note(name: str, called: list[str] = called) -> Callable[..., None]:
            return lambda *_: called.append(name)

        for name, child in module.named_children():
            child.register_forward_hook(note(name))
        run(module, case(64, 4, 0, 0.1), 64)
        orders.append(called)
    assert orders[0] == orders[1] == orders[2] and len(orders[0]) == 6


def network(**sizes: Any) -> Diagnoser:
    torch.manual_seed(1)
    chosen = DiagnoserSizes(
        **{"hidden": 16, "inner": 16, "window": 8, "rows": 8, "max_columns": 30, "vocabulary": 64, **sizes}
    )
    config = DiagnoserConfig(task="icbhi4", classes=("a", "b"), feature_dim=6, sizes=chosen)
    return Diagnoser(config).eval()


def inputs(columns: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    return {
        "text_ids": torch.randint(5, 64, (2, 9)),
        "text_mask": torch.arange(9) < torch.tensor([[9], [4]]),
        "features": torch.randn(2, columns, 8, 6),
        "columns": torch.tensor([columns, columns - 2]),
    }


@pytest.mark.parametrize("anchors", [Anchors(rows=(0, 4)), Anchors(every_columns=7), None])
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_auto_is_dense_when_short_and_banded_when_long(
    anchors: Anchors | None, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "CROSSOVER", 100)
    monkeypatch.setattr(attention, "BLOCK", 32)
    models = {
        name: network(anchors=anchors, pool=pool, attention=name) for name in ("auto", "dense", "library")
    }
    largest: list[int] = []
    attend = MaskedSelfAttention._attend

    def note(self: Any, query: Any, key: Any, value: Any, allowed: torch.Tensor) -> torch.Tensor:
        largest.append(allowed.shape[1] * allowed.shape[2])
        return attend(self, query, key, value, allowed)

    monkeypatch.setattr(MaskedSelfAttention, "_attend", note)
    with torch.no_grad():
        short, long = inputs(8), inputs(30)  # 76 and 252 places
        assert torch.equal(models["auto"](**short).logits, models["dense"](**short).logits)
        largest.clear()
        found = models["auto"](**long).logits
        banded = max(largest)
        for name in ("dense", "library"):
            torch.testing.assert_close(found, models[name](**long).logits, atol=1e-5, rtol=1e-5)
    # The dense mask is square; a banded one has a block, its window on either side, and the global places.
    assert max(largest) == 252**2 and banded <= max(32 * (32 + 8 + 62), 252)


def test_the_default_is_dense_at_its_longest_input() -> None:
    """So the choice by length changed nothing for those who left it to the default."""
    model = Diagnoser(DiagnoserConfig(task="icbhi4", classes=("a", "b"), feature_dim=4))
    layers: Any = model.longformer.longformer.encoder.layer
    assert all(layer.attention.self.crossover >= model.config.sizes.places for layer in layers)
