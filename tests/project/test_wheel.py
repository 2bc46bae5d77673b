"""The wheel holds everything: installed elsewhere, the command runs from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_shipped_weights_are_small() -> None:
    size = sum(path.stat().st_size for path in (ROOT / "configs" / "weights").rglob("*") if path.is_file())
    assert 1e6 < size <= 25e6


@pytest.mark.slow
def test_wheel_installs_elsewhere_and_runs(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT],
        check=True,
        timeout=200,
    )
    (wheel,) = tmp_path.glob("resp_agent_lab-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "configs/presets/quickstart.yaml" in names
    assert "configs/weights/tiny/beats/encoder/model.safetensors" in names
    shipped = (
        "data/taxonomy.yaml",
        "data/pretrain_sprsound.json",
        "data/splits/paper.json",
        "simulate/page.html",
    )
    assert {f"resp229k/{name}" for name in shipped} <= set(names)
    assert not [n for n in names if n.startswith("tests/") or n.endswith((".wav", ".flac"))]

    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel], check=True
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site)}
    script = (
        "import agent, configs, sys; from agent.cli import main;"
        f"assert agent.__file__.startswith({str(site)!r}), agent.__file__;"
        "sys.argv = ['resp-agent', 'doctor']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "quickstart" in done.stdout
    assert "tiny" in done.stdout
