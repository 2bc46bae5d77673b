"""Running and comparing rows: what is finished is not repeated, folds pool, differences pair up."""

from __future__ import annotations

import copy
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diagnoser.baselines import run as module
from diagnoser.baselines.choose import Fitted
from diagnoser.baselines.compare import compare, main_score, summary
from diagnoser.baselines.report import csv_rows, markdown, table, write_report
from diagnoser.baselines.rows import FULL, slug
from diagnoser.baselines.run import Benchmark, Done, prepared, run_rows
from diagnoser.config import DiagnoserTrainConfig
from diagnoser.predictions import Predictions
from diagnoser.suites import SuitePart
from resp229k.audio import RATE, Preprocess, write_wav
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from training.errors import ConfigError, ContaminationError
from training.files import read_json
from training.fitconfig import FitConfig

CLASSES = ("normal", "crackle", "wheeze", "both")
CONFIG = DiagnoserTrainConfig(corpus="replaced", task="icbhi4")


def said(guesses: Sequence[int], labels: Sequence[int], first: int = 0) -> Predictions:
    """Two clips of each subject; certain of its guesses."""
    probs = np.full((len(labels), 4), 0.1, dtype=np.float32)
    probs[np.arange(len(labels)), list(guesses)] = 0.7
    return Predictions(
        clip_ids=[f"c{first + i}" for i in range(len(labels))],
        subject_ids=[f"toy:{(first + i) // 2}" for i in range(len(labels))],
        labels=np.array(labels),
        probs=probs,
        classes=CLASSES,
    )


def clip(index: int, split: Any, label: str, subject: str) -> Clip:
    name = f"{split}{index}"
    return Clip(
        clip_id=name, recording_id=name, subject_id=subject, source="toy", split=split, path="a.wav",
        start=0.0, end=0.5, sample_rate=RATE, labels={"icbhi4": label},
    )  # fmt: skip


def part_of(folder: Path, name: str = "toy", known: str | None = None, first: int = 0) -> SuitePart:
    """Eight clips a split, of class ``first`` and the next in turn."""
    write_wav(folder / "a.wav", np.random.default_rng(0).normal(size=RATE) * 0.1, synthetic=False)
    clips = [
        clip(
            index,
            split,
            CLASSES[first + index % 2],
            known if known and index == 7 and split == "test" else f"toy:{split}{index}",
        )
        for split in ("train", "select", "test")
        for index in range(8)
    ]
    corpus = Corpus(folder, clips)
    corpus.save()
    return SuitePart(name, corpus, "icbhi4", Preprocess(seconds=0.5, fit="loop"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Rows that were really trained; they say what the clip's number is."""
    asked: list[tuple[str, int]] = []

    def fake(name: str, data: Any, seed: int, needed: dict[str, Fitted]) -> Fitted:
        asked.append((name, seed))
        assert set(needed) == ({"audio-only", "text-only"} if name == "late-vote" else set())
        probs = np.tile(np.array([[0.4, 0.3, 0.2, 0.1]], dtype=np.float32), (8, 1))
        clips = data.clips["test"]
        one = Predictions(
            [c.clip_id for c in clips], [c.subject_id for c in clips], np.arange(8) % 2, probs, CLASSES
        )
        return Fitted(one, one, {"parameters": 7})

    monkeypatch.setattr(module, "fit_predict", fake)
    return asked


def test_what_was_finished_is_not_repeated(tmp_path: Path, trained: list[tuple[str, int]]) -> None:
    part = part_of(tmp_path / "corpus")
    plan = {"parts": [part], "config": CONFIG, "work": tmp_path / "work"}
    rows = ["majority", "trees", "late-vote"]
    done = run_rows(Benchmark(rows=rows, seeds=2, **plan))
    # The majority has no seeds, and the vote trains the two that it needs.
    vote = [(name, seed) for seed in (0, 1) for name in ("audio-only", "text-only", "late-vote")]
    assert trained == [("majority", 0), ("trees", 0), ("trees", 1), *vote]
    assert [(one.row, one.seed) for one in done] == [
        ("majority", 0),
        *[(n, s) for n in rows[1:] for s in (0, 1)],
    ]
    assert done[0].notes["parameters"] == 7 and done[0].notes["seconds"] >= 0

    trained.clear()
    again = run_rows(Benchmark(rows=[*rows, "audio-only", "weaving, none, anchors"], seeds=3, **plan))
    # The third seed alone; the ablation's variant is the row that the vote needed.
    assert trained == [("trees", 2), ("audio-only", 2), ("text-only", 2), ("late-vote", 2)]
    np.testing.assert_array_equal(again[0].test.probs, done[0].test.probs)

    trained.clear()
    longer = CONFIG.model_copy(update={"fit": FitConfig(steps=7)})
    run_rows(Benchmark(rows=["majority", "trees", "audio-only"], seeds=1, **{**plan, "config": longer}))
    assert trained == [("audio-only", 0)]  # the others read nothing of it


def test_a_broken_training_leaves_no_row(
    tmp_path: Path, trained: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = part_of(tmp_path / "corpus")
    plan = Benchmark(parts=[part], rows=["trees"], config=CONFIG, seeds=1, work=tmp_path / "work")
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(Predictions, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        run_rows(plan)
    run_rows(plan)
    assert trained == [("trees", 0)] * 2


def test_unknown_rows_and_missing_anchors_are_refused_first(tmp_path: Path) -> None:
    part = part_of(tmp_path / "corpus")
    plan = {"parts": [part], "seeds": 1, "work": tmp_path / "work"}
    with pytest.raises(ConfigError, match="magic"):
        run_rows(Benchmark(rows=["majority", "magic"], config=CONFIG, **plan))
    bare = CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"anchors": None})})
    with pytest.raises(ConfigError, match="anchors"):
        run_rows(Benchmark(rows=["majority", FULL], config=bare, **plan))
    assert not (tmp_path / "work").exists()


def test_test_subjects_that_the_encoder_knows(tmp_path: Path) -> None:
    import beats

    heard = beats.load_encoder(beats.find(CONFIG.beats.weights)).provenance.subjects[0]
    clean = part_of(tmp_path / "clean")
    assert prepared([clean], CONFIG) == ([clean], 0)
    met = part_of(tmp_path / "met", known=heard)
    with pytest.raises(ContaminationError, match="1 test subjects"):
        prepared([clean, met], CONFIG)
    same, count = prepared([met], CONFIG, allow_contaminated=True)
    assert (same, count) == ([met], 1)
    (left,), count = prepared([met], CONFIG, leave_out_known=True)
    assert count == 1 and len(left.corpus.subset(split="test")) == 7
    assert heard not in left.corpus.subjects and len(left.corpus.subset(split="train")) == 8
    shared = SuitePart(met.name, met.corpus, met.task, met.preprocess, shared=frozenset({heard}))
    assert prepared([shared], CONFIG) == ([shared], 0)  # as published
    with pytest.raises(ConfigError, match="one of the two"):
        prepared([met], CONFIG, allow_contaminated=True, leave_out_known=True)


def report_of(tmp_path: Path) -> dict[str, Any]:
    """Two folds of 8 clips; the diagnoser is right twice as often, the trees' seeds differ."""
    parts = [part_of(tmp_path / name, name) for name in ("fold0", "fold1")]
    truth = [0, 1] * 4
    done = []
    for fold in range(2):
        for seed in range(2):
            done.append(Done("weaving", seed, f"fold{fold}", said(truth, truth, 8 * fold), {"seconds": 2.0}))
            half = [0] * 8 if seed == 0 else [0, 0, 0, 1] * 2
            done.append(Done("trees", seed, f"fold{fold}", said(half, truth, 8 * fold), {"seconds": 4.0}))
        done.append(Done("majority", 0, f"fold{fold}", said([0] * 8, truth, 8 * fold), {"seconds": 0.0}))
    report = compare(done, parts, draws=200)
    return {"title": "toy", "contaminated": 0, "left_out": 0, **report}


def test_folds_pool_and_seeds_average(tmp_path: Path) -> None:
    report = report_of(tmp_path)
    assert report["main"] == "score" and report["reference"] == "weaving"
    rows = report["figures"]["clips"]
    accuracy = rows["trees"]["scores"]["accuracy"]
    assert accuracy["values"] == [0.5, 0.75] and accuracy["mean"] == 0.625
    assert accuracy["std"] == pytest.approx(np.std([0.5, 0.75], ddof=1), abs=1e-6)
    assert rows["weaving"]["scores"]["accuracy"]["interval"] == [1.0, 1.0]
    assert "difference" not in rows["weaving"]["scores"]["accuracy"]
    assert rows["trees"]["per_seed"][0]["clips"] == 16 and rows["trees"]["per_seed"][0]["subjects"] == 8
    # Every subject has one normal clip: redrawing subjects cannot change what the majority gets.
    assert rows["majority"]["scores"]["accuracy"]["difference"] == {"mean": -0.5, "interval": [-0.5, -0.5]}
    apart = accuracy["difference"]
    assert apart["mean"] == -0.375 and apart["interval"][0] < -0.375 < apart["interval"][1] < 0
    assert [one["scores"]["accuracy"] for one in report["trainings"][:2]] == [1.0, 0.5]
    assert report["training_clips"]["crackle"] == 8 and report["unseen"] == []
    assert list(report["figures"]) == ["clips"]  # a subject has both labels: no vote


def test_classes_without_training_clips_and_votes_are_judged_apart(tmp_path: Path) -> None:
    part = part_of(tmp_path / "corpus")
    labels, guesses = [0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 0, 0]
    report = compare([Done("weaving", 0, "toy", said(guesses, labels), {"seconds": 1.0})], [part], draws=20)
    assert report["unseen"] == ["wheeze"]
    scores = {
        judged: rows["weaving"]["scores"]["accuracy"]["mean"] for judged, rows in report["figures"].items()
    }
    assert scores == {
        "clips": pytest.approx(2 / 3, abs=1e-5),
        "clips of trained classes": 1.0,
        "subjects": pytest.approx(2 / 3, abs=1e-5),
        "subjects of trained classes": 1.0,
    }


def test_a_class_may_be_unseen_in_one_fold_alone(tmp_path: Path) -> None:
    parts = [part_of(tmp_path / str(first), f"fold{first}", first=first) for first in range(2)]
    done = [
        Done(row, 0, f"fold{fold}", said([0, 1, 1, 1], [0, 1, 1, 2], 4 * fold), {"seconds": 1.0})
        for fold in range(2)
        for row in ("trees", "weaving")
    ]
    report = compare(done, parts, draws=20)
    assert report["unseen"] == [
        "normal",
        "wheeze",
    ]  # fold 0 trains on normal and crackle, fold 1 not on normal
    judged = report["figures"]["clips of trained classes"]["trees"]["scores"]["accuracy"]["mean"]
    assert judged == pytest.approx(5 / 6, abs=1e-6)


def test_difference_to_oneself_is_nothing() -> None:
    rng = np.random.default_rng(0)
    seeds = [{"score": (0.5, rng.random(100))}, {"score": (0.7, rng.random(100))}]
    found = summary(seeds, seeds)["score"]
    assert found["mean"] == 0.6 and found["difference"] == {"mean": 0.0, "interval": [0.0, 0.0]}
    assert main_score("disease16") == "macro_f1"


def test_report_is_written_as_table_and_plot(tmp_path: Path) -> None:
    report = report_of(tmp_path)
    header, *rows = table(report)
    assert header[:4] == ["row", "Score", "95 % over subjects", "against weaving"]
    by_name = {row[0]: row for row in rows}
    assert by_name["weaving"][1] == "1.000 ± 0.000" and by_name["weaving"][3] == ""
    assert not any("challenge" in name for name in header)
    renamed = {
        **report,
        "figures": {"clips": {"weaving": copy.deepcopy(report["figures"]["clips"]["weaving"])}},
    }
    scores = renamed["figures"]["clips"]["weaving"]["scores"]
    scores["task11_score"] = scores["accuracy"]
    header, row = table(renamed)
    assert row[header.index("challenge 1-1")] == "1.000 ± 0.000"
    assert by_name["majority"][1] == "0.500" and by_name["majority"][3].startswith("-0.500 (-0.500")
    assert by_name["trees"][-1] == "4"
    write_report(report, tmp_path / "out")
    assert read_json(tmp_path / "out" / "results.json") == report
    text = (tmp_path / "out" / "results.md").read_text()
    assert "| weaving | 1.000 ± 0.000 |" in text and "8 test clips of 8 subjects" in text
    assert "CONTAMINATED" not in text
    assert "CONTAMINATED" in markdown({**report, "contaminated": 3})
    lines = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
    assert len(lines) == len(csv_rows(report))
    line = next(one for one in lines if one["row"] == "trees" and one["score"] == "accuracy")
    assert line["values"] == "0.5 0.75" and float(line["difference"]) == -0.375
    assert (tmp_path / "out" / "results.png").stat().st_size > 5000


def test_names_become_folders() -> None:
    assert slug("weaving, none, no anchors") == "weaving-none-no-anchors"
    assert slug("ood:kauh fold 0") == "ood-kauh-fold-0"
