"""The benchmark of the attention runs and prints its figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "diagnoser.py"


@pytest.mark.slow
def test_the_benchmark_prints_ratios() -> None:
    command = [sys.executable, str(SCRIPT), "--smoke", "--window", "16", "--repeats", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert all(figure.keys() == {"name", "ratio", "target"} for figure in figures)
    names = {figure["name"] for figure in figures}
    for what in ("faster forward", "faster training step", "less memory"):
        assert f"diagnoser {what} than the library, 160 places, stride 4" in names
    for form in ("auto", "dense", "library"):
        assert f"diagnoser growth exponent, {form}, 16 anchors" in names
    for places in (96, 256):
        assert f"diagnoser dense over banded forward, {places} places, window 32" in names
    assert sum(" clips/s forward, " in line for line in done.stdout.splitlines()) == 2 * 3 * 3
