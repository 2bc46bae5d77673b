"""The Trainer of transformers, held to the rules of this house.

What it adds: the order of samples is a function of the seed alone, a non-finite loss or gradient stops
every process with the step and the numbers, checkpoints are complete or absent, and nothing is printed.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from training.average import Average
from training.config import Strict
from training.errors import NonFiniteError
from training.files import read_json, write_json
from training.fitconfig import FitConfig
from training.model import load_weights
from training.rates import rate_factors, rate_groups
from training.seeds import derive, isolated

State = dict[str, torch.Tensor]


class Places(Dataset):
    """``(place in the run, index)`` pairs; :class:`SeededCollate` reads the samples.

    The place lets every batch draw its augmentation from a seed of its own, so that a resumed run
    sees what the uninterrupted one saw, whatever was prefetched.
    """

    def __init__(self, order: Sequence[int] | np.ndarray):
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> tuple[int, int]:
        return place, int(self.order[place])


class InOrder(Sampler[int]):
    """0, 1, 2, …: the order is already in :class:`Places`."""

    def __init__(self, size: int):
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Any:
        return iter(range(self.size))


class SeededCollate:
    """Reads the samples of a batch and joins them, under the batch's own seed."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], dict[str, Any]], seed: int):
        self.dataset, self.collate, self.seed = dataset, collate, seed

    def __call__(self, places: list[tuple[int, int]]) -> dict[str, Any]:
        """Batch of the given places."""
        with isolated(derive(self.seed, "batch", places[0][0])):
            return self.collate([self.dataset[index] for _, index in places])


def rate_factor(step: int, config: FitConfig) -> float:
    """Learning rate at a step, as a share of the peak."""
    rise = max(1, round(config.warmup * config.steps)) if config.warmup else 0
    if step < rise:
        share = step / rise if config.schedule == "one_cycle" else (step + 1) / (rise + 1)
        return 0.1 + 0.9 * share if config.schedule == "one_cycle" else share
    rest = min(1.0, (step - rise) / max(1, config.steps - rise))
    if config.schedule == "linear":
        return 1.0 - rest
    if config.schedule == "constant":
        return 1.0
    low = 1e-3 if config.schedule == "one_cycle" else 0.0
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * rest))


class Tracker(TrainerCallback):
    """Validates, keeps the best weights, stops early, and moves the progress bar."""

    def __init__(
        self, config: FitConfig, evaluate: Callable[[nn.Module], float] | None, advance: Callable[[], None]
    ):
        self.config, self.evaluate, self.advance = config, evaluate, advance
        self.trainer: HouseTrainer | None = None
        self.best: State | None = None
        self.average: Average | None = None
        self.averaged: State | None = None  # the average of the checkpoint to go on from
        self.progress: dict[str, Any] = {"best_metric": None, "best_step": None, "bad": 0, "history": []}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin the average from the weights that training begins with."""
        if self.config.ema is not None:
            assert self.trainer is not None
            self.average = Average(self.trainer.net, self.config.ema, self.averaged)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Validate when due; the last step always counts."""
        self.advance()
        step = state.global_step
        if self.average is not None:
            self.average.update(step)
        every = self.config.eval_every
        due = step == self.config.steps or (every is not None and step % every == 0)
        if self.evaluate is not None and due:
            with nullcontext() if self.average is None else self.average.applied():
                self._validate(step)
            if self.config.patience is not None and self.progress["bad"] >= self.config.patience:
                control.should_training_stop = True
        return control

    def _validate(self, step: int) -> None:
        assert self.trainer is not None and self.evaluate is not None
        model = self.trainer.network
        model.eval()
        with torch.no_grad(), isolated(derive(self.config.seed, "validation")):
            metric = float(self.evaluate(model))
        if not math.isfinite(metric):
            raise NonFiniteError(f"the validation metric is {metric} at step {step}")
        best = self.progress["best_metric"]
        self.progress["history"].append({"step": step, "metric": metric})
        if best is None or metric > best:
            self.progress.update(best_metric=metric, best_step=step, bad=0)
            self.best = self.trainer.whole_state()
        else:
            self.progress["bad"] += 1

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Keep the loss curve."""
        if logs and "loss" in logs:
            kept = {key: float(logs[key]) for key in ("loss", "learning_rate", "grad_norm") if key in logs}
            self.progress["history"].append({"step": state.global_step, **kept})


@contextmanager
def hidden_config(model: nn.Module) -> Iterator[None]:
    """Hide a strict config: the Trainer's constructor would write a key of its own into it."""
    config = getattr(model, "config", None)
    strict = isinstance(config, Strict)
    if strict:
        model.config = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if strict:
            model.config = config  # type: ignore[assignment]


class HouseTrainer(Trainer):
    """See the module's docstring."""

    def __init__(
        self,
        model: nn.Module,
        arguments: TrainingArguments,
        config: FitConfig,
        places: Places,
        collate: SeededCollate,
        tracker: Tracker,
    ):
        with hidden_config(model):
            super().__init__(model=model, args=arguments, train_dataset=places, data_collator=collate)
        self.house = config
        self.net = model
        self.factors = rate_factors(model, config)
        self.folder = Path(str(arguments.output_dir))
        self.size = len(places)
        self.tracker = tracker
        self.saving = False
        # Our networks take the batch and nothing else, whatever their signature says.
        self.model_accepts_loss_kwargs = False
        self.remove_callback(PrinterCallback)
        self.add_callback(tracker)
        tracker.trainer = self

    @property
    def network(self) -> nn.Module:
        """What to call for a forward pass."""
        return self.model_wrapped if self.is_deepspeed_enabled and self.model_wrapped else self.net

    def whole_state(self) -> State:
        """All weights, gathered over the processes, copied to the CPU."""
        state = (
            self.accelerator.get_state_dict(self.model_wrapped)
            if self.is_deepspeed_enabled
            else self.net.state_dict()
        )
        return {} if state is None else {k: v.detach().cpu().clone() for k, v in state.items()}

    def _get_train_sampler(self, train_dataset: Any = None) -> InOrder:
        return InOrder(self.size)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.folder / ".partial" if self.saving else self.folder)

    def create_optimizer(self, model: Any = None) -> Any:
        """The library's AdamW; in more groups where the rates differ."""
        if self.optimizer is None and set(self.factors.values()) != {1.0}:
            decayed = set(self.get_decay_parameter_names(self.net))
            kind, arguments = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = kind(rate_groups(self.net, self.factors, decayed, self.house), **arguments)
            return self.optimizer
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule of :func:`rate_factor`."""
        if self.lr_scheduler is None:
            chosen: Any = optimizer or self.optimizer
            self.lr_scheduler = LambdaLR(chosen, lambda step: rate_factor(step, self.house))
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The model's loss, checked on all processes before any of them goes backward."""
        outputs = model(**inputs)
        loss = outputs["loss"]
        self._check("loss", loss.detach().float())
        return (loss, outputs) if return_outputs else loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None:
            self._check("gradient norm", torch.as_tensor(norm, dtype=torch.float32, device=self.args.device))
        return norm

    def _check(self, what: str, value: torch.Tensor) -> None:
        worst = (~torch.isfinite(value)).float().max()
        if self.args.world_size > 1:
            dist.all_reduce(worst, op=dist.ReduceOp.MAX)
        if worst.item() > 0:
            raise NonFiniteError(
                f"the {what} is {value.max().item()} at step {self.state.global_step + 1}",
                cure="lower the learning rate, or look for broken samples",
            )

    def _save(self, output_dir: str | None = None, state_dict: State | None = None) -> None:
        # Weights only, each tensor on its own: no pickled arguments, and tied weights are allowed.
        if not self.args.should_save:
            return
        state = self.net.state_dict() if state_dict is None else state_dict
        folder = self.folder if output_dir is None else Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        copies = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
        save_file(copies, folder / "model.safetensors")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_weights(model or self.net, Path(resume_from_checkpoint) / "model.safetensors")

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write under a temporary name, rename, then forget the older checkpoints."""
        folder = self.folder
        partial = folder / ".partial" / f"checkpoint-{self.state.global_step}"
        self.saving = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.saving = False
        if self.args.should_save:
            write_json(partial / "progress.json", self.tracker.progress)
            if self.tracker.best is not None:
                save_file(self.tracker.best, partial / "best.safetensors")
            if self.tracker.average is not None:
                save_file(self.tracker.average.weights, partial / "average.safetensors")
        self._barrier()
        if self.args.should_save:
            old = list(folder.glob("checkpoint-*"))
            partial.replace(folder / partial.name)
            for path in old:
                shutil.rmtree(path)
        self._barrier()

    def _barrier(self) -> None:
        if self.args.world_size > 1:
            dist.barrier()

    def recall(self, checkpoint: Path) -> None:
        """Take the tracker's progress, best weights and average from a checkpoint."""
        self.tracker.progress = read_json(checkpoint / "progress.json")
        if (checkpoint / "best.safetensors").is_file():
            self.tracker.best = load_file(checkpoint / "best.safetensors")
        if (checkpoint / "average.safetensors").is_file():
            self.tracker.averaged = load_file(checkpoint / "average.safetensors")
