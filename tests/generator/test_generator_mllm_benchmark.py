"""The benchmarks of the generator run, draw the library's units, and print their figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def run(name: str) -> tuple[str, dict[str, float]]:
    """What a benchmark prints, and its ratios."""
    command = [sys.executable, str(FOLDER / name), "--quick"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    figures = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert all(figure.keys() == {"name", "ratio", "target"} for figure in figures)
    return printed, {figure["name"]: figure["ratio"] for figure in figures}


@pytest.mark.slow
def test_a_step_of_the_flow_decoder_is_timed() -> None:
    _, found = run("flow.py")
    assert len(found) == 2 and all(ratio > 0 for ratio in found.values())


@pytest.mark.slow
def test_the_benchmark_prints_ratios() -> None:
    printed, found = run("generator.py")
    assert "2 clips of 40 units, the same in all ways" in printed
    assert {
        "units over the library's batched generate",
        "units over one clip at a time",
        "time of units with the weights' guidance over without",
        "seconds of audio per second",
        "hours for 50000 clips",
    } <= found.keys()
    distances = [ratio for name, ratio in found.items() if name.startswith("flow distance over the best")]
    assert len(distances) == 4 and min(distances) == 1.0
    assert sum(name.startswith("flow evaluations within 5 %") for name in found) == 1
