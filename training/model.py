"""Networks on disk: ``config.json`` + ``model.safetensors`` + the subjects they were trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from training.config import Strict, validate
from training.errors import CheckpointError
from training.files import digest, fsync_folder, read_json, write_json


class Provenance(Strict):
    """Where weights come from: the subjects and command that made them."""

    subjects: list[str] = []
    command: str = ""
    seed: int | None = None
    notes: dict[str, Any] = {}

    @classmethod
    def of(cls, subjects: Iterable[str], **values: Any) -> Self:
        """Sorted, unique subjects with the rest as given."""
        return cls(subjects=sorted(set(subjects)), **values)

    @property
    def selected_on(self) -> set[str]:
        """Subjects that chose checkpoint or temperature, as far as they were noted."""
        return set(self.notes.get("selected_on", []))

    @property
    def known(self) -> set[str]:
        """Whom the weights know: :attr:`subjects` and :attr:`selected_on`."""
        return {*self.subjects, *self.selected_on}

    @property
    def subjects_hash(self) -> str:
        """SHA-256 of the sorted subject list."""
        return digest(sorted(self.subjects))


class Model(nn.Module):
    """A network with a strict config; ``save_pretrained`` / ``from_pretrained`` on safetensors.

    Subclasses set ``config_class`` and take ``config`` as their only constructor argument.
    """

    config_class: ClassVar[type[Strict]]

    def __init__(self, config: Strict):
        super().__init__()
        self.config = config
        self.provenance = Provenance()

    def save_pretrained(self, folder: Path, *, half: bool = False) -> None:
        """Write config and weights atomically; ``half`` stores floating tensors as fp16."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {}
        for name, tensor in self.state_dict().items():
            value = tensor.detach().cpu().contiguous().clone()
            state[name] = value.half() if half and value.is_floating_point() else value
        temporary = folder / ".model.safetensors.tmp"
        save_file(state, temporary)
        temporary.replace(folder / "model.safetensors")
        fsync_folder(folder)
        write_json(
            folder / "config.json",
            {
                "class": type(self).__name__,
                "config": self.config.model_dump(mode="json"),
                "provenance": self.provenance.model_dump(mode="json"),
                "subjects_hash": self.provenance.subjects_hash,
            },
        )

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        """Read a folder written by :meth:`save_pretrained`, in float32, strictly, in eval mode.

        Raises:
            CheckpointError: missing, of another class, damaged, or with other tensors than the config.
        """
        path = folder / "config.json"
        if not path.is_file():
            raise CheckpointError("no config.json: this is no weights folder", path=folder)
        record = read_json(path)
        if record.get("class") != cls.__name__:
            raise CheckpointError(f"holds a {record.get('class')}, not a {cls.__name__}", path=folder)
        model = cls(validate(cls.config_class, record["config"], where=str(path)))
        model.provenance = validate(Provenance, record["provenance"], where=str(path))
        if record["subjects_hash"] != model.provenance.subjects_hash:
            raise CheckpointError("the subject list does not match its hash", path=path)
        load_weights(model, folder / "model.safetensors")
        return model.eval()


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a safetensors file strictly, as float32.

    Raises:
        CheckpointError: with the names of what is missing or unexpected.
    """
    try:
        state: Mapping[str, torch.Tensor] = load_file(path)
    except (FileNotFoundError, SafetensorError) as error:
        raise CheckpointError(f"weights cannot be read ({error})", path=path) from error
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckpointError(str(error).replace("\n", " "), path=path) from error


def read_provenance(folder: Path) -> Provenance:
    """The provenance of a weights folder without building the network."""
    path = folder / "config.json"
    try:
        return validate(
            Provenance, json.loads(path.read_text(encoding="utf-8"))["provenance"], where=str(path)
        )
    except (FileNotFoundError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointError("no readable config.json", path=folder) from error


def weights_digest(model: Model) -> str:
    """SHA-256 over a network's config and tensors, whatever file they came from."""
    sha = hashlib.sha256(digest(model.config.model_dump(mode="json")).encode())
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(name.encode())
        # As plain bytes: numpy knows no bfloat16. A number alone has to be a vector for that.
        sha.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
