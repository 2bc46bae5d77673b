"""The clips of every row: what is asked, who makes it, and where it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.pretrain import run_stage
from generator.codec import Codec, at_level, level
from generator.config import SHORTEST, SampleConfig
from generator.request import Generated, Request
from generator.write import write_clips
from resp229k.audio import RATE, load_audio
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from training.files import digest, read_json, write_json
from training.progress import track
from training.seeds import derive

if TYPE_CHECKING:
    from generator.sample import Generator

INDEX = "index.json"
SWAPS = 4  # styles per label, and labels per style, as in the paper's Exp. 6
GRAIN = 128  # samples of a spectrum's window, 8 ms: too short to keep the pitch of a wheeze


@dataclass(frozen=True)
class Ask:
    """One clip wanted: the label and length of a real clip, the style of another.

    ``group`` numbers the asks that share all but their style, or all but their label. ``content`` is the clip whose
    units are decoded, if none are to be written.
    """

    label: str
    seconds: float
    reference: Clip
    group: int = 0
    content: Clip | None = None


def plain(half: Sequence[Clip], task: str, longest: float, seed: int) -> list[Ask]:
    """An ask for every clip of a half, with the style of another one whatever its label.

    Every clip lends its style once, so that the styles of a row are those of the half.
    """
    order = np.random.default_rng(derive(seed, "styles")).permutation(len(half))
    # A turn of the random order: nobody lends to itself.
    lender = {int(order[i - 1]): half[int(place)] for i, place in enumerate(order)}
    return [Ask(c.labels[task], length(c, longest), lender[i], i) for i, c in enumerate(half)]


def style_swap(half: Sequence[Clip], task: str, longest: float, seed: int) -> list[Ask]:
    """Label and length fixed, four styles of different devices (or subjects where there is one device)."""
    rng = np.random.default_rng(derive(seed, "style swap"))
    found = []
    for group, clip in enumerate(_some(half, rng)):
        styles = different_styles(half, rng)
        found += [Ask(clip.labels[task], length(clip, longest), style, group) for style in styles]
    return found


def content_swap(
    half: Sequence[Clip], task: str, classes: Sequence[str], longest: float, seed: int
) -> list[Ask]:
    """Style and length fixed, four labels."""
    rng = np.random.default_rng(derive(seed, "content swap"))
    found = []
    for group, clip in enumerate(_some(half, rng)):
        labels = rng.permutation(len(classes))[:SWAPS]
        found += [Ask(classes[int(i)], length(clip, longest), clip, group) for i in labels]
    return found


def length(clip: Clip, longest: float) -> float:
    """Seconds that a generator can make of a clip's."""
    return float(np.clip(clip.seconds, SHORTEST, longest))


def _some(half: Sequence[Clip], rng: np.random.Generator) -> list[Clip]:
    """Every fourth clip in random order, so that a swap makes as many clips as a row has."""
    return [half[int(i)] for i in rng.permutation(len(half))[: -(-len(half) // SWAPS)]]


def different_styles(clips: Sequence[Clip], rng: np.random.Generator) -> list[Clip]:
    """Up to four clips of different devices, or of different subjects where there is one device."""
    devices = {(clip.source, clip.device) for clip in clips}
    found: dict[object, Clip] = {}
    for i in rng.permutation(len(clips)):
        clip = clips[int(i)]
        found.setdefault((clip.source, clip.device) if len(devices) > 1 else clip.subject_id, clip)
    return list(found.values())[:SWAPS]


class Drawer:
    """Makes clips for asks and keeps them: asked again, it reads what is there.

    Args:
        test: corpus of the references.
        task: of the labels.
        work: keeps one folder per set of clips.
    """

    def __init__(self, test: Corpus, task: str, work: Path):
        self.test, self.task, self.work = test, task, work

    def neural(self, generator: Generator, asks: Sequence[Ask], name: str, seed: int) -> list[np.ndarray]:
        """Waves ``(N,)`` of the generator; of asks with a content, from the units of that clip."""

        def make(requests: list[Request]) -> list[Generated]:
            told = [(i, ask.content, ask.seconds) for i, ask in enumerate(asks) if ask.content is not None]
            waves = [self.test.audio(content) for _, content, _ in told]
            units = generator.units_of(waves, [seconds for *_, seconds in told]) if told else []
            for (i, *_), given in zip(told, units, strict=True):
                requests[i] = replace(requests[i], units=given)
            return generator.generate(requests, seed)

        return self._kept(
            name,
            asks,
            seed,
            generator.digests,
            generator.config,
            generator.subjects_hash,
            make,
        )

    def simulator(self, asks: Sequence[Ask], name: str, seed: int) -> list[np.ndarray]:
        """Waves of the simulator, in the style of the references' sources."""
        from resp229k.simulate import simulate_clip

        def make(requests: list[Request]) -> list[Generated]:
            made = []
            for i, (ask, request) in enumerate(zip(track(asks, "simulate"), requests, strict=True)):
                own = derive(seed, "clip", i)
                clip = simulate_clip(
                    ask.label, task=self.task, seed=own, seconds=ask.seconds, source=ask.reference.source
                )
                made.append(Generated(clip.wave, None, request, own))
            return made

        return self._kept(name, asks, seed, {}, None, digest([]), make)

    def noise(self, asks: Sequence[Ask], name: str, seed: int) -> list[np.ndarray]:
        """Steady noise with the spectrum and level of the references: style without content."""

        def make(requests: list[Request]) -> list[Generated]:
            seeds = [derive(seed, "clip", i) for i in range(len(requests))]
            return [
                Generated(coloured(request.wave(), round(request.seconds * RATE), own), None, request, own)
                for request, own in zip(requests, seeds, strict=True)
            ]

        return self._kept(name, asks, seed, {}, None, digest([]), make)

    def _kept(
        self,
        name: str,
        asks: Sequence[Ask],
        seed: int,
        weights: dict[str, str],
        sample: SampleConfig | None,
        subjects_hash: str,
        make: Callable[[list[Request]], list[Generated]],
    ) -> list[np.ndarray]:
        backend = name.partition(" ")[0]
        wanted = [
            [ask.label, ask.seconds, ask.reference.clip_id, *([ask.content.clip_id] if ask.content else [])]
            for ask in asks
        ]
        drawn = None if sample is None else sample.model_dump(mode="json")
        key = digest([name, self.task, self.test.digest, wanted, seed, weights, drawn])

        def write(folder: Path) -> None:
            requests = [self._request(ask) for ask in asks]
            files = write_clips(
                make(requests),
                folder,
                backend=backend,
                weights=weights,
                sample=sample,
                subjects_hash=subjects_hash,
            )
            write_json(folder / INDEX, [file.name for file in files])

        folder = run_stage(self.work / f"{name.replace(' ', '-')}-{key[:8]}", key, write)
        return [load_audio(folder / file) for file in read_json(folder / INDEX)]

    def _request(self, ask: Ask) -> Request:
        clip = ask.reference
        wave = self.test.audio(clip)
        return Request(self.task, ask.label, wave, clip.clip_id, clip.subject_id, ask.seconds)


def through(codec: Codec, wave: np.ndarray, seed: int) -> np.ndarray:
    """A wave ``(N,)`` encoded and decoded again, at its own level: what the generator's sound costs by itself."""
    return at_level(codec.decode(codec.encode(wave), samples=wave.size, seed=seed), level(wave))


def coloured(wave: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Gaussian noise ``(size,)`` with the long-term spectrum and level of a wave ``(N,)``."""
    from scipy.signal import welch

    hertz, power = welch(wave, RATE, nperseg=min(GRAIN, wave.size))
    white = np.fft.rfft(np.random.default_rng(seed).standard_normal(size))
    shaped = np.fft.irfft(white * np.sqrt(np.interp(np.fft.rfftfreq(size, 1 / RATE), hertz, power)), size)
    level = np.sqrt(np.mean(wave**2)) / np.sqrt(np.mean(shaped**2))
    return np.clip(shaped * level, -0.99, 0.99).astype(np.float32)
