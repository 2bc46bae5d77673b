"""Stand-ins for the tests of evaluation: diagnosers whose answers are drawn, and recordings of no one."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from diagnoser.evaluate_suite import evaluate_suite, folder_of
from diagnoser.predictions import Predictions
from diagnoser.suites import SuitePart, load_suite
from resp229k.audio import Preprocess
from resp229k.corpus import Corpus
from resp229k.tasks import get_task
from training.files import read_json, write_json

sys.path.append(str(Path(__file__).parents[1] / "resp229k"))  # the publishers' layouts are built there

from layout_coughs import coughvid_row, uuid, write_coughvid, write_uk_names
from layout_lungs import write_kauh
from published_layout import ICBHI_CLASSES, noise, write_annotation, write_icbhi, write_sprsound

__all__ = ["drawn_diagnoser", "drawn_predictions", "fake_predict", "write_icbhi", "write_sprsound"]


def drawn_diagnoser(
    folder: Path,
    task: str,
    *,
    knows: Sequence[str] = (),
    chosen_on: Sequence[str] = (),
    seed: int = 0,
    counts: dict[str, int] | None = None,
    skill: float = 2.0,
    temperature: float = 1.0,
    preprocess: Preprocess | None = None,
) -> Path:
    """A folder with what evaluation reads of a diagnoser beside its weights."""
    known = {"subjects": sorted(knows), "seed": seed, "notes": {"selected_on": sorted(chosen_on)}}
    write_json(folder / "config.json", {"config": {"task": task}, "provenance": known})
    write_json(folder / "metrics.json", {"real_clips": counts or dict.fromkeys(get_task(task).classes, 10)})
    how = (preprocess or Preprocess()).model_dump(mode="json")
    write_json(
        folder / "drawn.json",
        {"task": task, "seed": seed, "skill": skill, "temperature": temperature, "preprocess": how},
    )
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def trained_on(folder: Path, part: SuitePart, **more: Any) -> Path:
    """A diagnoser that knows the training and selection subjects of a part."""
    corpus = part.corpus
    return drawn_diagnoser(
        folder,
        part.task,
        knows=corpus.subset(split="train").subjects,
        chosen_on=corpus.subset(split="select").subjects,
        counts={name: n for name, n in corpus.subset(split="train").counts(part.task).items() if n},
        preprocess=more.pop("preprocess", part.preprocess),
        **more,
    )


def score_suite(suite: str, root: Path, work: Path, folder: Path, **more: Any) -> dict[str, Any]:
    """A suite's report by a drawn diagnoser for each of its parts, one seed."""
    parts = load_suite(suite, root=str(root), work=work)
    models = [trained_on(folder / folder_of(part.name), part, **more) for part in parts]
    report = evaluate_suite(models, suite, root=str(root), work=work, draws=20)
    assert len(report["runs"]) == 1 and len(report["runs"][0]["models"]) == len(parts)
    return report


def drawn_predictions(
    corpus: Corpus, task: str, *, seed: int, skill: float, temperature: float = 1.0
) -> Predictions:
    """Logits are ``skill`` for the truth and normal noise that depends on clip and seed alone."""
    classes, labels = get_task(task).classes, corpus.labels(task)
    ids = [clip.clip_id for clip in corpus.clips]
    draws = [
        np.random.default_rng([seed, zlib.crc32(name.encode())]).normal(size=len(classes)) for name in ids
    ]
    logits = (np.array(draws) + skill * np.eye(len(classes))[labels]) / temperature
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    subjects = [clip.subject_id for clip in corpus.clips]
    temperatures = np.full(len(ids), temperature)
    return Predictions(ids, subjects, labels, probs.astype(np.float32), classes, temperatures)


class DrawnPredictor:
    """In the place of :class:`diagnoser.predict.Predictor`."""

    def __init__(self, values: dict[str, Any]):
        self.task, self.values = values["task"], values
        self.record = SimpleNamespace(preprocess=Preprocess.model_validate(values["preprocess"]))

    @classmethod
    def load(cls, folder: Path) -> DrawnPredictor:
        return cls(read_json(folder / "drawn.json"))

    def build_store(self, corpus: Corpus, folder: Path | None = None) -> dict[str, Any]:
        return {}

    def predict_corpus(self, corpus: Corpus, store: Any) -> Predictions:
        assert store == {}
        wanted = {name: self.values[name] for name in ("seed", "skill", "temperature")}
        return drawn_predictions(corpus, self.task, **wanted)


def fake_predict(monkeypatch: Any) -> None:
    """Let evaluation load :class:`DrawnPredictor`, without torch."""
    monkeypatch.setitem(sys.modules, "diagnoser.predict", SimpleNamespace(Predictor=DrawnPredictor))


def write_official_icbhi(root: Path, recordings: Sequence[str]) -> Path:
    """Every recording of the published split, 0.6 s each with two cycles; ids are ``icbhi:<stem>``."""
    folder = root / "ICBHI_2017"
    for index, name in enumerate(sorted(recordings)):
        audio = folder / "ICBHI_final_database" / f"{name.split(':')[1]}.wav"
        noise(audio, 0.6, 4000, seed=index)
        crackle, wheeze = ICBHI_CLASSES[index % 4]
        audio.with_suffix(".txt").write_text(f"0\t0.3\t0\t0\n0.3\t0.6\t{crackle}\t{wheeze}\n")
    patients = sorted({name.split(":")[1].split("_")[0] for name in recordings})
    (folder / "patient_diagnosis.csv").write_text("".join(f"{name},COPD\n" for name in patients))
    lines = "".join(f"{name} 70 F 33.5 NA NA\n" for name in patients)
    (folder / "demographic_info.txt").write_text("\n" + lines)
    return folder


def write_sprsound_test(root: Path, part: str, patients: Sequence[int]) -> None:
    """A published test part of 2022 (``inter`` or ``intra``) beside the training part."""
    folder = root / "SPRSound"
    types = ("Wheeze", "Fine Crackle", "Rhonchi")
    records = ("Normal", "CAS", "DAS", "CAS & DAS", "Poor Quality")
    for index, patient in enumerate(patients):
        stem = f"{patient}_4.2_{index % 2}_p1_{900 + index}"
        noise(folder / "test_wav" / f"{stem}.wav", 2.0, seed=900 + index)
        events = [
            {"start": "100", "end": "900", "type": "Normal"},
            {"start": "1000", "end": "1900", "type": types[index % 3]},
        ]
        where = folder / "test_json" / f"{part}_test_json" / f"{stem}.json"
        write_annotation(where, records[index % 5], events)


def write_all_sources(root: Path) -> None:
    """The five sources of the paper: 20 children, 20 patients, 30 coughs, 12 strangers, 6 adults."""
    write_sprsound(root, subjects=20)
    write_icbhi(root, subjects=20)
    write_uk_names(root, [f"{1000 + n}_{uuid(n)[-11:]}_{'POS' if n % 3 else 'NEG'}" for n in range(30)])
    status = ("healthy", "COVID-19", "healthy")
    write_coughvid(
        root,
        [coughvid_row(n, status[n % 3]) for n in range(12)],
        [f"{uuid(n)}.ogg" for n in range(12)],
    )
    write_kauh(root, subjects=6)
