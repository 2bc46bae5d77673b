"""Figures of a diagnoser in the form that the summary and the report keep."""

from __future__ import annotations

from typing import Any

import numpy as np

SCORES = ("macro_f1", "tail_macro_f1", "accuracy", "sp", "se", "score")
_SOUND_TASKS = ("icbhi4", "spr_event", "spr_record")


def scores_of(task: str) -> tuple[str, ...]:
    """Scores shown for a task: the ICBHI challenge's Sp, Se and Score are for tasks of sounds."""
    return SCORES if task in _SOUND_TASKS else SCORES[:3]


def tidy(found: dict[str, Any]) -> dict[str, Any]:
    """An evaluation as the summary keeps it: scores with intervals, the prior row, confusion counts.

    Classes that are neither in the truth nor among the guesses are left out of the matrix.
    """
    counts = np.asarray(found["confusion"]["counts"])
    names = found["confusion"]["classes"]
    used = [i for i in range(len(names)) if counts[i].any() or counts[:, i].any()]
    return {
        "clips": found["clips"],
        "subjects": found["subjects"],
        "contaminated": found["contaminated"],
        "metrics": {
            name: {
                "value": found[name],
                "low": found["intervals"][name][0],
                "high": found["intervals"][name][1],
            }
            for name in scores_of(found["task"])
            if found.get(name) is not None
        },
        "auroc": found["auroc"],
        "ece": found["ece"],
        "f1": found["f1"],
        "prior": {n: v for n, v in found["source_prior"].items() if v is not None},
        "classes": [names[i] for i in used],
        "confusion": counts[np.ix_(used, used)].tolist(),
    }
