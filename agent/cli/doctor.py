"""``resp-agent doctor``: what is here, what is missing, how to get it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from agent.cli.options import out
from training.config import PACKAGE_DATA, presets

REQUIRED = (
    "torch",
    "transformers",
    "peft",
    "langgraph",
    "torchdiffeq",
    "librosa",
    "soundfile",
    "soxr",
    "scikit-learn",
    "pyarrow",
)
OPTIONAL = {
    "deepspeed": "pip install 'resp-agent-lab[deepspeed]' (training on many GPUs)",
    "frechet-audio-distance": "in an environment of its own: it needs numpy < 2",
}
CORPORA = {
    "SPRSound": ("train_wav", "https://github.com/SJTU-YONGFU-RESEARCH-GRP/SPRSound (CC BY 4.0)"),
    "ICBHI_2017": ("ICBHI_final_database", "https://bhichallenge.med.auth.gr (free for research)"),
}
WEIGHTS = ("beats/encoder", "beats/tokenizer", "judge-disease16", "judge-icbhi4", "mllm", "flow")


def doctor() -> None:
    """Say what is installed, which device, which weights and corpora are found, and the cure for what is not."""
    table = Table(title="resp-agent doctor", title_justify="left")
    for name in ("what", "state", "cure"):
        table.add_column(name, overflow="fold")
    table.add_row("python", platform.python_version(), "")
    for name in REQUIRED:
        table.add_row(name, *_package(name, f"pip install {name}"))
    for name, cure in OPTIONAL.items():
        table.add_row(f"{name} (optional)", *_package(name, escape(cure)))
    table.add_row("device", _device(), "")
    table.add_row("presets", ", ".join(presets()), "")
    for name in WEIGHTS:
        found = sorted((PACKAGE_DATA / "weights").glob(f"*/{name}/model.safetensors"))
        state = ", ".join(
            f"{path.relative_to(PACKAGE_DATA / 'weights').parts[0]} ({path.stat().st_size / 1e6:.1f} MB)"
            for path in found
        )
        table.add_row(
            f"weights: {name}", state or "missing", "" if found else "resp-agent train pretrain --config tiny"
        )
    for name, (inside, url) in CORPORA.items():
        table.add_row(f"corpus: {name}", *_corpus(name, inside, url))
    out.print(table)


def _package(name: str, cure: str) -> tuple[str, str]:
    try:
        return metadata.version(name), ""
    except metadata.PackageNotFoundError:
        return "not installed", cure


def _device() -> str:
    cores = f"CPU, {os.cpu_count()} cores"
    if find_spec("torch") is None:
        return cores
    import torch

    if not torch.cuda.is_available():
        return cores
    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}; {cores}"


def _corpus(name: str, inside: str, url: str) -> tuple[str, str]:
    root = os.environ.get("RESP_DATA")
    if not root:
        return "RESP_DATA is not set", f"get it from {url}; export RESP_DATA=<folder that holds {name}>"
    files = len(list((Path(root) / name / inside).glob("*.wav")))
    if not files:
        return f"no {name}/{inside}/*.wav in {root}", f"get it from {url}"
    return f"{files} recordings in {root}/{name}", ""
