"""YAML → pydantic. Unknown keys are errors; presets ship with the package.

``${NAME}`` in a path is an environment variable. It is expanded where the path is used
(:func:`expand`), never in a written config, so that a run folder holds no absolute path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from training.errors import CheckpointError, ConfigError
from training.files import write_text

PACKAGE_DATA = Path(__file__).resolve().parent.parent / "configs"


class Strict(BaseModel):
    """Base of every config and record: unknown keys refused, values immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


C = TypeVar("C", bound=Strict)


def presets() -> list[str]:
    """Names of the shipped presets."""
    return sorted(p.stem for p in (PACKAGE_DATA / "presets").glob("*.yaml"))


def preset_path(source: str | Path) -> Path:
    """Path of a YAML file, or of a shipped preset by its name.

    Raises:
        ConfigError: neither exists.
    """
    path = Path(source)
    if path.is_file():
        return path
    shipped = PACKAGE_DATA / "presets" / f"{source}.yaml"
    if shipped.is_file():
        return shipped
    raise ConfigError(
        "no such config", path=source, cure=f"give a YAML file or one of: {', '.join(presets())}"
    )


def weights_path(source: str | Path, *, files: bool = False) -> Path:
    """Folder of weights: a path, or a shipped set such as ``tiny`` or ``tiny/beats``.

    Args:
        source: the path or set.
        files: whether one file will do, such as a published checkpoint.

    Raises:
        CheckpointError: neither exists.
    """
    path = expand(source)
    if path.is_dir() or (files and path.is_file()):
        return path
    shipped = PACKAGE_DATA / "weights" / str(source)
    if shipped.is_dir():
        return shipped
    known = ", ".join(sorted(p.name for p in (PACKAGE_DATA / "weights").glob("*") if p.is_dir()))
    if files:
        raise CheckpointError(
            "no such weights",
            path=source,
            cure=f"put them there, or give a folder, a file or one of: {known}",
        )
    raise CheckpointError("no such weights folder", path=source, cure=f"give a folder or one of: {known}")


def expand(path: str | Path) -> Path:
    """Expand ``${NAME}`` and ``~`` in a path.

    Raises:
        ConfigError: the environment variable is not set.
    """
    text = str(path)
    for name in re.findall(r"\$\{(\w+)\}", text):
        if name not in os.environ:
            raise ConfigError(
                f"the environment variable {name} is not set", path=text, cure=f"export {name}=FOLDER"
            )
        text = text.replace("${" + name + "}", os.environ[name])
    return Path(text).expanduser()


def parse_override(text: str) -> tuple[list[str], Any]:
    """Split ``a.b=value``; the value is read as YAML.

    Raises:
        ConfigError: there is no ``=`` or no key.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {text!r} is not key=value", cure="write -o section.key=value")
    try:
        return key.strip().split("."), yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:  # a date that is none, a number beyond digits
        raise ConfigError(f"override {text!r}: value is not YAML ({error})") from error


def set_value(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Set a value of nested mappings by its keys; sections that are missing are made.

    Raises:
        ConfigError: a key on the way is no section.
    """
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{'.'.join(keys)}: {key!r} is no section")
    values[keys[-1]] = value


def load_config(cls: type[C], source: str | Path | None = None, overrides: Sequence[str] = ()) -> C:
    """Read a preset or YAML file, apply ``-o key=value`` overrides, validate.

    Raises:
        ConfigError: with file, key and cure.
    """
    path = preset_path(source) if source is not None else None
    values: Any = {}
    if path is not None:
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, ValueError) as error:  # not UTF-8 either
            raise ConfigError(f"not valid YAML ({error})", path=path) from error
        if not isinstance(values, dict):
            raise ConfigError("the top level must be a mapping of keys", path=path)
    for override in overrides:
        keys, value = parse_override(override)
        set_value(values, keys, value)
    return validate(cls, values, where=str(path or cls.__name__))


def validate(cls: type[C], values: Any, where: str) -> C:
    """Validate a mapping; every complaint names its key.

    Raises:
        ConfigError: with all complaints in one message.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        lines, unknown = [], False
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            said = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                unknown = True
                lines.append(f"unknown key '{key}'")
            else:
                lines.append(f"'{key}': {said}" if key else said)
        cure = "change it in its file, or by -o KEY=VALUE"
        if unknown:
            cure = f"top-level keys are: {', '.join(sorted(cls.model_fields))}"
        raise ConfigError("; ".join(lines), path=where, cure=cure) from error


def dump_config(config: Strict, path: Path) -> None:
    """Write a resolved config as YAML."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
