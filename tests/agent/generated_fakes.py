"""Tones in place of lung sounds: a corpus, a generator and a judge for the evaluation of generators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from agent_fakes import CLASSES, PITCH, FakeRooms, tone

from generator.codec import MelCodec
from generator.config import SampleConfig
from generator.request import Generated, Request
from resp229k.audio import RATE, Preprocess, write_wav
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from training.seeds import derive

DEVICES = 3
SUBJECTS = {"train": 3, "test": 9}  # per class, two clips each


def make_corpus(folder: Path) -> Corpus:
    """Clips of 1 s; a subject has one class and one device."""
    clips = []
    for split, subjects in SUBJECTS.items():
        for label in CLASSES:
            for subject in range(subjects):
                for number in range(2):
                    name = f"{split}-{label}-{subject}-{number}"
                    wave = tone(PITCH[label], derive(0, name)) * (1 + subject % DEVICES) / 3
                    write_wav(folder / f"{name}.wav", wave, synthetic=False)
                    clips.append(
                        Clip(
                            clip_id=name, recording_id=name, subject_id=f"fake:{split}-{label}-{subject}",
                            split=split, source="fake", device=f"<b>device {subject % DEVICES}</b>",  # type: ignore[arg-type]
                            path=f"{name}.wav", start=0, end=1, sample_rate=RATE, labels={"icbhi4": label},
                        )
                    )  # fmt: skip
    corpus = Corpus(folder, clips)
    corpus.save()
    return corpus


class FakeGenerator:
    """Makes the tone of a label; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.fail = False
        self.digests = {"mllm": "fake"}
        self.config = SampleConfig()
        self.subjects_hash = "none"
        self.seconds = 1.0
        self.codec = MelCodec()
        self.mllm = None

    def units_of(self, waves: Sequence[np.ndarray], seconds: Sequence[float]) -> list[np.ndarray]:
        return [np.array([[wave.size, round(RATE * s)]]) for wave, s in zip(waves, seconds, strict=True)]

    def generate(self, requests: Sequence[Request], seed: int) -> list[Generated]:
        self.calls += 1
        self.asked = list(requests)
        made = []
        for i, request in enumerate(requests):
            if self.fail and i == 2:
                raise KeyboardInterrupt
            own = derive(seed, "clip", i)
            made.append(Generated(tone(PITCH[request.label], own, request.seconds), None, request, own))
        return made


class FakeJudge:
    """Hears the pitch of a tone."""

    classes = CLASSES
    task = "icbhi4"
    config = SimpleNamespace(preprocess=Preprocess())

    def probabilities(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        return FakeRooms.judge(None, waves)  # type: ignore[arg-type]
