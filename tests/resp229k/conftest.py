"""Fixtures of the corpus tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from published_layout import write_icbhi, write_sprsound


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A data folder with a small SPRSound and a small ICBHI."""
    root = tmp_path / "data"
    write_sprsound(root)
    write_icbhi(root)
    return root
