"""Flow matching: path, loss, guidance and ODE. It is given its backbone, and knows nothing of audio.

Path (Resp-Agent, section on the flow decoder): x_t = (1 − t) x₀ + t x₁ with x₀ ~ N(0, 1), target
velocity x₁ − x₀. What the backbone predicts is a choice:

- ``texture``: a mean μ and a deviation s per cell, from which the velocity follows in closed form;
- ``x``: x₁, and v = (x₁ − x) / (1 − t);
- ``velocity``: v itself, as the paper.

A small network that predicts velocities leaves noise on the mel, one that predicts x₁ smooths its
texture away; with mean and deviation it does neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchdiffeq import odeint

from generator.config import Method, Predict, Times, solver_flaw
from training.errors import ConfigError

SMALLEST = 0.05  # deviation; the field's slope near t = 1 is about −1 / (2 s)
UNIT = 0.4628  # softplus(UNIT) + SMALLEST = 1: an untrained network starts from N(0, 1)
# Least 1 − t that a predicted x₁'s distance is divided by: unbounded, the last few times would be all of the
# loss (Li & He 2025 bound it there too). Sampling goes that far and then takes the x₁ it sees.
CLOSEST = 0.05
TOLERANCE = 1e-3  # relative and absolute, of dopri5 where none is given


@dataclass(frozen=True)
class Condition:
    """What a clip is generated from, and the same without the part that guidance amplifies.

    Shapes: content ``(B, L, d)``, vector ``(B, d)``, mask of real frames ``(B, L)``; ``given (B, L)`` marks
    those of them that are not generated but known, none if there are no such frames.
    """

    content: Tensor
    vector: Tensor
    free_content: Tensor
    free_vector: Tensor
    mask: Tensor
    given: Tensor | None = None

    @property
    def generated(self) -> Tensor:
        """Frames that bear loss ``(B, L)``."""
        return self.mask if self.given is None else self.mask & ~self.given

    def only(self, index: int) -> Condition:
        """One clip's part, without padding: its ``L`` is its own."""
        real = self.mask[index]
        return Condition(
            self.content[index : index + 1, real],
            self.vector[index : index + 1],
            self.free_content[index : index + 1, real],
            self.free_vector[index : index + 1],
            self.mask[index : index + 1, real],
            None if self.given is None else self.given[index : index + 1, real],
        )


def gaussian_velocity(x: Tensor, t: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Exact velocity field at ``x`` for x₁ ~ N(mean, deviation²) and x₀ ~ N(0, 1).

    v = μ + G (x − t μ), G = (t s² − (1 − t)) / (t² s² + (1 − t)²). All arguments broadcast.
    """
    variance = deviation.square()
    slope = (t * variance - (1 - t)) / (t.square() * variance + (1 - t).square())
    return mean + slope * (x - t * mean)


def point_velocity(x: Tensor, t: Tensor, x1: Tensor) -> Tensor:
    """Velocity at ``x`` towards the single point ``x1``: (x₁ − x) / (1 − t), bounded near t = 1."""
    return (x1 - x) / (1 - t).clamp(min=CLOSEST)


def time_grid(steps: int, sway: float) -> Tensor:
    """Times ``(steps + 1,)`` from 0 to 1; sway s moves t to t + s (cos(πt/2) − 1 + t) (F5-TTS)."""
    t = torch.linspace(0.0, 1.0, steps + 1)
    return t + sway * (torch.cos(torch.pi / 2 * t) - 1 + t)


class FlowMatching(nn.Module):
    """Conditional flow matching around a backbone.

    Args:
        backbone: ``(x, t, content, vector, mask) → (B, L, M)``, or ``2 M`` values (mean, raw deviation) for
            ``texture``, as :class:`generator.dit.DiT`.
        unguided: share of clips trained without the guided part of their condition.
        predict: what the backbone's values are.
        times: density of training times: even, or the sigmoid of a normal variable (Esser et al. 2024).

    Attributes:
        evaluations: passes of the backbone in the last call of :meth:`sample` (NFE); a doubled batch is one.
    """

    def __init__(
        self, backbone: nn.Module, unguided: float, predict: Predict = "texture", times: Times = "uniform"
    ):
        super().__init__()
        self.backbone = backbone
        self.unguided, self.predict, self.times = unguided, predict, times
        self.evaluations = 0

    def velocity(self, x: Tensor, t: Tensor, content: Tensor, vector: Tensor, mask: Tensor) -> Tensor:
        """Field ``(B, L, M)`` at ``x (B, L, M)`` and ``t (B,)``."""
        out = self.backbone(x, t, content, vector, mask)
        if self.predict == "velocity":
            return out
        if self.predict == "x":
            return point_velocity(x, t[:, None, None], out)
        mean, raw = out.chunk(2, dim=-1)
        deviation = functional.softplus(raw + UNIT) + SMALLEST
        return gaussian_velocity(x, t[:, None, None], mean, deviation)

    def draw_times(self, batch: int, device: torch.device) -> Tensor:
        """Training times ``(B,)`` in [0, 1], stratified over the batch."""
        t = (torch.randperm(batch, device=device) + torch.rand(batch, device=device)) / batch
        return torch.special.ndtri(t).sigmoid() if self.times == "logit_normal" else t

    def loss(self, x1: Tensor, condition: Condition) -> Tensor:
        """Squared velocity error ``(B,)``, the mean over each clip's generated frames.

        Guidance dropout is drawn per clip, in training only. Frames that are given stand in the network's
        input as they are, without noise.

        Args:
            x1: frames ``(B, L, M)``; what stands on padding does not matter.
            condition: of the same clips.
        """
        batch = x1.shape[0]
        x1 = torch.where(condition.mask[..., None], x1, 0.0)
        x0 = torch.randn_like(x1)
        t = self.draw_times(batch, x1.device)
        place = t[:, None, None]
        content, vector = condition.content, condition.vector
        if self.training:
            free = torch.rand(batch, device=x1.device) < self.unguided
            content = torch.where(free[:, None, None], condition.free_content, content)
            vector = torch.where(free[:, None], condition.free_vector, vector)
        x = (1 - place) * x0 + place * x1
        if condition.given is not None:
            x = torch.where(condition.given[..., None], x1, x)
        # Bounded as the prediction is, so that the true x₁ stays its optimum.
        target = point_velocity(x, place, x1) if self.predict == "x" else x1 - x0
        predicted = self.velocity(x, t, content, vector, condition.mask)
        borne = condition.generated
        error = ((predicted - target).square() * borne[..., None]).sum((1, 2))
        return error / (borne.sum(1) * x1.shape[2])

    @torch.no_grad()
    def sample(
        self,
        noise: Tensor,
        condition: Condition,
        *,
        steps: int | None,
        method: Method = "midpoint",
        guidance: float = 1.0,
        sway: float = 0.0,
        rtol: float | None = None,
        atol: float | None = None,
    ) -> Tensor:
        """Integrate noise ``(B, L, M)`` to frames ``(B, L, M)``; given frames stand in it, and stay.

        With ``guidance`` w the field is v_free + w (v − v_free), from one pass over a doubled batch.
        ``dopri5`` chooses its steps by the error it makes, for every clip alone: what a clip becomes must
        not depend on what it is batched with.

        Raises:
            ConfigError: steps, sway or tolerances that are not the method's.
        """
        flaw = solver_flaw(method, steps, sway, rtol, atol)
        if flaw is not None:
            raise ConfigError(flaw)
        if steps is not None:
            return self._integrate(noise, condition, guidance, time_grid(steps, sway), method=method)
        out, most = torch.zeros_like(noise), 0
        tolerance = {"rtol": rtol or TOLERANCE, "atol": atol or TOLERANCE}
        for i in range(len(noise)):
            real = condition.mask[i]
            start, own = noise[i : i + 1, real], condition.only(i)
            out[i, real] = self._integrate(
                start, own, guidance, time_grid(1, 0.0), method=method, **tolerance
            )[0]
            most = max(most, self.evaluations)
        self.evaluations = most
        return out

    def _integrate(
        self,
        x: Tensor,
        condition: Condition,
        guidance: float,
        times: Tensor,
        *,
        method: Method,
        **options: Any,
    ) -> Tensor:
        """Follow the field through ``times``; where x₁ is predicted, the last stretch is one step to it."""
        field = self._field(condition, guidance)
        if self.predict == "x":
            times = times * (1 - CLOSEST)
        times = times.to(x)
        if method == "dopri5":
            # Otherwise its last step goes past the end and is cut by interpolation: no network knows t > 1.
            options["options"] = {"step_t": times[1:]}
        x = odeint(field, x, times, method=method, **options)[-1]
        return x + CLOSEST * field(times[-1], x) if self.predict == "x" else x

    def _field(self, c: Condition, guidance: float) -> Callable[[Tensor, Tensor], Tensor]:
        """The field of a condition as a function of (t, x); starts to count evaluations."""
        self.evaluations = 0
        doubled = (
            torch.cat([c.content, c.free_content]),
            torch.cat([c.vector, c.free_vector]),
            torch.cat([c.mask, c.mask]),
        )

        def field(t: Tensor, x: Tensor) -> Tensor:
            self.evaluations += 1
            times = t.expand(x.shape[0])
            if guidance == 1.0:
                v = self.velocity(x, times, c.content, c.vector, c.mask)
            else:
                both = self.velocity(torch.cat([x, x]), torch.cat([times, times]), *doubled)
                known, free = both.chunk(2)
                v = free + guidance * (known - free)
            return v if c.given is None else torch.where(c.given[..., None], 0.0, v)

        return field
