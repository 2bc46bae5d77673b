"""The independent judge: a log-mel CNN that says which class a clip sounds like.

It shares nothing with the encoder, the units or the diagnoser, so that what was made with those can be
judged without them: a filterbank of its own, a convolutional network, trained on real clips alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from beats.config import JudgeConfig
from resp229k.audio import RATE, prepare
from training.config import Strict
from training.errors import AudioError, DataError
from training.model import Model

FFT = 512  # samples, 32 ms
HOP = 160  # samples, 10 ms: short enough to tell fine crackles from noise
FLOOR = 1.0  # power added before the logarithm, below that of 16-bit rounding
BATCH = 64


@dataclass
class JudgeOutput(ModelOutput):
    """Loss, logits ``(B, C)`` and the labels ``(B,)`` they were held against."""

    loss: torch.FloatTensor | None = None
    logits: Tensor | None = None
    labels: Tensor | None = None


@lru_cache(maxsize=4)
def mel_weights(mels: int) -> Tensor:
    """Triangular filters ``(257, mels)`` from 40 Hz to 8 kHz, evenly spaced in mel."""

    def mel(hertz: Tensor) -> Tensor:
        return 2595 * torch.log10(1 + hertz / 700)

    low, high = mel(torch.tensor([40.0, RATE / 2], dtype=torch.float64))
    edges = 700 * (10 ** (torch.linspace(low.item(), high.item(), mels + 2, dtype=torch.float64) / 2595) - 1)
    place = torch.linspace(0, RATE / 2, FFT // 2 + 1, dtype=torch.float64)[:, None]
    rise = (place - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - place) / (edges[2:] - edges[1:-1])
    weights = torch.minimum(rise, fall).clamp(min=0)
    # A filter narrower than the spacing of the spectrum may fall between two of its lines.
    narrow = weights.sum(0) == 0
    nearest = (place - edges[1:-1]).abs().argmin(0)
    weights[nearest[narrow], narrow.nonzero()[:, 0]] = 1.0
    return weights.float()


def log_mel(waves: Tensor, mels: int) -> Tensor:
    """Log-mel power ``(B, L, mels)`` of waves ``(B, N)``, 100 frames per second."""
    window = torch.hann_window(FFT, device=waves.device)
    spectrum = torch.stft(waves * 32768.0, FFT, HOP, window=window, center=False, return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    return (power.transpose(1, 2) @ mel_weights(mels).to(waves) + FLOOR).log()


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; halves the frequency axis, and time by ``stride``."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(stride, ceil_mode=True), nn.Conv2d(inputs, outputs, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, L, M)`` → ``(B, C', L / stride, M / stride)``."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class Judge(Model):
    """Class probabilities of clips of one task."""

    config_class: ClassVar[type[Strict]] = JudgeConfig
    config: JudgeConfig

    def __init__(self, config: JudgeConfig):
        super().__init__(config)
        width = config.channels
        self.entry = nn.Sequential(
            nn.Conv2d(2, width // 2, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(
            Block(width // 2, width, (2, 2)),
            Block(width, 2 * width, (2, 2)),
            Block(2 * width, 2 * width, (1, 2)),
        )
        # Breath phase and rate are patterns in time: widening convolutions over 80 ms steps.
        deep = 3 * width
        rows = -(-config.mels // 16)
        self.join = nn.Sequential(nn.Conv1d(2 * width * rows, deep, 1), nn.BatchNorm1d(deep), nn.ReLU())
        self.time = nn.ModuleList(nn.Conv1d(deep, deep, 3, padding=d, dilation=d) for d in (1, 3))
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(2 * deep, len(config.classes))

    @property
    def task(self) -> str:
        """The task it judges."""
        return self.config.task

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes it knows, in the order of its probabilities."""
        return self.config.classes

    def forward(self, frames: Tensor | None = None, labels: Tensor | None = None) -> JudgeOutput:
        """Logits of log-mel frames ``(B, L, mels)``; with labels ``(B,)`` also the loss."""
        assert frames is not None
        # Less the clip's mean per bin: what a stationary recorder, room or noise adds is gone.
        relative = frames - frames.mean(dim=1, keepdim=True)
        level = (frames - frames.mean(dim=(1, 2), keepdim=True)) / 4
        x = self.blocks(self.entry(torch.stack([relative / 2, level], dim=1)))
        y = self.join(x.transpose(2, 3).flatten(1, 2))
        for convolution in self.time:
            y = y + F.relu(convolution(y))
        logits = self.head(self.drop(torch.cat([y.mean(-1), y.amax(-1)], dim=-1)))
        loss = None if labels is None else F.cross_entropy(logits, labels, label_smoothing=0.1)
        return JudgeOutput(loss, logits, labels)  # type: ignore[arg-type]

    @torch.inference_mode()
    def probabilities(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities ``(N, C)`` of 16 kHz waves ``(N,)`` each, any length; rows sum to 1.

        Raises:
            AudioError: a wave is empty or silent.
        """
        self.eval()
        device = next(self.parameters()).device
        found = [np.zeros((0, len(self.classes)), dtype=np.float64)]
        for first in range(0, len(waves), BATCH):
            frames = judge_frames(waves[first : first + BATCH], self.config).to(device)
            logits = self(frames=frames).logits
            assert logits is not None
            found.append(logits.double().softmax(-1).cpu().numpy())
        return np.concatenate(found)

    def index(self, label: str) -> int:
        """Column of a class.

        Raises:
            DataError: the judge was not trained on it.
        """
        if label not in self.classes:
            raise DataError(f"the judge does not know {label!r}", cure=f"it knows: {', '.join(self.classes)}")
        return self.classes.index(label)


def judge_frames(waves: Sequence[np.ndarray], config: JudgeConfig) -> Tensor:
    """Log-mel frames ``(B, L, mels)`` of waves, each looped or cut to the judge's length.

    Raises:
        AudioError: a wave is empty or silent.
    """
    ready = []
    for index, wave in enumerate(waves):
        if wave.size == 0 or not np.abs(wave).max() > 0:
            raise AudioError(f"wave {index} of {len(waves)} is empty or silent")
        ready.append(prepare(np.asarray(wave, dtype=np.float32), config.preprocess))
    return log_mel(torch.from_numpy(np.stack(ready)), config.mels)
