"""Mixup and SpecAugment on the feature grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from diagnoser.augment import AugmentedCollate, masked, mixed, spans, training_collate
from diagnoser.config import AugmentConfig, DiagnoserConfig, DiagnoserTrainConfig
from diagnoser.data import ClipDataset, collate
from diagnoser.model import Diagnoser
from training.seeds import isolated


def grids(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random grids with 8 rows and 3 features, zero past their columns."""
    columns = torch.tensor(lengths)
    values = torch.randn(len(lengths), max(lengths), 8, 3, generator=torch.Generator().manual_seed(0))
    real = torch.arange(max(lengths)) < columns[:, None]
    return values * real[..., None, None], columns


def samples(*lengths: int) -> list[dict[str, Any]]:
    values, columns = grids(*lengths)
    return [
        {"tokens": [5, 6], "features": grid[:n].numpy(), "label": row % 2, "weight": row + 1.0}
        for row, (grid, n) in enumerate(zip(values, columns.tolist(), strict=True))
    ]


def test_mixture_in_closed_form() -> None:
    batch = collate(samples(5, 2))
    found = mixed(batch, torch.tensor([0.75, 0.6]), torch.tensor([1, 0]), classes=3)
    long, short = batch["features"][0], batch["features"][1, :2]
    looped = torch.stack([short[t % 2] for t in range(5)])
    torch.testing.assert_close(found["features"][0], 0.75 * long + 0.25 * looped)
    torch.testing.assert_close(found["features"][1, :2], 0.6 * short + 0.4 * long[:2])
    assert (found["features"][1, 2:] == 0).all()
    # Labels 0 and 1, weights 1 and 2: each part of the mixture keeps the weight of its own clip.
    expected = torch.tensor([[0.75 * 1, 0.25 * 2, 0], [0.4 * 1, 0.6 * 2, 0]])
    torch.testing.assert_close(found["targets"], expected)
    assert set(found) == {"text_ids", "text_mask", "features", "columns", "targets"}
    assert torch.equal(found["columns"], batch["columns"])


def test_mixture_with_itself_changes_nothing() -> None:
    batch = collate(samples(4, 3, 6))
    found = mixed(batch, torch.tensor([0.7, 0.5, 0.9]), torch.arange(3), classes=2)
    torch.testing.assert_close(found["features"], batch["features"])
    weights = torch.nn.functional.one_hot(batch["labels"], 2) * batch["weights"][:, None]
    torch.testing.assert_close(found["targets"], weights)


def test_collate_mixes_under_the_seed_and_a_clip_stays_the_larger_part() -> None:
    join = AugmentedCollate(AugmentConfig(mixup=0.4), 2, torch.zeros(8, 3))
    with isolated(3):
        once = join(samples(4, 3, 6, 2))
    with isolated(3):
        again = join(samples(4, 3, 6, 2))
    with isolated(4):
        other = join(samples(4, 3, 6, 2))
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["features"], other["features"])
    unweighted = [{k: v for k, v in sample.items() if k != "weight"} for sample in samples(*[4] * 400)]
    targets = join(unweighted)["targets"]
    own = targets[torch.arange(400), torch.arange(400) % 2]
    torch.testing.assert_close(targets.sum(1), torch.ones(400))
    assert own.min() >= 0.5 and own.max() <= 1 and (own < 0.99).any()


@pytest.mark.parametrize("count", [1, 2, 7, 62])
def test_spans_leave_something_and_stay_inside(count: int) -> None:
    torch.manual_seed(0)
    hidden = spans(torch.full((500,), count), 70, masks=3, share=0.3)
    assert not hidden[:, count:].any()
    most = 3 * int(0.3 * count)
    assert int(hidden.sum(1).max()) <= most < count
    if most:
        assert hidden[:, :count].any(0).all()  # every place is hidden in some clip


def test_span_is_as_wide_as_asked() -> None:
    torch.manual_seed(0)
    hidden = spans(torch.full((500,), 20), 20, masks=1, share=0.3)
    assert set(hidden.sum(1).tolist()) == set(range(7))
    assert (hidden[:, 1:] & ~hidden[:, :-1]).sum(1).max() <= 1  # in one piece


def test_masks_set_the_mean_and_leave_padding() -> None:
    values, columns = grids(9, 4, 1)
    fill = torch.arange(24.0).reshape(8, 3) + 100
    how = AugmentConfig(time_masks=2, time_share=0.4, row_masks=1, row_share=0.5)
    torch.manual_seed(1)
    for _ in range(50):
        found = masked(values, columns, how, fill)
        same, filled = found == values, found == fill
        real = (torch.arange(9) < columns[:, None])[..., None, None].expand_as(values)
        assert (same | (filled & real)).all() and same[~real].all()
        # A whole patch is hidden or none of it, and at least one patch of each clip is heard.
        hidden = filled.all(-1)
        assert torch.equal(hidden, filled.any(-1)) and ((~hidden) & real[..., 0]).any((1, 2)).all()
    assert torch.equal(masked(values, columns, AugmentConfig(), fill), values)


def test_a_hidden_clip_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"2 time masks of 0\.5 may hide a whole clip"):
        AugmentConfig(time_masks=2, time_share=0.5)
    with pytest.raises(ValidationError, match="4 row masks"):
        AugmentConfig(row_masks=4, row_share=0.25)


def test_off_is_the_plain_collate_and_masks_take_the_mean_of_training() -> None:
    values, _ = grids(4, 3)
    model = Diagnoser(DiagnoserConfig(task="icbhi4", classes=("a", "b"), feature_dim=3))
    model.standardise(torch.full((8, 3), 7.0), torch.ones(8, 3))
    store = {"a": values[0].numpy(), "b": values[1, :3].numpy()}

    class Store:
        def features(self, clip_id: str) -> np.ndarray:
            return store[clip_id]

    data = ClipDataset(["a", "b"], Store(), [[], []], np.array([0, 1]))
    plain = DiagnoserTrainConfig(corpus="x", task="icbhi4")
    assert training_collate(plain, model, data) is collate
    masks = plain.model_copy(update={"augment": AugmentConfig(row_masks=1)})
    join: Any = training_collate(masks, model, data)
    assert torch.equal(join.fill, model.feature_mean) and join.classes == 2
    tuned: Any = training_collate(masks.model_copy(update={"tune_encoder": True}), model, data)
    torch.testing.assert_close(tuned.fill, torch.cat([values[0], values[1, :3]]).mean(0))
