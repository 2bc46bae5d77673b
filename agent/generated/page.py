"""The evaluation as one page that works offline: tables, plots, and clips to hear and see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agent.generated.compare import GENERATOR, Shown
from agent.generated.protocol import Sides
from agent.generated.table import bars, sections, words
from agent.pages import called, png_uri, render_page, sight, sound_uri
from resp229k.audio import COMMENT

EXAMPLES = 2  # generated and real clips of each class; the page holds all their sounds
REAL_NOTE = "held-out clip of an evaluation by Resp-Agent"


def render(results: dict[str, Any], shown: Shown, sides: Sides, drawn: dict[str, bytes]) -> str:
    """HTML of the results; every word from data is escaped.

    Args:
        results: of the evaluation.
        shown: clips of the first seed.
        sides: hold the sound of references and training clips.
        drawn: plots, file stem → PNG.
    """
    return render_page(
        "generated.html",
        what=results["config"]["weights"],
        protocol=results["protocol"],
        words=words(results),
        bars=bars(results),
        sections=sections(results),
        plots={name: png_uri(png) for name, png in drawn.items()},
        classes=[class_cards(name, shown, sides) for name in sides.classes],
    )


def class_cards(label: str, shown: Shown, sides: Sides) -> dict[str, Any]:
    """Generated clips of a class, each with its style reference and nearest training clip, and real ones."""
    made, real = shown.rows[GENERATOR], shown.ground.b
    train = {clip.clip_id: clip for clip in sides.train.clips}
    generated = []
    for i in [i for i, name in enumerate(made.labels) if name == label][:EXAMPLES]:
        reference = shown.asks[i].reference
        card = {
            **sight(made.waves[i], COMMENT),
            "judge": opinion(made.probabilities[i], label, shown.ground.judged),
            "reference": {**sight(sides.test.audio(reference), REAL_NOTE), "name": called(reference)},
            "nearest": None,
        }
        if shown.measured.nearest:
            name, similarity = shown.measured.nearest[i]
            sound = sound_uri(sides.train.audio(train[name]), REAL_NOTE)
            card["nearest"] = {"name": name, "similarity": similarity, "sound": sound}
        generated.append(card)
    mine = [i for i, name in enumerate(real.labels) if name == label][:EXAMPLES]
    clips = [
        {
            **sight(real.waves[i], REAL_NOTE),
            "judge": opinion(real.probabilities[i], label, shown.ground.judged),
            "name": called(shown.halves.b[i]),
        }
        for i in mine
    ]
    return {"label": label, "generated": generated, "real": clips}


def opinion(row: np.ndarray, label: str, classes: Sequence[str]) -> dict[str, Any]:
    """The judge's probability ``(C,)`` of a label, and its first choice."""
    first = classes[int(row.argmax())]
    return {"probability": float(row[list(classes).index(label)]), "first": first, "right": first == label}
