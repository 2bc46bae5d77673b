"""The corpora behind shipped figures and weights are what they were when the simulator knew six classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.config import LoopConfig
from agent.config_pretrain import PretrainConfig
from agent.heard import FURTHER
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from resp229k.simulate import SIMULATED, SimulateConfig, clips, corpora, simulate_events
from resp229k.simulate.corpora import Job, corpus_jobs, event_jobs
from training.config import load_config
from training.errors import DataError
from training.files import digest

SIX = ("Control", "Asthma", "COPD", "Pneumonia", "Bronchiolitis", "Pulmonary Fibrosis")
# Preset: clips, digest of the jobs, digest of the clips' records. Taken when there were six recipes.
LOOPS = {
    "quickstart": (488, "510bcffcd7926356", "c124c35d5f82cf20"),
    "ci-gate": (155, "8c05ff854a436696", "0506e3505757666c"),
    "ci-simulator": (179, "7c2c25ddd03ae5c2", "4ba1fa0af540e506"),
}
PRETRAINING = {
    (3600, 0): ("97b1e04bc4aba2b4", "5b3a508af6599c43"),
    (2400, 1): ("bf2d00dff187ca9a", "fe7bd143e9cac7a4"),
    (10800, 3): ("4a1c1b282af1cf5e", "c48e63314548bc17"),
}


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records without sounds: how those sound is pinned elsewhere."""
    monkeypatch.setattr(
        clips, "render", lambda score, *_: np.zeros(round(score.seconds * 16_000), np.float32)
    )
    monkeypatch.setattr(corpora, "write_flac", lambda *_: None)


def jobs_digest(jobs: Iterable[Job]) -> str:
    return digest([astuple(job) for job in jobs])[:16]


def records_digest(jobs: Iterable[Job]) -> str:
    """Without what is at its default, so that a new field of the schema changes nothing."""
    made = (corpora.run_job(job, Path("none")) for job in jobs)
    return digest([c.model_dump(mode="json", exclude_none=True, exclude_defaults=True) for c in made])[:16]


@pytest.mark.parametrize("name", LOOPS)
def test_the_corpus_of_a_preset_is_unchanged(name: str) -> None:
    corpus = load_config(LoopConfig, name).corpus
    assert corpus.kind == "simulated"
    jobs = list(corpus_jobs(corpus.simulate))
    assert (len(jobs), jobs_digest(jobs), records_digest(jobs)) == LOOPS[name]


def test_pretraining_asks_for_what_it_did() -> None:
    config = load_config(PretrainConfig, "tiny", ["root=null"])
    for n, seed in (
        (config.events, config.seed),
        (config.judge_events, config.seed + 1),
        (config.further_events, config.seed + FURTHER),
    ):
        jobs = event_jobs(n, seed, config.classes, config.seconds, 12)
        assert jobs_digest(jobs) == PRETRAINING[n, seed][0]


@pytest.mark.slow
def test_pretraining_hands_its_classes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from agent import heard

    asked: dict[tuple[int, int], str] = {}

    def record(n: int, seed: int, folder: Path, *, classes: Any, seconds: float, workers: int) -> Any:
        asked[n, seed] = jobs_digest(event_jobs(n, seed, classes, seconds, 12))
        clip = Clip(
            clip_id="c", recording_id="c", subject_id="s:0", source="s", split="pretrain", path="c.flac",
            start=0, end=seconds, sample_rate=16000,
        )  # fmt: skip
        return Corpus(folder, [clip])

    monkeypatch.setattr(heard, "simulate_events", record)
    config = load_config(PretrainConfig, "tiny", ["root=null"])
    heard.gather(config, tmp_path)
    encoder = asked.pop((config.encoder_events, config.seed + 2))
    jobs = event_jobs(config.encoder_events, config.seed + 2, SIMULATED, config.seconds, 12)
    assert encoder == jobs_digest(jobs)  # it hears all classes, generator and judges six
    assert asked == {key: jobs for key, (jobs, _) in PRETRAINING.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("n", "seed"), PRETRAINING)
def test_the_clips_of_pretraining_are_unchanged(n: int, seed: int) -> None:
    assert records_digest(event_jobs(n, seed, SIX, 4.0, 12)) == PRETRAINING[n, seed][1]


def test_all_sixteen_are_made_unless_fewer_are_asked_for(tmp_path: Path) -> None:
    assert len(SIMULATED) == 16
    assert SimulateConfig().classes == PretrainConfig.model_fields["classes"].default == SIMULATED
    made = simulate_events(96, 3, tmp_path / "all", seconds=1.0, workers=1)
    assert {clip.labels.get("disease16") for clip in made.clips} == {None, *SIMULATED}
    few = simulate_events(24, 3, tmp_path / "few", classes=SIX[:2], seconds=1.0, workers=1)
    assert set(few.counts("disease16").values()) == {0, 6}
    with pytest.raises(DataError, match="another config"):
        simulate_events(24, 3, tmp_path / "few", classes=SIX, seconds=1.0, workers=1)
    for wrong in ((), ("Flu",)):
        with pytest.raises(DataError, match="Lung Cyst"):
            simulate_events(24, 3, tmp_path / "none", classes=wrong, seconds=1.0, workers=1)


@pytest.mark.slow
def test_a_loop_on_sixteen_plans_only_what_the_shipped_judge_knows(tmp_path: Path) -> None:
    from agent.rooms import Rooms

    rooms = Rooms(load_config(LoopConfig, "ci-simulator"), tmp_path)
    assert rooms.generator_labels() == SIMULATED and rooms.judge_classes() == SIX
    assert Rooms(load_config(LoopConfig, "quickstart"), tmp_path).generator_labels() == SIX
