"""Self-distilled tokenizer: units from which an estimator can tell what the teacher heard.

Chen et al., "BEATs" (2023), section 3.2. The codes are running means of what falls to them, not trained by
gradient; their first values are k-means of the first batch. Ours, not published: codes that nothing falls
to for long are replaced, and the mean of the first batch is taken off the teacher's features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from beats.config import PATCH, ROWS, DistilConfig
from beats.encoder import BeatsEncoder
from beats.layers import Transformer
from beats.tokenizer import BeatsTokenizer, Quantizer
from beats.units import nearest
from training.errors import DataError

ROUNDS = 10  # of k-means


@dataclass
class DistilOutput(ModelOutput):
    """Loss, mean cosine to the teacher's features, perplexity of the batch's units; scalars."""

    loss: torch.FloatTensor | None = None
    cosine: Tensor | None = None
    perplexity: Tensor | None = None


class RunningCodes(nn.Module):
    """How codes ``(K, C)`` of length 1 follow the vectors that fall to them.

    Sums are taken over all processes, so that every process holds the same codes. What is remembered
    between batches are buffers: a resumed run goes on as the unbroken one.
    """

    idle: Tensor
    started: Tensor

    def __init__(self, config: DistilConfig, codebook: int):
        super().__init__()
        self.decay, self.patience = config.decay, config.patience
        self.register_buffer("idle", torch.zeros(codebook, dtype=torch.int64))  # batches without use
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def start(self, codes: Tensor, vectors: Tensor) -> None:
        """Set codes to k-means, by direction, of vectors ``(M, C)``, once.

        With fewer vectors than codes the rest of the codes stay as they are.
        """
        if self.started:
            return
        count = min(len(codes), len(vectors))
        codes[:count] = vectors[torch.randperm(len(vectors))[:count].to(vectors.device)]
        _from_first(codes)
        for _ in range(ROUNDS):
            counts, sums = _gather(vectors, nearest(vectors, codes), len(codes))
            codes.copy_(torch.where(counts[:, None] > 0, F.normalize(sums, dim=-1), codes))
        self.started.fill_(True)

    @torch.no_grad()
    def update(self, codes: Tensor, vectors: Tensor, units: Tensor) -> None:
        """Move codes towards the directions of the vectors ``(M, C)`` of their units ``(M,)``.

        A code that is used becomes the direction of decay · code + (1 - decay) · mean direction, one that
        has not been for ``patience`` batches a random vector of the batch.
        """
        counts, sums = _gather(vectors, units, len(codes))
        used = counts > 0
        moved = self.decay * codes + (1 - self.decay) * F.normalize(sums, dim=-1)
        codes.copy_(torch.where(used[:, None], F.normalize(moved, dim=-1), codes))
        self.idle.copy_(torch.where(used, 0, self.idle + 1))
        dead = self.idle >= self.patience
        count = int(dead.sum())
        if count:
            codes[dead] = vectors[torch.randint(len(vectors), (count,)).to(vectors.device)]
            _from_first(codes)
            self.idle[dead] = 0


def _gather(vectors: Tensor, units: Tensor, codebook: int) -> tuple[Tensor, Tensor]:
    """Per unit how many vectors ``(K,)`` it has and their sum ``(K, C)``, over all processes."""
    counts = torch.bincount(units, minlength=codebook)
    sums = vectors.new_zeros(codebook, vectors.shape[1]).index_add_(0, units, vectors)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(counts)
        dist.all_reduce(sums)
    return counts, sums


def _from_first(codes: Tensor) -> None:
    """Random choices are the first process's."""
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(codes, 0)


class UnitDistiller(nn.Module):
    """A tokenizer in training; ``tokenizer.save_pretrained`` saves what was trained.

    Args:
        teacher: frozen, whose features are to be told from the units.
        tokenizer: trained, with a :class:`Quantizer`.
        config: estimator and running means.

    Raises:
        DataError: the tokenizer has units of another kind.
    """

    def __init__(self, teacher: BeatsEncoder, tokenizer: BeatsTokenizer, config: DistilConfig):
        super().__init__()
        if not isinstance(tokenizer.quantizer, Quantizer):
            raise DataError(
                f"units of {type(tokenizer.quantizer).__name__} cannot be distilled",
                cure="use a tokenizer with a Quantizer",
            )
        self.teacher = teacher.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.running = RunningCodes(config, tokenizer.quantizer.config.codebook)
        width = tokenizer.encoder.width
        self.enter = nn.Linear(tokenizer.quantizer.config.code_dim, width)
        self.estimator = Transformer(tokenizer.encoder.config.model_copy(update={"layers": config.layers}))
        self.leave = nn.Linear(width, teacher.width)
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(teacher.width))  # of the teacher's features

    @property
    def quantizer(self) -> Quantizer:
        """The tokenizer's, which holds the codes."""
        assert isinstance(self.tokenizer.quantizer, Quantizer)
        return self.tokenizer.quantizer

    def train(self, mode: bool = True) -> Self:
        """As usual, but the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, frames: Tensor, counts: Tensor) -> DistilOutput:
        """Loss of filterbank frames ``(B, L, 128)`` (not normalised) and their counts ``(B,)``.

        The negative mean cosine of estimated and teacher's features plus the commitment
        ‖sg[code] - e‖², means over the valid places. In training the codes then move.

        Raises:
            DataError: a clip is shorter than one column.
        """
        with torch.no_grad():
            target = self.teacher.encode_frames(frames, counts).features.flatten(1, 2)
        features = self.tokenizer.encoder.encode_frames(frames, counts).features.flatten(1, 2)
        place = torch.arange(target.shape[1], device=target.device)
        valid = place < ROWS * (counts[:, None] // PATCH)
        if self.training and not self.running.started:
            # All features share a direction: a constant reaches a cosine of 0.9 and tells nothing of the units.
            whole = torch.zeros(len(target[valid]), dtype=torch.int64, device=target.device)
            count, total = _gather(target[valid].float(), whole, 1)
            self.centre.copy_(total[0] / count)
        target = target - self.centre
        vectors = self.quantizer.project(features).float()
        codes, units = self._look_up(vectors, valid)
        # Straight-through: the gradient of the code goes to the vector.
        through = vectors + (codes - vectors).detach()
        estimate = self.leave(self.estimator(self.enter(through), None if valid.all() else ~valid))
        cosine = F.cosine_similarity(estimate.float(), target.float(), dim=-1)[valid].mean()
        commitment = (codes - vectors).square().sum(-1)[valid].mean()
        share = torch.bincount(units, minlength=len(self.quantizer.codes)) / len(units)
        perplexity = torch.special.entr(share).sum().exp()
        return DistilOutput(commitment - cosine, cosine.detach(), perplexity)  # type: ignore[arg-type]

    def _look_up(self, vectors: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """The code of every vector ``(B, N, C)``, and units ``(M,)`` of the valid ones; the codes move after."""
        store = self.quantizer.codes
        with torch.no_grad(), torch.autocast(vectors.device.type, enabled=False):
            inside = vectors[valid]
            if self.training:
                self.running.start(store, inside)
            units = nearest(inside, store)
            codes = torch.zeros_like(vectors)
            codes[valid] = store[units]
            if self.training:
                self.running.update(store, inside, units)
        return codes, units
