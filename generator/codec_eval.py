"""What a codec loses: real recordings and known crackles, through it and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from generator.codec import Codec, level
from generator.codec_crackles import Crackled, Timing, timing, waves_of
from generator.fad import columns, frechet
from resp229k.audio import RATE, Preprocess
from training.errors import DataError
from training.progress import track
from training.seeds import derive

if TYPE_CHECKING:
    from beats.encoder import BeatsEncoder

SECONDS = 10.0  # of a clip, at most; longer ones are cut around their middle
RANGE = 60.0  # dB below a clip's loudest bin; further down lies the rounding of the recording
WAVES = 6  # of crackles, for each kind, with and without noise
SHOWN = 3  # clips in the picture

Reconstruct = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class CodecRow:
    """Figures of one codec.

    Attributes:
        name: how it was asked for; ``none`` is the recording itself, through no codec.
        mel_db: mean absolute difference of the log-mel, see :func:`log_mel`.
        fad: Fréchet distance of the encoder's features of all clips before and after.
        crackles: their timing, over all waves.
        by_kind: the same for each kind, alone and over noise.
        cost: processor seconds of encoding and decoding for a second of sound, the same on a busy machine.
        mean, std: of each value of a frame over all clips, as normalised now; none without frames.
    """

    name: str
    mel_db: float
    fad: float
    crackles: Timing
    by_kind: dict[str, Timing]
    cost: float
    mean: list[float] | None
    std: list[float] | None


@dataclass(frozen=True)
class CodecReport:
    """Rows, and what they were measured on.

    Attributes:
        rows: ``none`` first.
        clips, seconds: the recordings.
        halves: FAD of one half of the recordings to the other, by subject where that is known: what a
            difference between recordings looks like.
        examples: of the first clips, the wave by row name.
    """

    rows: list[CodecRow]
    clips: int
    seconds: float
    halves: float
    examples: list[dict[str, np.ndarray]]


def log_mel(wave: np.ndarray) -> np.ndarray:
    """The analysis that codecs are compared by ``(L, 128)``, in dB.

    It is the filterbank of BEATs, 25 ms windows every 10 ms, which none of the codecs uses, of the wave at a
    fixed level, and ends 60 dB below the clip's loudest bin.
    """
    import torch

    from beats.fbank import fbank

    levelled = torch.from_numpy((wave * (0.05 / level(wave))).astype(np.float32))[None]
    frames, _ = fbank(levelled, torch.tensor([wave.size]))
    decibels = frames[0].numpy() * (10 / np.log(10))
    return np.maximum(decibels, decibels.max() - RANGE)


def through(codec: Codec | None, wave: np.ndarray, seed: int) -> np.ndarray:
    """A wave through a codec and back, at its own level; without a codec the wave itself."""
    if codec is None:
        return wave
    made = codec.decode(codec.encode(wave), samples=wave.size, seed=seed)
    return (made * (level(wave) / level(made))).astype(np.float32)


def evaluate_codecs(
    codecs: dict[str, Codec],
    waves: Sequence[np.ndarray],
    subjects: Sequence[str],
    encoder: BeatsEncoder,
    *,
    seed: int = 0,
) -> CodecReport:
    """Send recordings and crackles through codecs.

    Args:
        codecs: by name.
        waves: recordings ``(N,)`` at 16 kHz, with sound in them and at least 0.175 s long.
        subjects: whose they are.
        encoder: hears the difference for FAD.
        seed: of crackles, noise and first phases.

    Raises:
        DataError: fewer than four recordings, or all of one subject.
    """
    how = Preprocess(seconds=SECONDS)
    names = sorted(set(subjects))
    if len(waves) < 4 or len(names) < 2:
        raise DataError(
            f"{len(waves)} recordings of {len(names)} subjects are too few",
            cure="give at least four recordings of two subjects",
        )
    known = columns(encoder, waves, how)
    known_mel = [log_mel(wave) for wave in waves]
    crackles = waves_of(WAVES, seed)
    everyone: dict[str, Codec | None] = {"none": None, **codecs}
    rows, examples = [], [dict[str, np.ndarray]() for _ in waves[:SHOWN]]
    for name, codec in everyone.items():
        made, cost = _reconstruct(codec, waves, seed, name)
        for example, wave in zip(examples, made, strict=False):
            example[name] = wave
        frames = None if codec is None else np.concatenate([codec.encode(wave) for wave in waves])
        pairs = zip(made, known_mel, strict=True)
        kinds = _crackles(codec, crackles, seed)
        rows.append(
            CodecRow(
                name=name,
                mel_db=float(np.mean([np.abs(log_mel(wave) - mel).mean() for wave, mel in pairs])),
                fad=frechet(np.concatenate(columns(encoder, made, how)), np.concatenate(known)),
                crackles=kinds.pop("all"),
                by_kind=kinds,
                cost=cost,
                mean=None if frames is None else frames.mean(0).tolist(),
                std=None if frames is None else frames.std(0).tolist(),
            )
        )
    half = set(np.random.default_rng(derive(seed, "halves")).permutation(names)[::2].tolist())
    left = [grid for grid, subject in zip(known, subjects, strict=True) if subject in half]
    right = [grid for grid, subject in zip(known, subjects, strict=True) if subject not in half]
    return CodecReport(
        rows=rows,
        clips=len(waves),
        seconds=sum(wave.size for wave in waves) / RATE,
        halves=frechet(np.concatenate(left), np.concatenate(right)),
        examples=examples,
    )


def _reconstruct(
    codec: Codec | None, waves: Sequence[np.ndarray], seed: int, name: str
) -> tuple[list[np.ndarray], float]:
    """Waves through a codec, and processor seconds for a second of sound."""
    through(codec, waves[0], seed)  # libraries compile and load at their first use
    made, seconds = [], 0.0
    for index, wave in enumerate(track(waves, f"codec {name}")):
        began = time.process_time()
        made.append(through(codec, wave, derive(seed, "codec", index)))
        seconds += time.process_time() - began
    return made, seconds / (sum(wave.size for wave in waves) / RATE)


def _crackles(codec: Codec | None, waves: dict[str, list[Crackled]], seed: int) -> dict[str, Timing]:
    """Timing by kind, and of ``all``."""
    reconstruct: Reconstruct = partial(through, codec, seed=seed)
    every = [item for items in waves.values() for item in items]
    done = {id(item.wave): reconstruct(item.wave) for item in every}
    return {
        name: timing(items, lambda wave: done[id(wave)]) for name, items in (waves | {"all": every}).items()
    }
