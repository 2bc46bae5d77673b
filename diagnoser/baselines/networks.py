"""The small networks that the diagnoser is compared with: arrays of clips to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import ASTConfig, ASTModel

from beats.config import BINS, PATCH
from diagnoser.config import PAD, DiagnoserConfig, DiagnoserSizes
from diagnoser.losses import mean_loss
from diagnoser.model import Diagnoser, DiagnoserOutput

CHANNELS = (16, 32, 64, 96)


class Objective(nn.Module):
    """A network in training, with the diagnoser's loss.

    Args:
        network: keyword arguments → logits ``(B, C)``.
        shift: of the logits in the loss ``(C,)``, see :func:`diagnoser.losses.mean_loss`.
    """

    shift: Tensor | None

    def __init__(self, network: nn.Module, shift: Tensor | None):
        super().__init__()
        self.network = network
        self.register_buffer("shift", shift, persistent=False)

    def forward(
        self, labels: Tensor | None = None, weights: Tensor | None = None, **inputs: Tensor
    ) -> DiagnoserOutput:
        """Logits, and with labels ``(B,)`` the mean loss, weighted by ``weights (B,)``."""
        logits = self.network(**inputs)
        if labels is None:
            return DiagnoserOutput(logits=logits)
        return DiagnoserOutput(loss=mean_loss(logits, labels, weights, self.shift), logits=logits)


def hide(frames: Tensor, share: float) -> Tensor:
    """Set a share of the 160 ms columns of ``(B, L, 128)`` to 0, as the diagnoser's columns are hidden."""
    columns = -(-frames.shape[1] // PATCH)
    heard = torch.rand(len(frames), columns, device=frames.device) >= share
    return frames * heard.repeat_interleave(PATCH, dim=1)[:, : frames.shape[1], None]


class LogMelCnn(nn.Module):
    """Four convolutions, each halving time and frequency, then mean and maximum over time."""

    def __init__(self, classes: int, sizes: DiagnoserSizes):
        super().__init__()
        self.share = sizes.audio_dropout
        blocks: list[nn.Module] = []
        for inputs, outputs in zip((1, *CHANNELS), CHANNELS, strict=False):
            size, stride = (5, 2) if inputs == 1 else (3, 1)
            blocks += [
                nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Dropout(sizes.dropout), nn.Linear(2 * CHANNELS[-1], classes))

    def forward(self, frames: Tensor) -> Tensor:
        """Logits of filterbank frames ``(B, L, 128)``, all of one length."""
        heard = hide(frames, self.share) if self.training else frames
        # Twice as fast on a CPU with the channels last, which the convolutions hand on.
        image = heard[:, None].contiguous(memory_format=torch.channels_last)
        x = self.blocks(image).mean(dim=3)  # (B, C, L / 32)
        logits: Tensor = self.head(torch.cat([x.mean(-1), x.amax(-1)], dim=-1))
        return logits


class SmallAst(nn.Module):
    """An Audio Spectrogram Transformer (Gong et al. 2021) on the encoder's own 16 x 16 grid.

    Args:
        classes: how many.
        sizes: of the diagnoser: width, layers, heads.
        length: frames of every clip.
    """

    def __init__(self, classes: int, sizes: DiagnoserSizes, length: int):
        super().__init__()
        self.share = sizes.audio_dropout
        config = ASTConfig(
            hidden_size=sizes.hidden,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=sizes.inner,
            hidden_dropout_prob=sizes.dropout,
            attention_probs_dropout_prob=0.0,
            # As in the diagnoser: the usual share of 1 / sqrt(width).
            initializer_range=0.02 * (768 / sizes.hidden) ** 0.5,
            patch_size=PATCH,
            frequency_stride=PATCH,
            time_stride=PATCH,
            max_length=length,
            num_mel_bins=BINS,
        )
        self.ast = ASTModel(config)
        self.head = nn.Linear(sizes.hidden, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits of filterbank frames ``(B, L, 128)``."""
        heard = hide(frames, self.share) if self.training else frames
        logits: Tensor = self.head(self.ast(input_values=heard).pooler_output)
        return logits


class PooledMlp(nn.Module):
    """One hidden layer over pooled features, with a vocabulary beside the mean embedding of the words.

    Args:
        classes: how many.
        sizes: of the diagnoser.
        mean: of the pooled features in training ``(D,)``.
        scale: their standard deviation ``(D,)``.
        reads: whether there are words.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, classes: int, sizes: DiagnoserSizes, mean: Tensor, scale: Tensor, *, reads: bool):
        super().__init__()
        self.share = sizes.text_dropout
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale.clamp_min(1e-4))
        self.words = nn.Embedding(sizes.vocabulary, sizes.hidden, padding_idx=PAD) if reads else None
        width = len(mean) + (sizes.hidden if reads else 0)
        self.layers = nn.Sequential(
            nn.Dropout(sizes.dropout),
            nn.Linear(width, sizes.inner),
            nn.GELU(),
            nn.Dropout(sizes.dropout),
            nn.Linear(sizes.inner, classes),
        )

    def forward(self, pooled: Tensor, words: Tensor | None = None) -> Tensor:
        """Logits of pooled features ``(B, D)`` and words ``(B, N)``, padded."""
        x = (pooled - self.mean) / self.scale
        if self.words is not None and words is not None:
            read = words != PAD
            if self.training:
                read = read & (torch.rand(read.shape, device=read.device) >= self.share)
            count = read.sum(dim=1, keepdim=True).clamp_min(1)
            mean = (self.words(words) * read[..., None]).sum(dim=1) / count
            x = torch.cat([x, mean], dim=1)
        logits: Tensor = self.layers(x)
        return logits


class LateFusion(nn.Module):
    """Two diagnosers, one that reads and one that listens; their summaries meet in one Linear.

    Args:
        config: of both.
    """

    def __init__(self, config: DiagnoserConfig):
        super().__init__()
        self.config = config
        self.reader, self.listener = Diagnoser(config), Diagnoser(config)
        for tower in (self.reader, self.listener):
            head: nn.Module = tower.longformer.classifier
            head.out_proj = nn.Identity()  # the summary after its dense layer, (B, H)
        deafen(self.reader)
        self.head = nn.Linear(2 * config.sizes.hidden, len(config.classes))

    def standardise(self, mean: Tensor, scale: Tensor) -> None:
        """As :meth:`diagnoser.model.Diagnoser.standardise`."""
        self.listener.standardise(mean, scale)

    def forward(
        self, text_ids: Tensor, text_mask: Tensor, features: Tensor, columns: Tensor
    ) -> DiagnoserOutput:
        """As :meth:`diagnoser.model.Diagnoser.forward`; :class:`diagnoser.losses.Learner` adds the loss."""
        read = self.reader(text_ids, text_mask, features[:, :0], torch.zeros_like(columns)).logits
        heard = self.listener(text_ids[:, :0], text_mask[:, :0], features, columns).logits
        return DiagnoserOutput(logits=self.head(torch.cat([read, heard], dim=1)))


def deafen(model: Diagnoser) -> None:
    """Freeze what only audio reaches, in a diagnoser that gets none."""
    for module in (model.projection, model.row_embedding):
        module.requires_grad_(False)
