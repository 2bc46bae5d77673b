"""Linear probes: what an encoder's features know, and how much of it their units keep.

The same classifier reads three pooled forms of the same clips: log-mel statistics (the control), the
features' mean and maximum, and the bag of units, their share and presence. It is a multinomial logistic
regression that weighs classes alike, so chance of the balanced accuracy is 1 / classes. Subjects never
cross: neither between train and test nor where the regularisation is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from beats.encoder import BeatsEncoder
from beats.fbank import DEVIATION, MEAN
from beats.probe_data import ALL, BATCH, PARTS, SUITES, ProbeSet
from beats.probe_fit import Judged, drawn, interval, judge
from beats.tokenizer import BeatsTokenizer
from beats.units import unit_usage
from resp229k.leakage import Score
from training.config import Strict
from training.progress import track
from training.statistics import deviation

LOG_MEL, FEATURES, UNITS = "log-mel", "features", "units"


class CodebookUse(Strict):
    """How one codebook is used by a suite's clips; ``counts`` (for the plot) are not written."""

    codebook: int
    perplexity: float
    dead: int
    counts: list[int] = Field(default=[], exclude=True)


class ProbeRow(Strict):
    """One representation of one suite.

    Attributes:
        chance: of the balanced accuracy, 1 / classes.
        balanced_accuracy: mean recall over classes; mean and standard deviation over seeds.
        interval: 95 % of it over test subjects (bootstrap, all seeds together).
        auroc: one class against the rest within a fold, averaged over classes and folds.
        kept: of units, their gain over chance by the features'; None where the features gain nothing.
        kept_interval: 95 % of it over the same draws of subjects.
        codebooks: of units, one per codebook.
    """

    suite: str
    representation: str
    chance: float
    balanced_accuracy: Score
    interval: tuple[float, float]
    auroc: Score
    kept: float | None = None
    kept_interval: tuple[float, float] | None = None
    codebooks: list[CodebookUse] = []


class SuiteInfo(Strict):
    """What a suite's figures stand on; clips of a class per part."""

    task: str
    clips: int
    subjects: int
    bandwidth: float | None
    classes: dict[str, dict[str, int]]
    left_out: dict[str, str]


class ProbeReport(Strict):
    """``probe.json``."""

    weights: str
    encoder: str  # SHA-256 of config and tensors
    tokenizer: str
    seeds: int
    suites: dict[str, SuiteInfo]
    rows: list[ProbeRow]


def probe(
    sets: Sequence[ProbeSet],
    encoder: BeatsEncoder,
    quantizer: nn.Module | Mapping[str, nn.Module],
    *,
    seeds: int = 3,
    control: bool = True,
) -> list[ProbeRow]:
    """Encode the clips of some suites and probe them.

    Args:
        sets: of :func:`beats.probe_data.load_sets`; they serve any number of calls.
        encoder: put into eval mode.
        quantizer: has ``units(features)``, ``(B, T, F, D)`` → ``(B, T, F)``, or ``(B, T, F, Q)`` of Q
            codebooks, each counted apart; a :class:`BeatsTokenizer` hears with its own encoder. Several go
            by the names that their rows get.
        seeds: repetitions, each with folds of its own.
        control: whether log-mel statistics are probed too.

    Returns:
        rows by suite: control, features, units.

    Raises:
        ContaminationError: the weights have heard a subject of a suite.
    """
    quantizers = quantizer if isinstance(quantizer, Mapping) else {UNITS: quantizer}
    for data in sets:
        for one in quantizers.values():
            data.refuse(heard_by(encoder, one))
    rows: list[ProbeRow] = []
    for data in sets:
        found, units = represent(data, encoder, quantizers)
        names = [*([LOG_MEL] if control else []), FEATURES, *quantizers]
        judged = {name: judge(data, found[name], seeds, name) for name in names}
        for name in names:
            use = _codebooks(units[name], _head(quantizers[name]).config.codebook) if name in units else []
            rows.append(_row(data, name, judged, use))
    return rows


def heard_by(encoder: BeatsEncoder, quantizer: nn.Module) -> set[str]:
    """Subjects that the weights were trained or chosen on."""
    parts = [
        encoder,
        *([quantizer.encoder] if isinstance(quantizer, BeatsTokenizer) else []),
        _head(quantizer),
    ]
    return {subject for part in parts for subject in part.provenance.subjects}


def report_of(
    weights: str,
    sets: Sequence[ProbeSet],
    encoder: BeatsEncoder,
    quantizer: nn.Module,
    rows: list[ProbeRow],
    seeds: int,
) -> ProbeReport:
    """Rows with what they stand on; ``weights`` is how the weights are called."""
    from training.model import weights_digest

    return ProbeReport(
        weights=weights,
        encoder=weights_digest(encoder),
        tokenizer=weights_digest(_head(quantizer)),
        seeds=seeds,
        suites={data.name: _info(data) for data in sets},
        rows=rows,
    )


@torch.no_grad()
def represent(
    data: ProbeSet, encoder: BeatsEncoder, quantizers: Mapping[str, nn.Module]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Pooled representations ``(N, d)`` float32 of a set's clips, and units ``(N, T, F, Q)``, by name."""
    device = next(encoder.parameters()).device
    encoder.eval()
    pooled: list[np.ndarray] = []
    units: dict[str, list[np.ndarray]] = {name: [] for name in quantizers}
    for first in track(range(0, len(data), BATCH), f"encode {data.name}"):
        part = torch.from_numpy(data.frames[first : first + BATCH]).to(device).float() * DEVIATION + MEAN
        counts = torch.full((len(part),), part.shape[1], device=device)
        features = encoder.encode_frames(part, counts).features
        places = features.flatten(1, 2).float()
        pooled.append(torch.cat([places.mean(1), places.amax(1)], dim=1).cpu().numpy())
        for name, quantizer in quantizers.items():
            heard = features
            if isinstance(quantizer, BeatsTokenizer):
                heard = quantizer.eval().encoder.encode_frames(part, counts).features
            grid = _head(quantizer).units(heard)
            units[name].append((grid if grid.ndim == 4 else grid[..., None]).cpu().numpy())
    frames = data.frames
    mel = np.concatenate([frames.mean(1, dtype=np.float32), frames.std(1, dtype=np.float32)], axis=1)
    found = {LOG_MEL: mel, FEATURES: np.concatenate(pooled)}
    grids = {name: np.concatenate(parts) for name, parts in units.items()}
    for name, grid in grids.items():
        found[name] = bag_of_units(grid, _head(quantizers[name]).config.codebook)
    return found, grids


def bag_of_units(units: np.ndarray, codebook: int) -> np.ndarray:
    """Root of every unit's share, and its presence: the counterparts of mean and maximum.

    Args:
        units: ``(N, T, F, Q)``.
        codebook: units of each of the Q codebooks.

    Returns:
        ``(N, 2 · codebook · Q)`` float32.
    """
    flat = units.reshape(len(units), -1, units.shape[-1])
    bags = np.zeros((len(units), units.shape[-1], codebook), np.float32)
    rows, books = np.arange(len(units))[:, None, None], np.arange(units.shape[-1])
    np.add.at(bags, (rows, books, flat), 1.0)
    share = np.sqrt(bags / flat.shape[1]).reshape(len(units), -1)
    return np.concatenate([share, (share > 0).astype(np.float32)], axis=1)


def _row(data: ProbeSet, name: str, judged: dict[str, Judged], use: list[CodebookUse]) -> ProbeRow:
    found, chance = judged[name], 1 / len(data.classes)
    kept, bounds = None, None
    if name not in (LOG_MEL, FEATURES):
        gain = np.mean(judged[FEATURES].accuracies) - chance
        if gain > 0:
            kept = float((np.mean(found.accuracies) - chance) / gain)
            # Draws without a gain of the features say nothing of what is kept of it.
            gains = drawn(judged[FEATURES]) - chance
            bounds = interval((drawn(found) - chance)[gains > 0] / gains[gains > 0])
    return ProbeRow(
        suite=data.name,
        representation=name,
        chance=chance,
        balanced_accuracy=_score(found.accuracies),
        interval=interval(drawn(found)),
        auroc=_score(found.areas),
        kept=kept,
        kept_interval=bounds,
        codebooks=use,
    )


def _score(values: Sequence[float]) -> Score:
    return Score(mean=float(np.mean(values)), std=deviation(values) if len(values) > 1 else 0.0)


def _codebooks(units: np.ndarray, codebook: int) -> list[CodebookUse]:
    found = []
    for book in np.moveaxis(units, -1, 0):
        use = unit_usage(book, codebook)
        counts = np.bincount(book.ravel(), minlength=codebook).tolist()
        found.append(CodebookUse(codebook=codebook, perplexity=use.perplexity, dead=use.dead, counts=counts))
    return found


def _info(data: ProbeSet) -> SuiteInfo:
    return SuiteInfo(
        task=SUITES[data.name].task,
        clips=len(data),
        subjects=len(set(data.subjects.tolist())),
        bandwidth=data.bandwidth,
        classes={
            label: {
                part: int(((data.labels == index) & (data.parts == part)).sum())
                for part in dict.fromkeys((ALL, *PARTS.values()))
                if (data.parts == part).any()
            }
            for index, label in enumerate(data.classes)
        },
        left_out=data.left_out,
    )


def _head(quantizer: nn.Module) -> Any:
    """What has ``units(features)``."""
    return quantizer.quantizer if isinstance(quantizer, BeatsTokenizer) else quantizer
