"""Whose recordings lend their style, and pairs that never repeat."""

from __future__ import annotations

from itertools import islice
from typing import Any

from agent.config import GeneratorSettings
from agent.nodes.clips import requests_for, restyle_requests, used_pairs
from agent.nodes.references import draws, references, restyle_pairs, synthesis_pairs
from agent.planners import PlanItem
from resp229k.clip import Clip
from resp229k.corpus import Corpus

TASK = "icbhi4"


def clip(name: str, label: str, source: str, device: str | None = None, subject: str | None = None) -> Clip:
    return Clip(
        clip_id=name, recording_id=name, subject_id=f"s:{subject or name}", split="train", source=source,
        device=device, path=f"{name}.wav", start=0, end=1, sample_rate=8000, labels={TASK: label},
    )  # fmt: skip


CLIPS = [
    *[clip(f"w{i}", "wheeze", "A", "mic") for i in range(3)],
    *[clip(f"n{i}", "normal", "B", "mic") for i in range(4)],
    *[clip(f"m{i}", "normal", "A", "tube") for i in range(2)],
    clip("c0", "crackle", "B", "tube"),
    clip("c1", "crackle", "B", "mic"),
    clip("c2", "crackle", "B", "mic", subject="c1"),
]


def names(clips: list[Clip]) -> list[str]:
    return [c.clip_id for c in clips]


def item(label: str, count: int, style: Any = "own", pick: Any = None) -> PlanItem:
    return PlanItem(label=label, count=count, style=style, pick=pick, reason="x")


def test_styles_come_from_where_the_class_was_never_recorded() -> None:
    assert names(references("wheeze", "own", CLIPS, TASK)) == ["w0", "w1", "w2"]
    assert names(references("wheeze", "cross-source", CLIPS, TASK)) == ["n0", "n1", "n2", "n3"]
    assert names(references("wheeze", "cross-device", CLIPS, TASK)) == ["m0", "m1"]
    assert names(references("wheeze", "confused-with", CLIPS, TASK, "crackle")) == ["c0", "c1", "c2"]
    assert references("wheeze", "confused-with", CLIPS, TASK) == []
    assert references("crackle", "cross-device", CLIPS, TASK) == []  # it was recorded with both
    # No normal clip is foreign to normal ones: nobody lends a style from elsewhere.
    assert references("normal", "cross-source", CLIPS, TASK) == []


def test_draws_count_the_pairs_that_can_be_drawn() -> None:
    found = draws("wheeze", CLIPS, TASK, "crackle")
    assert found["synthesize"] == {"own": 9, "cross-source": 12, "cross-device": 6, "confused-with": 9}
    # A clip never lends itself its style, nor does its subject.
    assert found["restyle"] == {"own": 6, "cross-source": 12, "cross-device": 6, "confused-with": 9}
    # Two devices: own pairs must be of both. c1 and c2 are one subject with one of them.
    assert draws("crackle", CLIPS, TASK, None)["restyle"]["own"] == 4
    for style, count in found["restyle"].items():
        pairs = restyle_pairs("wheeze", style, CLIPS, TASK, "crackle", 0)
        assert len({(a.clip_id, b.clip_id) for a, b in pairs}) == len(pairs) == count
        assert all(a.subject_id != b.subject_id and b.labels[TASK] == "wheeze" for a, b in pairs)


def test_synthesis_repeats_no_pair_before_all_were_drawn() -> None:
    for style, count in draws("wheeze", CLIPS, TASK, "crackle")["synthesize"].items():
        pairs = list(islice(synthesis_pairs(item("wheeze", 1, style), CLIPS, TASK, "crackle", 3), 2 * count))
        assert len({(a.clip_id, b.clip_id) for a, b in pairs[:count]}) == count
        assert pairs[count:] == pairs[:count]
        pool = references("wheeze", style, CLIPS, TASK, "crackle")
        assert len({a.clip_id for a, _ in pairs[: len(pool)]}) == len(pool)  # everybody lends once first


def test_candidates_per_item_and_pick() -> None:
    train = Corpus.__new__(Corpus)
    train.clips = CLIPS
    settings = GeneratorSettings(candidates=1.5, picked_from=4)
    items = [item("wheeze", 3), item("wheeze", 1, pick="hard"), item("normal", 2, "own", "easy")]
    found = requests_for(items, train, TASK, settings, seed=0, partners={})
    assert [r.pick for r in found] == [None] * 5 + ["hard"] * 4 + ["easy"] * 8
    pairs = [(r.reference.clip_id, r.donor.clip_id) for r in found if r.label == "wheeze"]
    assert len(set(pairs)) == 9  # the second item goes on where the first stopped


def test_restyling_goes_on_where_the_last_round_stopped() -> None:
    train = Corpus.__new__(Corpus)
    train.clips = CLIPS
    settings = GeneratorSettings()
    asked = [item("wheeze", 4, "cross-source"), item("crackle", 1)]
    seen = []
    records: list[dict[str, Any]] = [{"method": "synthesize", "items": [asked[0].model_dump()]}]
    for _ in range(3):
        used = used_pairs(records, settings)
        made = restyle_requests(asked, train, TASK, settings, seed=0, partners={}, used=used)
        assert [r.label for r in made] == ["wheeze"] * 4 + ["crackle"]
        seen += [(r.reference.clip_id, r.donor.clip_id) for r in made]
        records.append({"method": "restyle", "items": [i.model_dump() for i in asked]})
    assert len(set(seen)) == len(seen) == 15
