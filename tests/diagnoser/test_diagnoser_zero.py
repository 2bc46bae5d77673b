"""Two processes with sharded optimizer states (ZeRO 1) and weights (ZeRO 3) train what one process trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_diagnoser_train import config_for, make_beats, make_corpus

from diagnoser.config import DiagnoserConfig, DiagnoserSizes, DiagnoserTrainConfig
from diagnoser.instep import keep_in_step
from diagnoser.model import Diagnoser
from diagnoser.train import train_diagnoser
from training.config import PACKAGE_DATA, dump_config
from training.fitconfig import FitConfig

SCRIPT = """
import sys
from pathlib import Path
from diagnoser.config import DiagnoserTrainConfig
from diagnoser.train import train_diagnoser
from training.config import load_config
train_diagnoser(load_config(DiagnoserTrainConfig, Path(sys.argv[1])), Path(sys.argv[2]))
"""


def config_of(home: Path, deepspeed: str | None) -> DiagnoserTrainConfig:
    """Without dropout, which every process draws for its own part of a batch."""
    sizes = DiagnoserSizes(
        hidden=24,
        heads=2,
        inner=32,
        layers=2,
        rows=4,
        max_columns=8,
        dropout=0,
        text_dropout=0,
        audio_dropout=0,
    )
    return config_for(
        home,
        model=sizes,
        fit=FitConfig(
            steps=8, batch_size=16, learning_rate=5e-3, eval_every=4, log_every=1, deepspeed=deepspeed
        ),
        loss_weights="effective",
        logit_adjustment=1.0,
    )


def everything_sharded(folder: Path) -> str:
    """The shipped ZeRO 3, which leaves small tensors whole: here that would be all of them."""
    settings = json.loads((PACKAGE_DATA / "presets" / "deepspeed" / "zero3.json").read_text())
    settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    path = folder / "zero3.json"
    path.write_text(json.dumps(settings))
    return str(path)


def launch(folder: Path, config: DiagnoserTrainConfig) -> None:
    folder.mkdir()
    dump_config(config, folder / "train.yaml")
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(folder / "script.py"), str(folder / "train.yaml"), str(folder / "model")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    # Not the exit status: once in a while gloo aborts a process that has finished its work.
    assert (folder / "model" / "metrics.json").is_file(), done.stderr[-12000:]


def losses(model: Path) -> list[float]:
    history = json.loads((model / "metrics.json").read_text())["history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def small(attention: str) -> Diagnoser:
    torch.manual_seed(0)
    sizes = DiagnoserSizes(hidden=16, heads=2, inner=16, layers=2, window=8, attention=attention, dropout=0)
    return Diagnoser(
        DiagnoserConfig(task="icbhi4", classes=("a", "b", "c"), feature_dim=6, sizes=sizes)
    ).eval()


def batch(text: int, columns: int) -> dict[str, torch.Tensor]:
    """Two clips of ``3 + text + 2 columns`` places."""
    generator = torch.Generator().manual_seed(text)
    return {
        "text_ids": torch.randint(5, 90, (2, text), generator=generator),
        "text_mask": torch.ones(2, text, dtype=torch.bool),
        "features": torch.randn(2, columns, 8, 6, generator=generator),
        "columns": torch.tensor([columns, columns - 2]),
    }


@pytest.mark.parametrize("attention", ["dense", "library"])
def test_every_length_calls_the_same_parts(attention: str) -> None:
    """Lengths 11 to 18, two of which suit the window of 8 and half of which are even."""
    batches = [batch(text, columns) for text, columns in ((2, 3), (3, 3), (3, 4), (6, 4), (5, 4), (7, 4))]

    def called(model: Diagnoser, inputs: dict[str, torch.Tensor]) -> list[str]:
        names: list[str] = []
        hooks = [
            part.register_forward_pre_hook(lambda *_, name=name: names.append(name))
            for name, part in model.named_modules()
        ]
        model(**inputs)
        for hook in hooks:
            hook.remove()
        return names

    plain, steady = small(attention), small(attention)
    keep_in_step(steady)
    assert len({tuple(called(plain, inputs)) for inputs in batches}) > 1  # what the library does
    assert len({tuple(called(steady, inputs)) for inputs in batches}) == 1
    for inputs in batches:
        torch.testing.assert_close(steady(**inputs).logits, plain(**inputs).logits, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_sharded_processes_train_as_one(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    make_corpus(tmp_path / "corpus")
    make_beats(tmp_path / "beats")
    train_diagnoser(config_of(tmp_path, None), tmp_path / "one")
    alone = losses(tmp_path / "one")
    assert len(alone) == 8 and alone[-1] < alone[0] - 0.01
    weights = load_file(tmp_path / "one" / "model.safetensors")
    for name, deepspeed in (("zero1", "zero1"), ("zero3", everything_sharded(tmp_path))):
        launch(tmp_path / name, config_of(tmp_path, deepspeed))
        assert losses(tmp_path / name / "model") == pytest.approx(alone, abs=1e-3), name
        found = load_file(tmp_path / name / "model" / "model.safetensors")
        assert set(found) == set(weights)
        apart = {key: float((found[key] - value).abs().max()) for key, value in weights.items()}
        assert max(apart.values()) < 1e-2, (name, apart)
