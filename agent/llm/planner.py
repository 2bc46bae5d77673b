"""Planner ``llm``: a model proposes, the validator of all planners disposes."""

from __future__ import annotations

from pathlib import Path

from agent.config import LLMSettings, ThinkerConfig
from agent.llm.archive import ARCHIVE, Ask, Talk, Turn, live, replayed
from agent.llm.client import Client
from agent.llm.prompt import Refused, first_messages, read_plan, repair_messages
from agent.planners import Plan, PlanRequest, make_plan
from training.files import write_json
from training.progress import console


def plan_llm(request: PlanRequest, config: ThinkerConfig, settings: LLMSettings, archive: Path) -> Plan:
    """Let a model share out the budget; the thinker does it where the model cannot.

    Args:
        request: figures of the classes; only what :func:`agent.llm.prompt.figures` lists is sent.
        config: of the thinker that steps in.
        settings: of the endpoint, or the run to replay.
        archive: the node's folder, for ``llm.json`` with every turn.

    Returns:
        the plan, by the model or, with the reason in its note, by the thinker.

    Raises:
        ConfigError: there is no endpoint, or it refuses the key, the address, the model or the request.
        RunError: the run to replay holds no talk, or another one.
        DataError: no class can be planned for.
    """
    ask = live(settings, request.seed) if settings.replay is None else replayed(settings, settings.replay)
    turns: list[Turn] = []
    plan, reason = _talk(request, settings.repairs, ask, turns)
    write_json(archive / ARCHIVE, Talk(turns=turns, given_up=reason).model_dump(mode="json"))
    if plan is not None:
        return plan
    console.print(f"planner llm gave up: {reason}", markup=False, highlight=False, soft_wrap=True)
    stand_in = make_plan("thinker", request, config)
    note = f"the thinker's plan, for the model gave none: {reason}"
    if stand_in.note:
        note += f" ({stand_in.note})"
    return stand_in.model_copy(update={"planner": "llm", "note": note})


def check_endpoint(settings: LLMSettings) -> None:
    """Ask the model for a word: a wrong key, address or model is told before anything is trained.

    Raises:
        ConfigError: there is no endpoint, or it refuses the key, the address, the model or the request.
        ModelError: it cannot be reached.
    """
    Client(settings).chat([{"role": "user", "content": 'Answer with this JSON object: {"ready": true}'}])


def _talk(
    request: PlanRequest, repairs: int, ask: Ask, turns: list[Turn]
) -> tuple[Plan, None] | tuple[None, str]:
    """The model's plan, or why there is none."""
    messages = first_messages(request)
    reason = ""
    for _ in range(repairs + 1):
        turn = ask(messages)
        turns.append(turn)
        if turn.reply is None:
            return None, turn.error or "no reply"
        try:
            return read_plan(turn.reply, request), None
        except Refused as refused:
            messages = [*messages, *repair_messages(turn.reply, refused.faults)]
            reason = f"refused after {len(turns)} turns: {refused}"
    return None, reason
