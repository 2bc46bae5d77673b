"""Train a network: one function for every room of the house, on one process or many."""

from __future__ import annotations

import atexit
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from transformers import TrainingArguments
from transformers.utils import logging as transformers_logging

from training.config import PACKAGE_DATA, expand
from training.errors import ConfigError, DataError, RunError
from training.files import digest, read_json, write_json
from training.fitconfig import FitConfig
from training.progress import progress_bar
from training.seeds import derive, seed_all
from training.trainer import HouseTrainer, Places, SeededCollate, Tracker

Collate = Callable[[list[Any]], dict[str, Any]]


@dataclass(frozen=True)
class FitResult:
    """What a training run did.

    Attributes:
        steps: optimizer steps done.
        best_metric: best validation metric, none without validation.
        best_step: the step whose weights the model now holds.
        history: ``{"step", "loss", "learning_rate", "grad_norm"}`` and ``{"step", "metric"}`` entries.
    """

    steps: int
    best_metric: float | None
    best_step: int
    history: list[dict[str, float]]


def fit(
    model: nn.Module,
    train_dataset: Any,
    *,
    collate: Collate,
    config: FitConfig,
    out: Path,
    valid: Any = None,
    metric: Callable[[list[Any]], float] | None = None,
    evaluate: Callable[[nn.Module], float] | None = None,
    weights: Sequence[float] | np.ndarray | None = None,
    resume: bool = False,
    description: str = "train",
    data_key: str = "",
) -> FitResult:
    """Train ``model`` in place; it ends in eval mode, with its best weights, on the device it came on.

    A batch is ``collate([dataset[i], …])``, a dict of the forward's keyword arguments; the forward
    returns a ModelOutput with ``loss`` first. Samples and collate may draw from the global generators
    of Python, NumPy and torch: these are seeded per batch. With several processes each batch is cut in
    equal parts, so the result is that of one process when the loss is a mean over samples.

    Args:
        model: the network; every trainable parameter must get a gradient.
        train_dataset: map-style.
        collate: joins samples to a batch.
        config: steps, rates, seed.
        out: folder for the resumable checkpoints of this call, removed when it ends well.
        valid: map-style dataset, read in order in batches of the same size, in eval mode.
        metric: takes the outputs of the batches of ``valid`` (on the CPU), higher is better; without it
            the negative mean loss counts.
        evaluate: instead of ``valid`` and ``metric``: takes the model in eval mode, higher is better.
        weights: sampling weights ``(N,)``; without them every pass is a permutation.
        resume: go on from the last checkpoint in ``out``, if there is one.
        description: text of the progress bar.
        data_key: digest of the data and of whatever else the checkpoints depend on; resuming with
            another one is refused. Without it only the config and the dataset's size are compared.

    Raises:
        NonFiniteError: loss, gradient or metric is NaN or infinite; on all processes, with step and value.
        RunError: ``out`` holds checkpoints of another config, dataset size or ``data_key``.
        DataError: the dataset is empty or the weights do not fit it.
        ConfigError: the batch cannot be cut, ``resume`` where no checkpoints are kept, DeepSpeed is asked
            for and missing, or the rates are not of this network.
    """
    config.check_resume(resume)
    if len(train_dataset) == 0:
        raise DataError("nothing to train on", cure="the training split has no clips of this task")
    if valid is not None and evaluate is None:
        evaluate = validation(valid, collate, config.batch_size, metric)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    key = digest([config.model_dump(mode="json"), len(train_dataset), world, data_key])
    checkpoint = _claim(out, key, resume)
    if world > 1:
        atexit.register(_leave)
    home = next(model.parameters()).device
    seed_all(config.seed)
    order = sample_order(len(train_dataset), config, weights)
    with progress_bar() as bar:
        task = bar.add_task(description, total=config.steps, visible=os.environ.get("RANK", "0") == "0")
        tracker = Tracker(config, evaluate, lambda: bar.advance(task))
        trainer = HouseTrainer(
            model,
            training_arguments(config, out, world),
            config,
            Places(order),
            SeededCollate(train_dataset, collate, config.seed),
            tracker,
        )
        if checkpoint is not None:
            trainer.recall(checkpoint)
            bar.update(task, completed=int(checkpoint.name.split("-")[1]))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return _finish(trainer, model, home, out)


def _finish(trainer: HouseTrainer, model: nn.Module, home: torch.device, out: Path) -> FitResult:
    """Put the best weights into the model and clear the checkpoints away."""
    tracker, steps = trainer.tracker, trainer.state.global_step
    state = tracker.best
    if trainer.is_deepspeed_enabled:
        state = _unwrap_deepspeed(trainer, state)
    if state is not None:
        model.load_state_dict(state, strict=True)
    elif tracker.average is not None:
        tracker.average.take()
    model.to(home).eval()
    meet()
    if trainer.args.should_save:
        shutil.rmtree(out, ignore_errors=True)
    progress = tracker.progress
    best = progress["best_step"]
    return FitResult(steps, progress["best_metric"], steps if best is None else best, progress["history"])


def meet() -> None:
    """Wait for the other processes, if there are any."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def _leave() -> None:
    """Close the connections to the other processes; left to the interpreter's end, this may abort."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _unwrap_deepspeed(
    trainer: HouseTrainer, state: dict[str, torch.Tensor] | None
) -> dict[str, torch.Tensor]:
    """Give the network its whole parameters back (ZeRO 3 leaves each process a shard)."""
    whole: list[Any] = [state if state is not None else trainer.whole_state()]
    if dist.is_initialized():
        dist.broadcast_object_list(whole)
    engine: Any = trainer.model_wrapped
    engine.destroy()
    for name, parameter in trainer.net.named_parameters():
        parameter.data = whole[0][name].to(parameter.device)
    return whole[0]


def training_arguments(config: FitConfig, out: Path, world: int) -> TrainingArguments:
    """The Trainer's arguments for a config.

    Raises:
        ConfigError: the batch cannot be cut into equal parts, or DeepSpeed is missing.
    """
    parts = world * config.accumulate
    if config.batch_size % parts:
        raise ConfigError(
            f"batch_size {config.batch_size} cannot be cut into {world} processes x {config.accumulate}",
            cure=f"use a multiple of {parts}",
        )
    transformers_logging.set_verbosity_error()
    if not torch.cuda.is_available():
        # Where DeepSpeed is installed, accelerate loads it, and it would announce that it found no GPU.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size // parts,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        max_grad_norm=config.grad_clip,
        optim="adamw_torch",
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,
        save_strategy="no" if config.checkpoint_every is None else "steps",
        save_steps=config.checkpoint_every or config.steps,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        use_cpu=not torch.cuda.is_available(),
        bf16=config.bf16,
        seed=config.seed,
        deepspeed=deepspeed_json(config.deepspeed),
    )
    # One process drives one device; several devices are several processes (torchrun), never DataParallel.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def deepspeed_json(name: str | None) -> str | None:
    """Path of a DeepSpeed JSON: a file, or a shipped one by its name.

    Raises:
        ConfigError: no such file, or DeepSpeed is not installed.
    """
    if name is None:
        return None
    shipped = PACKAGE_DATA / "presets" / "deepspeed" / f"{name}.json"
    path = shipped if shipped.is_file() else expand(name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in shipped.parent.glob("*.json")))
        raise ConfigError("no such DeepSpeed file", path=name, cure=f"give a JSON file or one of: {known}")
    try:
        import deepspeed
    except ImportError as error:
        raise ConfigError(
            "DeepSpeed is not installed", path=path, cure="pip install 'resp-agent-lab[deepspeed]'"
        ) from error
    if not torch.cuda.is_available():
        # Its shared-memory kernel takes minutes to compile and brings nothing at CPU sizes.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return str(path)


def sample_order(size: int, config: FitConfig, weights: Any = None) -> np.ndarray:
    """Dataset indices ``(steps x batch_size,)`` of the whole run, from the seed alone.

    Raises:
        DataError: the weights are not ``size`` finite non-negative numbers with a positive sum.
    """
    total = config.steps * config.batch_size
    generator = np.random.default_rng(derive(config.seed, "order"))
    if weights is None:
        passes = [generator.permutation(size) for _ in range(-(-total // size))]
        return np.concatenate(passes)[:total]
    share = np.asarray(weights, dtype=np.float64)
    if share.shape != (size,) or not np.isfinite(share).all() or (share < 0).any() or share.sum() <= 0:
        raise DataError(f"sampling weights must be {size} finite non-negative numbers, some positive")
    return generator.choice(size, size=total, p=share / share.sum())


def validation(
    dataset: Any, collate: Collate, batch_size: int, metric: Callable[[list[Any]], float] | None
) -> Callable[[nn.Module], float]:
    """An ``evaluate`` for :func:`fit`; every process scores the whole of ``dataset``, so all agree."""

    def evaluate(model: nn.Module) -> float:
        outputs, losses = [], []
        device = next(model.parameters()).device
        for first in range(0, len(dataset), batch_size):
            rows = range(first, min(first + batch_size, len(dataset)))
            batch = collate([dataset[index] for index in rows])
            output = model(**{k: v.to(device) if torch.is_tensor(v) else v for k, v in batch.items()})
            for name in output:
                if torch.is_tensor(output[name]):
                    output[name] = output[name].detach().float().cpu()
            outputs.append(output)
            if metric is None:
                losses.append(float(output["loss"]) * len(rows))
        return metric(outputs) if metric is not None else -sum(losses) / len(dataset)

    return evaluate


def _claim(out: Path, key: str, resume: bool) -> Path | None:
    """Prepare the checkpoint folder; the checkpoint to go on from, if any."""
    record = out / "fit.json"
    found = sorted(out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    if resume and found:
        if read_json(record).get("key") != key:
            raise RunError(
                "holds checkpoints of another config or corpus",
                path=out,
                cure="remove it, or train without resume",
            )
        return found[-1]
    if int(os.environ.get("RANK", "0")) == 0:
        shutil.rmtree(out, ignore_errors=True)
        write_json(record, {"key": key})
    return None
