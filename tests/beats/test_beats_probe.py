"""Probes: known content gives known figures, subjects never cross, test labels choose nothing."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from beats import probe_data, probe_fit
from beats.config import QuantizerConfig, UnitsConfig, beats_config
from beats.encoder import BeatsEncoder, BeatsOutput
from beats.fbank import DEVIATION, MEAN
from beats.probe import FEATURES, LOG_MEL, UNITS, bag_of_units, probe, report_of, represent
from beats.probe_data import (
    ALL,
    SIMULATED,
    SUITES,
    Fold,
    ProbeSet,
    check_suites,
    load_set,
    load_sets,
    spread_out,
)
from beats.probe_fit import Judged, classify, drawn, judge
from beats.probe_plot import plot_probes
from beats.tokenizer import BeatsTokenizer, Quantizer
from resp229k.audio import write_wav
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from resp229k.splits import pretrain_subjects
from resp229k.tasks import get_task
from training.errors import ConfigError, ContaminationError, DataError
from training.model import Model, Provenance

K = 3
COLUMNS, ROWS = 2, 8


def toy(crossed: bool = True, name: str = "icbhi", per: int = 10) -> ProbeSet:
    """Clips whose class stands in their frames; every subject has clips of all classes, class 0 the most."""
    labels, subjects, parts = [], [], []
    for number in range(3 * per):
        part = ALL if crossed else ("train", "valid", "test")[number // per]
        for label in (0, 0, 1, 2):
            labels.append(label)
            subjects.append(f"{part}:{number % per // 2}")
            parts.append(part)
    rng = np.random.default_rng(0)
    frames = 0.01 * rng.standard_normal((len(labels), 16 * COLUMNS, 128))
    frames[:, 0, 0] = labels
    return ProbeSet(
        name=name,
        classes=("normal", "crackle", "wheeze"),
        frames=frames.astype(np.float16),
        labels=np.array(labels),
        subjects=np.array(subjects),
        parts=np.array(parts),
    )


class Listener(nn.Module):
    """Features that are the class, one-hot, at every place."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.provenance = Provenance()

    def encode_frames(self, frames, counts):
        heard = ((frames[:, 0, 0] - MEAN) / DEVIATION).round().long()
        places = torch.eye(K)[heard][:, None, None].expand(-1, COLUMNS, ROWS, -1)
        return BeatsOutput(places, counts // 16)


class Units(nn.Module):
    """Units made of the class by a table; several tables: residual codebooks."""

    def __init__(self, *tables: tuple[int, ...], codebook: int = 4):
        super().__init__()
        self.config = UnitsConfig(codebook=codebook, dim=K)
        self.provenance = Provenance()
        self.tables = torch.tensor(tables)

    def units(self, features):
        found = self.tables.T[features.argmax(-1)]
        return found[..., 0] if len(self.tables) == 1 else found


class Digests(Model):
    """A network with nothing in it, for a report's digests."""

    config_class = UnitsConfig


@pytest.fixture(autouse=True)
def two_strengths(monkeypatch):
    """Fewer fits."""
    monkeypatch.setattr(probe_fit, "GRID", (1e-3, 1e-1))


def rows_of(data: ProbeSet, quantizer: nn.Module, seeds: int = 1):
    rows = probe([data], Listener(), quantizer, seeds=seeds, control=False)  # type: ignore[arg-type]
    return {row.representation: row for row in rows}


@pytest.mark.parametrize("crossed", [True, False])
def test_units_that_are_the_class_keep_everything(crossed):
    rows = rows_of(toy(crossed), Units((0, 1, 2)))
    for name in (FEATURES, UNITS):
        assert rows[name].balanced_accuracy.mean == rows[name].auroc.mean == 1.0
        assert rows[name].interval == (1.0, 1.0)
    assert rows[UNITS].kept == 1.0
    assert rows[UNITS].kept_interval == (1.0, 1.0)
    assert rows[FEATURES].kept is None


@pytest.mark.parametrize("crossed", [True, False])
def test_constant_units_keep_nothing(crossed):
    row = rows_of(toy(crossed), Units((3, 3, 3)), seeds=2)[UNITS]
    assert row.balanced_accuracy.mean == row.chance == pytest.approx(1 / K, abs=1e-15)
    assert row.balanced_accuracy.std == 0
    assert row.kept == pytest.approx(0, abs=1e-12)
    assert row.auroc.mean == 0.5
    assert (row.codebooks[0].perplexity, row.codebooks[0].dead) == (1.0, 3)


def test_units_that_merge_two_of_three_classes_keep_half():
    row = rows_of(toy(crossed=False), Units((0, 1, 1)))[UNITS]
    assert row.balanced_accuracy.mean == pytest.approx(2 / 3)
    assert row.kept == pytest.approx(0.5)


def test_codebooks_of_residual_units_count_apart():
    rows = rows_of(toy(), Units((2, 2, 2), (0, 1, 1)))
    first, second = rows[UNITS].codebooks
    assert (first.perplexity, first.dead, second.dead) == (1.0, 3, 2)
    assert second.perplexity == pytest.approx(2.0)  # class 0 has half of the clips
    assert second.counts == [60 * 16, 60 * 16, 0, 0]
    assert rows[UNITS].balanced_accuracy.mean < 1.0
    both = rows_of(toy(), Units((2, 2, 3), (0, 1, 1)))[UNITS]
    assert both.balanced_accuracy.mean == 1.0  # each codebook parts what the other merges


def test_bag_of_units():
    units = np.array([[[[0], [0]], [[0], [2]]]])  # (1, 2, 2, 1): three places of unit 0, one of 2
    expected = [[np.sqrt(0.75), 0, 0.5, 1, 0, 1]]
    np.testing.assert_allclose(bag_of_units(units, 3), expected, atol=1e-7)
    residual = bag_of_units(np.concatenate([units, 2 - units], axis=-1), 3)
    assert residual.shape == (1, 12)
    np.testing.assert_allclose(residual[0, :6], [np.sqrt(0.75), 0, 0.5, 0.5, 0, np.sqrt(0.75)], atol=1e-7)


def test_representations_are_pooled_over_places():
    torch.manual_seed(0)
    encoder = BeatsEncoder(beats_config("tiny"))
    quantizer = Quantizer(QuantizerConfig(codebook=8, dim=96, code_dim=4))
    data = toy(per=2)
    own = BeatsTokenizer(BeatsEncoder(beats_config("tiny", "conv")).eval(), quantizer)
    found, grids = represent(data, encoder.train(), {"theirs": quantizer, "own": own})
    units = grids["theirs"]
    assert not encoder.training
    frames = torch.from_numpy(data.frames).float() * DEVIATION + MEAN
    with torch.no_grad():
        features = encoder.encode_frames(frames, torch.full((len(data),), 32)).features
    assert units.shape == (len(data), 2, 8, 1)
    np.testing.assert_array_equal(units[..., 0], quantizer.units(features))
    np.testing.assert_allclose(found[FEATURES][:, :96], features.mean((1, 2)), atol=1e-5)
    np.testing.assert_allclose(found[FEATURES][:, 96:], features.amax((1, 2)), atol=1e-5)
    assert found[LOG_MEL].shape == (len(data), 256)
    # One with an encoder of its own hears with that.
    np.testing.assert_array_equal(represent(data, own.encoder, {"": quantizer})[1][""], grids["own"])
    assert (grids["own"] != units).any()


def test_same_seed_same_rows_and_seeds_vary():
    rng = np.random.default_rng(1)
    data = toy(crossed=False)
    noisy = rng.standard_normal((len(data), 6)).astype(np.float32)
    noisy[:, 0] += data.labels
    first, again = judge(data, noisy, 3, "noisy"), judge(data, noisy, 3, "noisy")
    assert first.accuracies == again.accuracies and first.areas == again.areas
    assert len(set(first.accuracies)) > 1
    assert rows_of(data, Units((0, 1, 1))) == rows_of(data, Units((0, 1, 1)))


@pytest.mark.parametrize("crossed", [True, False])
def test_labels_of_test_clips_change_nothing_that_is_fitted(crossed):
    rng = np.random.default_rng(0)
    data = toy(crossed)
    x = rng.standard_normal((len(data), 8)).astype(np.float32)
    x[:, 0] += data.labels
    for fold in data.folds(0)[:1]:
        shuffled = data.labels.copy()
        shuffled[fold.test] = rng.permutation(shuffled[fold.test])
        assert (shuffled != data.labels).any()
        np.testing.assert_array_equal(classify(x, data.labels, fold, K), classify(x, shuffled, fold, K))
        shuffled = rng.permutation(data.labels)  # those of training clips do
        assert (classify(x, data.labels, fold, K) != classify(x, shuffled, fold, K)).any()


def test_the_last_fit_is_the_one_that_was_chosen(monkeypatch):
    """Fits that stop early depend on where they start: on the same clips it gives what was judged."""
    monkeypatch.setattr(probe_fit, "STEPS", 2)
    monkeypatch.setattr(probe_fit, "GRID", (1e-3, 1e-2, 1e-1, 1.0))
    rng = np.random.default_rng(0)
    labels = rng.integers(K, size=200)
    x = rng.standard_normal((200, 20)).astype(np.float32)
    x[:, 0] += 2 * labels
    train, test = np.arange(100), np.arange(100, 200)
    given = classify(x, labels, Fold(train, [(train, test)], test), K)
    losses = [
        probe_fit._balanced_loss(labels[test], one)
        for one in probe_fit._path(x, labels, train, test, K, probe_fit.GRID)
    ]
    assert np.argmin(losses) > 0
    assert probe_fit._balanced_loss(labels[test], given) == min(losses)


def test_interval_is_over_subjects():
    """Two subjects, one always right, one never: draws of both give 0, 1/2 and 1."""
    found = Judged([0.5], [0.5], np.array([[9.0, 9], [0, 0], [0, 0]]), np.array([[9.0, 9], [9, 9], [0, 0]]))
    shares = Counter(drawn(found).tolist())
    assert set(shares) == {0.0, 0.5, 1.0}
    assert shares[0.5] / 1000 == pytest.approx(0.5, abs=0.06)


def corpus_for(suite_name: str, folder: Path, clips_per: int = 4, subjects: int = 6) -> Corpus:
    """A corpus with every split, its classes but one common, all clips of one wave."""
    suite = SUITES[suite_name]
    write_wav(folder / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16000), synthetic=True)
    *common, rare = get_task(suite.task).classes[:3]
    clips = []
    for split in ("train", "select", "plan", "test"):
        for subject in range(subjects):
            for label in [*common * clips_per, *([rare] if subject == 0 else [])]:
                name = f"{split}-{subject}-{len(clips)}"
                clips.append(
                    Clip(clip_id=name, recording_id=name, subject_id=f"x:{split}{subject}", source="x",
                         split=split, path="a.wav", start=0, end=1, sample_rate=16000,
                         labels={suite.task: label})
                )  # fmt: skip
    return Corpus(folder, clips)


@pytest.mark.parametrize("name", SUITES)
def test_subjects_never_cross(name, tmp_path, monkeypatch):
    monkeypatch.setattr(
        probe_data, "_frames", lambda corpus, clips, how, name: np.zeros((len(clips), 16, 128))
    )
    corpus = corpus_for(name, tmp_path)
    data = load_set(name, SUITES[name], corpus, without={"x:train5", "x:test5"}, limit=90, seed=1)
    assert_apart(data)
    assert not {"x:train5", "x:test5"} & set(data.subjects)
    rare = get_task(SUITES[name].task).classes[2]
    assert rare not in data.classes and len(data.classes) == 2
    assert "subjects" in data.left_out[rare]
    assert data.left_out["clips of subjects that the weights have heard"] == "16"
    assert max(Counter(data.parts).values()) <= 90
    assert Counter(data.parts)["valid"] <= 30


def assert_apart(data: ProbeSet) -> None:
    for seed in range(2):
        folds = data.folds(seed)
        tested = np.concatenate([fold.test for fold in folds])
        assert len(set(tested)) == len(tested)
        if SUITES[data.name].crossed:
            assert len(tested) == len(data)
        for fold in folds:
            for fit, score in fold.inner:
                met = [set(data.subjects[rows]) for rows in (fit, score, fold.test)]
                assert not met[0] & met[1] and not met[2] & (met[0] | met[1])
            assert not set(data.subjects[fold.train]) & set(data.subjects[fold.test])
    assert len({tuple(data.folds(seed)[0].train) for seed in range(4)}) > 1


def test_simulated_sources_are_apart_and_their_own():
    sources = SIMULATED.sources()
    names = [name for group in sources.values() for name in group]
    assert len(set(names)) == len(names) == 15
    assert not any(name.startswith("sim-pretrain") for name in names)
    assert len(SIMULATED.classes) == 16
    assert min(SIMULATED.train_counts().values()) >= 20 <= SIMULATED.test


def test_sets_refuse_what_would_flatter():
    data = toy()
    listener = Listener()
    listener.provenance = Provenance.of(["all:1", "elsewhere:1"])
    with pytest.raises(ContaminationError, match="all:1"):
        probe([data], listener, Units((0, 1, 2)))  # type: ignore[arg-type]
    units = Units((0, 1, 2))
    units.provenance = listener.provenance
    with pytest.raises(ContaminationError, match="1 subjects"):
        probe([data], Listener(), units)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="two parts"):
        ProbeSet(
            "icbhi",
            ("a", "b"),
            data.frames,
            data.labels,
            data.subjects,
            np.resize(["train", "test"], len(data)),
        )
    with pytest.raises(DataError, match="fewer than two classes"):
        ProbeSet("icbhi", ("a",), data.frames, data.labels, data.subjects, data.parts)
    with pytest.raises(ConfigError, match="nonesuch"):
        check_suites(["nonesuch"], ".")


def test_clips_are_spread_over_classes_and_subjects(tmp_path):
    clips = corpus_for("icbhi", tmp_path, clips_per=10).clips
    chosen = spread_out(clips, "icbhi4", 100, seed=0)
    counts = Counter(clip.labels["icbhi4"] for clip in chosen)
    assert counts == {"wheeze": 4, "normal": 48, "crackle": 48}  # all of the rare one, the rest in halves
    per_subject = Counter(clip.subject_id for clip in chosen if clip.labels["icbhi4"] == "normal")
    assert set(per_subject.values()) == {2}
    assert chosen == spread_out(list(reversed(clips)), "icbhi4", 100, seed=0)
    assert chosen != spread_out(clips, "icbhi4", 100, seed=1)


def test_frames_are_those_of_prepared_clips(tmp_path):
    corpus = corpus_for("icbhi", tmp_path)
    wide = load_set("icbhi", SUITES["icbhi"], corpus, limit=60)
    narrow = load_set("icbhi", SUITES["icbhi"], corpus, limit=60, bandwidth=1000.0)
    assert wide.frames.shape[1:] == (398, 128) and wide.frames.dtype == np.float16
    assert narrow.bandwidth == 1000.0
    gap = wide.frames.astype(float).mean(1) - narrow.frames.astype(float).mean(1)
    assert np.abs(gap[:, 5:40]).max() < 0.1  # bin 40 lies at 0.8 kHz
    assert gap[:, 80:].min() > 0.3  # bin 80 lies at 2.6 kHz


def test_report_and_plot(tmp_path):
    data = toy()
    rows = probe([data], Listener(), Units((0, 1, 1), (0, 1, 2)), seeds=1)  # type: ignore[arg-type]
    assert [row.representation for row in rows] == [LOG_MEL, FEATURES, UNITS]
    empty = Digests(UnitsConfig())
    report = report_of("tiny/beats", [data], empty, empty, rows, 1)  # type: ignore[arg-type]
    record = json.loads(report.model_dump_json())
    assert record["suites"]["icbhi"]["classes"]["normal"] == {"all": 60}
    assert record["suites"]["icbhi"]["subjects"] == 5
    assert [row["representation"] for row in record["rows"]] == [LOG_MEL, FEATURES, UNITS]
    assert "counts" not in record["rows"][2]["codebooks"][0]
    assert len(record["encoder"]) == 64
    plot_probes(rows, tmp_path / "new" / "probe.png")
    assert (tmp_path / "new" / "probe.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.real
@pytest.mark.parametrize("name", ["icbhi", *(pytest.param(n, marks=pytest.mark.slow) for n in
                                             ("sprsound", "spr2icbhi", "icbhi2spr"))])  # fmt: skip
def test_real_subjects_never_cross(name, resp_data, tmp_path):
    (data,) = load_sets([name], work=tmp_path, root=str(resp_data), without=pretrain_subjects(), limit=200)
    assert_apart(data)
    assert not pretrain_subjects() & set(data.subjects)
    assert data.bandwidth == SUITES[name].bandwidth
    assert len(data.classes) >= 3
    if not SUITES[name].crossed:
        of_part = {
            part: {s.split(":")[0] for s in data.subjects[data.parts == part]} for part in set(data.parts)
        }
        assert not of_part["train"] & of_part["test"]  # collections
