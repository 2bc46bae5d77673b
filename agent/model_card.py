"""The model card that lies beside a set of weights: what they are, what they reach, whom they have seen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from resp229k.simulate.config import is_simulated
from training.files import read_json, write_text

NAMES = {"sprsound": "SPRSound (CC BY 4.0)", "icbhi": "ICBHI 2017", "kauh": "KAUH"}
HEAD = """# Weights: {name}

Small networks that make the loop run offline on a CPU. They show that the path works, not how good the
method is. **Research only, not a medical device.**

- Made by `resp-agent train pretrain` (settings: `pretrain.yaml`), {size:.1f} MB in fp16.
- Trained on {subjects}.
  Every `config.json` lists the subjects and their hash; `evaluate` refuses to score them.
- The judges share no subject with Resp-MLLM and flow decoder, so that they judge what they never taught.
{encoder}
- Simulated clips here and simulated test corpora share one simulator: figures on those flatter the
  networks.

## What was held out

Figures are on sources (simulated) and subjects (SPRSound) that were kept out of training; the best step
was chosen on them, so they are optimistic, and recalls of few clips are coarse. Figures of the flow decoder are of
frames before they become sound, decoded from real units with even steps. What clips of these weights are worth on sources
and subjects that were never trained on, and what the judges hear there: `resp-agent evaluate-generator`,
docs/results/generator.md.

"""


def write_model_card(folder: Path, name: str) -> None:
    """Write ``README.md`` into a set of weights from the figures its parts carry."""
    parts = sorted(path.parent for path in folder.rglob("config.json"))
    subjects: set[str] = set()
    size = 0
    for part in parts:
        subjects |= set(read_json(part / "config.json")["provenance"]["subjects"])
        size += (part / "model.safetensors").stat().st_size
    report = read_json(folder / "beats" / "pretrain.json")
    text = HEAD.format(name=name, size=size / 1e6, subjects=_subjects(subjects), encoder=_heard(report))
    text += _beats(report)
    for part in parts:
        metrics = part / "metrics.json"
        if metrics.is_file():
            text += f"### {part.name}\n\n" + _figures(read_json(metrics)) + "\n"
    write_text(folder / "README.md", text)


def _subjects(subjects: set[str]) -> str:
    """How many subjects of what, and which test sources are not among them."""
    found = Counter(subject.split(":")[0] for subject in sorted(subjects))
    real = {source: number for source, number in found.items() if not is_simulated(source)}
    parts = [f"{len(subjects) - sum(real.values())} simulated subjects"]
    parts += [f"{number} subjects of {NAMES.get(source, source)}" for source, number in real.items()]
    unheard = [NAMES[source] for source in ("icbhi", "kauh") if source not in real]
    return " and ".join(parts) + (f"; nothing of {' or '.join(unheard)}" if unheard else "")


def _heard(report: dict[str, Any]) -> str:
    """Whom the encoder has heard."""
    if "weights" not in report:
        return "  The encoder has heard the real subjects of both."
    return (
        f"- Encoder and units were not trained with them but taken from `{report['weights']['name']}`. Of what\n"
        "  those have heard, only the subjects that they list count above; a published file lists none."
    )


def _beats(report: dict[str, Any]) -> str:
    """The encoder and its units."""
    units = report["units"]
    if "weights" in report:
        lines = [
            "### encoder and tokenizer\n",
            f"- taken from `{report['weights']['name']}`, SHA-256 {report['weights']['sha256']}",
            f"- {report['stem']} stem, {report['parameters']:,} parameters, codebook {units['codebook']}",
        ]
        return "\n".join(lines) + "\n\n"
    lines = [
        "### encoder and tokenizer\n",
        f"- {report['stem']} stem, {report['parameters']:,} parameters with the heads of its training",
        f"- {report['steps']} steps in {report['minutes']:.1f} minutes, event AUC {report['event_auc']:.3f}",
        f"- units: codebook {units['codebook']}, perplexity {units['perplexity']:.0f}, {units['dead']} dead",
    ]
    return "\n".join(lines) + "\n\n"


def _figures(metrics: dict[str, Any]) -> str:
    """Numbers of a part as a list; the loss history stays in its file."""
    lines = []
    for name, value in sorted(metrics.items()):
        if isinstance(value, dict):
            inner = ", ".join(
                f"{key} {number:.3f}" for key, number in value.items() if isinstance(number, float)
            )
            lines.append(f"- {name}: {inner}")
        elif isinstance(value, float):
            lines.append(f"- {name}: {value:.3f}")
        elif isinstance(value, int | str):
            lines.append(f"- {name}: {value}")
    return "\n".join(lines) + "\n"
