"""Evaluation of diagnosers whose answers are drawn: folds, seeds, contamination, reports."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from standins import (
    drawn_diagnoser,
    drawn_predictions,
    fake_predict,
    trained_on,
    write_icbhi,
    write_sprsound,
    write_sprsound_test,
)

import agent.cli as cli
from diagnoser.evaluate import Judged, evaluate, record_of
from diagnoser.evaluate_page import page, spread
from diagnoser.evaluate_suite import evaluate_all, evaluate_parts, evaluate_suite, folder_of, summarise
from diagnoser.figures import figures
from diagnoser.predictions import Predictions
from diagnoser.suites import get_suite, load_suite
from resp229k.audio import Preprocess
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from training.errors import CheckpointError, ConfigError, ContaminationError, DataError

DRAWS = 50


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_sprsound(root, subjects=40)
    write_icbhi(root, subjects=40)
    return root


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(autouse=True)
def _drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_predict(monkeypatch)


def toy(folder: Path, labels: list[str], *, task: str = "icbhi4", per_subject: int = 4) -> Corpus:
    """Clips without audio, all of test; subjects of two sources."""
    clips = [
        Clip(
            clip_id=f"c{n}",
            recording_id=f"c{n}",
            subject_id=f"{'ab'[n // per_subject % 2]}:{n // per_subject}",
            source="ab"[n // per_subject % 2],
            split="test",
            path=f"audio/c{n}.flac",
            start=0.0,
            end=1.0,
            sample_rate=16000,
            labels={task: label},
        )
        for n, label in enumerate(labels)
    ]
    corpus = Corpus(folder, clips)
    corpus.save()
    return corpus


def test_folds_and_seeds_find_their_places(data: Path, work: Path, tmp_path: Path) -> None:
    parts = load_suite("spr", root=str(data), work=work)
    models = [
        trained_on(tmp_path / f"{seed}-{fold}", part, seed=seed, temperature=1.0 + fold / 10)
        for seed in (0, 1, 2)
        for fold, part in enumerate(parts)
    ]
    random.Random(0).shuffle(models)
    report = evaluate_suite(models, "spr", root=str(data), work=work, draws=DRAWS, save=tmp_path / "p")
    json.dumps(report, allow_nan=False)
    assert {run["seed"] for run in report["runs"]} == {0, 1, 2} and len(report["runs"]) == 3
    for run in report["runs"]:
        assert {int(name[-1]): Path(model).name for name, model in run["models"].items()} == {
            fold: f"{run['seed']}-{fold}" for fold in range(5)
        }
        assert (run["clips"], run["subjects"], run["contaminated"]) == (80, 40, None)
        # The same from the parts, without the suite's bookkeeping.
        pooled = Predictions.pool(
            [
                drawn_predictions(
                    part.corpus.subset(split="test"),
                    "spr_event",
                    seed=run["seed"],
                    skill=2.0,
                    temperature=1.0 + fold / 10,
                )
                for fold, part in enumerate(parts)
            ]
        )
        expected = figures(pooled, draws=DRAWS, task="spr_event")
        for name in ("macro_f1", "score", "task11_score", "auroc", "ece", "recall"):
            assert run[name] == expected[name]
        assert run["intervals"]["score"] == expected["intervals"]["score"]
        assert run["ece_raw"] is not None and run["ece_raw"] != run["ece"]
    values = [run["macro_f1"] for run in report["runs"]]
    mean = report["summary"]["figures"]["macro_f1"]
    assert mean["mean"] == pytest.approx(np.mean(values), abs=2e-6)
    assert mean["std"] == pytest.approx(np.std(values, ddof=1), abs=2e-6) and mean["std"] > 0
    assert mean["interval"][0] < mean["mean"] < mean["interval"][1]
    saved = [Predictions.load(path) for path in sorted((tmp_path / "p").glob("*.npz"))]
    assert len(saved) == 3 and all(p.temperatures is not None for p in saved)


def test_a_missing_fold_is_told(data: Path, work: Path, tmp_path: Path) -> None:
    parts = load_suite("spr", root=str(data), work=work)
    models = [trained_on(tmp_path / f"{n}", part) for n, part in enumerate(parts) if n != 2]
    report = evaluate_suite(models, "spr", root=str(data), work=work, draws=DRAWS)
    assert "Covers 4 of 5 parts." in page(report) and "spr fold 2" not in report["runs"][0]["models"]


def test_who_was_trained_or_selected_on_is_refused(data: Path, work: Path, tmp_path: Path) -> None:
    (part,) = load_suite("spr2icbhi", root=str(data), work=work)
    options: dict[str, Any] = {"root": str(data), "work": work, "draws": DRAWS}
    tested = part.corpus.subset(split="test").subjects
    for place, known in enumerate(({"knows": tested[:3]}, {"chosen_on": tested[:3]})):
        model = drawn_diagnoser(tmp_path / str(place), "icbhi4", preprocess=part.preprocess, **known)
        with pytest.raises(ContaminationError, match="3 test subjects"):
            evaluate_suite([model], "spr2icbhi", **options)
        report = evaluate_suite([model], "spr2icbhi", allow_contaminated=True, **options)
        (run,) = report["runs"]
        assert run["contaminated"]["subjects"] == 3 and run["selected_on"] == bool(place)
        assert "CONTAMINATED: 3 test subjects" in page(report)
    other = drawn_diagnoser(tmp_path / "other", "covid")
    with pytest.raises(DataError, match="for covid, suite spr2icbhi for icbhi4"):
        evaluate_suite([other], "spr2icbhi", **options)
    with pytest.raises(CheckpointError):
        evaluate_suite([tmp_path / "none"], "spr2icbhi", **options)
    with pytest.raises(ConfigError, match="nonesuch"):
        evaluate_suite([other], "nonesuch", **options)


def test_subjects_shared_as_published_are_no_contamination(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_sprsound(root, subjects=16)
    shared = sorted(load_protocol_subjects("sprsound-intra"))[:6]
    write_sprsound_test(root, "intra", [int(name.split(":")[1]) for name in shared])
    (part,) = load_suite("spr-intra", root=str(root), work=tmp_path / "work")
    assert set(part.corpus.subset(split="test").subjects) == set(shared)
    options: dict[str, Any] = {"root": str(root), "work": tmp_path / "work", "draws": DRAWS}
    model = trained_on(tmp_path / "m", part)
    report = evaluate_suite([model], "spr-intra", **options)
    assert report["runs"][0]["shared_subjects"] > 0 and "As published" in page(report)


def load_protocol_subjects(name: str) -> frozenset[str]:
    from resp229k.splits import load_protocol

    return load_protocol(name).shared_subjects


def test_another_preparation_than_the_suites_is_told(data: Path, work: Path, tmp_path: Path) -> None:
    (part,) = load_suite("spr2icbhi", root=str(data), work=work)
    options: dict[str, Any] = {"root": str(data), "work": work, "draws": DRAWS}
    same = evaluate_suite([trained_on(tmp_path / "a", part)], "spr2icbhi", **options)
    model = trained_on(tmp_path / "b", part, preprocess=Preprocess(seconds=4.0))  # hears above 2 kHz
    other = evaluate_suite([model], "spr2icbhi", **options)
    assert same["prepared_as_suite"] and "as the suite prepares" not in page(same)
    assert not other["prepared_as_suite"] and "not hear clips as the suite prepares" in page(other)


def test_tail_and_unseen_classes_come_from_the_training_clips(tmp_path: Path) -> None:
    labels = ["Control", "Asthma", "COPD", "Heart Failure"] * 10
    corpus = toy(
        tmp_path / "c", [label for label in labels for _ in range(3)], task="disease16", per_subject=3
    )
    counts = {"Control": 500, "Asthma": 500, "COPD": 9, "URTI": 3}
    model = drawn_diagnoser(tmp_path / "m", "disease16", counts=counts, skill=1.0)
    record = evaluate(model, corpus, draws=DRAWS)
    assert record["tail"] == ["COPD", "URTI"] and record["tail_macro_f1"] == record["f1"]["COPD"]
    assert record["unseen"] == ["Heart Failure"]
    assert record["seen_only"]["clips"] == 90 and set(record["seen_only"]["recall"]) == {
        "Control",
        "Asthma",
        "COPD",
    }
    assert record["source_prior"]["class"] == "Control" and record["source_prior"]["accuracy"] == 0.25
    # Three clips a subject, one disease each: the vote is scored beside the clips.
    assert record["per_subject"]["clips"] == 40 and record["seen_only_per_subject"]["clips"] == 30
    assert record["per_subject"]["accuracy"] > record["accuracy"]
    assert set(record["per_source"]) == {"a", "b"}
    assert evaluate(model, corpus, draws=DRAWS, tail=["Asthma"])["tail"] == ["Asthma"]


def test_a_class_may_be_unseen_in_one_part_alone(tmp_path: Path) -> None:
    judged = []
    for name, counts in (("a", {"Control": 5, "Asthma": 5}), ("b", {"Control": 5, "COPD": 5})):
        corpus = toy(tmp_path / name, ["Control", "Asthma"] * 10, task="disease16")
        one = drawn_predictions(corpus, "disease16", seed=0, skill=1.0)
        ids = [f"{name}{i}" for i in range(len(one.clip_ids))]
        judged.append(Judged(replace(one, clip_ids=ids), counts, [], False, name, Preprocess()))
    record = record_of(judged, task="disease16", split="test", draws=DRAWS)
    assert record["training_clips"]["Asthma"] == 5  # of the parts together
    assert record["unseen"] == ["Asthma"] and record["seen_only"]["support"] == {"Control": 20, "Asthma": 10}


def test_a_mean_over_seeds_keeps_the_subjects_together(tmp_path: Path) -> None:
    corpus = toy(tmp_path, ["normal", "crackle", "wheeze", "both"] * 20)
    one, two = (drawn_predictions(corpus, "icbhi4", seed=seed, skill=1.0) for seed in (0, 1))
    alone = summarise([(one, ())], task="icbhi4", draws=200)["figures"]["score"]
    record = figures(one, draws=200, task="icbhi4")
    assert alone == {"mean": record["score"], "std": None, "interval": record["intervals"]["score"]}
    twice = summarise([(one, ()), (one, ())], task="icbhi4", draws=200)["figures"]["score"]
    assert twice["std"] == 0.0 and twice["interval"] == alone["interval"]
    both = summarise([(one, ()), (two, ())], task="icbhi4", draws=200)["figures"]["score"]
    width = both["interval"][1] - both["interval"][0]
    assert width < alone["interval"][1] - alone["interval"][0]  # the noise of the seeds averages out
    part = two.take(np.arange(40))
    apart = summarise([(one, ()), (part, ())], task="icbhi4", draws=20)
    assert not apart["same_subjects"] and apart["figures"]["score"]["interval"] is None


def test_all_lists_what_could_not_be_scored(data: Path, work: Path, tmp_path: Path) -> None:
    (part,) = load_suite("spr2icbhi", root=str(data), work=work)
    model = trained_on(tmp_path / "m", part)
    report = evaluate_all([model], root=str(data), work=work, draws=DRAWS)
    assert set(report["suites"]) == {"spr2icbhi", "icbhi"}  # it has heard no patient
    assert set(report["skipped"]) == {"icbhi-official", "icbhi2spr"}
    assert "trained or selected on" in report["skipped"]["icbhi2spr"]
    assert "audio" in report["skipped"]["icbhi-official"] or "920" in report["skipped"]["icbhi-official"]
    other = drawn_diagnoser(tmp_path / "d", "disease16")
    with pytest.raises(DataError, match=r"test-cd: .*UK_COVID_19"):
        evaluate_all([other], root=str(data), work=work)
    with pytest.raises(DataError, match="no diagnoser"):
        evaluate_parts([], [part])


def run_command(monkeypatch: pytest.MonkeyPatch, *args: object) -> int:
    monkeypatch.setattr(sys, "argv", ["resp-agent", "evaluate", *map(str, args)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_command_writes_json_markdown_and_plots(
    data: Path,
    work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (part,) = load_suite("spr2icbhi", root=str(data), work=work)
    models = [trained_on(tmp_path / f"s{seed}", part, seed=seed, temperature=1.5) for seed in (0, 1)]
    given = [word for model in models for word in ("--model", model)]
    where = ["--root", data, "--work", work, "--draws", DRAWS]
    out = tmp_path / "out"
    assert run_command(monkeypatch, *given, "--suite", "spr2icbhi", *where, "--out", out) == 0
    report = json.loads((out / "metrics.json").read_text())
    text = (out / "metrics.md").read_text()
    score = spread(report["summary"]["figures"]["score"])
    assert f"| Score | {score} |" in text and "±" in score
    assert "ECE before temperature" in text and "| crackle |" in text
    assert "Score" in capsys.readouterr().out
    for name in ("confusion", "reliability", "sources"):
        assert (out / f"{name}.png").read_bytes()[:4] == b"\x89PNG" and f"{name}.png" in text
    assert str(tmp_path) not in text + (out / "metrics.json").read_text()
    drawn: list[Path] = []
    monkeypatch.setattr("diagnoser.evaluate_plot.plot", lambda report, folder: drawn.append(folder))
    assert run_command(monkeypatch, *given, "--suite", "all", *where, "--out", out / "all") == 0
    assert drawn == [out / "all" / "icbhi", out / "all" / "spr2icbhi"]
    assert (out / "all" / "icbhi" / "metrics.md").is_file()
    assert "- icbhi2spr: " in (out / "all" / "metrics.md").read_text()
    capsys.readouterr()
    assert run_command(monkeypatch, *given, "--suite", "icbhi-official", *where) == 2
    assert "icbhi-official" in capsys.readouterr().err


def test_command_on_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diagnoser.evaluate_plot.plot", lambda report, folder: None)
    corpus = toy(tmp_path / "corpus", ["normal", "crackle", "wheeze", "both"] * 10)
    model = drawn_diagnoser(tmp_path / "m", "icbhi4")
    file = tmp_path / "figures.json"
    given = ["--corpus", corpus.folder, "--draws", 1000, "--model", model]
    assert run_command(monkeypatch, *given, "--out", file) == 0
    record, expected = json.loads(file.read_text()), evaluate(model, corpus)
    assert {name: record[name] for name in expected} == json.loads(json.dumps(expected))
    second = drawn_diagnoser(tmp_path / "n", "icbhi4", seed=1)
    assert run_command(monkeypatch, *given, "--model", second, "--out", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["summary"]["runs"] == 2
    other = drawn_diagnoser(tmp_path / "o", "covid")
    assert run_command(monkeypatch, *given, "--model", other) == 2
    assert run_command(monkeypatch, *given, "--suite", "icbhi") == 2
    assert folder_of("ood:kauh") == "ood-kauh" and get_suite("ood:kauh").clip == "recording"
