"""The report: every name from data is escaped, every state of the gate is told."""

from __future__ import annotations

from typing import Any

import pytest
from agent_fakes import FakeRooms, config

from agent.loop import run_loop
from agent.report import render
from agent.rooms import UPPER_BOUND


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    run = tmp_path_factory.mktemp("report") / "run"
    return run_loop(config(rounds=1, planners=["none", "thinker"]), run, rooms=FakeRooms(run))  # type: ignore[arg-type]


def test_class_names_are_escaped(summary: dict[str, Any]) -> None:
    evil = "<script>alert('x')</script>"
    page = render({**summary, "results": _rename(summary["results"], "wheeze", evil)}, [])
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def _rename(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {_rename(k, old, new): _rename(v, old, new) for k, v in value.items()}
    if isinstance(value, list):
        return [_rename(v, old, new) for v in value]
    return new if value == old else value


def test_page_is_self_contained_and_says_what_it_is(summary: dict[str, Any]) -> None:
    page = render(summary, [])
    for words in ("not a medical device", "source prior", "Gate open.", "data:image/png;base64,", "viewport"):
        assert words in page
    assert "http" not in page
    assert UPPER_BOUND not in page


def test_upper_bound_is_said_wherever_figures_stand(summary: dict[str, Any]) -> None:
    page = render({**summary, "results": {**summary["results"], "upper_bound": UPPER_BOUND}}, [])
    assert page.count(UPPER_BOUND) >= 4  # banner, gate, test table, round table
