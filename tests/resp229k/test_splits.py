"""Splits: disjoint, deterministic, stratified; the committed list is what it says it is."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resp229k.sources import sprsound
from resp229k.splits import PRETRAIN_LIST, SubjectList, choose_pretrain, pretrain_subjects, split_subjects
from training.errors import ConfigError, DataError
from training.files import read_json

HALVES = {"train": 0.6, "select": 0.2, "plan": 0.2}


def people(count: int) -> dict[str, dict[str, int]]:
    return {f"x:{i}": {"normal": 5} | ({"wheeze": 1 + i % 3} if i % 8 == 0 else {}) for i in range(count)}


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 60), seed=st.integers(0, 999))
def test_every_subject_has_one_part_whatever_the_order(count: int, seed: int) -> None:
    weights = people(count)
    parts = split_subjects(weights, HALVES, seed=seed)
    assert parts.keys() == weights.keys() and set(parts.values()) <= set(HALVES)
    shuffled = list(weights.items())
    random.Random(seed).shuffle(shuffled)
    assert split_subjects(dict(shuffled), HALVES, seed=seed) == parts


def test_rare_classes_reach_every_part_in_about_the_asked_shares() -> None:
    weights = people(80)
    for seed in range(5):
        parts = split_subjects(weights, HALVES, seed=seed)
        sizes = Counter(parts.values())
        assert abs(sizes["train"] - 48) <= 2 and abs(sizes["select"] - 16) <= 2
        rare = Counter(parts[name] for name in weights if "wheeze" in weights[name])
        assert rare["select"] >= 1 and rare["plan"] >= 1 and 5 <= rare["train"] <= 7
    assert split_subjects(weights, HALVES, seed=0) != split_subjects(weights, HALVES, seed=1)


def test_fractions_must_sum_to_one() -> None:
    with pytest.raises(DataError, match="sum to"):
        split_subjects(people(4), {"train": 0.5}, seed=0)


def test_committed_list_is_guarded_by_its_hash(tmp_path: Path) -> None:
    assert 60 <= len(pretrain_subjects()) <= 75
    assert all(name.startswith("sprsound:") for name in pretrain_subjects())
    record = read_json(PRETRAIN_LIST)
    record["subjects"] = record["subjects"][1:]
    (tmp_path / "list.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="subjects_hash"):
        pretrain_subjects(tmp_path / "list.json")


def test_too_many_pretrain_subjects(published: Path) -> None:
    with pytest.raises(DataError, match="cannot keep 12 of 12"):
        choose_pretrain(sprsound.discover(published / "SPRSound"), count=12)


@pytest.mark.real
def test_committed_list_can_be_made_again(resp_data: Path) -> None:
    recordings = list(sprsound.discover(resp_data / "SPRSound"))
    assert choose_pretrain(recordings) == SubjectList.model_validate(read_json(PRETRAIN_LIST))
    chosen = [r for r in recordings if r.subject_id in pretrain_subjects()]
    assert {s.icbhi4 for r in chosen for s in r.stretches} == {"normal", "crackle", "wheeze", "both"}
