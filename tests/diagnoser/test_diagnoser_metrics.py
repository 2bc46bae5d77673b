"""Scores against scikit-learn and against sums done by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from diagnoser.bootstrap import interval, resample
from diagnoser.calibrate import fit_temperature, negative_log_likelihood, retemper
from diagnoser.figures import figures, source_prior, tail_of
from diagnoser.metrics import (
    accuracy,
    auroc,
    challenge_scores,
    confusion,
    ece,
    f1s,
    macro_f1,
    recalls,
    reliability,
    sp_se_score,
    subject_matrices,
    tail_macro_f1,
)
from diagnoser.predictions import Predictions
from diagnoser.profile import ErrorProfile, error_profile
from resp229k.tasks import get_task
from training.errors import DataError

CLASSES = ("normal", "crackle", "wheeze", "both")


def made(n: int = 300, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(classes), n)
    logits = rng.normal(size=(n, len(classes))) + 1.5 * np.eye(len(classes))[labels]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(
        clip_ids=[f"c{i}" for i in range(n)],
        subject_ids=[f"s:{i % 23}" for i in range(n)],
        labels=labels,
        probs=probs.astype(np.float32),
        classes=classes,
    )


def test_against_scikit_learn() -> None:
    p = made()
    matrix = confusion(p.labels, p.guesses, 4)
    assert (matrix == sk.confusion_matrix(p.labels, p.guesses)).all()
    assert accuracy(matrix) == pytest.approx(sk.accuracy_score(p.labels, p.guesses))
    assert macro_f1(matrix) == pytest.approx(sk.f1_score(p.labels, p.guesses, average="macro"))
    assert recalls(matrix) == pytest.approx(sk.recall_score(p.labels, p.guesses, average=None))
    assert tail_macro_f1(matrix, [1, 3]) == pytest.approx(f1s(matrix)[[1, 3]].mean())
    assert auroc(p.labels, p.probs) == pytest.approx(
        sk.roc_auc_score(p.labels, p.probs, multi_class="ovr", average="macro"), abs=1e-6
    )
    tied = np.round(p.probs, 1)
    assert auroc((p.labels == 0).astype(int), np.stack([1 - tied[:, 0], tied[:, 0]], 1)) == pytest.approx(
        sk.roc_auc_score(p.labels == 0, tied[:, 0])
    )


def test_sp_se_score_by_hand() -> None:
    """Se counts exact classes: a crackle called wheeze is an error, though it is called abnormal."""
    matrix = np.array([[8, 1, 1, 0], [2, 5, 3, 0], [1, 1, 2, 0], [0, 2, 1, 3]])
    sp, se, score = sp_se_score(matrix, 0)
    assert sp == pytest.approx(8 / 10)
    assert se == pytest.approx((5 + 2 + 3) / 20)
    assert score == pytest.approx(0.65)


def test_classes_absent_from_the_truth_do_not_count() -> None:
    labels, guesses = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    matrix = confusion(labels, guesses, 4)
    # f1 of 0: 2/(2+1); of 1: 1; class 2 was only guessed, class 3 never occurs.
    assert macro_f1(matrix) == pytest.approx((2 / 3 + 1) / 2)
    assert np.isnan(tail_macro_f1(matrix, [2, 3])) and np.isnan(tail_macro_f1(matrix, []))


def test_ece_by_hand() -> None:
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    labels = np.array([0, 1, 0, 0])
    # (0.866, 0.933]: confidence 0.9, hits 1/2; (0.533, 0.6]: confidence 0.6, hits 1/2.
    assert ece(labels, probs) == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)
    assert ece(np.array([0, 0]), np.array([[1.0, 0.0], [1.0, 0.0]])) == 0.0


def test_intervals_draw_subjects_not_clips() -> None:
    p = made()
    matrices = subject_matrices(p.labels, p.guesses, p.subject_ids, 4)
    assert matrices.shape == (23, 4, 4) and (matrices.sum(axis=0) == confusion(p.labels, p.guesses, 4)).all()
    low, high = interval(matrices, macro_f1, draws=1000, seed=3)
    assert low < macro_f1(matrices.sum(axis=0)) < high and (low, high) == interval(matrices, macro_f1, seed=3)
    # A hundred copies of each clip tell nothing new about subjects.
    same = interval(matrices * 100, macro_f1, seed=3)
    assert same == pytest.approx((low, high))
    assert resample(matrices[:1], 5, 0) == pytest.approx(np.repeat(matrices[:1], 5, axis=0))


def test_temperature_lowers_the_loss_and_finds_the_truth() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 4)) * 2
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (probs.cumsum(axis=1) > rng.random((4000, 1))).argmax(axis=1)
    found = fit_temperature(3.0 * logits, labels)
    assert found == pytest.approx(3.0, rel=0.1)
    assert negative_log_likelihood(3 * logits, labels, found) < negative_log_likelihood(3 * logits, labels)


def test_profile() -> None:
    p = made()
    profile = error_profile(p, tail=["both"])
    assert ErrorProfile.model_validate_json(profile.model_dump_json()) == profile
    matrix = confusion(p.labels, p.guesses, 4)
    for index, one in enumerate(profile.classes):
        assert one.label == CLASSES[index] and one.tail == (one.label == "both")
        assert (
            one.support == matrix[index].sum() and one.false_negatives == one.support - matrix[index, index]
        )
        assert sum(one.confused_with.values()) == one.false_negatives
        assert one.precision == pytest.approx(matrix[index, index] / matrix[:, index].sum(), abs=1e-6)
    assert profile.tail_macro_f1 == pytest.approx(f1s(matrix)[3], abs=1e-6)
    with pytest.raises(DataError, match="no such classes: cough"):
        error_profile(p, tail=["cough"])


def test_the_error_of_f1_is_what_f1_varies_by_over_draws_of_subjects() -> None:
    profiles = []
    for seed in range(150):
        p = replace(made(80, seed), subject_ids=[f"s:{i}" for i in range(80)])
        own = error_profile(p).classes
        profiles.append([(c.f1, c.f1_error, c.confidence, c.confidence_error) for c in own])
    found = np.array(profiles)  # (150, 4, 4)
    assert found[..., 1].mean(axis=0) == pytest.approx(found[..., 0].std(axis=0), rel=0.15)
    assert found[..., 3].mean(axis=0) == pytest.approx(found[..., 2].std(axis=0), rel=0.3)


def test_clips_of_one_subject_add_nothing_to_what_is_known() -> None:
    p = replace(made(60), subject_ids=[f"s:{i}" for i in range(60)])
    thrice = Predictions(
        [f"{c}/{k}" for k in range(3) for c in p.clip_ids],
        p.subject_ids * 3,
        np.tile(p.labels, 3),
        np.tile(p.probs, (3, 1)),
        p.classes,
    )
    one, three = error_profile(p), error_profile(thrice)
    assert [c.f1_error for c in one.classes] == [c.f1_error for c in three.classes]
    assert [c.confidence_error for c in one.classes] == [c.confidence_error for c in three.classes]
    assert [3 * c.support for c in one.classes] == [c.support for c in three.classes]


def test_where_all_clips_agree_f1_has_the_error_of_a_share_of_few() -> None:
    p = made(40)
    p = replace(p, probs=np.eye(4, dtype=np.float32)[p.labels])
    for index, one in enumerate(error_profile(p).classes):
        subjects = len({s for s, label in zip(p.subject_ids, p.labels, strict=True) if label == index})
        many = 2 + 2 / (1 / one.support + 1 / subjects)
        right = 1 - 1 / many
        expected = (right * (1 - right) / many) ** 0.5
        assert (one.f1, one.f1_error) == (1.0, pytest.approx(expected, abs=1e-6))


def test_few_subjects_leave_f1_and_confidence_known_as_far_as_they_are() -> None:
    # Four subjects a class, ten clips: as in a small plan split. F1 differs from draw to draw by more than its
    # least error; a class of one subject says nothing of others.
    labels = np.repeat([0, 1, 2], [10, 10, 3])
    subjects = [f"s{i}" for i in (0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 7, 7, 8, 8, 8)]
    probs = np.full((23, 3), 0.1)
    probs[np.arange(23), labels] = 0.8
    probs[[0, 1, 2, 13]] = [0.1, 0.8, 0.1]
    p = Predictions([f"c{i}" for i in range(23)], subjects, labels, probs, ("a", "b", "c"))
    a, b, c = error_profile(p).classes
    assert 0.14 < a.f1_error < 0.3  # one of its four subjects is missed
    assert 0.12 < b.f1_error < a.f1_error
    assert c.confidence_error == 0.5 and b.confidence_error < a.confidence_error < 0.3


def test_profile_leaves_out_what_does_not_occur() -> None:
    p = made(classes=(*CLASSES, "never"))
    keep = p.labels < 4
    rest = Predictions(
        [c for c, k in zip(p.clip_ids, keep, strict=True) if k],
        [s for s, k in zip(p.subject_ids, keep, strict=True) if k],
        p.labels[keep],
        p.probs[keep],
        p.classes,
    )
    assert [one.label for one in error_profile(rest).classes] == list(CLASSES)


def test_figures_are_json_and_hold_intervals() -> None:
    p = made()
    record = figures(p, tail=["both"], draws=200, task="icbhi4")
    json.dumps(record, allow_nan=False)
    for name in ("accuracy", "macro_f1", "tail_macro_f1", "sp", "se", "score"):
        low, high = record["intervals"][name]
        assert low <= record[name] <= high
    prior = source_prior(p, 0, task="icbhi4")
    assert (prior["class"], prior["sp"], prior["se"], prior["score"]) == ("normal", 1.0, 0.0, 0.5)
    assert prior["tail_macro_f1"] is None


def test_predictions_round_trip(tmp_path: Path) -> None:
    p = made(20)
    p.save(tmp_path / "a" / "p.npz")
    again = Predictions.load(tmp_path / "a" / "p.npz")
    assert again.clip_ids == p.clip_ids and again.classes == p.classes
    assert (again.probs == p.probs).all() and (again.labels == p.labels).all()
    (tmp_path / "b.npz").write_bytes(b"no")
    for name in ("b.npz", "c.npz"):
        with pytest.raises(DataError, match="holds no predictions"):
            Predictions.load(tmp_path / name)
    with pytest.raises(DataError, match="do not fit"):
        Predictions(["a"], ["b", "c"], p.labels, p.probs, CLASSES)


def test_light_modules_need_no_torch() -> None:
    code = (
        "import sys, diagnoser.config, diagnoser.profile, diagnoser.figures, training.fitconfig; "
        "heavy = {'torch', 'transformers', 'sklearn', 'scipy', 'tokenizers'} & set(sys.modules); "
        "sys.exit(','.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_challenge_scores_by_hand() -> None:
    """Records of SPRSound: Normal, CAS, DAS, CAS & DAS, Poor Quality (true in rows)."""
    matrix = np.array(
        [
            [16, 1, 1, 0, 2],  # SP = 16/20: a Normal called Poor Quality is an error
            [1, 4, 2, 1, 0],
            [2, 1, 6, 0, 1],
            [0, 1, 0, 1, 0],
            [3, 0, 0, 0, 7],  # in neither ratio
        ]
    )
    se, sp, mean, harmonic, score = challenge_scores(matrix, 0, [1, 2, 3], exact=True)
    assert (float(se), float(sp)) == (pytest.approx(11 / 20), pytest.approx(0.8))
    assert mean == pytest.approx(0.675) and harmonic == pytest.approx(2 * 0.55 * 0.8 / 1.35)
    assert score == pytest.approx((0.675 + 2 * 0.55 * 0.8 / 1.35) / 2)
    se, sp, *_ = challenge_scores(matrix, 0, [1, 2, 3], exact=False)
    assert (float(se), float(sp)) == (pytest.approx(16 / 20), pytest.approx(0.8))
    several = challenge_scores(np.stack([matrix, 2 * matrix]), 0, [1, 2, 3], exact=False)
    assert several[0] == pytest.approx([0.8, 0.8]) and several[4].shape == (2,)


def test_challenge_scores_at_the_edges() -> None:
    wrong = challenge_scores(np.array([[0, 5], [5, 0]]), 0, [1], exact=True)
    assert [float(value) for value in wrong] == [0, 0, 0, 0, 0]
    assert np.isnan(challenge_scores(np.array([[4, 1], [0, 0]]), 0, [1], exact=True)[4])


def test_challenge_scores_against_scikit_learn() -> None:
    p = made(classes=("Normal", "Rhonchi", "Wheeze", "Stridor"))
    matrix = confusion(p.labels, p.guesses, 4)
    se, sp, *_ = challenge_scores(matrix, 0, [1, 2, 3], exact=False)
    assert se == pytest.approx(sk.recall_score(p.labels > 0, p.guesses > 0))
    assert sp == pytest.approx(sk.recall_score(p.labels > 0, p.guesses > 0, pos_label=False))
    se, *_ = challenge_scores(matrix, 0, [1, 2, 3], exact=True)
    assert se == pytest.approx(sk.recall_score(p.labels, p.guesses, labels=[1, 2, 3], average="micro"))


def test_figures_hold_the_challenge_of_their_task() -> None:
    events = figures(made(classes=get_task("spr_event").classes), draws=20, task="spr_event")
    assert events["task12_se"] == events["se"] and events["task12_as"] == events["score"]
    assert events["task11_se"] > events["task12_se"] and "task21_se" not in events
    p = made(classes=get_task("spr_record").classes)
    records = figures(p, draws=20, task="spr_record")
    keep = p.labels < 4
    clear = figures(p.take(keep), draws=20, task="spr_record")
    for name in ("task21_score", "task22_score", "auroc_abnormal"):  # poor recordings do not count
        assert records[name] == clear[name]
    assert records["se"] != clear["se"]
    assert records["auroc_abnormal"] == pytest.approx(
        sk.roc_auc_score(p.labels[keep] > 0, 1 - p.probs[keep, 0].astype(float)), abs=1e-6
    )


def test_a_temperature_is_undone() -> None:
    rng = np.random.default_rng(0)
    logits, temperatures = rng.normal(size=(50, 4)), rng.uniform(0.5, 3, 50)

    def softmax(values: np.ndarray) -> np.ndarray:
        return np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)

    cool = softmax(logits / temperatures[:, None])
    assert retemper(cool, temperatures) == pytest.approx(softmax(logits))
    p = replace(made(50), probs=cool.astype(np.float32), temperatures=temperatures)
    record = figures(p, draws=20, task="icbhi4")
    assert record["ece"] == pytest.approx(ece(p.labels, p.probs), abs=1e-6)
    assert record["ece_raw"] == pytest.approx(ece(p.labels, softmax(logits)), abs=1e-5)
    assert record["brier_raw"] == pytest.approx(
        ((softmax(logits) - np.eye(4)[p.labels]) ** 2).sum(axis=1).mean(), abs=1e-5
    )
    assert "ece_raw" not in figures(made(50), draws=20, task="icbhi4")


def test_reliability_adds_up_to_the_calibration_error() -> None:
    p = made()
    bins = reliability(p.labels, p.probs)
    assert sum(one["clips"] for one in bins) == 300
    gaps = [one["clips"] * abs(one["confidence"] - one["accuracy"]) for one in bins]
    assert sum(gaps) / 300 == pytest.approx(ece(p.labels, p.probs), abs=1e-5)
    assert all(one["low"] < one["confidence"] <= one["high"] for one in bins)


def test_pooling_folds() -> None:
    p = made()
    first, second = p.take(np.arange(100)), p.take(np.arange(100, 300))
    cooled = replace(first, temperatures=np.full(100, 2.0))
    pooled = Predictions.pool([cooled, replace(second, temperatures=np.full(200, 1.5))])
    assert pooled.clip_ids == p.clip_ids and (pooled.probs == p.probs).all()
    assert pooled.temperatures is not None and set(pooled.temperatures[:100]) == {2.0}
    assert Predictions.pool([cooled, second]).temperatures is None
    with pytest.raises(DataError, match="c0"):
        Predictions.pool([p, first])
    with pytest.raises(DataError, match="classes"):
        Predictions.pool([first, made(classes=(*CLASSES, "more"))])


def test_a_subject_votes_with_all_its_clips() -> None:
    probs = np.array([[0.6, 0.4], [0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], dtype=np.float32)
    subjects = ["b:1", "b:1", "a:2", "a:2"]
    p = Predictions(list("wxyz"), subjects, np.array([1, 1, 0, 0]), probs, ("negative", "positive"))
    votes = p.vote()
    assert votes is not None and votes.subject_ids == ["a:2", "b:1"]
    assert votes.labels.tolist() == [0, 1] and votes.probs == pytest.approx(
        np.array([[0.55, 0.45], [0.35, 0.65]])
    )
    record = figures(p, draws=20, task="covid")
    assert record["accuracy"] == 0.5 and record["per_subject"]["accuracy"] == 1.0
    assert set(record["per_source"]) == {"a", "b"} and record["per_source"]["b"]["clips"] == 2
    # Events of one child differ: there is nothing to vote on.
    mixed = replace(p, labels=np.array([0, 1, 0, 0]))
    assert mixed.vote() is None and "per_subject" not in figures(mixed, draws=20, task="covid")


def test_tail_is_under_one_percent_but_trained_on() -> None:
    assert tail_of({"a": 981, "b": 10, "c": 9, "d": 0}) == ("c",)
    assert tail_of({}) == ()
