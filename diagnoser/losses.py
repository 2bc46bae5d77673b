"""What a diagnoser is trained to minimise."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn

from beats.encoder import BeatsEncoder
from diagnoser.config import DiagnoserTrainConfig
from diagnoser.instep import keep_in_step
from diagnoser.metrics import number
from diagnoser.model import Diagnoser, DiagnoserOutput
from diagnoser.patches import to_frames
from resp229k.clip import Clip


def loss_weights(
    config: DiagnoserTrainConfig, clips: list[Clip], labels: np.ndarray, counts: np.ndarray
) -> np.ndarray | None:
    """Weight of each clip's loss ``(N,)``; none if all are 1.

    A class's weights have mean 1 over the clips. ``effective`` is one over the effective number of clips,
    ``(1 - beta^n) / (1 - beta)`` (Cui et al. 2019, equation 2): the n-th clip of a class tells less than
    the first. ``beta`` 0 weighs all alike, near 1 it is ``inverse``.

    Args:
        config: which weights of classes and of synthetic clips.
        clips: training clips.
        labels: their class indices ``(N,)``.
        counts: clips of each class ``(C,)``.
    """
    weights, held = None, np.maximum(counts, 1)
    if config.loss_weights != "none":
        beta = config.effective_beta
        inverse = config.loss_weights == "inverse"
        weights = (1.0 / held if inverse else (1.0 - beta) / (1.0 - beta**held))[labels]
        weights = weights / weights.mean()
    synthetic = np.array([clip.synthetic for clip in clips])
    if config.synthetic_weight == 1 or not synthetic.any():
        return weights
    origin = np.where(synthetic, config.synthetic_weight, 1.0)
    return origin if weights is None else weights * origin


def log_shares(counts: np.ndarray) -> torch.Tensor:
    """Log of each class's share of the clips ``(C,)``; a class without clips counts as one with one."""
    some = np.maximum(counts, 1).astype(np.float64)
    return torch.from_numpy(np.log(some / some.sum())).float()


def mean_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None, shift: torch.Tensor | None
) -> torch.Tensor:
    """Mean cross-entropy of a batch.

    Args:
        logits: ``(B, C)``.
        targets: class indices ``(B,)``, or the weight of each class in each clip ``(B, C)``.
        weights: of each clip ``(B,)``.
        shift: added to the logits ``(C,)``: Menon et al. (2021), equation 10. The network then learns
            logits whose largest is right for equally frequent classes.
    """
    shifted = logits if shift is None else logits + shift
    losses = nn.functional.cross_entropy(shifted, targets, reduction="none")
    return (losses if weights is None else losses * weights).mean()


def clip_losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of each clip ``(N,)``, nats."""
    top = logits.max(axis=1)
    return np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top - logits[np.arange(len(labels)), labels]


def losses_by_origin(logits: np.ndarray, labels: np.ndarray, clips: list[Clip]) -> dict[str, float | None]:
    """Mean cross-entropy of the real and of the synthetic clips, unweighted, nats."""
    each, synthetic = clip_losses(logits, labels), np.array([clip.synthetic for clip in clips])
    return {"real": number(each[~synthetic].mean()), "synthetic": number(each[synthetic].mean())}


class Learner(nn.Module):
    """A diagnoser in training: with its loss and, if that learns too, its encoder.

    Without labels it gives the diagnoser's own logits, so it is validated as it will be used.

    Args:
        diagnoser: trained.
        shift: of the logits in the loss ``(C,)``, see :func:`mean_loss`.
        encoder: trained too; the features are then patches of filterbank frames.
    """

    shift: torch.Tensor | None

    def __init__(
        self, diagnoser: Diagnoser, shift: torch.Tensor | None = None, encoder: BeatsEncoder | None = None
    ):
        super().__init__()
        self.diagnoser, self.encoder = diagnoser, encoder
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            keep_in_step(diagnoser)
        self.register_buffer("shift", shift, persistent=False)

    def forward(
        self,
        text_ids: torch.Tensor,
        text_mask: torch.Tensor,
        features: torch.Tensor,
        columns: torch.Tensor,
        labels: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
    ) -> DiagnoserOutput:
        """Logits, and with labels or targets the loss.

        Args:
            text_ids: as :class:`Diagnoser` takes them, and so the next three.
            text_mask: ``(B, N)``.
            features: ``(B, T, F, D)``; patches ``(B, T, 8, 256)`` if there is an encoder.
            columns: ``(B,)``.
            labels: class indices ``(B,)``.
            weights: of each clip's loss ``(B,)``.
            targets: instead of both, the weight of each class in each clip ``(B, C)``.
        """
        if self.encoder is not None and features.shape[1]:
            features = self.encoder.encode_frames(*to_frames(features, columns)).features
        elif self.encoder is not None:  # text alone
            features = features.new_zeros(*features.shape[:3], self.encoder.width)
        logits = self.diagnoser(text_ids, text_mask, features, columns).logits
        wanted = labels if targets is None else targets
        if wanted is None:
            return DiagnoserOutput(logits=logits)
        return DiagnoserOutput(loss=mean_loss(logits, wanted, weights, self.shift), logits=logits)

    def depth(self, name: str) -> int:
        """Layers above a parameter: the classifier is 0, the encoder lies below the Longformer."""
        layers = self.diagnoser.config.sizes.layers
        parts = name.split(".")
        number = next((int(part) for part in parts if part.isdigit()), None) if ".layer" in name else None
        if self.encoder is not None and parts[0] == "encoder":
            below = self.encoder.config.layers
            return layers + 1 + below - (-1 if number is None else number)
        if number is not None:
            return layers - number
        return 0 if "classifier" in parts else layers + 1
