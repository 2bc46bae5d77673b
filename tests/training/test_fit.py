"""The training loop: resume bit for bit, non-finite guard, early stopping, schedules, many processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers.utils import ModelOutput

from training.config import Strict
from training.errors import ConfigError, DataError, NonFiniteError, RunError
from training.fit import deepspeed_json, fit, sample_order
from training.fitconfig import FitConfig
from training.model import Model
from training.seeds import derive, isolated
from training.trainer import rate_factor


class NetConfig(Strict):
    size: int = 6
    dropout: float = 0.0


@dataclass
class NetOutput(ModelOutput):
    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class Net(Model):
    config_class = NetConfig

    def __init__(self, config: NetConfig):
        super().__init__(config)
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Linear(config.size, 8), nn.Tanh(), nn.Dropout(config.dropout), nn.Linear(8, 2)
        )

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> NetOutput:
        logits = self.body(x)
        return NetOutput(nn.functional.cross_entropy(logits, labels), logits)


class Points:
    """Separable points; ``fail_after`` reads raise, as a kill would."""

    def __init__(
        self, n: int = 40, noise: float = 0.1, fail_after: int | None = None, nan_at: int | None = None
    ):
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(n, 6, generator=generator)
        self.y = (self.x[:, 0] > 0).long()
        self.noise, self.left, self.nan_at = noise, fail_after, nan_at

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        x = self.x[i] + self.noise * torch.randn(6)  # augmentation from the global generator
        return (x * float("nan") if i == self.nan_at else x), self.y[i]


def collate(items: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {"x": torch.stack([x for x, _ in items]), "labels": torch.stack([y for _, y in items])}


def weights_of(model: nn.Module) -> list[float]:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


def test_learns_and_leaves_nothing_behind(tmp_path: Path) -> None:
    model = Net(NetConfig())
    config = FitConfig(steps=60, batch_size=8, learning_rate=0.05, checkpoint_every=20)
    result = fit(
        model, Points(), collate=collate, config=config, out=tmp_path / "fit", valid=Points(noise=0.0)
    )
    assert result.steps == 60 and result.best_metric is not None and result.best_metric > -0.3
    assert not model.training
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("accumulate", "more"), [(1, {}), (2, {}), (1, {"ema": 0.5, "rates": {"body.0": 0.25}})]
)
def test_resume_is_bit_for_bit(tmp_path: Path, accumulate: int, more: dict) -> None:
    """Four steps equal two steps, a kill, and two more, with dropout, augmentation and validation."""
    config = FitConfig(
        steps=4,
        batch_size=8,
        accumulate=accumulate,
        learning_rate=0.01,
        checkpoint_every=2,
        eval_every=1,
        log_every=1,
        **more,
    )
    valid = Points(noise=0.0)
    straight = Net(NetConfig(dropout=0.5))
    whole = fit(straight, Points(), collate=collate, config=config, out=tmp_path / "a", valid=valid)
    killed = Net(NetConfig(dropout=0.5))
    with pytest.raises(KeyboardInterrupt):
        fit(killed, Points(fail_after=29), collate=collate, config=config, out=tmp_path / "b", valid=valid)
    assert [p.name for p in (tmp_path / "b").glob("checkpoint-*")] == ["checkpoint-2"]
    assert not list((tmp_path / "b").rglob("training_args.bin"))
    resumed = Net(NetConfig(dropout=0.5))
    again = fit(
        resumed, Points(), collate=collate, config=config, out=tmp_path / "b", valid=valid, resume=True
    )
    assert weights_of(resumed) == weights_of(straight)
    assert again.history == whole.history and again.best_step == whole.best_step


def test_resume_refuses_another_config(tmp_path: Path) -> None:
    config = FitConfig(steps=4, batch_size=8, checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        fit(Net(NetConfig()), Points(fail_after=29), collate=collate, config=config, out=tmp_path / "b")
    other = config.model_copy(update={"learning_rate": 0.5})
    with pytest.raises(RunError, match="another config"):
        fit(Net(NetConfig()), Points(), collate=collate, config=other, out=tmp_path / "b", resume=True)
    with pytest.raises(RunError, match="corpus"):
        fit(
            Net(NetConfig()),
            Points(),
            collate=collate,
            config=config,
            out=tmp_path / "b",
            resume=True,
            data_key="other clips",
        )


def test_nan_stops_with_step_and_value(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"loss is nan at step \d"):
        fit(
            Net(NetConfig()),
            Points(nan_at=3),
            collate=collate,
            config=FitConfig(steps=10, batch_size=8),
            out=tmp_path / "fit",
        )


def test_early_stopping_restores_the_best_weights(tmp_path: Path) -> None:
    seen: list[list[float]] = []
    scores = iter([0.1, 0.9, 0.5, 0.4, 0.3, 0.2])

    def evaluate(model: nn.Module) -> float:
        assert not model.training
        seen.append(weights_of(model))
        return next(scores)

    model = Net(NetConfig())
    config = FitConfig(steps=60, batch_size=8, eval_every=2, patience=2)
    result = fit(model, Points(), collate=collate, config=config, out=tmp_path / "fit", evaluate=evaluate)
    assert (result.steps, result.best_step, result.best_metric) == (8, 4, 0.9)
    assert weights_of(model) == seen[1]


def test_weighted_order_is_seeded_and_follows_the_weights() -> None:
    config = FitConfig(steps=50, batch_size=4)
    order = sample_order(3, config, [1.0, 0.0, 3.0])
    assert order.shape == (200,) and 1 not in order and (order == 2).mean() > 0.6
    assert (order == sample_order(3, config, [1.0, 0.0, 3.0])).all()
    plain = sample_order(8, FitConfig(steps=4, batch_size=4))
    assert sorted(plain[:8]) == list(range(8)) == sorted(plain[8:])
    with pytest.raises(DataError, match="3 finite"):
        sample_order(3, config, [1.0, float("nan"), 1.0])


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "one_cycle"])
def test_schedules_rise_to_the_peak(schedule: str) -> None:
    config = FitConfig(steps=100, warmup=0.1, schedule=schedule)
    factors = [rate_factor(step, config) for step in range(101)]
    assert max(factors) == pytest.approx(1.0) and factors[0] < 0.2
    assert all(a <= b for a, b in pairwise(factors[:11]))
    if schedule == "one_cycle":
        assert factors[0] == pytest.approx(0.1) and factors[-1] == pytest.approx(1e-3)


def test_seeds_are_local() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with isolated(derive(1, "a", 2)):
        first = torch.rand(3)
    assert torch.equal(before, torch.get_rng_state())
    with isolated(derive(1, "a", 2)):
        assert torch.equal(first, torch.rand(3))
    assert derive(1, "a", 2) != derive(1, "a", 3)


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        fit(Net(NetConfig()), [], collate=collate, config=FitConfig(steps=1), out=tmp_path / "fit")
    with pytest.raises(ConfigError, match="zero1"):
        deepspeed_json("zero99")


SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, {here!r})
import torch
from test_fit import FitConfig, Net, NetConfig, Points, collate, fit, weights_of
from training.errors import NonFiniteError
from training.fit import meet
out, nan, deepspeed = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
config = FitConfig(steps=5, batch_size=8, learning_rate=0.01, eval_every=2, log_every=1,
                   checkpoint_every=2, deepspeed=None if deepspeed == "none" else deepspeed)
model = Net(NetConfig())
points = Points(noise=0.0, nan_at=3 if nan == "nan" else None)
import os
rank = os.environ.get("RANK", "0")
try:
    result = fit(model, points, collate=collate, config=config, out=out / "fit", valid=Points(noise=0.0))
    record = {{"weights": weights_of(model), "history": result.history, "best": result.best_metric}}
except NonFiniteError as error:
    record = {{"error": str(error)}}
(out / f"rank{{rank}}.json").write_text(json.dumps(record))
meet()
"""


def launch(tmp_path: Path, processes: int, nan: str = "no", deepspeed: str = "none") -> list[dict]:
    """Run the script above on several processes over gloo."""
    tmp_path.mkdir(exist_ok=True)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(here=str(Path(__file__).parent)))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        str(processes),
    ]
    done = subprocess.run(
        [*command, str(script), str(tmp_path), nan, deepspeed],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    # Not the exit status: once in a while gloo aborts a process that has finished its work.
    records = [tmp_path / f"rank{rank}.json" for rank in range(processes)]
    assert all(record.is_file() for record in records), done.stderr[-12000:]
    return [json.loads(record.read_text()) for record in records]


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    config = FitConfig(steps=5, batch_size=8, learning_rate=0.01, eval_every=2, log_every=1)
    model = Net(NetConfig())
    points = Points(noise=0.0)
    single = fit(model, points, collate=collate, config=config, out=tmp_path / "one", valid=points)
    for record in launch(tmp_path / "two", 2):
        assert record["weights"] == pytest.approx(weights_of(model), abs=1e-5)
        assert record["best"] == pytest.approx(single.best_metric, abs=1e-5)
        losses = [entry["loss"] for entry in record["history"] if "loss" in entry]
        assert losses == pytest.approx([e["loss"] for e in single.history if "loss" in e], abs=1e-4)


@pytest.mark.slow
def test_every_process_raises_on_nan(tmp_path: Path) -> None:
    """The broken sample is on one process only."""
    records = launch(tmp_path / "two", 2, nan="nan")
    assert all("non" in r["error"] or "at step" in r["error"] for r in records)
    assert len({r["error"].split("at step")[1] for r in records}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["zero1", "zero3"])
def test_deepspeed_equals_plain(tmp_path: Path, stage: str) -> None:
    pytest.importorskip("deepspeed")
    plain = launch(tmp_path / "plain", 2)
    sharded = launch(tmp_path / stage, 2, deepspeed=stage)
    for a, b in zip(plain, sharded, strict=True):
        assert b["weights"] == pytest.approx(a["weights"], abs=1e-4)
