"""Errors that a user can act on.

Every one of them names what is wrong, where, and the cure; the command line prints it and exits with 2.
"""

from __future__ import annotations

from pathlib import Path


class RespError(Exception):
    """Wrong input. Carries the path it concerns and the cure.

    Args:
        message: what is wrong, one sentence.
        path: the file or folder concerned, printed in front of the message.
        cure: what the user can do about it.
    """

    def __init__(self, message: str, *, path: Path | str | None = None, cure: str | None = None):
        self.message = message
        self.path = None if path is None else str(path)
        self.cure = cure
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        cure = f" → {self.cure}" if self.cure else ""
        return f"{where}{self.message}{cure}"


class ConfigError(RespError):
    """A config key, value or preset is wrong."""


class DataError(RespError):
    """A corpus, manifest or label is wrong."""


class AudioError(DataError):
    """A recording cannot be used: missing, undecodable, empty, silent."""


class CheckpointError(RespError):
    """Weights are missing, of another class, or do not fit."""


class ContaminationError(RespError):
    """A test set holds subjects that the weights were trained on."""


class RunError(RespError):
    """A run folder is locked, broken, or belongs to another config."""


class NonFiniteError(RespError):
    """A loss or gradient became NaN or infinite."""
