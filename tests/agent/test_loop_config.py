"""Loop configs and the child process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from agent_fakes import FakeRooms, config

from agent.child import run_command
from agent.config import LoopConfig
from agent.config_compare import CompareConfig
from agent.config_designs import DesignsConfig
from agent.config_pretrain import PretrainConfig
from agent.designs import Designs
from agent.encoder import encoder_name
from agent.loop import check_weights
from agent.work import Work
from beats.config import MaskedStageConfig, TokenizerStageConfig
from diagnoser.config import DiagnoserTrainConfig
from training.config import Strict, load_config, presets, weights_path
from training.errors import CheckpointError, ConfigError, RunError
from training.run import open_run

LOOPS = ("quickstart", "small-spr2icbhi", "small-icbhi2spr", "ci-gate", "ci-simulator")
TRAININGS = {
    "compare-hardness": CompareConfig,
    "compare-planners": CompareConfig,
    "diagnoser-small": DiagnoserTrainConfig,
    "generator-designs": DesignsConfig,
    "masked-base": MaskedStageConfig,
    "tiny": PretrainConfig,
    "tokenizer-base": TokenizerStageConfig,
}


@pytest.mark.parametrize("name", LOOPS)
def test_presets_are_valid_and_named_after_themselves(name: str) -> None:
    assert load_config(LoopConfig, name).name == name


@pytest.mark.parametrize("name", TRAININGS)
def test_presets_of_trainings_are_valid(name: str) -> None:
    kind: type[Strict] = TRAININGS[name]
    load_config(kind, name)


def test_shipped_designs_can_be_trained_and_drawn_from(tmp_path: Path) -> None:
    config = load_config(DesignsConfig, "generator-designs")
    designs = Designs(config, 4, [], tmp_path)
    trained = [designs.settings(name).generator.model_dump_json() for name in config.designs]
    drawn = [designs.draws(name).model_dump_json() for name in config.designs]
    assert len(set(zip(trained, drawn, strict=True))) == len(config.designs)  # no two are the same


def test_no_preset_is_forgotten_here() -> None:
    assert sorted([*LOOPS, *TRAININGS]) == presets()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": "nonesuch"}, "unknown task"),
        ({"planners": ["none", "none"]}, "each once"),
        ({"generator": {"backend": "simulator"}, "corpus": {"kind": "real", "build": {}}}, "upper bound"),
        ({"name": "../up"}, "name"),
        ({"budgets": 3}, "unknown key 'budgets'"),
    ],
)
def test_wrong_values_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**values)


def test_config_module_stays_light() -> None:
    code = (
        "import sys, agent.config, agent.planners\n"
        "heavy = {'torch', 'transformers', 'langgraph', 'pandas', 'librosa', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_failing_child_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"(?s)train diagnoser.*nonesuch\.yaml"):
        run_command(
            ["train", "diagnoser", "--config", "nonesuch.yaml", "--out", "model"],
            cwd=tmp_path,
            log=tmp_path / "log",
            threads=1,
        )


def test_own_weights_go_by_a_path_that_the_child_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "b.pt").write_bytes(b"")
    monkeypatch.setenv("MY_WEIGHTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def name(**values: object) -> str:
        settings = config(**values)
        return encoder_name(settings, weights_path(settings.weights))

    assert name(weights="tiny") == "tiny/beats"
    assert name(weights="${MY_WEIGHTS}/w") == "${MY_WEIGHTS}/w/beats"
    assert name(weights="w") == f"{tmp_path}/w/beats"
    assert name(beats={"weights": "tiny"}, weights="w") == "tiny"
    assert name(beats={"weights": "${MY_WEIGHTS}/b.pt"}) == "${MY_WEIGHTS}/b.pt"
    assert name(beats={"weights": "b.pt"}) == f"{tmp_path}/b.pt"
    with pytest.raises(CheckpointError, match=r"c\.pt: no such weights → put them there"):
        name(beats={"weights": "c.pt"})
    monkeypatch.setenv("MY_WEIGHTS", ".")  # the child, in its own folder, would look elsewhere
    assert name(weights="${MY_WEIGHTS}/w") == f"{tmp_path}/w/beats"
    assert name(beats={"weights": "${MY_WEIGHTS}/b.pt"}) == f"{tmp_path}/b.pt"


@pytest.mark.parametrize(
    ("values", "named"), [({}, "tiny"), ({"beats": {"weights": "b.pt"}}, "tiny and b.pt")]
)
def test_other_weights_name_all_that_may_have_changed(
    tmp_path: Path, values: dict[str, object], named: str
) -> None:
    rooms = FakeRooms(tmp_path)
    settings = config(weights="tiny", **values)
    with open_run(tmp_path / "run", settings) as opened:
        work = Work(opened, settings, rooms)  # type: ignore[arg-type]
        check_weights(work)
        check_weights(work)
        rooms.weights_digest = lambda: "others"  # type: ignore[method-assign]
        with pytest.raises(RunError, match=f"other weights → put the old {named} back, or"):
            check_weights(work)
