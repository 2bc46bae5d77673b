"""Shared fixtures: offline, CPU, one thread per test process, and the real recordings where present."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command does, for those that a test starts
if "PYTEST_XDIST_WORKER" in os.environ:  # processes that share the cores: several threads each are far slower
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def resp_data() -> Path:
    """Folder of the real recordings in their publishers' layout; the test skips without it."""
    root = os.environ.get("RESP_DATA")
    if not root:
        pytest.skip("RESP_DATA is not set")
    return Path(root)
