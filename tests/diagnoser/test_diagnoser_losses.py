"""Losses of training: weights, adjusted logits, soft targets, and depths for the layers' rates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from beats.config import BeatsConfig
from beats.encoder import BeatsEncoder
from beats.fbank import fbank
from diagnoser.config import DiagnoserConfig, DiagnoserSizes, DiagnoserTrainConfig
from diagnoser.losses import Learner, clip_losses, log_shares, loss_weights, losses_by_origin, mean_loss
from diagnoser.model import Diagnoser
from diagnoser.patches import to_frames, to_patches
from resp229k.clip import Clip, Metadata


def config(**more: Any) -> DiagnoserTrainConfig:
    return DiagnoserTrainConfig(corpus="x", task="icbhi4", **more)


def clips(*synthetic: bool) -> list[Clip]:
    return [
        Clip(
            clip_id=f"c{n}",
            recording_id=f"c{n}",
            subject_id=f"toy:{n}",
            source="toy",
            split="train",
            path=f"c{n}.wav",
            start=0.0,
            end=1.0,
            sample_rate=16000,
            labels={"icbhi4": "both"},
            metadata=Metadata(),
            synthetic=flag,
        )
        for n, flag in enumerate(synthetic)
    ]


def network(feature_dim: int = 16) -> Diagnoser:
    torch.manual_seed(0)
    sizes = DiagnoserSizes(hidden=16, heads=2, inner=16, layers=2, dropout=0, audio_dropout=0, text_dropout=0)
    classes = ("normal", "crackle", "wheeze", "both")
    return Diagnoser(DiagnoserConfig(task="icbhi4", classes=classes, feature_dim=feature_dim, sizes=sizes))


def batch(feature_dim: int = 16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "text_ids": torch.randint(5, 90, (3, 4), generator=generator),
        "text_mask": torch.ones(3, 4, dtype=torch.bool),
        "features": torch.randn(3, 5, 8, feature_dim, generator=generator),
        "columns": torch.tensor([5, 3, 4]),
    }


LABELS = np.array([0, 1, 0, 0])
COUNTS = np.array([3, 1, 0, 0])


def test_weights_of_classes_in_closed_form() -> None:
    real = clips(False, False, False, False)
    assert loss_weights(config(), real, LABELS, COUNTS) is None
    inverse = loss_weights(config(loss_weights="inverse"), real, LABELS, COUNTS)
    np.testing.assert_allclose(inverse, [2 / 3, 2, 2 / 3, 2 / 3])
    # Effective numbers 1.75 = 1 + 1/2 + 1/4 and 1.
    half = loss_weights(config(loss_weights="effective", effective_beta=0.5), real, LABELS, COUNTS)
    mean = (3 / 1.75 + 1) / 4
    np.testing.assert_allclose(half, np.array([1 / 1.75, 1, 1 / 1.75, 1 / 1.75]) / mean)
    plain = loss_weights(config(loss_weights="effective", effective_beta=0.0), real, LABELS, COUNTS)
    np.testing.assert_allclose(plain, np.ones(4))
    near = loss_weights(config(loss_weights="effective", effective_beta=1 - 1e-9), real, LABELS, COUNTS)
    np.testing.assert_allclose(near, inverse, rtol=1e-6)


def test_synthetic_clips_weigh_what_they_are_given() -> None:
    some = clips(False, True, False, True)
    assert loss_weights(config(), some, LABELS, COUNTS) is None
    alone = loss_weights(config(synthetic_weight=0.25), some, LABELS, COUNTS)
    np.testing.assert_array_equal(alone, [1, 0.25, 1, 0.25])
    both = loss_weights(config(synthetic_weight=0.25, loss_weights="inverse"), some, LABELS, COUNTS)
    np.testing.assert_allclose(both, [2 / 3, 2 / 4, 2 / 3, 2 / 12])
    assert loss_weights(config(synthetic_weight=0.25), clips(*[False] * 4), LABELS, COUNTS) is None


def test_losses_are_told_apart_by_origin() -> None:
    logits = np.array([[0.0, 0.0], [np.log(3), 0.0], [0.0, 0.0], [800.0, 0.0]])
    labels = np.array([0, 0, 1, 0])
    np.testing.assert_allclose(clip_losses(logits, labels), [np.log(2), np.log(4 / 3), np.log(2), 0])
    found = losses_by_origin(logits, labels, clips(False, True, False, True))
    assert found == pytest.approx({"real": np.log(2), "synthetic": np.log(4 / 3) / 2}, abs=1e-6)


def test_adjusted_logits_are_right_for_even_classes() -> None:
    """Where the batch has the prior's shares, equal logits are the optimum of the adjusted loss."""
    labels = torch.tensor([0, 0, 0, 1])
    shift = log_shares(np.array([3, 1]))
    torch.testing.assert_close(shift.exp(), torch.tensor([0.75, 0.25]))
    for tau, gap in ((1.0, 0.0), (0.0, np.log(3)), (0.5, np.log(3) / 2)):
        # One logit for all clips; log(0.75 / 0.25) apart without adjustment, none of it with tau 1.
        logits = torch.tensor([gap, 0.0], dtype=torch.float32, requires_grad=True)
        mean_loss(logits.expand(4, 2), labels, None, tau * shift).backward()
        torch.testing.assert_close(logits.grad, torch.zeros(2), atol=1e-7, rtol=0)
    assert torch.isfinite(log_shares(np.array([3, 0]))).all()


def test_soft_targets_hold_labels_and_weights() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels, weights = torch.tensor([0, 2, 1, 1]), torch.tensor([0.5, 2.0, 1.0, 0.0])
    hard = mean_loss(logits, labels, weights, None)
    soft = mean_loss(logits, torch.nn.functional.one_hot(labels, 3) * weights[:, None], None, None)
    torch.testing.assert_close(hard, soft)
    by_hand = -(torch.log_softmax(logits, 1)[range(4), labels] * weights).mean()
    torch.testing.assert_close(hard, by_hand)


def test_learner_adds_a_loss_and_leaves_the_logits() -> None:
    model, inputs = network().eval(), batch()
    labels, weights = torch.tensor([0, 3, 1]), torch.tensor([1.0, 0.5, 2.0])
    plain = model(**inputs, labels=labels, weights=weights)
    learner = Learner(model)
    same = learner(**inputs, labels=labels, weights=weights)
    assert torch.equal(same.loss, plain.loss) and torch.equal(same.logits, plain.logits)
    adjusted = Learner(model, log_shares(np.array([9, 1, 1, 1])))
    assert torch.equal(adjusted(**inputs).logits, plain.logits)
    found = adjusted(**inputs, labels=labels)
    assert torch.equal(found.logits, plain.logits) and not torch.equal(
        found.loss, learner(**inputs, labels=labels).loss
    )
    assert set(adjusted.state_dict()) == {f"diagnoser.{name}" for name in model.state_dict()}


def encoder() -> BeatsEncoder:
    torch.manual_seed(0)
    return BeatsEncoder(
        BeatsConfig(
            embed_dim=16,
            dim=24,
            ffn_dim=32,
            layers=2,
            heads=2,
            conv_pos=8,
            conv_pos_groups=4,
            max_distance=99,
        )
    )


def test_patches_give_the_encoder_its_frames() -> None:
    waves = 0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    frames, counts = fbank(waves, torch.tensor([16000, 9000]))
    columns = counts // 16
    patches = [to_patches(clip[: 16 * n]) for clip, n in zip(frames, columns.tolist(), strict=True)]
    # Patch (column, row) holds the frames of its column and the bins of its row.
    torch.testing.assert_close(patches[0][2, 3].reshape(16, 16), frames[0, 32:48, 48:64])
    joined = torch.zeros(2, int(columns.max()), 8, 256)
    for row, patch in zip(joined, patches, strict=True):
        row[: len(patch)] = patch
    model = encoder().eval()
    with torch.no_grad():
        again = model.encode_frames(*to_frames(joined, columns))
        once = model.encode(waves, torch.tensor([16000, 9000]))
    torch.testing.assert_close(again.features, once.features)
    assert torch.equal(again.columns, once.columns)


def test_gradient_reaches_the_encoder_and_every_part() -> None:
    learner = Learner(network(24), encoder=encoder()).train()
    learner(**batch(256), labels=torch.tensor([0, 1, 2])).loss.backward()
    assert [n for n, p in learner.named_parameters() if p.requires_grad and p.grad is None] == []
    inputs = batch(256) | {"features": torch.zeros(3, 0, 8, 256), "columns": torch.zeros(3, dtype=torch.long)}
    assert torch.isfinite(learner.eval()(**inputs).logits).all()


def test_depth_counts_the_layers_above() -> None:
    learner = Learner(network(24), encoder=encoder())
    by_depth: dict[int, set[str]] = {}
    for name, _ in learner.named_parameters():
        short = name.removeprefix("diagnoser.").removeprefix("longformer.").removeprefix("longformer.")
        parts = short.split(".")
        key = next((".".join(parts[: n + 1]) for n, p in enumerate(parts) if p.isdigit()), parts[0])
        if name.startswith("encoder."):
            key = key if "layers" in key else "encoder"
        by_depth.setdefault(learner.depth(name), set()).add(key)
    assert by_depth == {
        0: {"classifier"},
        1: {"encoder.layer.1"},
        2: {"encoder.layer.0"},
        3: {"embeddings", "projection", "row_embedding"},
        4: {"encoder.encoder.layers.1"},
        5: {"encoder.encoder.layers.0"},
        6: {"encoder"},
    }
