"""Configs, files and checkpoints refuse what is wrong and are never half written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from training.config import Strict, dump_config, expand, load_config, parse_override
from training.errors import CheckpointError, ConfigError
from training.files import digest, new_folder, read_json, write_json
from training.model import Model, Provenance


class Inner(Strict):
    rate: float = 0.1


class Outer(Strict):
    name: str = "a"
    inner: Inner = Inner()


class LineConfig(Strict):
    width: int = 3


class Line(Model):
    config_class = LineConfig
    config: LineConfig

    def __init__(self, config: LineConfig):
        super().__init__(config)
        self.linear = nn.Linear(config.width, 1)


def test_overrides_reach_nested_keys_and_keep_yaml_types(tmp_path: Path) -> None:
    config = load_config(Outer, None, ["inner.rate=0.5", "name='7'"])
    assert config == Outer(name="7", inner=Inner(rate=0.5))
    dump_config(config, tmp_path / "c.yaml")
    assert load_config(Outer, tmp_path / "c.yaml") == config


@pytest.mark.parametrize(
    "override", ["inner.rat=1", "nam=1", "inner.rate=fast", "inner", "=1", "name.x=1", "name=2024-13-45"]
)
def test_wrong_overrides_are_refused(override: str) -> None:
    with pytest.raises(ConfigError):
        load_config(Outer, None, [override])


@pytest.mark.parametrize("text", ["- a list", "{unclosed", "name: a\nname2: b", "name: 2024-13-45"])
def test_wrong_files_are_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"wrong\.yaml"):
        load_config(Outer, tmp_path / "wrong.yaml")


def test_environment_in_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_ROOT", "data")
    assert expand("${SOME_ROOT}/x") == Path("data/x")
    monkeypatch.delenv("SOME_ROOT")
    with pytest.raises(ConfigError, match="SOME_ROOT"):
        expand("${SOME_ROOT}/x")


def test_override_value_may_hold_an_equals_sign() -> None:
    assert parse_override("a.b=c=d") == (["a", "b"], "c=d")


def test_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), new_folder(target) as folder:
        (folder / "half").write_text("x")
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out.tmp").mkdir()
    (tmp_path / "out.tmp" / "stale").write_text("left by a killed process")
    with new_folder(target) as folder:
        (folder / "whole").write_text("x")
    assert [p.name for p in target.iterdir()] == ["whole"]


def test_digest_ignores_key_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})


def test_weights_round_trip_with_provenance(tmp_path: Path) -> None:
    model = Line(LineConfig())
    model.provenance = Provenance.of(["s:2", "s:1", "s:1"], command="test", seed=3)
    model.save_pretrained(tmp_path)
    again = Line.from_pretrained(tmp_path)
    assert again.provenance.subjects == ["s:1", "s:2"]
    assert torch.equal(again.linear.weight, model.linear.weight)


def test_half_weights_come_back_as_float32(tmp_path: Path) -> None:
    model = Line(LineConfig())
    model.save_pretrained(tmp_path, half=True)
    again = Line.from_pretrained(tmp_path)
    assert again.linear.weight.dtype == torch.float32
    assert torch.allclose(again.linear.weight, model.linear.weight, atol=1e-3)


@pytest.mark.parametrize("harm", ["config", "weights", "width", "class", "subjects", "key"])
def test_damaged_weights_are_refused(tmp_path: Path, harm: str) -> None:
    Line(LineConfig()).save_pretrained(tmp_path)
    record = read_json(tmp_path / "config.json")
    if harm == "config":
        (tmp_path / "config.json").unlink()
    elif harm == "weights":
        (tmp_path / "model.safetensors").write_bytes(b"not weights")
    elif harm == "width":
        write_json(tmp_path / "config.json", record | {"config": {"width": 4}})
    elif harm == "class":
        write_json(tmp_path / "config.json", record | {"class": "Circle"})
    elif harm == "subjects":
        write_json(tmp_path / "config.json", record | {"provenance": {"subjects": ["s:9"]}})
    elif harm == "key":
        write_json(tmp_path / "config.json", record | {"config": {"widht": 3}})
    with pytest.raises((CheckpointError, ConfigError)):
        Line.from_pretrained(tmp_path)
