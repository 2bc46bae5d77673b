"""The benchmark runs, and its naive forward gives the encoder's features."""

import importlib.util
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

from beats.config import beats_config
from beats.encoder import BeatsEncoder

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "beats.py"


def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module; it changes where Python looks."""
    monkeypatch.setattr(sys, "path", [str(SCRIPT.parent), *sys.path])
    spec = importlib.util.spec_from_file_location("beats_benchmark", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_operations_of_a_forward_are_those_of_its_shapes(monkeypatch):
    config = beats_config("tiny").model_copy(update={"embed_dim": 48})
    tokens, dim = 6 * 8, config.dim
    layers = config.layers * (4 * dim**2 + 2 * dim * config.ffn_dim + 2 * tokens * dim)
    patches = 256 * config.embed_dim + config.embed_dim * dim
    # The even kernel gives one step too many; 98 frames; the gate is two numbers of every token and head.
    near = (tokens + 1) * dim * dim // config.conv_pos_groups * config.conv_pos
    least = 2 * (tokens * (layers + patches) + near + 98 * 257 * 128)
    found = script(monkeypatch).forward_flop(config, 16000)
    assert 0 <= found - least <= 2 * config.layers * tokens * dim * 2


@torch.inference_mode()
def test_features_that_are_no_numbers_stop_it(monkeypatch):
    encoder = BeatsEncoder(beats_config("tiny")).eval()
    encoder.layer_norm.weight[0] = torch.nan
    with pytest.raises(SystemExit, match="differ by nan"):
        script(monkeypatch).on_cpu(encoder, torch.randn(1, 16000), 1, time.process_time, tiny=True)


@pytest.mark.slow
def test_the_benchmark_prints_ratios():
    command = [sys.executable, str(SCRIPT), "--tiny", "--batch", "2", "--repeats", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    names = {figure["name"] for figure in figures}
    assert all(figure.keys() == {"name", "ratio", "target"} and figure["ratio"] > 0 for figure in figures)
    assert {
        "beats linear layers, share of GEMM peak, fp32",
        "beats forward, share of GEMM peak, fp32",
    } <= names
    assert "beats bytes of attention, share of the forward, fp32" in names
    assert {"beats forward over naive forward", "beats filterbank over naive"} <= names
    assert "beats positional convolution over the library's, training" in names
    (apart,) = re.findall(r"^naive features equal to (\S+)$", done.stdout, re.MULTILINE)
    assert float(apart) <= 1e-4
