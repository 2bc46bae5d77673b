"""The command that makes the shipped weights: every stage, resumed, at the smallest size."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.config_pretrain import HeardConfig, PretrainConfig
from agent.generated.protocol import simulated_train
from agent.heard import real_corpora, with_held_out
from agent.pretrain import pretrain, publish, run_stage
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from training.config import load_config
from training.errors import RunError
from training.files import write_json

SMALL = [
    "root=null",
    "events=72",
    "further_events=36",
    "encoder_events=72",
    "judge_events=72",
    "workers=1",
    "beats.fit={steps: 2, batch_size: 8}",
    "beats.units.codebook=16",
    "generator.codebook=16",
    "generator.mllm_fit={steps: 2, batch_size: 4}",
    "generator.flow_fit={steps: 2, batch_size: 4}",
    "generator.draw.valid_clips=4",
    "judges=[{task: disease16, fit: {steps: 2, batch_size: 8}}, {task: icbhi4, fit: {steps: 2, batch_size: 8}}]",
]


def clips(number: int) -> list[Clip]:
    return [
        Clip(clip_id=str(i), recording_id=str(i), subject_id=f"s:{i // 2}", source="s", split="pretrain",
             path=f"{i}.wav", start=0, end=1, sample_rate=8000)
        for i in range(number)
    ]  # fmt: skip


def test_held_out_keeps_subjects_whole() -> None:
    corpus = with_held_out(Corpus(Path("x"), clips(40)), 0.2, seed=0)
    held_out = corpus.subset(split="select")
    assert len(held_out.subjects) == 4
    assert not set(held_out.subjects) & set(corpus.subset(split="pretrain").subjects)


@pytest.mark.slow
def test_every_stage_runs_and_is_not_repeated(tmp_path: Path) -> None:
    from beats.judge import Judge
    from generator.sample import Generator

    config = load_config(PretrainConfig, "tiny", SMALL)
    out, work = tmp_path / "weights", tmp_path / "work"
    pretrain(config, out, work)
    assert Judge.from_pretrained(out / "judge-icbhi4").classes == ("normal", "crackle", "wheeze", "both")
    generator = Generator.load(out)
    assert "Asthma" in generator.labels("disease16")
    judges = [Judge.from_pretrained(out / f"judge-{task}") for task in ("disease16", "icbhi4")]
    written, drawn = set(generator.mllm.provenance.subjects), set(generator.flow.provenance.subjects)
    assert written == drawn
    assert (
        len([subject for subject in written if subject.startswith("sim-pretrain3")]) > 8
    )  # of 36 further clips
    searched = simulated_train(out, ("Asthma",), tmp_path / "search", None)
    assert set(searched.subjects) >= written and (searched.folder / searched.clips[-1].path).is_file()
    assert len(searched) == 72 + 36
    assert len(simulated_train(out, ("Asthma",), tmp_path / "search", 50)) == 50 + 36
    taught = written | drawn
    for judge in judges:
        assert judge.provenance.subjects
        assert not taught & set(judge.provenance.subjects)
    card = (out / "README.md").read_text()
    for word in ("not a medical device", "conv stem", "judge-disease16", "perplexity"):
        assert word in card

    stamps = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    shutil.rmtree(out)
    pretrain(config, out, work)
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()} == stamps
    assert (out / "README.md").read_text() == card


@pytest.mark.real
@pytest.mark.slow
def test_judges_have_real_subjects_to_be_measured_on(resp_data: Path, tmp_path: Path) -> None:
    (real,) = real_corpora(HeardConfig(root=str(resp_data)), tmp_path)
    held_out = set(real.subset(split="select").subjects)
    assert held_out.isdisjoint(real.subset(split="pretrain").subjects)
    judges = set(real.subjects[::2])
    assert len(held_out & judges) == len(held_out - judges) == 4


def test_clips_of_weights_made_before_a_renaming_are_found(tmp_path: Path) -> None:
    record = {"events": 12, "mllm_events": 24, "classes": ["Asthma", "COPD"], "seconds": 1.0, "seed": 0}
    write_json(tmp_path / "pretrain.yaml", record)
    assert len(simulated_train(tmp_path, (), tmp_path / "search", None)) == 36


def test_nothing_of_the_users_is_removed(tmp_path: Path) -> None:
    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / "mine.txt").write_text("keep")
    with pytest.raises(RunError, match="flow"):
        run_stage(tmp_path / "flow", "key", lambda folder: folder.mkdir())
    with pytest.raises(RunError, match="flow"):
        publish({}, tmp_path / "none.json", load_config(PretrainConfig, "tiny"), tmp_path / "flow")
    assert (tmp_path / "flow" / "mine.txt").read_text() == "keep"
