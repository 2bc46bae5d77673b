"""The screen: every reason to drop a clip, and the one to keep a bad one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from agent_fakes import tone

from agent.config import Pick, ScreenSettings
from agent.copies import Copies
from agent.screen import Candidate, Checks, ScreenReport, fingerprints, hard_check, screen
from resp229k.audio import RATE, Preprocess, load_audio, write_wav
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from resp229k.simulate import simulate_clip
from training.errors import DataError

JUDGED = ("a", "b", "c")


def run(waves: list[np.ndarray], labels: str, probs: list[list[float]], **planned: int) -> ScreenReport:
    return screen(
        [Candidate(clip_id=f"{label}{i}", label=label) for i, label in enumerate(labels)],
        waves,
        fingerprints(waves),
        np.array(probs),
        JUDGED,
        {(label, None): count for label, count in planned.items()},
        ScreenSettings(),
        Checks(),
    )


def reasons(report: ScreenReport) -> list[str]:
    return [v.reason for v in report.verdicts]


@pytest.mark.parametrize(
    ("wave", "reason"),
    [
        (np.full(16_000, np.nan), "not finite"),
        (np.zeros(16_000), "silent"),
        (np.sign(np.sin(np.arange(16_000))), "clipped"),
        (tone(300, 1)[:4000], "too short"),
    ],
)
def test_hard_checks(wave: np.ndarray, reason: str) -> None:
    found = hard_check(wave.astype(np.float32), ScreenSettings())
    assert found is not None
    assert found[0] == reason
    assert hard_check(tone(300, 1), ScreenSettings()) is None


def test_keeps_the_likeliest_and_says_why_the_others_went() -> None:
    waves = [tone(p, i) for i, p in enumerate((200, 500, 900, 1400, 300))]
    probs = [[0.5, 0.4, 0.1], [0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]]
    report = run(waves, "aaaab", probs, a=2, b=1)
    assert reasons(report) == ["surplus", "kept", "kept", "off class", "kept"]
    assert report.kept == {"a": 2, "b": 1}
    assert report.generated == {"a": 4, "b": 1}
    assert report.verdicts[3].rank == 3
    assert report.short == {}


def test_duplicates_and_near_duplicates() -> None:
    first, other = tone(300, 1), tone(900, 2)
    near = first + np.random.default_rng(0).normal(0, 1e-4, first.size).astype(np.float32)
    report = run([first, other, first.copy(), near], "aaaa", [[0.9, 0.05, 0.05]] * 4, a=4)
    assert reasons(report) == ["kept", "kept", "duplicate", "near duplicate"]
    assert "a0" in report.verdicts[2].detail
    assert report.short == {"a": 2}


def test_near_duplicates_of_what_earlier_rounds_kept() -> None:
    waves = [tone(p, i) for i, p in enumerate((200, 500, 900, 1400))]
    old = waves[2] + np.random.default_rng(0).normal(0, 1e-4, waves[2].size).astype(np.float32)
    kept = (["r1-0", "r1-1"], fingerprints([tone(3000, 9), old]))

    def reasons_with(earlier: tuple[list[str], np.ndarray] | None) -> list[str]:
        report = screen(
            [Candidate(clip_id=f"a{i}", label="a") for i in range(4)],
            waves, fingerprints(waves), np.full((4, 3), 1 / 3), JUDGED, {("a", None): 4}, ScreenSettings(),
            Checks(earlier=earlier),
        )  # fmt: skip
        assert earlier is None or "of r1-1, cosine" in report.verdicts[2].detail
        return reasons(report)

    assert reasons_with(None) == ["kept"] * 4
    assert reasons_with(kept) == ["kept", "kept", "near duplicate", "kept"]


def test_a_class_that_the_judge_does_not_know_again_gets_nothing() -> None:
    waves = [tone(p, i) for i, p in enumerate((200, 500, 900))]
    report = run(waves, "aab", [[0.01, 0.59, 0.4], [0.04, 0.56, 0.4], [0.1, 0.8, 0.1]], a=2, b=1)
    assert reasons(report) == ["off class", "off class", "kept"]
    assert report.kept == {"a": 0, "b": 1}
    assert report.short == {"a": 2}


def test_silence_is_dropped() -> None:
    silent = np.zeros(16_000, dtype=np.float32)
    report = run([silent, tone(300, 1)], "ab", [[0.0, 0.0, 0.0], [0.1, 0.8, 0.1]], a=1, b=1)
    assert reasons(report) == ["silent", "kept"]
    assert report.kept == {"a": 0, "b": 1}
    assert report.short == {"a": 1}


def test_fingerprints_are_finite_for_anything() -> None:
    assert np.isfinite(fingerprints([np.zeros(100), np.full(3, np.inf), tone(300, 1, 2.0)])).all()


FLAT = [0.9, 0.05, 0.05]


def picked(pick: Pick, losses: list[float], count: int = 2, seed: int = 0) -> ScreenReport:
    """Candidates of class a alone, all on class but the last."""
    waves = [tone(150 * (i + 2), i) for i in range(len(losses) + 1)]
    names = [f"a{i}" for i in range(len(waves))]
    asked: list[str] = []

    def loss_of(ids: Sequence[str]) -> np.ndarray:
        asked.extend(ids)
        return np.array([losses[names.index(name)] for name in ids])

    report = screen(
        [Candidate(clip_id=name, label="a", pick=pick) for name in names],
        waves,
        fingerprints(waves),
        np.array([FLAT] * len(losses) + [[0.01, 0.5, 0.49]]),
        JUDGED,
        {("a", pick): count},
        ScreenSettings(),
        Checks(losses=loss_of, seed=seed),
    )
    assert asked == names[:-1]  # nobody asks the diagnoser about what is off class
    return report


def test_picks_follow_the_loss_below_its_cap() -> None:
    losses = [0.1, 2.0, 3.5, 1.0, 0.5]
    hard, easy = picked("hard", losses), picked("easy", losses)
    assert reasons(hard) == ["surplus", "kept", "too hard", "kept", "surplus", "off class"]
    assert reasons(easy) == ["kept", "surplus", "too hard", "surplus", "kept", "off class"]
    assert (hard.verdicts[1].loss, hard.verdicts[1].pick) == (2.0, "hard")
    assert "loss 3.50, at most 3" in hard.verdicts[2].detail
    assert hard.rejected == {"a": 2}
    # Equal pools: whatever the pick, the same candidates can be kept and as many are.
    drawn = [picked("random", losses, seed=seed) for seed in range(8)]
    assert all(r.kept == hard.kept == easy.kept == {"a": 2} for r in drawn)
    assert len({frozenset(r.kept_ids) for r in drawn}) > 1
    assert all("a2" not in r.kept_ids for r in drawn)


def test_items_of_one_class_keep_their_own_picks() -> None:
    waves = [tone(150 * (i + 2), i) for i in range(4)]
    picks: list[Pick | None] = ["hard", "hard", None, None]
    report = screen(
        [Candidate(clip_id=f"a{i}", label="a", pick=pick) for i, pick in enumerate(picks)],
        waves,
        fingerprints(waves),
        np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.6, 0.4, 0.0], [0.7, 0.3, 0.0]]),
        JUDGED,
        {("a", "hard"): 1, ("a", None): 1},
        ScreenSettings(),
        Checks(losses=lambda ids: np.arange(len(ids), dtype=float)),
    )
    assert reasons(report) == ["surplus", "kept", "surplus", "kept"]
    assert report.planned == {"a": 2}


def test_a_pick_without_losses_is_an_error() -> None:
    wave = tone(300, 1)
    with pytest.raises(DataError, match="loss"):
        screen([Candidate(clip_id="a0", label="a", pick="hard")], [wave], fingerprints([wave]), np.array([FLAT]),
               JUDGED, {("a", "hard"): 1}, ScreenSettings(), Checks())  # fmt: skip


def test_copies_go_and_restyled_clips_are_not_judged() -> None:
    waves = [tone(p, i) for i, p in enumerate((200, 500, 900))] + [np.zeros(16_000, np.float32)]
    candidates = [Candidate(clip_id=f"a{i}", label="a") for i in range(4)]

    def copied(usable: Sequence[np.ndarray]) -> list[str]:
        assert len(usable) == 3  # silence has no print
        return ["", "of train-1, similarity 0.990", ""]

    probs = np.array([FLAT, FLAT, [0.01, 0.5, 0.49], FLAT])
    given = (candidates, waves, fingerprints(waves))
    report = screen(*given, probs, JUDGED, {("a", None): 3}, ScreenSettings(), Checks(copied=copied))
    assert reasons(report) == ["kept", "copy", "off class", "silent"]
    assert report.rejected == {"a": 3}
    report = screen(*given, np.zeros((4, 0)), (), {("a", None): 3}, ScreenSettings(), Checks(judged=False))
    assert reasons(report) == ["kept", "kept", "kept", "silent"]
    assert report.verdicts[0].rank is None


def test_a_training_clip_played_again_is_a_copy(tmp_path: Path) -> None:
    def corpus(name: str, seeds: range) -> Corpus:
        clips = []
        for seed in seeds:
            path = f"{name}-{seed}.wav"
            wave = simulate_clip("Pneumonia", seed=seed, source="sim0-A", seconds=3.0).wave
            write_wav(tmp_path / path, wave, synthetic=False)
            clips.append(
                Clip(clip_id=path, recording_id=path, subject_id=path, split="train", source="s", path=path,
                     start=0, end=3, sample_rate=RATE, labels={"disease16": "Pneumonia"})
            )  # fmt: skip
        return Corpus(tmp_path, clips)

    found = Copies.measure(corpus("train", range(4)), corpus("plan", range(10, 16)), Preprocess(seconds=3.0))
    found.save(tmp_path / "likeness")
    again = Copies.load(tmp_path / "likeness")
    assert again.threshold == found.threshold
    copy = 0.3 * np.roll(load_audio(tmp_path / "train-2.wav"), 4000)
    fresh = simulate_clip("Pneumonia", seed=10, source="sim0-A", seconds=3.0).wave
    first, second = again([copy, fresh])
    assert first.startswith("of train-2.wav, similarity 0.")
    assert second == ""
