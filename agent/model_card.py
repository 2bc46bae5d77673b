"""The model card that lies beside a set of weights: what they are, what they reach, whom they have seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.files import read_json, write_text

HEAD = """# Weights: {name}

Small networks that make the loop run offline on a CPU. They show that the path works, not how good the
method is. **Research only, not a medical device.**

- Made by `resp-agent train pretrain --config tiny` (settings: `pretrain.yaml`), {size:.1f} MB in fp16.
- Trained on {simulated} simulated subjects and {real} subjects of SPRSound (CC BY 4.0); nothing of
  ICBHI 2017 or KAUH. Every `config.json` lists the subjects and their hash; `evaluate` refuses to score
  them.
- The judges share no subject with Resp-MLLM and flow decoder, so that they judge what they never taught.
  The encoder has heard the real subjects of both.
- Simulated clips here and simulated test corpora share one simulator: figures on those flatter the
  networks.

## What was held out

Figures are on sources (simulated) and subjects (SPRSound) that were kept out of training; the best step
was chosen on them, so they are optimistic.

"""


def write_model_card(folder: Path, name: str) -> None:
    """Write ``README.md`` into a set of weights from the figures its parts carry."""
    parts = sorted(path.parent for path in folder.rglob("config.json"))
    subjects: set[str] = set()
    size = 0
    for part in parts:
        subjects |= set(read_json(part / "config.json")["provenance"]["subjects"])
        size += (part / "model.safetensors").stat().st_size
    real = sum(subject.startswith("sprsound:") for subject in subjects)
    text = HEAD.format(name=name, size=size / 1e6, simulated=len(subjects) - real, real=real)
    text += _beats(read_json(folder / "beats" / "pretrain.json"))
    for part in parts:
        metrics = part / "metrics.json"
        if metrics.is_file():
            text += f"### {part.name}\n\n" + _figures(read_json(metrics)) + "\n"
    write_text(folder / "README.md", text)


def _beats(report: dict[str, Any]) -> str:
    """The encoder and its units."""
    units = report["units"]
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
