"""Simulated corpora: determinism, splits, tails, labels, refusal of wrong input."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from resp229k.audio import is_tagged_synthetic
from resp229k.clip import EventKind
from resp229k.corpus import Corpus
from resp229k.simulate import (
    SIMULATED,
    SimulateConfig,
    clips,
    simulate_clip,
    simulate_corpus,
    simulate_events,
)
from resp229k.simulate.corpora import corpus_jobs
from resp229k.tasks import TASKS
from training.config import validate
from training.errors import ConfigError, DataError
from training.files import folder_digest

ROOT = str(Path(__file__).resolve().parents[2])

WHEEZES = {"wheeze", "rhonchus", "stridor", "squawk"}  # a cough is neither
SMALL = SimulateConfig(
    classes=SIMULATED[3:9], head=12, tail=3, select=2, plan=2, test=4, seconds=1.5, workers=1
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return simulate_corpus(SMALL, tmp_path_factory.mktemp("sim") / "corpus")


@pytest.mark.slow
def test_the_number_of_workers_changes_no_bit(corpus: Corpus, tmp_path: Path) -> None:
    other = simulate_corpus(SMALL.model_copy(update={"workers": 2}), tmp_path / "two")
    assert folder_digest(other.folder / "audio") == folder_digest(corpus.folder / "audio")
    assert other.digest == corpus.digest
    different = simulate_corpus(SMALL.model_copy(update={"seed": 1}), tmp_path / "seed")
    assert different.digest != other.digest
    assert not set(different.subjects) & set(other.subjects)


def test_an_existing_corpus_is_reopened_and_a_foreign_folder_refused(corpus: Corpus, tmp_path: Path) -> None:
    before = (corpus.folder / "manifest.parquet").stat().st_mtime_ns
    again = simulate_corpus(SMALL, corpus.folder)
    assert again.digest == corpus.digest
    assert (corpus.folder / "manifest.parquet").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="another config"):
        simulate_corpus(SMALL.model_copy(update={"seed": 9}), corpus.folder)
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="no simulated corpus"):
        simulate_corpus(SMALL, tmp_path)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_splits_share_no_subject_and_train_no_source(corpus: Corpus) -> None:
    subjects = {name: set(corpus.subset(split=name).subjects) for name in ("train", "select", "plan", "test")}
    sources = {name: {s.rsplit(":", 1)[0] for s in found} for name, found in subjects.items()}
    for one, two in (
        ("train", "select"),
        ("train", "plan"),
        ("train", "test"),
        ("plan", "test"),
        ("select", "plan"),
        ("select", "test"),
    ):
        assert not subjects[one] & subjects[two]
    assert not sources["train"] & (sources["select"] | sources["plan"] | sources["test"])
    assert not sources["test"] & (sources["select"] | sources["plan"])


def test_train_is_long_tailed_and_the_rest_balanced() -> None:
    config = SimulateConfig()
    jobs = list(corpus_jobs(config))
    counts = Counter((job.split, job.label) for job in jobs)
    train = [counts["train", label] for label in SIMULATED]
    assert train[0] == 160 and train[-1] == 6 and train == sorted(train, reverse=True)
    for split, size in (("select", 12), ("plan", 12), ("test", 40)):
        assert {counts[split, label] for label in SIMULATED} == {size}
    sources = {
        label: {job.source for job in jobs if job.split == "train" and job.label == label}
        for label in SIMULATED
    }
    assert [len(sources[label]) for label in SIMULATED] == [3] * 13 + [1, 1, 1]
    held = {label: {j.source for j in jobs if j.split == "test" and j.label == label} for label in SIMULATED}
    assert all(len(found) == 2 for found in held.values())


def test_icbhi4_follows_the_events(corpus: Corpus) -> None:
    for clip in corpus.clips:
        kinds = {event.kind for event in clip.events}
        crackle, wheeze = any("crackle" in k for k in kinds), bool(kinds & WHEEZES)
        expected = {(0, 0): "normal", (1, 0): "crackle", (0, 1): "wheeze", (1, 1): "both"}[crackle, wheeze]
        assert clip.labels["icbhi4"] == expected
        assert not clip.synthetic and clip.labels["disease16"] in SIMULATED
    assert not is_tagged_synthetic(corpus.folder / corpus.clips[0].path)
    assert corpus.audio(corpus.clips[0]).shape == (24_000,)


def test_no_kind_of_event_and_no_metadata_gives_the_class_away(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody listens here, and rendering is what takes time.
    monkeypatch.setattr(clips, "render", lambda *_: np.zeros(16_000, np.float32))
    ages: dict[str, list[float]] = {}
    kinds: dict[str, Counter[str]] = {}
    for label in SIMULATED:
        made = [simulate_clip(label, seed=seed, seconds=4.0, source="x") for seed in range(80)]
        ages[label] = [clip.metadata.age_years or 0.0 for clip in made]
        kinds[label] = Counter(kind for clip in made for kind in {event.kind for event in clip.events})
        assert all(clip.metadata.diagnosis is None and clip.metadata.findings is None for clip in made)
        assert 0.03 < np.mean(np.array(ages[label]) < 16) < 0.9
    for kind in get_args(EventKind)[1:]:
        assert sum(kinds[label][kind] > 0 for label in SIMULATED) >= 4
        assert max(found[kind] for found in kinds.values()) < 80


@pytest.mark.parametrize("label", TASKS["icbhi4"].classes)
def test_an_icbhi4_label_is_always_met(label: str) -> None:
    for seed in range(20):
        assert simulate_clip(label, task="icbhi4", seed=seed, seconds=1.0, source="x").labels == {
            "icbhi4": label
        }


def test_events_corpus_for_pretraining(tmp_path: Path) -> None:
    events = simulate_events(48, 5, tmp_path / "events", seconds=1.5, workers=1)
    assert len(events) == 48 and {clip.split for clip in events.clips} == {"pretrain"}
    assert all(clip.source.startswith("sim-pretrain5-") for clip in events.clips)
    assert len(events.subset(task="disease16")) == 24
    assert set(Counter(clip.subject_id for clip in events.clips).values()) == {3}
    assert min(count for count in events.counts("icbhi4").values()) > 0
    assert simulate_events(48, 5, tmp_path / "events", seconds=1.5, workers=2).digest == events.digest
    longer = simulate_events(51, 5, tmp_path / "more", seconds=1.5, workers=1)
    assert longer.clips[:48] == events.clips  # asking for more changes none of the first


def test_wrong_input_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Lung Cyst"):
        simulate_clip("Flu", seed=0, source="x")
    with pytest.raises(DataError, match="Lung Cyst"):
        SimulateConfig(classes=("Control", "Flu"))
    with pytest.raises(DataError, match="crackle"):
        simulate_clip("noise", task="icbhi4", seed=0, source="x")
    with pytest.raises(DataError, match="disease16 or icbhi4"):
        simulate_clip("Normal", task="spr_event", seed=0, source="x")
    with pytest.raises(DataError, match="1 s or more"):
        simulate_clip("Asthma", seed=0, seconds=0.5, source="x")
    with pytest.raises(DataError, match="1 clip"):
        simulate_events(0, 0, tmp_path / "none")
    for wrong in ({"tail": 500}, {"rare": 17}, {"unknown": 1}, {"train_sources": 25}, {"classes": []}):
        with pytest.raises(ConfigError):
            validate(SimulateConfig, wrong, where="test")


def test_the_config_loads_without_numpy_or_torch() -> None:
    code = (
        "import sys, resp229k.simulate.config, resp229k.simulate;"
        "sys.exit(bool({'numpy', 'scipy', 'torch', 'soundfile'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux", reason="other systems do not tell a process of its parent's death"
)
def test_a_killed_process_leaves_no_workers(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from resp229k.simulate import simulate_events\n"
        "if __name__ == '__main__': simulate_events(4000, 0, Path('corpus'), workers=2)\n"
    )
    (tmp_path / "main.py").write_text(code)
    parent = subprocess.Popen(
        [sys.executable, "main.py"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": ROOT}
    )
    try:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("**/*.flac"))) < 8 and time.monotonic() < deadline:
            time.sleep(0.1)
        workers = [int(child) for child in children.read_text().split()]
    finally:
        parent.kill()
        parent.wait()
    assert len(workers) >= 2
    deadline = time.monotonic() + 20
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [worker for worker in workers if alive(worker)]


def alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
