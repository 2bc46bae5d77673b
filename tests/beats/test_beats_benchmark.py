"""The benchmark runs, and its naive forward gives the encoder's features."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "beats.py"


@pytest.mark.slow
def test_the_benchmark_prints_ratios():
    command = [sys.executable, str(SCRIPT), "--tiny", "--batch", "2", "--repeats", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    names = {figure["name"] for figure in figures}
    assert all(figure.keys() == {"name", "ratio", "target"} and figure["ratio"] > 0 for figure in figures)
    assert "beats linear layers, share of GEMM peak, fp32" in names
    assert {"beats forward over naive forward", "beats filterbank over naive"} <= names
    assert "naive features equal" in done.stdout
