"""Clips of a run to hear and see: synthetic ones beside real ones of the same class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from agent.pages import called, sight
from agent.state import LoopState
from agent.work import Work
from resp229k.audio import COMMENT, RATE, load_audio
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from training.files import read_json

MADE = 2  # synthetic clips of a class
REAL = 2  # real ones, apart from style references
SECONDS = 4.0  # of a clip that are played
LIMIT = 6_000_000  # characters of all sounds and pictures: the page stays under 8 MB
SYNTHETIC, RESTYLED = "Synthetic", "Restyled"
REAL_NOTE = "training clip of a run of Resp-Agent"


@dataclass(frozen=True)
class Made:
    """A synthetic or restyled clip: whose it is, and the folder of its sound and its provenance."""

    origin: str
    kind: str
    clip: Clip
    folder: Path
    verdict: Mapping[str, Any]


def listen(work: Work, states: Mapping[str, LoopState], limit: int = LIMIT) -> dict[str, Any]:
    """Cards per class, first clips of all classes before second ones, until ``limit`` is reached.

    Clips come in the order in which they were drawn. A class of which no round kept a clip shows
    probe clips of the gate. Real clips are of the training split.
    """
    task = work.config.task
    kept = list(_kept(work, states))
    found: dict[str, list[Made]] = {}
    for one in _in_turn(kept):
        found.setdefault(one.clip.labels[task], []).append(one)
    for one in _probes(work, states):
        label = one.clip.labels[task]
        if not any(other.origin != one.origin for other in found.get(label, [])):
            found.setdefault(label, []).append(one)
    if not found:
        return {"classes": [], "kept": 0, "shown": 0, "left_out": []}
    corpus = Corpus.open(work.path("corpus"))
    train = {c.clip_id: c for c in corpus.subset(split="train", task=task).clips if not c.synthetic}
    shelf = _Shelf(corpus, train, limit)
    for number in range(max(MADE, REAL)):
        for label in sorted(found):
            if number < min(MADE, len(found[label])):
                shelf.add_made(label, found[label][number])
            if number < REAL:
                shelf.add_real(label, task)
    return {
        "classes": [shelf.cards[label] for label in sorted(shelf.cards)],
        "kept": len(kept),
        "shown": sum(len(card["made"]) for card in shelf.cards.values()),
        "left_out": sorted(set(found) - set(shelf.cards)),
        "restyled": any(g["kind"] == RESTYLED for card in shelf.cards.values() for g in card["made"]),
    }


class _Shelf:
    """Collects cards until their ``data:`` URIs are ``limit`` characters long."""

    def __init__(self, corpus: Corpus, train: Mapping[str, Clip], limit: int):
        self.corpus, self.train, self.left = corpus, train, limit
        self.cards: dict[str, dict[str, Any]] = {}
        self.heard: set[str] = set()

    def add_made(self, label: str, made: Made) -> None:
        """A synthetic clip, and the real one that lent its style where its provenance is known."""
        card = {
            "origin": made.origin,
            "kind": made.kind,
            "verdict": made.verdict,
            "reference": None,
            **_heard(made.folder / made.clip.path, made.clip, COMMENT),
        }
        lender = self.train.get(_reference(made.folder / made.clip.path))
        if lender is not None:
            card["reference"] = self._real(lender)
        if self._fits(card, card["reference"]):
            self._card(label)["made"].append(card)
            self.heard |= set() if lender is None else {lender.clip_id}

    def add_real(self, label: str, task: str) -> None:
        """The next real clip of the class."""
        mine = (c for name, c in sorted(self.train.items()) if c.labels[task] == label)
        clip = next((c for c in mine if c.clip_id not in self.heard), None)
        if clip is None or label not in self.cards:
            return
        card = self._real(clip)
        if self._fits(card):
            self._card(label)["real"].append(card)
            self.heard.add(clip.clip_id)

    def _real(self, clip: Clip) -> dict[str, Any]:
        return {"name": called(clip), **_heard(self.corpus.folder / clip.path, clip, REAL_NOTE)}

    def _card(self, label: str) -> dict[str, Any]:
        return self.cards.setdefault(label, {"label": label, "made": [], "real": []})

    def _fits(self, *cards: Mapping[str, Any] | None) -> bool:
        size = sum(len(card["sound"]) + len(card["picture"]) for card in cards if card is not None)
        if size > self.left:
            return False
        self.left -= size
        return True


def _kept(work: Work, states: Mapping[str, LoopState]) -> Iterator[Made]:
    """Kept clips of all rounds; planners that share a folder share its clips."""
    seen: set[str] = set()
    for planner, state in states.items():
        for record in state["records"]:
            screen = record.get("screen")
            if not screen or screen in seen or not (work.path(screen) / "corpus").is_dir():
                continue
            seen.add(screen)
            yield from _made(
                work.path(screen) / "corpus",
                work.path(screen) / "screen.json",
                f"{planner}, round {record['round']}"
                + (" (rolled back)" if record.get("rolled_back") else ""),
                RESTYLED if record.get("method") == "restyle" else SYNTHETIC,
            )


def _probes(work: Work, states: Mapping[str, LoopState]) -> Iterator[Made]:
    """Probe clips of the gate, before any screen."""
    gate = next((s["gate"] for s in states.values() if s["gate"]), None)
    if gate is not None and (work.path(gate) / "probe").is_dir():
        folder = work.path(gate)
        yield from _made(folder / "probe", folder / "screened/screen.json", "gate probe")


def _made(folder: Path, screen: Path, origin: str, kind: str = SYNTHETIC) -> Iterator[Made]:
    verdicts = {v["clip_id"]: v for v in read_json(screen)["verdicts"]} if screen.is_file() else {}
    for clip in Corpus.open(folder).clips:
        yield Made(origin, kind, clip, folder, verdicts.get(clip.clip_id, {}))


def _in_turn(clips: Sequence[Made]) -> list[Made]:
    """One clip of every round in turn, so that the first ones are not all of one planner."""
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[Made]] = {}
    for one in clips:
        groups.setdefault((one.origin, tuple(one.clip.labels.items())), []).append(one)
    turns = zip_longest(*groups.values())
    return [one for turn in turns for one in turn if one is not None]


def _reference(sound: Path) -> str:
    """Id of the clip that lent its style; empty where no provenance lies beside the clip."""
    record = sound.with_suffix(".json")
    return str(read_json(record).get("reference", "")) if record.is_file() else ""


def _heard(path: Path, clip: Clip, comment: str) -> dict[str, Any]:
    wave = load_audio(path, clip.start, clip.end, silent_ok=True)
    return {
        **sight(wave[: round(SECONDS * RATE)], comment),
        "whole": f"{wave.size / RATE:.1f}",
        "cut": wave.size > SECONDS * RATE,
    }
