"""A whole talk with the real tools: train, plan, generate, retrain, and then use what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from chat_fakes import call, results
from llm_server import chat_server, say

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

# Quickstart at its smallest. The gate is off: so few clips would keep it closed.
CONFIG = """
name: small
task: disease16
budget: 3
planners: [thinker]
corpus:
  kind: simulated
  simulate:
    {classes: [Control, Asthma, COPD], seed: 3, head: 8, tail: 3, select: 3, plan: 3, test: 3, workers: 1}
weights: tiny
diagnoser: {fit: {steps: 4, batch_size: 8, learning_rate: 1.0e-3, eval_every: 2}}
generator: {backend: neural, picked_from: 1, sample: {steps: 1, method: euler}}
gate: {ratio: 0, probe: 1}
threads: 1
"""
ASKED = {
    "en": ("Run one iteration of loop.yaml, then show me what it mixes up and try it.", "Done: one round."),
    "zh": ("请用loop.yaml运行一轮，说明混淆，然后试用。", "完成：运行了一轮。仅供研究。"),
}


@pytest.mark.parametrize("language", ASKED)
def test_a_full_iteration_over_a_server(tmp_path: Path, language: str) -> None:
    asked, answer = ASKED[language]
    (tmp_path / "loop.yaml").write_text(CONFIG)
    # The recording is a synthetic clip of the talk itself: its name is in the last result.
    with chat_server() as server:

        def made(messages: list) -> str:
            found = results(messages)[-1]["data"]
            return f"{found['folder']}/{found['files'][0]}"

        steps = [
            lambda m: call("round", config="loop.yaml", run="runs/one"),
            lambda m: call("plan", run="runs/one"),
            lambda m: call("confusion", run="runs/one"),
            lambda m: call("evaluate", model="runs/one", corpus="runs/one/corpus", out="figures"),
            lambda m: call("generate", label="Asthma", style=style(tmp_path), out="clips", seconds=2),
            lambda m: call("diagnose", recording=made(m), model="runs/one"),
            lambda m: {"say": answer},
        ]

        def reply(handler: object) -> None:
            step = steps[len(server.bodies) - 1]
            say(json.dumps(step(server.asked[-1]["messages"]), ensure_ascii=False))(handler)  # type: ignore[arg-type]

        server.script = [reply]
        llm = ["-o", f"llm.base_url={server.url}", "-o", "llm.model=m"]
        done = subprocess.run(
            [sys.executable, "-m", "agent.cli", "chat", *llm, "--yes", "--ask", asked, "--log", "chat.jsonl"],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        told = results(server.asked[-1]["messages"])
    assert done.stdout == f"{answer}\n"
    assert [r["ok"] for r in told] == [True] * 6, told
    rounds = told[0]["data"]["planners"]["thinker"]["rounds"]
    assert [r["method"] for r in rounds] == ["baseline", "synthesize"]
    assert sum(rounds[1]["added"].values()) > 0 and (tmp_path / "runs/one/report.html").is_file()
    assert told[2]["data"]["clips"] == 9
    assert (tmp_path / "figures" / "metrics.json").is_file()
    assert sum(told[5]["data"]["calibrated_probabilities"].values()) == pytest.approx(1, abs=0.01)


def style(home: Path) -> str:
    return str(next((home / "runs/one/corpus").rglob("*.flac")).relative_to(home))
