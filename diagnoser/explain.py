"""Where the classifier looked: ``[CLS]``'s attention in the last layer, over time and over the narrative."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diagnoser.data import Sample, collate
from diagnoser.model import Diagnoser
from diagnoser.weave import FIRST

if TYPE_CHECKING:
    from diagnoser.predict import Predictor

COLUMN = 0.16  # s, 16 frames of 10 ms


@dataclass(frozen=True)
class Attention:
    """Attention of ``[CLS]`` in the last layer, the mean of its heads; everything sums to 1.

    Attributes:
        columns: over time ``(T,)``, each column the sum of its rows; a column lasts 160 ms.
        tokens: over the narrative ``(N,)``.
        special: on ``[CLS]``, ``[DESCRIPTION]`` and ``[SEP]`` together.
    """

    columns: np.ndarray
    tokens: np.ndarray
    special: float


def explain_wave(predictor: Predictor, wave: np.ndarray, text: str | None = None) -> Attention:
    """Attention over a whole 16 kHz wave ``(S,)``.

    Where windows overlap, a column has the mean of those that hear it; narrative and special places have
    the mean of all windows.

    Raises:
        AudioError: the wave is too short for one column of features.
    """
    pieces = predictor.pieces([wave], [text])
    found = [explain(predictor.model, piece.sample) for piece in pieces]
    first = [round(piece.start / COLUMN) for piece in pieces]
    total, count = np.zeros((2, max(at + len(one.columns) for at, one in zip(first, found, strict=True))))
    for at, one in zip(first, found, strict=True):
        total[at : at + len(one.columns)] += one.columns
        count[at : at + len(one.columns)] += 1
    return Attention(
        columns=total / np.maximum(count, 1),
        tokens=np.mean([one.tokens for one in found], axis=0),
        special=float(np.mean([one.special for one in found])),
    )


@torch.inference_mode()
def explain(model: Diagnoser, sample: Sample) -> Attention:
    """What ``[CLS]`` attends to in one clip.

    The training path never holds attention weights, so they are computed here once more, from the very
    states that the last layer is given. Attention says where the network looked, not why it decided.

    Args:
        model: in eval mode.
        sample: ``tokens`` and ``features (T, F, D)``, as :func:`diagnoser.data.collate` takes them.
    """
    layers: Any = model.longformer.longformer.encoder.layer
    last = layers[-1].attention.self
    given: dict[str, torch.Tensor] = {}

    def keep(_: Any, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> None:
        given.update(kwargs, hidden_states=args[0] if args else kwargs["hidden_states"])

    hook = last.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        device = model.projection.weight.device
        model(**{name: value.to(device) for name, value in collate([sample]).items()})
    finally:
        hook.remove()
    weights = cls_weights(last, given["hidden_states"], given["is_index_masked"])[0].mean(dim=0)
    sizes = model.config.sizes
    tokens = min(len(sample["tokens"]), sizes.text_tokens)
    columns = min(len(sample["features"]), sizes.max_columns)
    read, heard, _ = weights[FIRST : FIRST + tokens + columns * sizes.rows + 1].split(
        [tokens, columns * sizes.rows, 1]
    )
    return Attention(
        columns=heard.view(columns, sizes.rows).sum(dim=1).cpu().numpy(),
        tokens=read.cpu().numpy(),
        special=float(weights.sum() - read.sum() - heard.sum()),
    )


def cls_weights(attention: Any, states: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    """Softmax of the first place's global attention ``(B, heads, L)`` over states ``(B, L, D)``.

    Args:
        attention: a Longformer self-attention.
        states: what it is given.
        masked: places that are padding ``(B, L)``.
    """

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)

    query = heads(attention.query_global(states[:, :1]))
    scores = query @ heads(attention.key_global(states)).transpose(2, 3) / math.sqrt(attention.head_dim)
    return scores[:, :, 0].masked_fill(masked[:, None], -torch.inf).softmax(dim=-1)
