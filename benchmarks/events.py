"""How well crackles and wheezes are heard: ``python benchmarks/events.py [--clips 160] [--seed 0] [--real]``.

Simulated clips of all classes, each in a style of its own, whose every crackle and tone is known. Prints JSON
lines: precision and recall of each kind. A crackle counts where one is heard within 10 ms of one that sounds
(of those closer than 8 ms, one). Tones count by time: what is heard within 30 ms of a tone, and the share of
the tones' time in which one is heard; pitch, where a tone was heard, within a tenth of an octave of one of its
voices. ``--real`` holds SPRSound's annotated events against the detectors, where RESP_DATA has them: weakly,
for an annotation says that an event holds crackles, not which.
"""
# ruff: noqa: E402

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# Python looks in the script's own folder first, where a file may have a package's name.
sys.path = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

from generator.events import Tone, crackles, sounding, wheezes
from resp229k.audio import RATE, load_audio
from resp229k.simulate.clips import render
from resp229k.simulate.compose import draw_score, draw_subject
from resp229k.simulate.config import SIMULATED
from resp229k.simulate.recipes import disease_recipe
from resp229k.simulate.score import Score, Train
from resp229k.simulate.score import Tone as Sung
from resp229k.simulate.seeds import stream
from resp229k.simulate.style import source_style

SECONDS = 4.0
TOLERANCE, MERGED, MARGIN = 0.01, 0.008, 0.03  # s
ONSET = 0.3  # share of a crackle's length at which it is loudest


def simulated(count: int, seed: int) -> list[tuple[np.ndarray, Score]]:
    """Waves with their scores, the classes in turn, each in a source of its own."""
    clips = []
    for n in range(count):
        recipe = disease_recipe(SIMULATED[n % len(SIMULATED)])
        key = f"events/{seed}/{n}"
        subject = draw_subject(recipe, stream(key, "subject"))
        score = draw_score(recipe, subject, SECONDS, stream(key, "score"))
        clips.append((render(score, source_style(key), subject.placement, key), score))
    return clips


def crackle_times(score: Score) -> np.ndarray:
    """Times (s) of crackles that can be told apart, rising."""
    times = np.sort(
        [
            start + ONSET * cycle
            for sound in score.sounds
            if isinstance(sound, Train)
            for start, cycle in zip(sound.starts, sound.cycles, strict=True)
        ]
    )
    kept: list[float] = []
    for time in times:
        if not kept or time - kept[-1] > MERGED:
            kept.append(float(time))
    return np.array(kept)


def matched(truth: np.ndarray, heard: np.ndarray) -> int:
    """Pairs of times, each used once, within the tolerance."""
    i = j = pairs = 0
    while i < truth.size and j < heard.size:
        near = abs(truth[i] - heard[j]) <= TOLERANCE
        pairs += int(near)
        i, j = i + int(near or truth[i] < heard[j]), j + int(near or truth[i] >= heard[j])
    return pairs


def crackle_figures(clips: Sequence[tuple[np.ndarray, Score]]) -> dict[str, float]:
    """Precision, recall, and correlation of clips' rates."""
    truths = [crackle_times(score) for _, score in clips]
    found = [crackles(wave) for wave, _ in clips]
    pairs = sum(map(matched, truths, found))
    counts = np.array([[a.size, b.size] for a, b in zip(truths, found, strict=True)])
    return {
        "precision": pairs / max(1, counts[:, 1].sum()),
        "recall": pairs / max(1, counts[:, 0].sum()),
        "correlation of rates": float(np.corrcoef(counts.T)[0, 1]),
    }


def tone_figures(clips: Sequence[tuple[np.ndarray, Score]]) -> dict[str, float]:
    """Precision, recall, correlation of durations, and share of right pitches."""
    near = right = heard = true = 0
    seconds, pitches = [], []
    for wave, score in clips:
        sung = [sound for sound in score.sounds if isinstance(sound, Sung)]
        tones = wheezes(wave)
        spans = [Tone(s.start, s.start + s.seconds, 0.0, 0.0) for s in sung]
        wide = [Tone(max(0.0, t.start - MARGIN), t.end + MARGIN, 0.0, 0.0) for t in spans]
        found, truth, about = (sounding(some, SECONDS) for some in (tones, spans, wide))
        near, right = near + int((found & about).sum()), right + int((found & truth).sum())
        heard, true = heard + int(found.sum()), true + int(truth.sum())
        seconds.append((found.mean(), truth.mean()))
        for sound, span in zip(sung, spans, strict=True):
            over = [t.hertz for t in tones if min(t.end, span.end) - max(t.start, span.start) > 0.05]
            if over:
                off = np.abs(np.log2(np.array(over)[:, None] / np.array(sound.pitches)))
                pitches.append(bool(off.min() < 0.1))
    return {
        "precision": near / max(1, heard),
        "recall": right / max(1, true),
        "correlation of durations": float(np.corrcoef(np.array(seconds).T)[0, 1]),
        "pitch": float(np.mean(pitches)) if pitches else float("nan"),
    }


def real_figures(root: Path, count: int, seed: int) -> dict[str, float]:
    """AUROC of figures over SPRSound's events of 0.5 s and more: those that hold a kind against normal ones."""
    from sklearn.metrics import roc_auc_score

    from resp229k.sources.sprsound import discover

    events = [
        (recording.path, stretch)
        for recording in discover(root)
        if recording.present and recording.fault is None
        for stretch in recording.stretches
        if stretch.known and stretch.end - stretch.start >= 0.5
    ]
    rng = np.random.default_rng(seed)
    groups = {
        "crackle": [e for e in events if e[1].crackle],
        "wheeze": [e for e in events if e[1].wheeze],
        "normal": [e for e in events if not e[1].kinds],
    }
    rates: dict[str, list[tuple[float, float]]] = {}
    for name, group in groups.items():
        for row in rng.permutation(len(group))[:count]:
            path, stretch = group[row]
            wave = load_audio(Path(path), stretch.start, stretch.end, silent_ok=True)
            share = sounding(wheezes(wave), wave.size / RATE).mean()
            rates.setdefault(name, []).append((crackles(wave).size / (wave.size / RATE), float(share)))
    figures: dict[str, float] = {}
    for place, kind in enumerate(("crackle", "wheeze")):
        values = [[rate[place] for rate in rates[name]] for name in (kind, "normal")]
        truth = np.repeat([1, 0], [len(side) for side in values])
        figures[f"{kind} AUROC"] = float(roc_auc_score(truth, np.concatenate(values)))
        figures[f"{kind} mean"], figures[f"{kind} mean of normal"] = map(float, map(np.mean, values))
        figures[f"{kind} events"] = len(values[0])
    return figures


def report(name: str, figures: dict[str, float]) -> None:
    """Print figures as a JSON line."""
    print(json.dumps({"name": name} | {key: round(value, 3) for key, value in figures.items()}), flush=True)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true")
    args = parser.parse_args()
    clips = simulated(args.clips, args.seed)
    report("crackles", crackle_figures(clips))
    report("tones", tone_figures(clips))
    if args.real:
        if not os.environ.get("RESP_DATA"):
            raise SystemExit("RESP_DATA is not set: it names the folder of the real recordings")
        report("SPRSound", real_figures(Path(os.environ["RESP_DATA"]) / "SPRSound", args.clips, args.seed))


if __name__ == "__main__":
    main()
