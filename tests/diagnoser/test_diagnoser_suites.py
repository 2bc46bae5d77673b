"""Suites on stand-ins in the publishers' layout; whole published lists where a suite needs all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from standins import (
    fake_predict,
    score_suite,
    write_all_sources,
    write_icbhi,
    write_official_icbhi,
    write_sprsound,
    write_sprsound_test,
)

from diagnoser.evaluate_suite import folder_of
from diagnoser.suites import SOURCES, SUITES, SuitePart, get_suite, load_suite, suite_names
from resp229k.build import build_corpus
from resp229k.buildconfig import BuildConfig
from resp229k.corpus import Corpus
from resp229k.splits import load_protocol, protocol_names
from resp229k.tasks import TASKS
from training.errors import ConfigError, DataError

PARTS = ("train", "select", "plan", "test")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty children and forty patients, two events each."""
    root = tmp_path_factory.mktemp("data")
    write_sprsound(root, subjects=40)
    write_icbhi(root, subjects=40)
    return root


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps the corpora of ``data``."""
    return tmp_path_factory.mktemp("work")


def subjects(part: SuitePart, split: str) -> set[str]:
    return set(part.corpus.subset(split=split).subjects)


def test_every_suite_is_of_protocols_and_a_task() -> None:
    assert set(suite_names()) >= {
        *("icbhi", "icbhi-official", "spr", "spr-records", "spr2icbhi", "icbhi2spr", "test-cd", "loso"),
        *("ood:kauh", "ood:coughvid", "ood:sprsound", "ood:icbhi", "ood:uk_covid19", "spr-inter", "covid"),
    }
    for suite in SUITES.values():
        assert suite.task in TASKS and set(suite.protocols) <= set(protocol_names())
        assert suite.preprocess.fit == "loop"  # the length of a clip cannot be read off
    assert get_suite("spr").folds == 5 and get_suite("spr2icbhi").folds == 1
    assert get_suite("spr2icbhi").bandwidth == get_suite("icbhi2spr").bandwidth == 2000.0
    with pytest.raises(ConfigError, match="everything"):
        get_suite("everything")


def test_folds_share_audio_and_test_every_child_once(data: Path, tmp_path: Path) -> None:
    parts = load_suite("spr", root=str(data), work=tmp_path / "work")
    assert [part.name for part in parts] == [f"spr fold {fold}" for fold in range(5)]
    tested = [subjects(part, "test") for part in parts]
    assert sum(map(len, tested)) == len(set().union(*tested)) == 40
    for part in parts:
        homes = [subjects(part, split) for split in PARTS]
        assert sum(map(len, homes)) == 40 and len(set().union(*homes)) == 40
        assert len(Corpus.open(part.corpus.folder)) == len(part.corpus) == 80
        assert part.corpus.audio(part.corpus.clips[0]).size > 0
    files = list((tmp_path / "work").glob("*/audio/sprsound/*.flac"))
    assert len({file.resolve() for file in files}) == 40
    moved = (tmp_path / "work").rename(tmp_path / "elsewhere")  # links are relative
    again = load_suite("spr", root=str(data), work=moved)
    assert [part.corpus.digest for part in again] == [part.corpus.digest for part in parts]
    assert again[3].corpus.audio(again[3].corpus.clips[0]).size > 0


def test_a_fold_is_what_building_it_gives(data: Path, work: Path, tmp_path: Path) -> None:
    part = load_suite("icbhi", root=str(data), work=work)[2]
    config = BuildConfig(protocol="icbhi-5fold", root=str(data), clip="event", fold=2)
    assert build_corpus(config, tmp_path / "built").clips == part.corpus.clips
    assert build_corpus(config, part.corpus.folder).clips == part.corpus.clips  # reopens it
    (part.corpus.folder / "build.json").write_text("{}")
    with pytest.raises(DataError, match="something else"):
        load_suite("icbhi", root=str(data), work=work)


def test_across_corpora(data: Path, work: Path) -> None:
    (there,) = load_suite("spr2icbhi", root=str(data), work=work)
    (back,) = load_suite("icbhi2spr", root=str(data), work=work)
    for part, train, test in ((there, "sprsound", "icbhi"), (back, "icbhi", "sprsound")):
        assert {clip.source for clip in part.corpus.subset(split="test").clips} == {test}
        assert {clip.source for clip in part.corpus.subset(split="train").clips} == {train}
        assert part.preprocess.bandwidth == 2000.0 and part.task == "icbhi4" and not part.shared


def test_records_are_whole_recordings(data: Path, tmp_path: Path) -> None:
    part = load_suite("spr-records", root=str(data), work=tmp_path)[0]
    assert part.task == "spr_record" and len(part.corpus) == 40
    assert all(clip.seconds == pytest.approx(2.0, abs=0.01) for clip in part.corpus.clips)


def test_the_published_tests_of_sprsound(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"spr-inter has no audio for test.*sprsound-inter"):
        load_suite("spr-inter", root=str(data), work=tmp_path / "a")
    root = tmp_path / "data"
    write_sprsound(root, subjects=16)
    write_sprsound_test(root, "inter", range(95_000_000, 95_000_010))
    (part,) = load_suite("spr-inter", root=str(root), work=tmp_path / "b")
    assert subjects(part, "test") == {f"sprsound:{95_000_000 + n}" for n in range(10)}
    (records,) = load_suite("spr-inter-records", root=str(root), work=tmp_path / "b")
    assert records.corpus.subset(split="test").counts("spr_record")["Poor Quality"] == 2
    fake_predict(monkeypatch)
    for suite, task in (("spr-inter", "task11"), ("spr-inter-records", "task21")):
        (run,) = score_suite(suite, root, tmp_path / "b", tmp_path / "models" / suite)["runs"]
        assert run["clips"] and run[f"{task}_score"] == pytest.approx(
            (run[f"{task}_as"] + run[f"{task}_hs"]) / 2, abs=2e-6
        )
    next((root / "SPRSound" / "test_wav").iterdir()).unlink()
    with pytest.raises(DataError, match=r"needs all of its recordings: 1 of 10 for test.*95000"):
        load_suite("spr-inter", root=str(root), work=tmp_path / "c")


def test_sources_that_are_not_here_are_named(data: Path, tmp_path: Path) -> None:
    for name in ("test-cd", "covid", "loso", "ood:kauh"):
        with pytest.raises(DataError, match="UK_COVID_19"):
            load_suite(name, root=str(data), work=tmp_path)
    with pytest.raises(DataError, match="RESP_DATA"):
        load_suite("icbhi", root=str(tmp_path / "none"), work=tmp_path)


@pytest.mark.slow
def test_every_disease_suite_on_all_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, work = tmp_path / "data", tmp_path / "work"
    write_all_sources(root)
    (paper,) = load_suite("test-cd", root=str(root), work=work)
    assert {clip.source for clip in paper.corpus.subset(split="test").clips} == {"coughvid", "kauh"}
    assert paper.task == "disease16" and paper.preprocess.bandwidth == 2000.0
    (covid,) = load_suite("covid", root=str(root), work=work)
    assert covid.corpus.digest == paper.corpus.digest  # one protocol, one folder
    assert covid.corpus.subset(split="test").counts("covid") == {"negative": 8, "positive": 4}
    parts = load_suite("loso", root=str(root), work=work)
    assert [part.name for part in parts] == [f"loso {source}" for source in SOURCES]
    for part, source in zip(parts, SOURCES, strict=True):
        heard = {split: {c.source for c in part.corpus.subset(split=split).clips} for split in PARTS}
        assert heard["test"] == {source} and source not in heard["train"] | heard["select"]
    fake_predict(monkeypatch)
    for suite, clips in (
        ("test-cd", None),
        ("covid", 12),
        ("loso", None),
        ("ood:kauh", None),
        ("ood:coughvid", None),
    ):
        (run,) = score_suite(suite, root, work, tmp_path / "models" / folder_of(suite), skill=4.0)["runs"]
        assert run["contaminated"] is None and run["accuracy"] > run["source_prior"]["accuracy"]
        assert clips in (None, run["clips"])
    (kauh,) = load_suite("ood:kauh", root=str(root), work=work)
    assert kauh.corpus.digest == parts[-1].corpus.digest
    config = BuildConfig(protocol="loso-kauh", root=str(root), clip="recording")
    assert build_corpus(config, tmp_path / "built").digest == kauh.corpus.digest
    next((root / "COUGHVID" / "public").iterdir()).unlink()
    with pytest.raises(DataError, match=r"test-cd needs all.*1 of 30 for test have no audio .coughvid"):
        load_suite("test-cd", root=str(root), work=tmp_path / "other")


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 920 recordings of ICBHI by name."""
    root = tmp_path_factory.mktemp("official")
    rule = load_protocol("icbhi-official").rules["icbhi"]
    write_official_icbhi(root, sorted(rule.known))  # type: ignore[union-attr]
    return root


@pytest.mark.slow
def test_the_official_split(official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (part,) = load_suite("icbhi-official", root=str(official), work=tmp_path)
    recordings = {
        split: {clip.recording_id for clip in part.corpus.subset(split=split).clips} for split in PARTS
    }
    assert len(recordings["test"]) == 381
    assert sum(len(recordings[split]) for split in ("train", "select", "plan")) == 539
    assert part.shared == {"icbhi:156", "icbhi:218"}
    both = subjects(part, "test") & set().union(*(subjects(part, split) for split in PARTS[:3]))
    assert both == part.shared
    fake_predict(monkeypatch)
    (run,) = score_suite("icbhi-official", official, tmp_path, tmp_path / "models", skill=4.0)["runs"]
    assert run["clips"] == 762 and run["contaminated"] is None  # the two that are shared are no contamination
    assert 0.5 < run["score"] == pytest.approx((run["sp"] + run["se"]) / 2, abs=2e-6)


def test_the_official_split_needs_all_920(official: Path, tmp_path: Path) -> None:
    one = sorted(official.glob("*/*/*.wav"))[0]
    away = one.rename(tmp_path / "away.wav")
    with pytest.raises(DataError, match=f"1 of .* have no audio .icbhi., e.g. {one.name}"):
        load_suite("icbhi-official", root=str(official), work=tmp_path / "work")
    lines = one.with_suffix(".txt").rename(tmp_path / "away.txt")
    with pytest.raises(DataError, match=f"1 of 920 that the published split lists.*{one.stem}"):
        load_suite("icbhi-official", root=str(official), work=tmp_path / "work")
    assert not (tmp_path / "work").exists()  # told before anything is converted
    away.rename(one)
    lines.rename(one.with_suffix(".txt"))


def test_needs_no_torch() -> None:
    code = "import sys, diagnoser.suites; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.real
def test_real_recordings_that_are_not_here_are_counted(resp_data: Path, tmp_path: Path) -> None:
    for name, why in (("icbhi-official", "334 of 405 for train"), ("spr-inter", "has no audio for test")):
        with pytest.raises(DataError, match=why):
            load_suite(name, root=str(resp_data), work=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.real
@pytest.mark.slow
def test_real_folds_of_icbhi(resp_data: Path, tmp_path: Path) -> None:
    parts = load_suite("icbhi", root=str(resp_data), work=tmp_path)
    tests = [part.corpus.subset(split="test", task="icbhi4") for part in parts]
    assert sum(map(len, tests)) == 1048
    assert sum(len(test.subjects) for test in tests) == 41
