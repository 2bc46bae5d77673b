"""The figures as tables, and the project's release criteria beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.config import GateSettings
from agent.generated.compare import GENERATOR, REPLAYED, ROWS, SIMULATOR
from generator.likeness import COPIES

Rows = list[list[str]]

TITLES = {
    "recall": "judge recall",
    "recall_tail": "judge recall, tail",
    "recall_ratio": "judge recall / real",
    "recall_ratio_tail": "judge recall / real, tail",
    "tstr": "trained on it, tested on real: macro-F1",
    "tstr_tail": "trained on it, tested on real: tail F1",
    "tstr_ratio": "trained on it / on real",
    "tstr_ratio_tail": "trained on it / on real, tail",
    "diversity": "diversity within a class / real",
    "memorised": "memorised share",
    "fad": "FAD to real",
    "fad_clips": "clips in FAD",
    "fad_infinite": "FAD∞ to real",
    "fad_ratio": "FAD / FAD of real to real",
    "style_cosine": "Style-Sim (BEATs, cosine)",
    "style_position": "Style-Sim, 0 other to 1 same {styles}",
    "timbre_position": "timbre, 0 other to 1 same {styles}",
    "crackle_rate_ks": "crackles per s, KS to real",
    "wheeze_seconds_ks": "wheeze duration, KS to real",
    "wheeze_hertz_ks": "wheeze pitch, KS to real",
    "texture_ratio": "texture of the log-mel / real",
    "variance_ratio": "variance of the log-mel / real",
    "time_variance_ratio": "variance over time / real",
    "modulation_db": "modulation spectrum, dB from real",
}
SWAPS = {
    "p_acc": "P-Acc (judge)",
    "style_cosine": TITLES["style_cosine"],
    "style_position": TITLES["style_position"],
    "timbre_position": TITLES["timbre_position"],
    "own_style": "nearest to its own style of the group",
    "fad": TITLES["fad"],
    "fad_ratio": TITLES["fad_ratio"],
}


@dataclass(frozen=True)
class Bar:
    """A release criterion of shipped weights.

    Attributes:
        figure: of the generator's row, or ``class figure`` where ``label`` is given.
        low, high: bounds, both allowed; None: open.
        why: where the number comes from.
        what: comparisons that it is asked of; None: of all.
        label: class that it is asked of.
    """

    figure: str
    low: float | None
    high: float | None
    why: str
    what: str | None = None
    label: str | None = None

    @property
    def words(self) -> str:
        """The bounds, e.g. ``≥ 0.75``."""
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return f"≥ {self.low:g}" if self.low is not None else f"≤ {self.high:g}"

    def met(self, value: float) -> bool:
        """Whether a value is within the bounds."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def near(self, value: float, std: float | None) -> bool:
        """Whether a bound lies less than a standard deviation away."""
        return std is not None and any(abs(value - b) < std for b in (self.low, self.high) if b is not None)


FEW = 200  # clips below which FAD is mostly the bias of small samples
LINE = 0.9  # R² below which FAD∞ is not to be trusted
LEARNED = "below it, prototypes of the loop made the diagnoser worse"
BARS = (
    Bar("recall_ratio", 0.75, None, LEARNED, "simulated"),
    Bar("recall_ratio_tail", 0.75, None, LEARNED, "simulated"),
    Bar("recall_ratio", 0.6, None, "the least share of real recall at which the loop's gate opens", "sprsound", "crackle"),
    Bar("recall_ratio", 0.6, None, "the least share of real recall at which the loop's gate opens", "sprsound", "wheeze"),
    Bar("tstr_ratio", 0.7, None, "generated clips must teach most of what as many real ones teach"),
    Bar("diversity", 0.8, 1.2, "as varied as real clips: neither one clip repeated nor noise"),
    Bar("memorised", None, 0.01, "copies of training clips are no new clips, and not private"),
    Bar("fad_ratio", None, 2.0, "no further from real clips than twice other real clips are"),
)  # fmt: skip
"""What shipped weights have to reach: the project's release criteria."""


def bars(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Every criterion that applies, with the generator's mean and whether it is met (None: not measured).

    ``near``: a bound lies less than a standard deviation over seeds away.
    """
    row, protocol = results["rows"][GENERATOR], results["protocol"]
    found = []
    for bar in BARS:
        if bar.what not in (None, protocol["what"]) or (bar.label and bar.label not in protocol["classes"]):
            continue
        figures = row["figures"] if bar.label is None else row["classes"][bar.label]
        one = figures.get(bar.figure, {})
        value = one.get("mean")
        title = TITLES[bar.figure] + (f", {bar.label}" if bar.label else "")
        found.append(
            {
                "figure": bar.figure,
                "label": bar.label,
                "title": title,
                "target": bar.words,
                "value": value,
                "met": None if value is None else bar.met(value),
                "near": value is not None and bar.near(value, one["std"]),
                "why": bar.why,
            }
        )
    return found


def table(results: dict[str, Any]) -> Rows:
    """Figures down, rows of clips across, the criterion at the end; a header first."""
    names = [name for name in ROWS if name in results["rows"]]
    asked = {bar["figure"]: bar for bar in bars(results) if bar["label"] is None}
    found = [["figure", *names, "target", "met"]]
    for figure, title in TITLES.items():
        cells = [cell(_trusted(results["rows"][name]["figures"], figure)) for name in names]
        if any(text != "–" for text in cells):
            bar = asked.get(figure)
            found.append(
                [title.format(**results["protocol"]), *cells, bar["target"] if bar else "", verdict(bar)]
            )
    return found


def class_table(results: dict[str, Any]) -> Rows:
    """One line per class: how the judge hears it, its variety, its crackles and wheezes."""
    row = results["rows"][GENERATOR]["classes"]
    asked = {bar["label"]: bar for bar in bars(results) if bar["label"]}
    header = ["class", "clips", "recall", "recall real", "ratio", "diversity", "F1 trained on it"]
    header += ["median crackles/s", "real", "median wheeze s", "real", "median wheeze Hz", "real"]
    header += ["target", "met"]
    found = [header]
    for name, figures in row.items():
        tail = " (tail)" if name in results["protocol"]["tail"] else ""
        bar = asked.get(name)
        found.append(
            [
                name + tail,
                f"{results['protocol']['clips'][name]}",
                *(
                    cell(figures.get(key))
                    for key in ("recall", "recall_real", "recall_ratio", "diversity", "f1_trained_on")
                ),
                *(
                    cell(figures.get(f"{key}{real}"))
                    for key in ("crackle_rate", "wheeze_seconds", "wheeze_hertz")
                    for real in ("", "_real")
                ),
                f"ratio {bar['target']}" if bar else "",
                verdict(bar),
            ]
        )
    return found


def swap_table(results: dict[str, Any]) -> Rows:
    """Style swap and content swap."""
    found = [["figure", *results["swaps"]]]
    for figure, title in SWAPS.items():
        cells = [cell(one.get(figure)) for one in results["swaps"].values()]
        if any(text != "–" for text in cells):
            found.append([title.format(**results["protocol"]), *cells])
    return found


def _trusted(figures: dict[str, Any], name: str) -> dict[str, Any] | None:
    """A figure; None for a distance drawn on to n = ∞ along what is no line."""
    if name == "fad_infinite" and figures["fad_r2"]["mean"] < LINE:
        return None
    return figures.get(name)


def cell(figure: dict[str, Any] | None) -> str:
    """Mean ± standard deviation over seeds, with as many digits as the size deserves."""
    if figure is None or figure["mean"] is None:
        return "–"
    mean, std = figure["mean"], figure["std"]
    digits = 0 if abs(mean) >= 100 else 1 if abs(mean) >= 20 else 3
    return f"{mean:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")


def verdict(bar: dict[str, Any] | None) -> str:
    """Whether a criterion is met, in a word."""
    if bar is None:
        return ""
    return {True: "yes", False: "no", None: "not measured"}[bar["met"]] + (
        ", within ±" if bar["near"] else ""
    )


def words(results: dict[str, Any]) -> list[str]:
    """What was compared, and what must be known to read the figures, one sentence each."""
    p, config = results["protocol"], results["config"]
    counts = sorted(set(p["clips"].values()))
    each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    found = [
        f"Weights {config['weights']}, task {p['task']}, {p['what']} test clips: {p['test_clips']} of "
        f"{p['test_subjects']} subjects that neither generator nor judge has met.",
        f"Each of {len(p['seeds'])} seeds halves the test clips by subject: {each} clips per class and half. One "
        "half lends styles, labels and lengths, and is the row real; every row is compared with the other half. "
        "A clip's style comes from another clip, whatever its label.",
        "Codec: the clips of the row real, encoded and decoded. "
        "Noise has the spectrum and level of the style and no content: the floor."
        + (" The simulator made the test clips." if SIMULATOR in results["rows"] else "")
        + (
            " Replayed: the real clips' units, decoded in the generator's styles; what it has less than the codec is the "
            "units' and the flow decoder's."
            if REPLAYED in results["rows"]
            else ""
        ),
        f"Mean ± standard deviation over seeds, which halve the same test clips; the networks were trained once. *within ±*: "
        f"the target is less than one deviation away. Tail: {', '.join(p['tail']) or 'none'}.",
        f"Same style: other subjects of the same {p['styles']}."
        if p["styles"] == "device"
        else "There is one device: same style means another clip of the same subject.",
        f"Copies were searched for among {p['train_clips']} training clips."
        if p["train_clips"]
        else "None of the clips that the weights were trained on are at hand: copies were not searched for.",
    ]
    return found + doubts(results)


def doubts(results: dict[str, Any]) -> list[str]:
    """What speaks against trusting a figure of the generator, one sentence each."""
    p, figures = results["protocol"], results["rows"][GENERATOR]["figures"]
    found = []
    floor = GateSettings().judge_over_chance / len(p["classes"])
    if p["judge_recall_real"] < floor:
        found.append(
            f"The judge cannot tell: its recall on real clips is {p['judge_recall_real']:.2f}, below {floor:.2f}."
        )
    for name, what in (("style", "BEATs features"), ("timbre", "Timbre vectors")):
        if figures[f"{name}_position"]["mean"] is None:
            found.append(
                f"{what} hardly tell one {p['styles']} from another (AUROC "
                f"{figures[f'{name}_auroc']['mean']:.2f}): no style is measured by them."
            )
    if p["train_clips"] and p["heard_clips"] * COPIES < 1:
        found.append(
            f"Only {p['heard_clips']} real clips say how near to a training clip others come: the memorised share "
            "is coarse."
        )
    if p["what"] == "simulated" and results["config"]["train_clips"]:
        found.append(
            "Not all training clips were searched for copies: among all of them generated clips come nearer to one, "
            "and real clips come nearer as well."
        )
    if p["what"] != "simulated" and p["train_clips"]:
        found.append(
            "Copies were searched for among the training clips of these recordings alone, not among simulated ones."
        )
    if figures["fad_clips"]["mean"] < FEW:
        found.append(
            f"FAD of {figures['fad_clips']['mean']:.0f} clips holds mostly the chance of so few, as that of real to real "
            "does: their ratio comes out near 1 whatever the clips are."
        )
    if figures["fad_r2"]["mean"] < LINE:
        found.append(
            f"FAD does not fall on a line over 1 / n (R² {figures['fad_r2']['mean']:.2f}): FAD∞ is not given."
        )
    return found


def markdown(results: dict[str, Any]) -> str:
    """The whole page of tables."""
    parts = ["# Generated against real clips", *words(results)]
    for title, rows in sections(results):
        parts += [f"## {title}", _lines(rows)]
    return "\n\n".join(parts) + "\n"


def sections(results: dict[str, Any]) -> list[tuple[str, Rows]]:
    """All tables with their titles."""
    return [
        ("Figures", table(results)),
        ("Classes of the generator", class_table(results)),
        ("Style swap and content swap", swap_table(results)),
    ]


def _lines(rows: Sequence[Sequence[str]]) -> str:
    lines = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "\n".join(f"| {' | '.join(text.replace('|', '/') for text in line)} |" for line in lines)
