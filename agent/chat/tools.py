"""The tools by name. None of them deletes, none overwrites."""

from __future__ import annotations

from agent.chat import explain, listen, make
from agent.chat.job import Tool

TOOLS: dict[str, Tool] = {
    "diagnose": Tool("Class probabilities of recordings.", listen.Diagnose, listen.diagnose),
    "generate": Tool(
        "Write synthetic clips of a class in the style of a recording.", make.Generate, make.generate
    ),
    "evaluate": Tool(
        "Score a diagnoser on a corpus or suite, with intervals over subjects.", make.Evaluate, make.evaluate
    ),
    "plan": Tool(
        "Show a run's newest plan with the error profile it answers, or make one with a named planner. "
        "Nothing is carried out.",
        explain.ShowPlan,
        explain.plan,
    ),
    "round": Tool(
        "Run one whole iteration in a new run: diagnose, plan, generate, screen, retrain, validate, test.",
        make.Round,
        make.one_round,
    ),
    "confusion": Tool(
        "Which classes a run's newest diagnoser mixes up, and in which sources.",
        explain.Confusion,
        explain.confusion,
    ),
    "spectrogram": Tool(
        "Draw a recording's spectrogram as a PNG for the user.", listen.Spectrogram, listen.spectrogram
    ),
}
