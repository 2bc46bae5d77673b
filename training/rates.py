"""Learning rates that differ between the layers of a network."""

from __future__ import annotations

from typing import Any

from torch import nn

from training.errors import ConfigError
from training.fitconfig import FitConfig


def rate_factors(model: nn.Module, config: FitConfig) -> dict[str, float]:
    """Each trainable parameter's learning rate as a share of ``config.learning_rate``.

    A network whose layers may decay has a method ``depth(name)``: how many layers lie above a parameter,
    0 for the head.

    Raises:
        ConfigError: ``rates`` names no trainable parameter, or the network knows no depth.
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    factors = dict.fromkeys(names, 1.0)
    if config.layer_decay < 1:
        depth: Any = getattr(model, "depth", None)
        if depth is None:
            raise ConfigError(
                f"{type(model).__name__} does not say how deep its layers lie",
                cure="set fit.layer_decay to 1",
            )
        factors = {name: config.layer_decay ** depth(name) for name in names}
    for prefix, factor in config.rates.items():
        found = [name for name in names if f"{name}.".startswith(f"{prefix}.")]
        if not found:
            parts = ", ".join(sorted({name.split(".")[0] for name in names}))
            raise ConfigError(
                f"fit.rates names {prefix!r}, which holds no trainable parameter",
                cure=f"use a part of the network: {parts}",
            )
        for name in found:
            factors[name] *= factor
    return factors


def rate_groups(
    model: nn.Module, factors: dict[str, float], decayed: set[str], config: FitConfig
) -> list[dict[str, Any]]:
    """The optimizer's groups, highest rate first (it is the one in the history).

    Args:
        model: the network.
        factors: from :func:`rate_factors`.
        decayed: names of the parameters that weight decay acts on.
        config: peak rate and weight decay.
    """
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if name not in factors:
            continue
        factor, decays = factors[name], name in decayed
        group = groups.setdefault(
            (-factor, not decays),
            {
                "params": [],
                "lr": config.learning_rate * factor,
                "weight_decay": config.weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]
