"""The comparison of designs: settings reach the training, what was finished is not repeated, tables add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agent_weights import SMALL, make_weights

from agent import designs as module
from agent.config_designs import Design, DesignsConfig
from agent.designs import Designs, Measured, compare_designs
from agent.designs_report import compute_table, table, write
from generator.config import SampleConfig
from training.errors import ConfigError
from training.files import read_json
from training.statistics import plus_minus

CONFIG = DesignsConfig(
    train=("flow.layers=2",),
    designs={
        "shipped": Design(why="As it is."),
        "label only": Design(why="No units.", train=("flow.content=none",), draw=("guidance=3",)),
    },
)


def measured(design: str, seed: int, recall: float, seconds: float = 10.0) -> Measured:
    figures = {"recall_ratio": recall, "fad_ratio": 2.0, "fad_clips": 118}
    return Measured(
        design=design,
        seed=seed,
        compute={"flow": {"seconds": seconds, "parameters": 1000}},
        histories={"flow": [{"step": 5, "loss": 1.0}, {"step": 10, "metric": -0.5}]},
        results={
            "simulated": {
                "generator": figures,
                "real": {"recall_ratio": 1.0, "fad_ratio": 1.0, "fad_clips": 118},
            }
        },
    )


def test_a_design_changes_its_settings_and_no_others(tmp_path: Path) -> None:
    designs = Designs(CONFIG, 4, ["events=50"], tmp_path)
    shipped, label = (designs.settings(name, seed=2) for name in CONFIG.designs)
    assert shipped.events == label.events == 50
    assert shipped.generator.flow.layers == label.generator.flow.layers == 2
    assert (shipped.generator.flow.content, label.generator.flow.content) == ("units", "none")
    assert shipped.beats.weights == "tiny/beats"
    for one in (shipped.generator, label.generator):
        assert (one.seed, one.mllm_fit.seed, one.flow_fit.seed) == (2, 2, 2)
    assert (designs.draws("shipped").guidance, designs.draws("label only").guidance) == (
        SampleConfig().guidance,
        3.0,
    )


def test_designs_are_measured_on_sources_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def evaluated(config: Any, what: str, **_: Any) -> Any:
        asked.append(config.seed)
        raise KeyboardInterrupt

    monkeypatch.setattr("agent.designs.evaluate_generator", evaluated)
    for seed in range(3):
        with pytest.raises(KeyboardInterrupt):
            Designs(CONFIG, 4, [], tmp_path)._evaluate(tmp_path, "shipped", seed, "simulated", tmp_path / "x")
    # A release is measured with seeds from 0 on, and their simulated sources follow from the seed.
    assert asked == [100, 101, 102]


@pytest.mark.parametrize(
    "design, message",
    [
        (Design(why="", train=("flow.colour=red",)), "colour"),
        (Design(why="", draw=("guidance=-1",)), "guidance"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    design: Design, message: str, tmp_path: Path
) -> None:
    config = DesignsConfig(designs={"odd": design})
    with pytest.raises(ConfigError, match=message):
        compare_designs(config, ["odd"], 1, 4, [], tmp_path)
    with pytest.raises(ConfigError, match="shipped, label only"):
        compare_designs(CONFIG, ["shiped"], 1, 4, [], tmp_path)
    for change in ("generator.seed=3", "beats.weights=mine"):  # what would be overridden again
        with pytest.raises(ConfigError, match=change.partition("=")[0]):
            compare_designs(CONFIG, ["shipped"], 1, 4, [change], tmp_path)
    assert not list(tmp_path.iterdir())


def test_tables_give_mean_and_deviation_over_seeds(tmp_path: Path) -> None:
    found = [
        measured("shipped", 0, 0.4, 10), measured("label only", 0, 0.2),
        measured("shipped", 1, 0.6, 20), measured("label only", 1, 0.2),
    ]  # fmt: skip
    assert compute_table(found)[1] == ["shipped", "1,000", "0 ± 0", "15 ± 7", "15 ± 7"]
    rows = table(found, "simulated")
    assert rows[0] == ["design", "judge recall / real", "FAD / real to real", "clips in FAD"]
    assert rows[1:] == [
        ["shipped", "0.500 ± 0.141", "2.000 ± 0.000", "118"],
        ["label only", "0.200 ± 0.000", "2.000 ± 0.000", "118"],
        ["real clips", "1.000 ± 0.000", "1.000 ± 0.000", "118"],
    ]
    assert (
        plus_minus([], 2) == "–"
        and plus_minus([0.5], 2) == "0.50"
        and plus_minus([1, 2, 3], 1) == "2.0 ± 1.0"
    )
    write(found, CONFIG, 4, tmp_path)
    page = (tmp_path / "designs.md").read_text()
    assert "- **label only**: No units." in page and "FAD of 118 clips holds mostly" in page
    assert len(read_json(tmp_path / "designs.json")["runs"]) == 4
    assert (tmp_path / "designs.png").stat().st_size > 10_000


@pytest.mark.slow
def test_designs_are_trained_and_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIG.model_copy(update={"weights": str(make_weights(tmp_path))})
    small = [change for change in SMALL if not change.startswith("beats.")]
    found = compare_designs(config, list(config.designs), 1, 4, small, tmp_path / "work")
    shipped, label = found
    assert set(shipped.compute) == {"mllm", "flow"} and set(label.compute) == {"flow"}
    assert all(part["seconds"] > 0 for one in found for part in one.compute.values())
    assert all(0 <= one.results["simulated"]["generator"]["recall"] <= 1 for one in found)
    assert shipped.results["simulated"]["real"] == label.results["simulated"]["real"]
    assert shipped.histories["flow"][-1]["step"] == 2

    def repeated(*_: object) -> None:
        raise AssertionError("trained again")

    with monkeypatch.context() as patched:
        patched.setattr(module, "train_flow", repeated)
        assert compare_designs(config, list(config.designs), 1, 4, small, tmp_path / "work") == found
    # One Resp-MLLM serves designs whose flow decoders alone differ, and each is told what it took.
    monkeypatch.setattr(module, "train_mllm", repeated)
    whole = {"whole": Design(why="Whole clips.", train=("draw.crop=null",))}
    other = Designs(config.model_copy(update={"designs": whole}), 4, small, tmp_path / "work").measure(
        "whole", 0, []
    )
    assert other.compute["mllm"] == shipped.compute["mllm"]
    assert other.histories["mllm"] == shipped.histories["mllm"]
    assert other.histories["flow"] != shipped.histories["flow"]
