"""The benchmark of the generator runs, draws the library's units, and prints its figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "generator.py"


@pytest.mark.slow
def test_the_benchmark_prints_ratios() -> None:
    command = [sys.executable, str(SCRIPT), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert all(figure.keys() == {"name", "ratio", "target"} for figure in figures)
    found = {figure["name"]: figure["ratio"] for figure in figures}
    assert "2 clips of 40 units, the same in all ways" in done.stdout
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
