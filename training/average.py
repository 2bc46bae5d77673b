"""A moving average of the weights, which often generalises better than the last weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class Average:
    """Exponential moving average of a network's trainable parameters; buffers stay the network's own.

    Args:
        model: whose parameters.
        decay: share of the average kept at each step.
        state: the average so far; none: the parameters as they are.
    """

    def __init__(self, model: nn.Module, decay: float, state: Mapping[str, torch.Tensor] | None = None):
        self.model, self.decay = model, decay
        self.weights = {
            name: (parameter.detach() if state is None else state[name].to(parameter)).clone()
            for name, parameter in self._trainable()
        }

    def update(self, step: int) -> None:
        """Take in the parameters after optimizer step ``step`` (from 1).

        The first steps keep less, ``(1 + step) / (10 + step)`` at most, so that the random start is soon
        forgotten in a short training too.
        """
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self._trainable():
            self.weights[name].lerp_(parameter.detach(), 1 - keep)

    @torch.no_grad()
    def take(self) -> None:
        """Give the network the average for good."""
        for name, parameter in self._trainable():
            parameter.copy_(self.weights[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network holds the average inside the block, and its own parameters again after it."""
        own = {name: parameter.detach().clone() for name, parameter in self._trainable()}
        self.take()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._trainable():
                    parameter.copy_(own[name])

    def _trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((n, p) for n, p in self.model.named_parameters() if p.requires_grad)
