"""Checkpoints as published: ``{"cfg", "model"}`` files → our config and tensors, strictly.

Every key of a file is used, or is one of :data:`LEFT_OUT`, or the file is refused. Nothing but tensors
and plain values is ever unpickled.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from beats.config import PATCH, BeatsConfig
from training.config import validate
from training.errors import CheckpointError, ConfigError
from training.files import file_digest
from training.model import Provenance

if TYPE_CHECKING:
    from beats.encoder import BeatsEncoder

Kind = Literal["encoder", "tokenizer", "classifier"]

DEFAULTS: dict[str, Any] = {
    "input_patch_size": -1,
    "embed_dim": 512,
    "conv_bias": False,
    "encoder_layers": 12,
    "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072,
    "encoder_attention_heads": 12,
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "deep_norm": False,
    "conv_pos": 128,
    "conv_pos_groups": 16,
    "relative_position_embedding": False,
    "num_buckets": 320,
    "max_distance": 1280,
    "gru_rel_pos": False,
    "finetuned_model": False,
    "predictor_class": 527,
    "quant_n": 1024,
    "quant_dim": 256,
}
"""What a published ``cfg`` says of the network, and what the published code takes where it is silent."""

FIXED: dict[str, Any] = {
    "input_patch_size": PATCH,
    "conv_bias": False,
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "relative_position_embedding": True,
    "gru_rel_pos": True,
}
"""Every published model has these values; another value is another network, which is refused."""

SIZES = {
    "embed_dim": "embed_dim",
    "dim": "encoder_embed_dim",
    "ffn_dim": "encoder_ffn_embed_dim",
    "layers": "encoder_layers",
    "heads": "encoder_attention_heads",
    "conv_pos": "conv_pos",
    "conv_pos_groups": "conv_pos_groups",
    "buckets": "num_buckets",
    "max_distance": "max_distance",
    "deep_norm": "deep_norm",
}
"""Our config's names → the published ones."""

TRAINING_ONLY = frozenset(
    {
        *("dropout", "attention_dropout", "activation_dropout", "dropout_input", "dropout_features"),
        *("encoder_layerdrop", "predictor_dropout", "layer_wise_gradient_decay_ratio", "feature_grad_mult"),
        *("mask_prob", "mask_length", "mask_selection", "mask_other", "mask_min_space", "no_mask_overlap"),
        *("mask_channel_prob", "mask_channel_length", "mask_channel_selection", "mask_channel_other"),
        *("mask_channel_min_space", "no_mask_channel_overlap", "skip_masked", "skip_nomask", "logit_temp"),
        *("checkpoint_activations", "fp16", "_name"),
    }
)
"""Keys of ``cfg`` that change training alone: dropouts, masking, gradient scales, precision. Not read."""

LEFT_OUT = frozenset(
    {
        "quantize.cluster_size",
        "quantize.embedding.cluster_size",
        "quantize.embedding.embed_avg",
        "quantize.embedding.initted",
    }
)
"""State of the codebook's running means, in tokenizer files. Units do not depend on it."""

BROKEN = (
    *(UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError),
    *(IndexError, TypeError, AttributeError, AssertionError, OverflowError, struct.error),
)
"""What torch raises on bytes that are no checkpoint of tensors."""

CURE = "give a BEATs checkpoint as its authors published it, or a folder of ours"


@dataclass(frozen=True)
class OfficialFile:
    """A published checkpoint, read but not yet matched with a network.

    Attributes:
        path: of the file.
        config: of its encoder.
        state: its tensors, by published name.
        classes: of a fine-tuned model's head, else 0.
        labels: of those classes, empty when the file does not name them.
        codebook: (codes, their width) of a tokenizer.
    """

    path: Path
    config: BeatsConfig
    state: Mapping[str, Tensor]
    classes: int
    labels: tuple[str, ...]
    codebook: tuple[int, int]


def read_official(path: Path, kind: Kind) -> OfficialFile:
    """Read a published checkpoint.

    Args:
        path: of the file.
        kind: what it must hold. A fine-tuned model is an encoder too.

    Raises:
        CheckpointError: it is no such file, or of a network that was never published.
    """
    values, config, state, labels = _read(path)
    tuned = bool(values["finetuned_model"])
    found = _kind(state, tuned)
    if found != kind and (kind, found) != ("encoder", "classifier"):
        raise CheckpointError(
            f"holds a published {found}, not {'an' if kind == 'encoder' else 'a'} {kind}",
            path=path,
            cure=f"read it as {'an' if found == 'encoder' else 'a'} {found}",
        )
    return OfficialFile(
        path=path,
        config=config,
        state=state,
        classes=int(values["predictor_class"]) if tuned else 0,
        labels=_labels(path, labels, int(values["predictor_class"])),
        codebook=(int(values["quant_n"]), int(values["quant_dim"])),
    )


def holds(path: Path) -> Kind:
    """What a published checkpoint holds; a fine-tuned model is a classifier.

    Raises:
        CheckpointError: as :func:`read_official`.
    """
    values, _, state, _ = _read(path)
    return _kind(state, bool(values["finetuned_model"]))


def fill(file: OfficialFile, encoder: BeatsEncoder, head: Mapping[str, Tensor] | None = None) -> None:
    """Copy a file's tensors into an encoder and, where given, a head; note where they come from.

    Args:
        file: of :func:`read_official`.
        encoder: of the file's config.
        head: tensors to fill, by published name. Without it a fine-tuned model's head is left aside.

    Raises:
        CheckpointError: keys are missing, unexpected or of another shape (all are named), or the layers
            do not share one position table.
    """
    targets: dict[str, Tensor] = dict(head or {})
    tables: list[str] = []
    for name, tensor in encoder.state_dict().items():
        keys = _published(name, encoder.config.layers)
        targets |= dict.fromkeys(keys, tensor)
        tables = keys if len(keys) > 1 else tables
    aside: dict[str, tuple[int, ...]] = {}
    if file.classes and head is None:
        aside = {"predictor.weight": (file.classes, encoder.width), "predictor.bias": (file.classes,)}
    shapes = {key: tuple(tensor.shape) for key, tensor in targets.items()} | aside
    _match(file, shapes)
    if any(not torch.equal(file.state[key], file.state[tables[0]]) for key in tables[1:]):
        raise CheckpointError(
            "the layers' position tables differ, the network has one for all: "
            "encoder.layers.*.self_attn.relative_attention_bias.weight",
            path=file.path,
        )
    with torch.no_grad():
        for key, tensor in targets.items():
            tensor.copy_(file.state[key])
    source = {"file": file.path.name, "sha256": file_digest(file.path), "left_aside": sorted(aside)}
    encoder.provenance = Provenance(notes={"official": source})


def _kind(state: Mapping[str, Tensor], tuned: bool) -> Kind:
    if any(name.startswith("quantize") for name in state):
        return "tokenizer"
    return "classifier" if tuned else "encoder"


def _read(path: Path) -> tuple[dict[str, Any], BeatsConfig, dict[str, Tensor], object]:
    """Values of ``cfg``, our config of them, the tensors, and the table of labels as it stands."""
    content = _unpickle(path)
    extra = sorted(map(str, content.keys() - {"cfg", "model", "label_dict"}))
    if extra or not {"cfg", "model"} <= content.keys():
        found = ", ".join(sorted(map(str, content)))
        raise CheckpointError(
            f"a published checkpoint holds cfg and model, this one {found}", path=path, cure=CURE
        )
    values, config = _config(path, content["cfg"])
    state = content["model"]
    if not isinstance(state, dict):
        raise CheckpointError("model is no state dict", path=path, cure=CURE)
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise CheckpointError(f"{name} is no tensor of floats", path=path, cure=CURE)
        if name not in LEFT_OUT and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{name} holds NaN or infinite values", path=path, cure=CURE)
    return values, config, state, content.get("label_dict")


def _unpickle(path: Path) -> dict[Any, Any]:
    if not path.is_file():
        raise CheckpointError("no such file", path=path, cure="give a published .pt file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN as error:
        # Of torch's own message only the name: the rest advises to unpickle whatever there is.
        other = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it holds {other[1]}" if other else "damaged, or no such file"
        raise CheckpointError(
            f"is no checkpoint of tensors and plain values; nothing else is unpickled ({reason})",
            path=path,
            cure=CURE,
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"holds a {type(content).__name__}, not cfg and model", path=path, cure=CURE)
    return content


def _config(path: Path, cfg: object) -> tuple[dict[str, Any], BeatsConfig]:
    if not isinstance(cfg, dict):
        raise CheckpointError("cfg is no mapping", path=path, cure=CURE)
    unknown = sorted(map(str, cfg.keys() - DEFAULTS.keys() - TRAINING_ONLY))
    if unknown:
        raise CheckpointError(f"cfg has keys of unknown meaning: {', '.join(unknown)}", path=path, cure=CURE)
    values = DEFAULTS | {key: value for key, value in cfg.items() if key in DEFAULTS}
    for key, wanted in FIXED.items():
        if values[key] != wanted:
            raise CheckpointError(
                f"cfg has {key}={values[key]!r}, every published model {wanted!r}", path=path, cure=CURE
            )
    for key in ("predictor_class", "quant_n", "quant_dim"):
        if not isinstance(values[key], int) or values[key] < 1:
            raise CheckpointError(f"cfg has {key}={values[key]!r}, which is no size", path=path, cure=CURE)
    sizes = {ours: values[theirs] for ours, theirs in SIZES.items()}
    try:
        return values, validate(BeatsConfig, sizes, where="cfg")
    except ConfigError as error:
        raise CheckpointError(f"cfg is not of a BEATs encoder ({error})", path=path, cure=CURE) from error


def _labels(path: Path, table: object, classes: int) -> tuple[str, ...]:
    if table is None:
        return ()
    if not isinstance(table, dict) or set(table) != set(range(classes)):
        raise CheckpointError(f"label_dict does not name classes 0 to {classes - 1}", path=path)
    return tuple(str(table[index]) for index in range(classes))


def _published(name: str, layers: int) -> list[str]:
    """Published names of one of our encoder's tensors: one, but for the shared position table."""
    if name == "encoder.relative_attention_bias.weight":
        return [f"encoder.layers.{i}.self_attn.relative_attention_bias.weight" for i in range(layers)]
    part, _, number = name.partition("parametrizations.weight.original")
    return [part + ("weight_g" if number == "0" else "weight_v")] if number else [name]


def _match(file: OfficialFile, wanted: Mapping[str, tuple[int, ...]]) -> None:
    state = file.state
    wrong = {
        "missing": sorted(wanted.keys() - state.keys()),
        "unexpected": sorted(state.keys() - wanted.keys() - LEFT_OUT),
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {shape}"
            for key, shape in sorted(wanted.items())
            if key in state and tuple(state[key].shape) != shape
        ],
    }
    told = [f"{what}: {_some(keys)}" for what, keys in wrong.items() if keys]
    if told:
        raise CheckpointError(f"the keys do not fit cfg; {'; '.join(told)}", path=file.path, cure=CURE)


def _some(keys: Iterable[str], most: int = 12) -> str:
    keys = list(keys)
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more
