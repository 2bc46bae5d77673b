"""How well crackles and tones are heard where every one of them is known: floors below the documented figures."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "events.py"


@pytest.fixture(scope="module")
def events() -> ModuleType:
    spec = importlib.util.spec_from_file_location("events_benchmark", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_detectors_on_simulated_clips(events: ModuleType) -> None:
    clips = events.simulated(32, seed=1)
    crackles, tones = events.crackle_figures(clips), events.tone_figures(clips)
    assert crackles["precision"] > 0.65 and crackles["recall"] > 0.45
    assert crackles["correlation of rates"] > 0.75
    assert tones["precision"] > 0.65 and tones["recall"] > 0.55
    assert tones["correlation of durations"] > 0.7 and tones["pitch"] > 0.7


def test_times_are_matched_once(events: ModuleType) -> None:
    truth = np.array([0.1, 0.105, 0.5, 1.0])
    assert events.matched(truth, np.array([0.102, 0.52, 1.009])) == 2
    assert events.matched(truth, truth) == 4
    assert events.matched(truth, np.zeros(0)) == 0


@pytest.mark.real
def test_detectors_on_real_events(events: ModuleType, resp_data: Path) -> None:
    figures = events.real_figures(resp_data / "SPRSound", 60, seed=0)
    assert figures["wheeze AUROC"] > 0.6
    assert figures["crackle AUROC"] > 0.5
