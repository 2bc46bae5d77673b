"""The woven sequence: which places a sample has, which of them are read, which attend globally.

[CLS] [DESCRIPTION] text … audio places … [SEP]
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from diagnoser.config import DiagnoserSizes

FIRST = 2
"""Place of the first text token, or of the first audio place where there is no text."""


@dataclass
class Sequence:
    """A packed batch: states ``(B, L, H)``; ``attend``, ``everywhere`` and ``audio`` ``(B, L)`` bool."""

    states: torch.Tensor
    attend: torch.Tensor
    everywhere: torch.Tensor
    audio: torch.Tensor


@dataclass
class Masks:
    """Of all places in order, padding still inside, ``(B, L)`` bool.

    Attributes:
        real: no padding.
        attend: real, and not hidden by dropout.
        everywhere: global attention.
        audio: real audio places.
    """

    real: torch.Tensor
    attend: torch.Tensor
    everywhere: torch.Tensor
    audio: torch.Tensor


def present(text_mask: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Which samples have text and which have audio ``(B, 2)`` bool, from the forward's arguments."""
    return torch.stack([text_mask.bool().any(dim=1), columns > 0], dim=1)


def hide_whole(
    text_mask: torch.Tensor, columns: torch.Tensor, *, text: float, audio: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take the whole narrative from a share ``text`` of the samples, the whole audio from a share ``audio``.

    What is taken leaves no places behind, as in a sample that came without it. A sample never loses
    both, nor the only one it has.

    Args:
        text_mask: real tokens ``(B, N)`` bool.
        columns: real columns ``(B,)``.
        text: probability.
        audio: probability; the two add up to 1 at most.
    """
    if text == 0 and audio == 0:  # then nothing is drawn either
        return text_mask, columns
    told, heard = present(text_mask, columns).unbind(dim=1)
    drawn = torch.rand(len(columns), device=columns.device)
    no_text, no_audio = heard & (drawn < text), told & (drawn >= 1.0 - audio)
    return text_mask & ~no_text[:, None], columns.masked_fill(no_audio, 0)


def anchor_places(sizes: DiagnoserSizes, columns: int, device: torch.device | None = None) -> torch.Tensor:
    """Audio places with global attention ``(columns x rows,)`` bool, time-major."""
    chosen = torch.zeros(columns, sizes.rows, dtype=torch.bool, device=device)
    if sizes.anchors is not None:
        chosen[:: sizes.anchors.every_columns, list(sizes.anchors.rows)] = True
    return chosen.flatten()


def masks(
    sizes: DiagnoserSizes, text_mask: torch.Tensor, columns: torch.Tensor, count: int, *, training: bool
) -> Masks:
    """Masks of a batch with ``text_mask (B, N)`` and ``columns (B,)`` of at most ``count`` columns."""
    device = columns.device
    here = torch.arange(count, device=device) < columns[:, None]  # (B, T)
    heard, read = here, text_mask
    if training:
        heard = here & (torch.rand(here.shape, device=device) >= sizes.audio_dropout)
        read = text_mask & (torch.rand(read.shape, device=device) >= sizes.text_dropout)
    one, nothing = text_mask.new_ones(len(columns), 1), text_mask.new_zeros(len(columns), 1)
    no_text = torch.zeros_like(text_mask)

    def places(per_column: torch.Tensor) -> torch.Tensor:
        return per_column.repeat_interleave(sizes.rows, dim=1)

    attend = torch.cat([one, one, read, places(heard), one], dim=1)
    anchors = anchor_places(sizes, count, device).expand(len(columns), -1)
    return Masks(
        real=torch.cat([one, one, text_mask, places(here), one], dim=1),
        attend=attend,
        everywhere=torch.cat([one, one, no_text, anchors, nothing], dim=1) & attend,
        audio=torch.cat([nothing, nothing, no_text, places(here), nothing], dim=1),
    )


def pack(states: torch.Tensor, given: Masks) -> Sequence:
    """Move the padding behind each sample's real places, and cut what is padding in all of them.

    Positions and windows are then those of the sample alone, whatever it is batched with.
    """
    order = torch.argsort((~given.real).long(), dim=1, stable=True)[:, : int(given.real.sum(dim=1).max())]
    kept = given.real.gather(1, order)
    return Sequence(
        states=states.gather(1, order[..., None].expand(-1, -1, states.shape[-1])),
        attend=given.attend.gather(1, order) & kept,
        everywhere=given.everywhere.gather(1, order) & kept,
        audio=given.audio.gather(1, order) & kept,
    )
