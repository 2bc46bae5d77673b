"""Baselines on a toy corpus of tones: who hears knows the pitch, who reads knows the age, nobody else does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from beats.cache import FeatureStore
from beats.config import BeatsConfig
from beats.encoder import BeatsEncoder
from diagnoser.baselines import simple
from diagnoser.baselines.choose import Fitted, criterion
from diagnoser.baselines.data import PartData
from diagnoser.baselines.rows import ABLATION, BASELINES, VARIANTS, Variant
from diagnoser.baselines.sounds import BANDS, bins_below, describe
from diagnoser.baselines.train import MAKERS, fit_predict
from diagnoser.baselines.woven import as_trained, from_texts
from diagnoser.config import DiagnoserSizes, DiagnoserTrainConfig
from diagnoser.suites import SuitePart
from resp229k.audio import RATE, Preprocess, prepare, write_wav
from resp229k.clip import Clip, Event, Metadata
from resp229k.corpus import Corpus
from training.errors import ConfigError, DataError
from training.fitconfig import FitConfig
from training.model import Provenance

SECONDS = 0.6
LABELS = ("normal", "crackle", "wheeze", "both")
PITCH = dict(zip(LABELS, (200, 600, 1500, 3500), strict=True))  # Hz
COUNTS = {"train": 6, "select": 3, "test": 4}  # of a class; two more normal ones in training
SLOW = pytest.mark.slow
HEARS = (
    "trees", "pooled", "pooled-mlp", "late-concat", "weaving",
    *(pytest.param(name, marks=SLOW) for name in ("cnn", "ast", "audio-only", "late-vote")),
)  # fmt: skip


def make_clips() -> list[Clip]:
    """Ages are the same mixture in every class; clips last 0.4 to 1 s."""
    clips: list[Clip] = []
    for split, count in COUNTS.items():
        for label in LABELS:
            for n in range(count + (2 if (split, label) == ("train", "normal") else 0)):
                name = f"c{len(clips):03d}"
                clips.append(
                    Clip(
                        clip_id=name,
                        recording_id=name,
                        subject_id=f"toy:{split}{n}",
                        source="toy",
                        split=split,  # type: ignore[arg-type]
                        path=f"audio/{name}.wav",
                        start=0.0,
                        end=0.3 + 0.05 * (len(clips) % 9),
                        device="A" if n % 2 else "B",
                        sample_rate=RATE,
                        labels={"icbhi4": label},
                        metadata=Metadata(age_years=30 + 10 * (n % 3), sex="male"),
                    )
                )
    return clips


def changed(clips: list[Clip], change: Any) -> list[Clip]:
    return [clip.model_copy(update=change(clip)) for clip in clips]


def by_age(clip: Clip) -> dict[str, Any]:
    return {"metadata": Metadata(age_years=20 + 15 * LABELS.index(clip.labels["icbhi4"]))}


def give_away(clip: Clip) -> dict[str, Any]:
    """The label in every field that must not be told, and in device and source."""
    label = clip.labels["icbhi4"]
    names = ("diagnosis", "findings", "status", "covid_test", "viral_load", "test_method", "narrative")
    texts = dict.fromkeys(names, label) | {"region": label, "smoker": label}
    return {
        "metadata": clip.metadata.model_copy(update={**texts, "expert_diagnoses": (label,)}),
        "device": label,
        "source": label,
        "events": [Event(kind="wheeze", start=0, end=0.1)] * LABELS.index(label),
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings and an encoder."""
    home = tmp_path_factory.mktemp("baselines")
    for index, clip in enumerate(make_clips()):
        rng = np.random.default_rng(index)
        t = np.arange(RATE) / RATE
        tone = np.sin(2 * np.pi * PITCH[clip.labels["icbhi4"]] * t)
        wave = 0.3 * tone + 0.02 * rng.normal(size=t.size)
        write_wav(home / clip.path, wave.astype(np.float32), synthetic=False)
    torch.manual_seed(0)
    encoder = BeatsEncoder(
        BeatsConfig(
            embed_dim=16,
            dim=24,
            ffn_dim=32,
            layers=1,
            heads=2,
            conv_pos=8,
            conv_pos_groups=4,
            max_distance=100,
        )
    ).eval()
    encoder.provenance = Provenance.of(["pretrain:1"])
    encoder.save_pretrained(home / "beats" / "encoder")
    return home


def part_of(home: Path, clips: list[Clip]) -> PartData:
    corpus = Corpus(home, clips)
    corpus.save()  # the diagnoser's training opens the folder
    config = DiagnoserTrainConfig(
        corpus="replaced",
        task="icbhi4",
        beats={"weights": str(home / "beats")},
        model=DiagnoserSizes(hidden=24, heads=2, inner=32, layers=1, rows=4, max_columns=8, text_tokens=12),
        fit=FitConfig(steps=26, batch_size=12, learning_rate=1e-2, eval_every=13),
    )
    part = SuitePart("toy", corpus, "icbhi4", Preprocess(seconds=SECONDS, fit="loop"))
    return PartData(part, config, home / "work")


@pytest.fixture(scope="module")
def data(home: Path) -> PartData:
    return part_of(home, make_clips())


@pytest.fixture(scope="module")
def plain(data: PartData) -> Callable[..., Fitted]:
    """Rows on the corpus as it is, each trained once."""
    known: dict[tuple[str, int], Fitted] = {}

    def fitted(name: str, seed: int = 0) -> Fitted:
        if (name, seed) not in known:
            data.part.corpus.save()  # another test may have left its own there
            needed = {one: fitted(one, seed) for one in BASELINES[name].needs} if name in BASELINES else {}
            known[name, seed] = fit_predict(name, data, seed, needed)
        return known[name, seed]

    return fitted


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simple, "TREES", 20)


def accuracy(found: Fitted) -> float:
    return float((found.test.guesses == found.test.labels).mean())


def test_every_row_has_a_maker() -> None:
    assert set(MAKERS) == set(BASELINES) | set(ABLATION)
    # fusion × text × anchors, without the two that have nothing to fuse
    assert len(VARIANTS) == 2 * 3 * 2 - 2
    assert all(need in BASELINES for row in BASELINES.values() for need in row.needs)


@pytest.mark.parametrize("name", HEARS)
def test_who_hears_knows_the_pitch(name: str, data: PartData, plain: Callable[..., Fitted]) -> None:
    found = plain(name)
    assert accuracy(found) > 0.6  # chance is 0.25
    assert found.test.clip_ids == [clip.clip_id for clip in data.clips["test"]]
    assert found.test.probs.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert len(found.select.labels) == 12


@pytest.mark.parametrize("name", ["weaving, raw, no anchors", pytest.param("late, raw, anchors", marks=SLOW)])
def test_variants_of_the_ablation_learn(name: str, plain: Callable[..., Fitted]) -> None:
    assert accuracy(plain(name)) > 0.6


@pytest.mark.parametrize("name", ["metadata-only", "text-words", "text-only"])
def test_who_reads_knows_the_age_alone(name: str, home: Path) -> None:
    told = part_of(home, changed(make_clips(), by_age))
    assert accuracy(fit_predict(name, told, 0)) > 0.7


@pytest.mark.parametrize("name", ["metadata-only", "text-words", pytest.param("weaving", marks=SLOW)])
def test_what_defines_the_label_is_never_read(name: str, home: Path, plain: Callable[..., Fitted]) -> None:
    """Planted in every withheld field, in device and source, it changes not one probability."""
    planted = part_of(home, changed(make_clips(), give_away))
    given = fit_predict(name, planted, 0)
    np.testing.assert_array_equal(given.test.probs, plain(name).test.probs)
    assert planted.raw("test") == [f"age_years: {30 + 10 * (n % 3)}, sex: male" for n in (0, 1, 2, 3)] * 4
    if name == "metadata-only":
        assert given.notes["fields"] == ["age_years", "sex"]


def test_text_only_hears_nothing(
    data: PartData, plain: Callable[..., Fitted], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = plain("text-only")
    rng = np.random.default_rng(0)
    monkeypatch.setattr(FeatureStore, "features", lambda store, name: rng.normal(size=(6, 8, 24)))
    np.testing.assert_array_equal(fit_predict("text-only", data, 0).test.probs, heard.test.probs)


def test_majority_and_source_prior_are_counts(home: Path) -> None:
    clips = make_clips()
    of_device: dict[str, Counter[str]] = {"A": Counter(), "B": Counter()}
    for clip in clips:
        if clip.split == "train":
            of_device[str(clip.device)][clip.labels["icbhi4"]] += 1
    first = next(index for index, clip in enumerate(clips) if clip.split == "test")
    clips[first] = clips[first].model_copy(update={"device": "unheard"})
    clips[first + 1] = clips[first + 1].model_copy(update={"source": "elsewhere"})
    part = part_of(home, clips)
    shares = np.array([8, 6, 6, 6]) / 26
    assert fit_predict("majority", part, 0).test.probs == pytest.approx(np.tile(shares, (16, 1)))
    probs = fit_predict("source-prior", part, 0).test.probs
    assert probs[:2] == pytest.approx(np.tile(shares, (2, 1)))  # of the source, then of all
    for row, clip in enumerate(part.clips["test"][2:], start=2):
        counts = of_device[str(clip.device)]
        assert probs[row] == pytest.approx([counts[n] / counts.total() for n in LABELS])


@pytest.mark.parametrize("name", ["trees", "late-concat"])
def test_a_seed_gives_the_same_again_and_another_something_else(
    name: str, data: PartData, plain: Callable[..., Fitted]
) -> None:
    first, again, other = plain(name), fit_predict(name, data, 0), fit_predict(name, data, 1)
    np.testing.assert_array_equal(first.test.probs, again.test.probs)
    assert np.abs(first.test.probs - other.test.probs).max() > 0


@pytest.mark.parametrize(
    "name", ["metadata-only", "trees", "late-concat", pytest.param("weaving", marks=SLOW)]
)
def test_labels_of_test_change_nothing_but_the_truth(
    name: str, home: Path, plain: Callable[..., Fitted]
) -> None:
    clips, honest = make_clips(), plain(name)
    turn = {label: LABELS[i - 1] for i, label in enumerate(LABELS)}
    turned = changed(
        clips, lambda c: {"labels": {"icbhi4": turn[c.labels["icbhi4"]]}} if c.split == "test" else {}
    )
    found = fit_predict(name, part_of(home, turned), 0)
    np.testing.assert_array_equal(found.test.probs, honest.test.probs)
    assert (found.test.labels != honest.test.labels).all()


@pytest.mark.slow
def test_the_other_trainings_are_the_diagnosers(home: Path) -> None:
    """On narratives, what trains raw texts gives what `train diagnoser` gives, to the last weight."""
    part = part_of(home, make_clips())
    config = part.seeded(3).model_copy(update={"balanced": True, "loss_weights": "inverse"})
    texts = {split: part.narratives(split, 3) for split in part.clips}
    ours, own = from_texts(part, config, texts, "narrative"), as_trained(part, config, "own")
    np.testing.assert_allclose(ours.test.probs, own.test.probs, atol=1e-6)
    assert ours.notes == own.notes


def test_raw_text_is_the_narratives_facts(data: PartData) -> None:
    assert data.raw("train")[0] == "age_years: 30, sex: male"


def test_choice_is_by_macro_f1_then_loss() -> None:
    labels = np.array([0, 1, 0, 1])
    right, sure = np.array([[1, 0], [0, 1]] * 2), 3.0 * np.array([[1, 0], [0, 1]] * 2)
    wrong = np.zeros((4, 2))
    assert criterion(labels, sure) > criterion(labels, right) > criterion(labels, wrong)


def test_frames_and_features_are_shared_by_folds_of_the_same_clips(home: Path) -> None:
    clips = make_clips()
    before = part_of(home, clips)
    swap = {"select": "test", "test": "select"}
    fold = part_of(home, changed(clips, lambda c: {"split": swap.get(c.split, c.split)}))
    assert fold.store.folder == before.store.folder
    assert fold.frames.filename == before.frames.filename  # type: ignore[attr-defined]
    assert before.key != fold.key
    wave = prepare(before.part.corpus.audio(before.clips["test"][0]), before.looped)
    assert before.frames.shape == (len(clips), 58, 128) and wave.size == SECONDS * RATE


def test_hand_made_features_hear_pitch_but_neither_length_nor_what_is_above_the_band() -> None:
    t = np.arange(2 * RATE) / RATE
    low = (0.3 * np.sin(2 * np.pi * 300 * t)).astype(np.float32)
    high = low + (0.3 * np.sin(2 * np.pi * 6000 * t)).astype(np.float32)
    narrow = Preprocess(seconds=1.0, fit="loop", bandwidth=2000)
    heard = describe([prepare(low, narrow), prepare(high, narrow)], 2000)
    np.testing.assert_allclose(heard[0], heard[1], atol=0.05)
    assert np.abs(np.diff(describe([low, high]), axis=0)).max() > 1
    # A sound of 0.4 s looped is described as the same sound of 1 s.
    whole = Preprocess(seconds=1.0, fit="loop")
    noise = np.random.default_rng(0).normal(size=RATE).astype(np.float32) * 0.1
    short, long = describe([prepare(noise[: 2 * RATE // 5], whole), prepare(noise, whole)])
    assert np.median(np.abs(short - long)) < 0.2
    assert bins_below(None) == 128 and 60 < bins_below(2000) < 75


def test_hand_made_features_hear_neither_gain_nor_response() -> None:
    rng = np.random.default_rng(0)
    wave = rng.normal(size=2 * RATE).astype(np.float32) * (1 + 0.9 * np.sin(np.arange(2 * RATE) / 900)) * 0.05
    plain, louder = describe([wave, 4 * wave])
    np.testing.assert_allclose(plain, louder, atol=0.05)
    coloured = np.convolve(wave, [1.0, -0.7], mode="same").astype(np.float32)
    spectrum = describe([wave, coloured])[:, : 4 * BANDS]  # of the bands: spread, quantiles, change
    np.testing.assert_allclose(*spectrum, atol=0.1)


def test_wrong_parts_are_refused(home: Path, data: PartData) -> None:
    for update in ({"repeats": "x.json"}, {"synthetic": ["x"]}, {"init": "x"}):
        with pytest.raises(ConfigError, match="from scratch"):
            PartData(data.part, data.config.model_copy(update=update), home)
    only = [c for c in make_clips() if c.split != "train" or c.labels["icbhi4"] == "normal"]
    with pytest.raises(DataError, match="only one class"):
        PartData(replace(data.part, corpus=Corpus(home, only)), data.config, home)
    bare = data.config.model.model_copy(update={"anchors": None})
    with pytest.raises(ConfigError, match="anchors"):
        Variant().applied(data.config.model_copy(update={"model": bare}))
    with pytest.raises(ConfigError, match="magic"):
        fit_predict("magic", data, 0)
