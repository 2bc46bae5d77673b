"""Small stand-ins for the other rooms: a corpus of tones, a generator of tones, a judge that hears pitch."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.config import LoopConfig
from agent.nodes.clips import ClipRequest
from agent.rooms import Made
from diagnoser.config import MAKERS
from diagnoser.predictions import Predictions
from diagnoser.profile import ErrorProfile, error_profile
from resp229k.audio import RATE, write_wav
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from training.config import validate
from training.files import write_json
from training.model import Provenance

CLASSES = ("normal", "crackle", "wheeze", "both")
PITCH = {"normal": 200.0, "crackle": 400.0, "wheeze": 800.0, "both": 1600.0}
TRAIN = {"normal": 12, "crackle": 6, "wheeze": 4, "both": 1}


def tone(pitch: float, seed: int, seconds: float = 1.0) -> np.ndarray:
    """A tone with noise; different seeds give different clips."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    wave = (
        0.3
        * np.sin(2 * np.pi * pitch * time + rng.uniform(0, 6))
        * (0.6 + 0.4 * np.sin(time * rng.uniform(2, 20)))
    )
    return (wave + rng.normal(0, 0.03, time.size)).astype(np.float32)


def config(**values: Any) -> LoopConfig:
    """A tiny icbhi4 loop."""
    base: dict[str, Any] = {
        "name": "test",
        "task": "icbhi4",
        "rounds": 2,
        "budget": 6,
        "planners": ["thinker"],
    }
    # Tones of one class are near copies of each other by nature.
    base |= {"gate": {"probe": 2}, "preprocess": {"seconds": 1.0}, "screen": {"copies": False}}
    return validate(LoopConfig, base | values, where="test")


class FakeRooms:
    """Counts what it is asked. ``skill`` is the share of generated clips that sound as asked."""

    upper_bound = False
    source_name = "synthetic"

    def __init__(self, run: Path, *, skill: float = 1.0, labels: Sequence[str] = CLASSES):
        self.run = run
        self.skill = skill
        self.labels = tuple(labels)
        self.calls: list[str] = []
        self.training: list[dict[str, Any]] = []
        self.fail_at: str | None = None
        self.known: set[str] = set()  # subjects that generator and judge were trained on
        self.heard: set[str] = set()  # subjects that the encoder was trained on
        self.chosen: set[str] = set()  # and chosen on
        self.longest = 2.0  # s
        self.bad_rounds: set[int] = set()  # whose diagnoser is worse than the one before

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.fail_at == name:
            raise KeyboardInterrupt

    def build_corpus(self, folder: Path) -> Corpus:
        self._called("corpus")
        clips: list[Clip] = []
        per_split = {"train": TRAIN, **{s: dict.fromkeys(CLASSES, 3) for s in ("select", "plan", "test")}}
        for split, counts in per_split.items():
            for label, count in counts.items():
                for i in range(count):
                    name = f"{split}-{label}-{i}"
                    write_wav(folder / f"{name}.wav", tone(PITCH[label], len(clips)), synthetic=False)
                    clips.append(
                        Clip(
                            clip_id=name, recording_id=name, subject_id=f"fake:{name}", split=split,  # type: ignore[arg-type]
                            source="fake-b" if label == "normal" and i % 2 else "fake-a",
                            path=f"{name}.wav", start=0, end=1, sample_rate=RATE, labels={"icbhi4": label},
                        )
                    )  # fmt: skip
        corpus = Corpus(folder, clips)
        corpus.save()
        return corpus

    def weights_digest(self) -> str:
        return "fake"

    def trained_subjects(self) -> set[str]:
        return set(self.known)

    def encoder_provenance(self) -> Provenance:
        return Provenance.of(self.heard, notes={"selected_on": sorted(self.chosen)})

    def longest_clip(self) -> float:
        return self.longest

    def generator_labels(self) -> tuple[str, ...]:
        return self.labels

    def judge_classes(self) -> tuple[str, ...]:
        return CLASSES

    def judge(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        found = []
        for wave in waves:
            spectrum = np.abs(np.fft.rfft(wave))
            peak = float(np.fft.rfftfreq(wave.size, 1 / RATE)[spectrum.argmax()])
            scores = np.array([-abs(np.log2(max(peak, 1) / PITCH[name])) for name in CLASSES])
            found.append(np.exp(4 * scores) / np.exp(4 * scores).sum())
        return np.array(found)

    def generate(self, requests: Sequence[ClipRequest], folder: Path, seed: int) -> list[Made]:
        self._called("generate")
        made = []
        for i, request in enumerate(requests):
            right = (i % 10) < 10 * self.skill
            label = request.label if right else CLASSES[(CLASSES.index(request.label) + 2) % 4]
            write_wav(folder / f"audio/{i}.wav", tone(PITCH[label], seed + i), synthetic=True)
            write_json(
                folder / f"audio/{i}.json",
                {"label": label, "reference_subject": request.reference.subject_id},
            )
            made.append(Made(f"audio/{i}.wav", 1.0))
        write_json(folder / MAKERS, sorted(self.known))
        return made

    def train_diagnoser(self, folder: Path, **given: Any) -> None:
        self.training.append(given)
        self._called("train")
        write_json(folder / "model" / "config.json", {"extra": len(given["synthetic"])})

    def score(self, model: Path, tail: Sequence[str], folder: Path) -> dict[str, Any]:
        self._called("score")
        f1 = {name: 0.8 - 0.1 * i for i, name in enumerate(CLASSES)}
        return {"macro_f1": 0.65, "tail_macro_f1": 0.5, "accuracy": 0.7, "f1": f1}

    def error_profile(self, scored: Path, tail: Sequence[str]) -> ErrorProfile:
        labels = np.repeat(np.arange(4), 3)
        probs = np.full((12, 4), 0.1)
        probs[np.arange(12), np.where(labels == 3, 0, labels)] = 0.7  # "both" is always taken for normal
        names = [f"c{i}" for i in range(12)]
        return error_profile(Predictions(names, names, labels, probs, CLASSES), tail)

    def gains(self, scored: Path, before: Path) -> dict[str, tuple[float, float]]:
        return dict.fromkeys(CLASSES, (0.0, 0.1))

    def losses(self, model: Path, corpus: Corpus) -> np.ndarray:
        self._called("losses")
        return np.array([2.5 * (zlib.crc32(c.clip_id.encode()) % 97) / 97 for c in corpus.clips])

    def difference(self, scored: Path, before: Path) -> dict[str, float]:
        sign = -1 if int(scored.parent.name) in self.bad_rounds else 1
        low, high = sorted((sign * 0.1, sign * 0.3))
        return {"difference": sign * 0.2, "low": low, "high": high}

    def evaluate(self, model: Path, tail: Sequence[str], folder: Path) -> dict[str, Any]:
        self._called("evaluate")
        figure = {"value": 0.6, "low": 0.5, "high": 0.7}
        return {
            "metrics": {"macro_f1": figure, "tail_macro_f1": {"value": 0.4, "low": None, "high": None}},
            "prior": {"macro_f1": 0.1},
            "confusion": [[3, 0, 0, 0]] * 4,
            "classes": list(CLASSES),
        }
