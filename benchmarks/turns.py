"""What the benchmarks share. Importing it takes their folder from where Python looks: files in it have the packages' names."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

Clock = Callable[[], float]  # s


def report(name: str, ratio: float, target: float | None = None) -> None:
    """Print one figure as a JSON line; without a target it is for orientation."""
    print(json.dumps({"name": name, "ratio": round(ratio, 3), "target": target}), flush=True)


def synchronised() -> float:
    """Seconds, when the GPU has done what it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()


def in_turn(calls: Mapping[str, Callable[[], object]], repeats: int, clock: Clock) -> dict[str, float]:
    """Median seconds of each call; all are called once first, unmeasured."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = clock()
            call()
            if turn:
                taken[name].append(clock() - start)
    return {name: statistics.median(times) for name, times in taken.items()}
