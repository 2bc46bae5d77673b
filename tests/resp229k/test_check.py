"""The quality check finds what a test breaks; the statistics add up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import soundfile as sf

from resp229k.audio import read_audio
from resp229k.build import BuildConfig, build_corpus
from resp229k.check import CONTRADICTION, DUPLICATE, LEAK, TWO_SPLITS, check_corpus
from resp229k.corpus import Corpus, write_manifest
from resp229k.quarantine import count_reasons, refuse
from resp229k.stats import corpus_stats, plot_stats
from training.errors import DataError


@pytest.fixture
def corpus(published: Path, tmp_path: Path) -> Corpus:
    return build_corpus(BuildConfig(root=str(published)), tmp_path / "corpus")


def reasons(corpus: Corpus) -> dict[str, int]:
    return count_reasons(check_corpus(corpus.folder))


def rewrite(corpus: Corpus, clips: list) -> None:
    """A manifest that somebody else wrote, without our checks."""
    import resp229k.corpus as module

    original = module.check_clips
    module.check_clips = lambda clips, where: None
    try:
        write_manifest(clips, corpus.folder / "manifest.parquet")
    finally:
        module.check_clips = original


def test_sound_corpus_has_no_findings(corpus: Corpus) -> None:
    assert check_corpus(corpus.folder) == []
    refuse([], corpus.folder)


def test_missing_corrupt_and_silent(corpus: Corpus) -> None:
    paths = sorted({clip.path for clip in corpus.clips})
    (corpus.folder / paths[0]).unlink()
    (corpus.folder / paths[1]).write_bytes(b"fLaC and then nothing")
    wave, rate = read_audio(corpus.folder / paths[2])
    sf.write(corpus.folder / paths[2], 0 * wave, rate)
    wave, rate = read_audio(corpus.folder / paths[3])
    sf.write(corpus.folder / paths[3], wave[: rate // 2], rate)
    wave, rate = read_audio(corpus.folder / paths[4])
    sf.write(corpus.folder / paths[4], wave[::2], rate // 2)
    findings = check_corpus(corpus.folder)
    assert count_reasons(findings) == {
        "is silent": 2,
        "ends after its file": 2,
        "no such recording": 1,
        "cannot be decoded": 1,
        "is not at 16 kHz": 1,
    }
    assert {f.path for f in findings} == set(paths[:5])
    with pytest.raises(DataError, match="7 faults"):
        refuse(findings, corpus.folder)


def test_duplicates_contradictions_and_leaks(corpus: Corpus) -> None:
    train = {clip.path for clip in corpus.subset(split="train").clips if clip.labels["icbhi4"] == "both"}
    normal = {clip.path for clip in corpus.clips if clip.labels["icbhi4"] != "normal"}
    other = sorted(
        normal
        - {c.path for c in corpus.subset(split="train").clips}
        - {c.path for c in corpus.subset(split="test").clips}
    )[0]
    shutil.copy(corpus.folder / sorted(train)[0], corpus.folder / other)
    found = reasons(corpus)
    assert found[DUPLICATE] == 2 and found[LEAK] == 2
    labels = {c.path: c.labels["icbhi4"] for c in corpus.clips if c.labels["icbhi4"] != "normal"}
    assert found.get(CONTRADICTION, 0) == int(labels[other] != "both")


def test_contradictory_labels(corpus: Corpus) -> None:
    clip = corpus.clips[0]
    twin = clip.model_copy(update={"clip_id": "twin", "labels": {"icbhi4": "both"}})
    rewrite(corpus, [*corpus.clips, twin])
    assert reasons(corpus) == {DUPLICATE: 1, CONTRADICTION: 1}


def test_subject_in_two_splits_and_short_clip(corpus: Corpus) -> None:
    first, second = corpus.clips[0], corpus.clips[1]
    assert first.subject_id == second.subject_id and first.split != "test"
    moved = first.model_copy(update={"split": "test"})
    short = second.model_copy(update={"end": second.start + 0.05})
    rewrite(corpus, [moved, short, *corpus.clips[2:]])
    assert reasons(corpus) == {TWO_SPLITS: 1, "shorter than 0.1 s": 1}


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such manifest"):
        check_corpus(tmp_path)


def test_statistics_add_up(corpus: Corpus, tmp_path: Path) -> None:
    rows = corpus_stats(corpus, "icbhi4")
    assert sum(row.clips for row in rows) == len(corpus)
    assert sum(row.hours for row in rows) == pytest.approx(sum(c.seconds for c in corpus.clips) / 3600)
    row = next(r for r in rows if (r.source, r.label, r.split) == ("icbhi", "both", "test"))
    assert (row.clips, row.subjects) == (3, 3)
    plot_stats(rows, tmp_path / "out" / "stats.png")
    assert (tmp_path / "out" / "stats.png").read_bytes().startswith(b"\x89PNG")
    assert corpus_stats(corpus, "covid") == []
    plot_stats([], tmp_path / "empty.png")
