"""Nodes of the loop. Each is ``node(work, state) -> update`` and idempotent (:mod:`agent.work`)."""

from agent.nodes.approve import approve
from agent.nodes.learn import retrain, test, validate
from agent.nodes.plan import diagnose, duplicate, fallback, plan
from agent.nodes.prepare import prepare
from agent.nodes.synthesize import gate, screen, synthesize

__all__ = [
    "approve",
    "diagnose",
    "duplicate",
    "fallback",
    "gate",
    "plan",
    "prepare",
    "retrain",
    "screen",
    "synthesize",
    "test",
    "validate",
]
