"""Building: conversion, protocols, quarantine; the real sources where they are."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from published_layout import noise, write_annotation

from resp229k.audio import read_audio
from resp229k.build import BuildConfig, build_corpus, pretrain_corpus
from resp229k.check import DUPLICATE, check_corpus
from resp229k.corpus import Corpus
from resp229k.quarantine import count_reasons, read_quarantine
from resp229k.splits import pretrain_subjects
from training.errors import DataError
from training.files import read_json


def config(root: Path, **values: object) -> BuildConfig:
    return BuildConfig.model_validate({"root": str(root), **values})


def annotation(root: Path) -> Path:
    return sorted((root / "SPRSound" / "train_json").iterdir())[0]


def audio(root: Path) -> Path:
    return sorted((root / "SPRSound" / "train_wav").iterdir())[0]


def subjects_are_disjoint(corpus: Corpus) -> bool:
    parts = [set(corpus.subset(split=split).subjects) for split in ("train", "select", "plan", "test")]
    return sum(map(len, parts)) == len(set().union(*parts))


def test_clips_and_copies(published: Path, tmp_path: Path) -> None:
    corpus = build_corpus(config(published), tmp_path / "corpus")
    assert len(corpus) == 48 and subjects_are_disjoint(corpus)
    clip = next(c for c in corpus.clips if c.clip_id == "sprsound-90000003_3.3_1_p4_3-001")
    assert clip.labels == {"disease16": "Asthma", "spr_event": "Wheeze+Crackle", "icbhi4": "both"}
    assert [(e.kind, e.start, round(e.end, 6)) for e in clip.events] == [
        ("wheeze", 0, 0.9),
        ("crackle", 0, 0.9),
    ]
    assert clip.sample_rate == 8000 and corpus.audio(clip).shape == (14_400,)
    for one in corpus.clips:
        assert sf.info(corpus.folder / one.path).samplerate == 16_000
        assert sf.info(corpus.folder / one.path).format == "FLAC"
        assert not one.synthetic and str(published) not in one.model_dump_json()
    assert read_quarantine(tmp_path / "corpus") == [] and check_corpus(tmp_path / "corpus") == []


def test_copy_is_the_resampled_original(published: Path, tmp_path: Path) -> None:
    time_axis = np.arange(16_000) / 8000
    tone = (0.3 * np.sin(2 * np.pi * 440 * time_axis)).astype(np.float32)
    sf.write(audio(published), tone, 8000)
    corpus = build_corpus(config(published), tmp_path / "corpus")
    copy, rate = read_audio(corpus.folder / "audio" / "sprsound" / f"{audio(published).stem}.flac")
    assert rate == 16_000 and copy.size == 2 * tone.size
    # Every other sample of a band-limited copy is the original, away from the cut edges.
    assert np.abs(copy[::2] - tone)[400:-400].max() < 3e-4


@pytest.mark.parametrize(
    ("protocol", "train", "test"),
    [("spr2icbhi", {"sprsound"}, {"icbhi"}), ("icbhi2spr", {"icbhi"}, {"sprsound"})],
)
def test_cross_source_protocols(
    published: Path, tmp_path: Path, protocol: str, train: set, test: set
) -> None:
    corpus = build_corpus(config(published, protocol=protocol), tmp_path / "corpus")
    for split in ("train", "select", "plan"):
        part = corpus.subset(split=split)
        assert {c.source for c in part.clips} == train
    assert set(corpus.subset(split="train").counts("icbhi4").values()).isdisjoint({0})
    assert {c.source for c in corpus.subset(split="test").clips} == test
    assert len(corpus.subset(split="test").subjects) == 12


def test_within_source_protocol(published: Path, tmp_path: Path) -> None:
    corpus = build_corpus(config(published, protocol="subject"), tmp_path / "corpus")
    assert subjects_are_disjoint(corpus)
    for split in ("train", "test"):
        assert {c.source for c in corpus.subset(split=split).clips} == {"sprsound", "icbhi"}


def test_pretrain_subjects_stand_apart(published: Path, tmp_path: Path) -> None:
    reserved = sorted(pretrain_subjects())[0].split(":")[1]
    for file in (audio(published), annotation(published)):
        file.rename(file.with_name(file.name.replace("90000000", reserved)))
    corpus = build_corpus(config(published), tmp_path / "corpus")
    assert f"sprsound:{reserved}" not in corpus.subjects
    alone = pretrain_corpus(str(published), tmp_path / "pretrain")
    assert alone.subjects == [f"sprsound:{reserved}"] and {c.split for c in alone.clips} == {"pretrain"}


def test_whole_recordings(published: Path, tmp_path: Path) -> None:
    wave, rate = read_audio(published / "ICBHI_2017/ICBHI_final_database/302_1b1_Al_sc_Meditron.wav")
    wave[: wave.size // 2] = 0  # pieced together from its cycles
    sf.write(published / "ICBHI_2017/ICBHI_final_database/302_1b1_Al_sc_Meditron.wav", wave, rate)
    corpus = build_corpus(config(published, clip="recording"), tmp_path / "corpus")
    assert len(corpus) == 23
    clip = next(c for c in corpus.clips if c.clip_id == "sprsound-90000003_3.3_1_p4_3")
    assert clip.labels == {"spr_record": "Normal", "disease16": "Asthma"} and clip.seconds == 2.0
    assert [e.start for e in clip.events] == [1.0, 1.0]
    (finding,) = read_quarantine(tmp_path / "corpus")
    assert finding.reason == "has gaps of digital silence" and finding.figure == pytest.approx(1.25, abs=0.01)
    # Both kinds of clip share one split, so that a network of one can be tested on the other.
    events = build_corpus(config(published), tmp_path / "events")
    split = {c.subject_id: c.split for c in events.clips}
    assert all(c.split == split[c.subject_id] for c in corpus.clips)


def test_seed_decides_and_nothing_else(published: Path, tmp_path: Path) -> None:
    one = build_corpus(config(published), tmp_path / "one", workers=1)
    two = build_corpus(config(published), tmp_path / "two", workers=4)
    other = build_corpus(config(published, seed=1), tmp_path / "other")
    assert one.digest == two.digest != other.digest


def test_limit_per_subject_spares_test(published: Path, tmp_path: Path) -> None:
    file = annotation(published)
    events = [{"start": str(200 * i), "end": str(200 * i + 150), "type": "Normal"} for i in range(9)]
    write_annotation(file, "Normal", events)
    for protocol, expected in (("spr2icbhi", 4), ("icbhi2spr", 9)):
        corpus = build_corpus(config(published, protocol=protocol, max_per_subject=4), tmp_path / protocol)
        assert sum(c.subject_id == "sprsound:90000000" for c in corpus.clips) == expected


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (100, 150, "shorter than 0.1 s"),
        (900, 100, "ends before it starts"),
        (1500, 2500, "ends after its recording"),
        (0, 500, "is silent"),
    ],
)
def test_bad_event_is_quarantined(published: Path, tmp_path: Path, start: int, end: int, reason: str) -> None:
    wave, rate = read_audio(audio(published))
    wave[: rate // 2] = 0
    sf.write(audio(published), wave, rate)
    good = {"start": "1000", "end": "1900", "type": "Normal"}
    write_annotation(
        annotation(published), "Normal", [{"start": str(start), "end": str(end), "type": "Wheeze"}, good]
    )
    corpus = build_corpus(config(published), tmp_path / "corpus")
    (finding,) = read_quarantine(tmp_path / "corpus")
    assert finding.reason == reason and finding.figure is not None
    assert finding.path == f"SPRSound/train_wav/{audio(published).name}"
    assert len(corpus) == 47 and finding.clip_id not in {c.clip_id for c in corpus.clips}
    with pytest.raises(DataError, match=reason):
        build_corpus(config(published), tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


def test_rounding_of_the_annotation_is_no_fault(published: Path, tmp_path: Path) -> None:
    write_annotation(annotation(published), "Normal", [{"start": "0", "end": "2005", "type": "Wheeze"}])
    corpus = build_corpus(config(published), tmp_path / "corpus")
    assert corpus.clips[0].end == 2.0 and corpus.clips[0].events[0].end == 2.0
    assert check_corpus(tmp_path / "corpus") == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("corrupt", "cannot be decoded"),
        ("empty", "holds no samples"),
        ("nan", "holds NaN or infinite samples"),
    ],
)
def test_bad_recording_is_quarantined(published: Path, tmp_path: Path, damage: str, reason: str) -> None:
    if damage == "corrupt":
        audio(published).write_bytes(b"no sound at all")
    elif damage == "empty":
        noise(audio(published), 0.0)
    else:
        sf.write(audio(published), np.full(8000, np.nan), 8000, subtype="FLOAT")
    assert len(build_corpus(config(published), tmp_path / "corpus")) == 46
    (finding,) = read_quarantine(tmp_path / "corpus")
    assert finding.reason == reason and str(tmp_path) not in finding.model_dump_json()
    assert read_json(tmp_path / "corpus" / "build.json")["quarantined"] == {reason: 1}
    with pytest.raises(DataError, match=reason):  # also when it was built before
        build_corpus(config(published), tmp_path / "corpus", strict=True)


def test_absent_audio_and_no_events_are_counted_but_no_fault(published: Path, tmp_path: Path) -> None:
    audio(published).unlink()
    write_annotation(sorted((published / "SPRSound" / "train_json").iterdir())[1], "Poor Quality", [])
    build_corpus(config(published), tmp_path / "corpus", strict=True)
    assert count_reasons(read_quarantine(tmp_path / "corpus")) == {
        "audio not present": 1,
        "no event annotated": 1,
    }


def test_unreadable_annotation_is_quarantined(published: Path, tmp_path: Path) -> None:
    annotation(published).write_text("{")
    build_corpus(config(published), tmp_path / "corpus")
    assert read_quarantine(tmp_path / "corpus")[0].reason.startswith("annotation unreadable: JSONDecodeError")


@pytest.mark.parametrize(("clip", "left"), [("event", 47), ("recording", 23)])
def test_unknown_labels_are_quarantined(published: Path, tmp_path: Path, clip: str, left: int) -> None:
    """An unknown event leaves its clip out, an unknown diagnosis leaves the label out."""
    events = [
        {"start": "100", "end": "900", "type": "Squawk"},
        {"start": "1000", "end": "1900", "type": "Wheeze"},
    ]
    write_annotation(annotation(published), "Normal", events)
    table = published / "ICBHI_2017" / "patient_diagnosis.csv"
    table.write_text(table.read_text().replace("301,COPD", "301,Gout"))
    corpus = build_corpus(config(published, clip=clip), tmp_path / "corpus")
    stem = annotation(published).stem
    findings = read_quarantine(tmp_path / "corpus")
    assert {(f.path, f.reason, f.clip_id, f.detail) for f in findings} == {
        (f"SPRSound/train_json/{stem}.json", "unknown label", f"sprsound-{stem}-000", "event 'Squawk'"),
        ("ICBHI_2017/patient_diagnosis.csv", "unknown label", None, "diagnosis of patient 301 'Gout'"),
    }
    names = {c.clip_id for c in corpus.clips}
    assert len(findings) == 2 and len(corpus) == left
    assert (f"sprsound-{stem}-001" in names) == (clip == "event") and f"sprsound-{stem}-000" not in names
    assert all("disease16" not in c.labels for c in corpus.clips if c.subject_id == "icbhi:301")
    assert check_corpus(corpus.folder) == []
    with pytest.raises(DataError, match=r"diagnosis of patient 301 'Gout', event 'Squawk'.*taxonomy\.py"):
        build_corpus(config(published, clip=clip), tmp_path / "strict", strict=True)


def test_recording_of_unknown_events_alone(published: Path, tmp_path: Path) -> None:
    write_annotation(annotation(published), "Normal", [{"start": "100", "end": "900", "type": "Squawk"}])
    corpus = build_corpus(config(published), tmp_path / "corpus")
    assert len(corpus) == 46 and len(list(corpus.folder.rglob("*.flac"))) == 23
    assert count_reasons(read_quarantine(corpus.folder)) == {"unknown label": 1}


def test_missing_root_and_nothing_usable(published: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="RESP_DATA"):
        build_corpus(config(tmp_path / "nowhere"), tmp_path / "corpus")
    for file in published.rglob("*.wav"):
        file.unlink()
    with pytest.raises(DataError, match=r"nothing usable in 24 recordings.*audio not present"):
        build_corpus(config(published), tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_folder_is_reused_only_for_the_same_build(published: Path, tmp_path: Path) -> None:
    first = build_corpus(config(published), tmp_path / "corpus")
    stamp = (tmp_path / "corpus" / "manifest.parquet").stat().st_mtime_ns
    assert build_corpus(config(published), tmp_path / "corpus").digest == first.digest
    assert (tmp_path / "corpus" / "manifest.parquet").stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="something else"):
        build_corpus(config(published, seed=7), tmp_path / "corpus")
    noise(audio(published), 3.0)
    with pytest.raises(DataError, match="something else"):
        build_corpus(config(published), tmp_path / "corpus")


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("protocol", ["spr2icbhi", "icbhi2spr"])
def test_real_build(resp_data: Path, tmp_path: Path, protocol: str) -> None:
    begun = time.monotonic()
    corpus = build_corpus(config(resp_data, protocol=protocol), tmp_path / "corpus")
    assert time.monotonic() - begun < 120  # about 5 s on two idle cores
    assert subjects_are_disjoint(corpus) and not pretrain_subjects() & set(corpus.subjects)
    reasons = count_reasons(read_quarantine(tmp_path / "corpus"))
    assert reasons == {"audio not present": 828, "no event annotated": 125}
    icbhi = Corpus(corpus.folder, [c for c in corpus.clips if c.source == "icbhi"])
    assert icbhi.counts("icbhi4") == {"normal": 740, "crackle": 147, "wheeze": 120, "both": 42}
    assert len({c.recording_id for c in icbhi.clips}) == 92
    for split in ("train", "select", "plan", "test"):
        assert min(corpus.subset(split=split).counts("icbhi4").values()) > 0
    assert {c.sample_rate for c in corpus.clips} == {4000, 8000}
    assert all(sf.info(corpus.folder / c.path).samplerate == 16_000 for c in corpus.clips[::50])
    findings = check_corpus(tmp_path / "corpus")  # includes audio that is byte-identical across splits
    assert [f for f in findings if f.reason != DUPLICATE] == []


@pytest.mark.slow
@pytest.mark.real
def test_real_whole_recordings(resp_data: Path, tmp_path: Path) -> None:
    """ICBHI files rebuilt from their cycles are left out, no SPRSound file is."""
    corpus = build_corpus(config(resp_data, clip="recording"), tmp_path / "corpus")
    gaps = [f for f in read_quarantine(tmp_path / "corpus") if f.reason == "has gaps of digital silence"]
    assert len(gaps) == 41 and all(f.path.startswith("ICBHI_2017/") for f in gaps)
    assert len(corpus) == 1379 + 92 - 41
