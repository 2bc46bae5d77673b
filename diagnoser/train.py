"""Train a diagnoser: select on ``select``, calibrate on ``select``, write one complete folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from diagnoser.augment import training_collate
from diagnoser.calibrate import fit_temperature
from diagnoser.config import TUNED, DiagnoserConfig, DiagnoserTrainConfig
from diagnoser.data import ClipDataset, collate, feature_statistics, narratives, tokens
from diagnoser.losses import Learner, clip_losses, log_shares, loss_weights, losses_by_origin
from diagnoser.material import Material, gather
from diagnoser.metrics import accuracy, confusion, ece, macro_f1, nanmean, number, recalls
from diagnoser.model import Diagnoser
from diagnoser.patches import PatchStore
from diagnoser.predict import RECORD
from diagnoser.text import Words
from resp229k.clip import Clip
from resp229k.tasks import get_task
from training.config import dump_config, weights_path
from training.errors import CheckpointError, ConfigError, RunError
from training.files import digest, file_digest, new_folder, read_json, write_json
from training.fit import FitResult, fit, meet
from training.model import Provenance, weights_digest
from training.progress import console
from training.seeds import derive, seed_all

if TYPE_CHECKING:
    from beats.cache import FeatureStore


def train_diagnoser(
    config: DiagnoserTrainConfig, out: Path, *, resume: bool = False, store: FeatureStore | None = None
) -> None:
    """Train on ``train`` (and synthetic clips), stop and calibrate on ``select``, write ``out``.

    ``out`` appears when everything is in it: ``model.safetensors`` and ``config.json`` (with the
    subjects), ``tokenizer.json``, ``diagnoser.json``, ``train.yaml``, ``metrics.json``.

    Args:
        config: what to train on and how.
        out: a new folder.
        resume: go on from the last checkpoint of an interrupted call (``fit.checkpoint_every``).
        store: features of the corpus's clips, where there are some already.

    Raises:
        ConfigError: clips are longer than the network, or ``resume`` without checkpoints.
        DataError: a corpus, label or list of repeats is wrong.
        AudioError: a recording cannot be used, named by path.
        ContaminationError: a synthetic clip comes from a held-out subject.
        CheckpointError: the weights to start from do not fit.
        RunError: ``out`` exists.
        NonFiniteError: training diverged.
    """
    if out.exists() and any(out.iterdir()):
        raise RunError("already exists", path=out, cure="give a new folder")
    check(config, resume)
    with one_at_a_time():
        material = gather(config, store)
    model, words = start(config, material)
    known = get_task(config.task)
    labels = {
        name: np.array([known.index(c.labels[config.task]) for c in clips], dtype=np.int64)
        for name, clips in (("train", material.train), ("select", material.select))
    }
    counts = np.bincount(labels["train"], minlength=len(known.classes))
    train = _dataset(material.train, material, words, config, labels["train"])
    train.weights = loss_weights(config, material.train, labels["train"], counts)
    select = _dataset(material.select, material, words, config, labels["select"])
    told = narratives(material.train, config.task, config.seed)
    if words and (cut := words.cut(told, config.model.text_tokens)):
        console.print(f"{cut} → -o model.text_tokens=…", markup=False)
    if config.init is None:
        model.standardise(*feature_statistics(train))
    if config.tune_encoder:
        train.store = select.store = PatchStore(material.corpora, config.preprocess)
    shift = config.logit_adjustment * log_shares(counts) if config.logit_adjustment else None
    learner = Learner(model, shift, material.encoder)
    result = fit(
        learner,
        train,
        collate=training_collate(config, model, train),
        config=config.fit,
        out=out.parent / f".{out.name}.fit",
        evaluate=selector(select),
        weights=(1.0 / np.maximum(counts, 1))[labels["train"]] if config.balanced else None,
        resume=resume,
        description="train diagnoser",
        data_key=data_key(config, material),
    )
    logits = all_logits(learner, select)
    calibrate(learner, select, logits, text=config.text)
    model.provenance = _provenance(config, material, model)
    if int(os.environ.get("RANK", "0")) == 0:
        metrics = select_metrics(model, logits, labels["select"], result)
        metrics["training_clips"] = _count(material.train, config.task)
        real = {clip.clip_id: clip for clip in material.train if not clip.synthetic}
        metrics["real_clips"] = _count(list(real.values()), config.task)
        if config.synthetic:
            metrics["training_loss"] = losses_by_origin(
                all_logits(learner, train), labels["train"], material.train
            )
        write(out, config, model, words, material, metrics)
    meet()


def check(config: DiagnoserTrainConfig, resume: bool) -> None:
    """Refuse what would quietly do something else.

    Raises:
        ConfigError: the network would cut every clip, or nothing was kept that could be resumed.
    """
    from beats.encoder import grid_shape

    seconds, longest = config.preprocess.seconds, config.model.max_columns
    columns = grid_shape(seconds)[0]
    if columns > longest:
        raise ConfigError(
            f"preprocess.seconds {seconds:g} gives {columns} columns, model.max_columns is {longest}",
            cure=f"set model.max_columns to {columns}, or shorten preprocess.seconds",
        )
    config.fit.check_resume(resume)


def data_key(config: DiagnoserTrainConfig, material: Material) -> str:
    """Digest of what the checkpoints depend on beside ``config.fit``; paths do not count."""
    elsewhere = {"corpus", "synthetic", "repeats", "beats", "fit", "init", "cache", "max_gb"}
    init = None if config.init is None else weights_path(config.init) / "model.safetensors"
    return digest(
        [
            config.model_dump(mode="json", exclude=elsewhere),
            material.record.beats_digest,
            None if init is None else file_digest(init),
            # Extra copies stand in the list as often as they are trained on.
            *[
                [[c.clip_id, c.labels[config.task]] for c in part]
                for part in (material.train, material.select)
            ],
        ]
    )


def start(config: DiagnoserTrainConfig, material: Material) -> tuple[Diagnoser, Words | None]:
    """A new network and tokenizer, or those of ``config.init``.

    Raises:
        CheckpointError: the weights to start from have another task, sizes, reading habit or encoder.
    """
    words = None
    if config.init is None and config.text:
        # Synthetic clips tell nothing new: their metadata is that of their style reference.
        real = {clip.clip_id: clip for clip in material.train if not clip.synthetic}
        texts = narratives(list(real.values()), config.task, config.seed)
        words = Words.train(texts, config.model.vocabulary)
    wanted = DiagnoserConfig(
        task=config.task,
        classes=get_task(config.task).classes,
        feature_dim=material.feature_dim,
        feature_rows=material.feature_rows,
        sizes=config.model,
    )
    if config.init is None:
        seed_all(derive(config.seed, "weights"))
        return Diagnoser(wanted), words
    folder = weights_path(config.init)
    model = Diagnoser.from_pretrained(folder)
    if model.config != wanted:
        raise CheckpointError(
            "has another task or other sizes than this config", path=folder, cure="train without init"
        )
    record = read_json(folder / RECORD)
    if record.get("text") != config.text:
        raise CheckpointError("text must be as in the weights to start from", path=folder)
    if record.get("beats_digest") != material.record.beats_digest:
        raise CheckpointError(
            "was trained with another encoder", path=folder, cure="give beats.weights that encoder"
        )
    return model, Words.load(folder) if config.text else None


def _dataset(
    clips: list[Clip],
    material: Material,
    words: Words | None,
    config: DiagnoserTrainConfig,
    labels: np.ndarray,
) -> ClipDataset:
    read = tokens(clips, words, config.model.text_tokens, task=config.task, seed=config.seed)
    return ClipDataset([clip.clip_id for clip in clips], material.store, read, labels)


def all_logits(model: nn.Module, dataset: ClipDataset, batch: int = 64) -> np.ndarray:
    """Uncalibrated logits ``(N, C)`` float64, in the dataset's order."""
    device = next(model.parameters()).device
    found = []
    with torch.no_grad():
        for first in range(0, len(dataset), batch):
            rows = range(first, min(first + batch, len(dataset)))
            samples = collate([dataset[i] for i in rows])
            samples.pop("labels", None)
            output = model(**{name: value.to(device) for name, value in samples.items()})
            found.append(output.logits.double().cpu().numpy())
    return np.concatenate(found)


def selector(select: ClipDataset) -> Callable[[nn.Module], float]:
    """Macro-F1 on ``select``; among equal ones the smaller loss wins."""
    labels = select.labels
    assert labels is not None

    def score(model: nn.Module) -> float:
        logits = all_logits(model, select)
        matrix = confusion(labels, logits.argmax(axis=1), logits.shape[1])
        # Few select clips make many ties; the loss only breaks them: its share is below 1 / clips².
        return float(macro_f1(matrix)) - 1e-6 * float(np.minimum(clip_losses(logits, labels).mean(), 100.0))

    return score


def calibrate(learner: Learner, select: ClipDataset, logits: np.ndarray, *, text: bool) -> None:
    """Set the temperatures of clips with a narrative, without one, and of narratives alone.

    Args:
        learner: trained.
        select: what it is calibrated on.
        logits: of ``select``, with both modalities ``(N, C)``.
        text: whether it reads; otherwise there is audio alone, and one temperature.
    """
    labels, alone = select.labels, {}
    assert labels is not None
    if text:
        for kept in ("audio", "text"):
            alone[kept] = fit_temperature(all_logits(learner, select.alone(kept)), labels)
    learner.diagnoser.set_temperatures(fit_temperature(logits, labels), **alone)


def _provenance(config: DiagnoserTrainConfig, material: Material, model: Diagnoser) -> Provenance:
    """Whom the weights know: by training, through the encoder, the makers of synthetic clips, or init.

    The subjects that chose checkpoint and temperature stand apart, for :func:`evaluate` refuses both.
    """
    trained = [clip.subject_id for clip in material.train]
    selected = {clip.subject_id for clip in material.select}
    selected |= material.heard.selected_on | model.provenance.selected_on
    return Provenance.of(
        [*trained, *material.heard.subjects, *material.maker_subjects, *model.provenance.subjects],
        command="resp-agent train diagnoser",
        seed=config.seed,
        notes={"selected_on": sorted(selected)},
    )


def _count(clips: list[Clip], task: str) -> dict[str, int]:
    return dict(sorted(Counter(clip.labels[task] for clip in clips).items()))


def select_metrics(
    model: Diagnoser, logits: np.ndarray, labels: np.ndarray, result: FitResult
) -> dict[str, Any]:
    """The record of the training run: figures on ``select``, which it was chosen on."""
    names = model.config.classes
    matrix = confusion(labels, logits.argmax(axis=1), len(names))
    probs = model.probabilities(torch.from_numpy(logits).to(model.temperature.device)).cpu().numpy()
    return {
        "split": "select",
        "clips": len(labels),
        "steps": result.steps,
        "best_step": result.best_step,
        "temperature": number(model.temperature),
        "accuracy": number(accuracy(matrix)),
        "macro_recall": number(nanmean(recalls(matrix))),
        "macro_f1": number(macro_f1(matrix)),
        "ece": number(ece(labels, probs)),
        "history": result.history,
    }


def write(
    out: Path,
    config: DiagnoserTrainConfig,
    model: Diagnoser,
    words: Words | None,
    material: Material,
    metrics: dict[str, Any],
) -> None:
    """Write the finished diagnoser; ``out`` appears complete or not at all."""
    if out.exists():
        out.rmdir()  # empty: checked at the start
    with new_folder(out) as folder:
        model.save_pretrained(folder)
        record = material.record
        if material.encoder is not None:
            material.encoder.provenance = model.provenance
            material.encoder.save_pretrained(folder / TUNED)
            record = record.model_copy(update={"beats_digest": weights_digest(material.encoder)})
        if words is not None:
            words.save(folder)
        write_json(folder / RECORD, record.model_dump(mode="json"))
        write_json(folder / "metrics.json", metrics)
        dump_config(config, folder / "train.yaml")


def one_at_a_time() -> Any:
    """With several processes, the first one computes the features and the others read them."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return nullcontext()
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available()).main_process_first()
