"""Untrained weights of every room at the smallest size, through the command that makes the shipped ones."""

from __future__ import annotations

from pathlib import Path

from agent.config_pretrain import PretrainConfig
from training.config import load_config

SMALL = [
    "root=null",
    "events=72",
    "further_events=36",
    "encoder_events=72",
    "workers=1",
    "beats.fit={steps: 2, batch_size: 8}",
    "beats.units.codebook=16",
    "generator.codebook=16",
    "generator.mllm_fit={steps: 2, batch_size: 4}",
    "generator.flow_fit={steps: 2, batch_size: 4}",
    "generator.draw.valid_clips=4",
    "judges=[{task: disease16, fit: {steps: 2, batch_size: 8}}]",
]


def make_weights(folder: Path) -> Path:
    """Weights with the layout of the shipped ones, in about 20 s."""
    from agent.pretrain import pretrain

    pretrain(load_config(PretrainConfig, "tiny", SMALL), folder / "weights", folder / "work")
    return folder / "weights"
