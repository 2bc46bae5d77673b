"""Flow matching: path, loss, guidance and ODE. It is given its backbone, and knows nothing of audio.

Path (Resp-Agent, section on the flow decoder): x_t = (1 − t) x₀ + t x₁ with x₀ ~ N(0, 1), target
velocity x₁ − x₀. The backbone does not predict the velocity itself but a mean μ and a deviation s per
cell, from which the velocity follows in closed form; a small network that predicts velocities leaves
noise on the mel, one that predicts x₁ smooths its texture away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchdiffeq import odeint

SMALLEST = 0.05  # deviation; the field's slope near t = 1 is about −1 / (2 s)
UNIT = 0.4628  # softplus(UNIT) + SMALLEST = 1: an untrained network starts from N(0, 1)

Backbone = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Condition:
    """What a clip is generated from, and the same without the part that guidance amplifies.

    Shapes: content ``(B, L, d)``, vector ``(B, d)``, mask of real frames ``(B, L)``.
    """

    content: Tensor
    vector: Tensor
    free_content: Tensor
    free_vector: Tensor
    mask: Tensor


def gaussian_velocity(x: Tensor, t: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Exact velocity field at ``x`` for x₁ ~ N(mean, deviation²) and x₀ ~ N(0, 1).

    v = μ + G (x − t μ), G = (t s² − (1 − t)) / (t² s² + (1 − t)²). All arguments broadcast.
    """
    variance = deviation.square()
    slope = (t * variance - (1 - t)) / (t.square() * variance + (1 - t).square())
    return mean + slope * (x - t * mean)


def time_grid(steps: int, sway: float) -> Tensor:
    """Times ``(steps + 1,)`` from 0 to 1; sway s moves t to t + s (cos(πt/2) − 1 + t) (F5-TTS)."""
    t = torch.linspace(0.0, 1.0, steps + 1)
    return t + sway * (torch.cos(torch.pi / 2 * t) - 1 + t)


class FlowMatching(nn.Module):
    """Conditional flow matching around a backbone.

    Args:
        backbone: ``(x, t, content, vector, mask) → (mean, raw deviation)``, as :class:`generator.dit.DiT`.
        unguided: share of clips trained without the guided part of their condition.
    """

    def __init__(self, backbone: nn.Module, unguided: float):
        super().__init__()
        self.backbone = backbone
        self.unguided = unguided

    def velocity(self, x: Tensor, t: Tensor, content: Tensor, vector: Tensor, mask: Tensor) -> Tensor:
        """Field ``(B, L, M)`` at ``x (B, L, M)`` and ``t (B,)``."""
        mean, raw = self.backbone(x, t, content, vector, mask)
        deviation = functional.softplus(raw + UNIT) + SMALLEST
        return gaussian_velocity(x, t[:, None, None], mean, deviation)

    def loss(self, x1: Tensor, condition: Condition) -> Tensor:
        """Squared velocity error ``(B,)``, the mean over each clip's real frames.

        Guidance dropout is drawn per clip, in training only; times are stratified over the batch.

        Args:
            x1: frames ``(B, L, M)``; what stands on padding does not matter.
            condition: of the same clips.
        """
        batch = x1.shape[0]
        mask = condition.mask[..., None]
        x1 = torch.where(mask, x1, 0.0)
        x0 = torch.randn_like(x1)
        t = (torch.randperm(batch, device=x1.device) + torch.rand(batch, device=x1.device)) / batch
        place = t[:, None, None]
        content, vector = condition.content, condition.vector
        if self.training:
            free = torch.rand(batch, device=x1.device) < self.unguided
            content = torch.where(free[:, None, None], condition.free_content, content)
            vector = torch.where(free[:, None], condition.free_vector, vector)
        predicted = self.velocity((1 - place) * x0 + place * x1, t, content, vector, condition.mask)
        error = ((predicted - (x1 - x0)).square() * mask).sum((1, 2))
        return error / (condition.mask.sum(1) * x1.shape[2])

    @torch.no_grad()
    def sample(
        self,
        noise: Tensor,
        condition: Condition,
        *,
        steps: int,
        method: str = "midpoint",
        guidance: float = 1.0,
        sway: float = 0.0,
    ) -> Tensor:
        """Integrate noise ``(B, L, M)`` to frames ``(B, L, M)``.

        With ``guidance`` w the field is v_free + w (v − v_free), from one pass over a doubled batch.
        """
        c = condition
        doubled = (
            torch.cat([c.content, c.free_content]),
            torch.cat([c.vector, c.free_vector]),
            torch.cat([c.mask, c.mask]),
        )

        def field(t: Tensor, x: Tensor) -> Tensor:
            times = t.expand(x.shape[0])
            if guidance == 1.0:
                return self.velocity(x, times, c.content, c.vector, c.mask)
            given, free = self.velocity(torch.cat([x, x]), torch.cat([times, times]), *doubled).chunk(2)
            return free + guidance * (given - free)

        return odeint(field, noise, time_grid(steps, sway).to(noise), method=method)[-1]
