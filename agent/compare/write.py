"""What a comparison leaves in its folder, and its figures as a stream of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.compare.page import markdown, note
from agent.compare.plots import plot
from agent.compare.run import Loop
from agent.summary import environment
from training.files import write_json, write_text


def write(results: dict[str, Any], loops: Sequence[Loop], out: Path) -> None:
    """Write ``compare.json``, ``compare.md``, ``compare.png`` and ``compare.svg``."""
    record = {
        "results": results,
        "environment": environment(),
        "timings": {
            "loops": [
                {"row": one.row.label, "seed": one.seed, "seconds": one.seconds, "kept": not one.fresh}
                for one in loops
            ],
            "total": round(sum(one.seconds for one in loops), 3),
        },
        "limits": "research only, not a medical device",
    }
    write_json(out / "compare.json", record)
    write_text(out / "compare.md", markdown(results))
    plot(results, out / "compare.png", out / "compare.svg")


def stream(results: dict[str, Any]) -> Iterator[str]:
    """A JSON line for every row and score: mean, std, values by seed, and the difference to the reference."""
    for label, row in results["rows"].items():
        for name, figure in row["scores"].items():
            yield json.dumps(
                {
                    "row": label,
                    "planner": row["planner"],
                    "balanced": row["balanced"],
                    "score": name,
                    "seeds": results["seeds"],
                    **figure,
                    "difference": row.get("differences", {}).get(name),
                    "note": note(row, results),
                },
                ensure_ascii=False,
            )
