"""Comparisons with small stand-ins: rows, what they share, what is kept, closed gates, tables."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_cli import run as command
from agent_fakes import config as loop_settings
from compare_fakes import ComparedRooms

from agent.compare.page import TITLES, markdown, note, score_table
from agent.compare.results import compare, standing
from agent.compare.rows import for_models, loop_config, rows_of, with_planners
from agent.compare.run import Loop, open_home, run_loops
from agent.compare.write import stream, write
from agent.config import LLMSettings, LoopConfig
from agent.config_compare import CompareConfig
from training.config import load_config, validate
from training.errors import ConfigError, RunError
from training.files import dumps, read_json

PLANNERS = ["oversample", "fill"]


def base(**values: Any) -> LoopConfig:
    return loop_settings(rounds=2, budget=6, **values)


def loops(
    work: Path, log: list[str], planners: list[str] = PLANNERS, seeds: int = 2, **given: Any
) -> list[Loop]:
    fail = given.pop("fail_at", None)

    def rooms(settings: LoopConfig, run: Path) -> ComparedRooms:
        made = ComparedRooms(settings, run, log, **given)
        made.fail_at = fail
        return made

    rows = rows_of(with_planners(None, planners, [], None))
    return run_loops(base(), rows, range(100, 100 + seeds), work, rooms=rooms)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Loop], list[str]]:
    log: list[str] = []
    return loops(tmp_path_factory.mktemp("work"), log), log


@pytest.fixture(scope="module")
def results(done: tuple[list[Loop], list[str]]) -> dict[str, Any]:
    return compare(base(), "oversample", done[0], draws=200)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of one seed that nobody disturbed."""
    return compare(base(), "oversample", loops(tmp_path_factory.mktemp("single"), [], seeds=1), draws=50)


# Rows.


def test_controls_are_always_there_and_every_row_comes_twice() -> None:
    chosen = with_planners(None, ["thinker"], ["hard", "easy"], None)
    assert list(chosen.rows) == ["none", "oversample", "thinker", "thinker, hard", "thinker, easy"]
    labels = [row.label for row in rows_of(chosen)]
    assert labels[:4] == ["none", "none +w", "oversample", "oversample +w"]
    assert len(labels) == 10
    assert list(with_planners(None, ["fill"], [], "none").rows) == ["none", "fill"]


def test_a_row_and_a_seed_make_a_loop() -> None:
    rows = {row.label: row for row in rows_of(with_planners(None, ["fill"], ["hard"], None))}
    plain, hard = (loop_config(base(), rows[name], 103) for name in ("fill", "fill, hard +w"))
    assert (plain.seed, plain.corpus.simulate.seed, plain.planners) == (103, 103, ["fill"])  # type: ignore[union-attr]
    assert (plain.diagnoser.balanced, plain.thinker.pick) == (False, None)
    assert (hard.diagnoser.balanced, hard.thinker.pick) == (True, "hard")
    same = {"seed", "planners", "diagnoser", "thinker"}
    assert plain.model_dump(exclude=same) == hard.model_dump(exclude=same)


def test_models_are_told_to_the_rows_that_ask_them() -> None:
    own = {"planner": "llm", "loop": ["llm.base_url=http://127.0.0.1:9/v1", "llm.model=b"]}
    config = CompareConfig.model_validate({"rows": {"none": {"planner": "none"}, "b": own}})
    chosen, rest = for_models(
        with_planners(config, ["llm"], [], "none"), ["llm.replay=runs/a", "llm.model=a", "budget=9"]
    )
    assert rest == ["budget=9"]
    assert chosen.rows["llm"].loop == ("llm.replay=runs/a", "llm.model=a")
    assert chosen.rows["b"].loop[-1] == "llm.model=b" and chosen.rows["none"].loop == ()
    loops = {row.label: loop_config(base(), row, 1) for row in rows_of(chosen) if row.name == "b"}
    assert (loops["b"].llm.model, loops["b"].llm.replay) == ("b", "runs/a")
    unasked = with_planners(None, ["fill"], [], None)
    assert for_models(unasked, ["llm.model=a"]) == (unasked, ["llm.model=a"])


def test_every_endpoint_is_asked_once_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def answer(settings: LLMSettings) -> None:
        asked.append(settings.model)
        if len(asked) == 2:
            raise ConfigError("enough")

    monkeypatch.setattr("agent.llm.check_endpoint", answer)
    (tmp_path / "rows.yaml").write_text(
        "reference: none\nrows:\n  none: {planner: none}\n"
        "  a: {planner: llm, loop: [llm.base_url=http://127.0.0.1:9/v1, llm.model=a]}\n"
        "  old: {planner: llm, loop: [llm.base_url=http://127.0.0.1:9/v1, llm.model=a, llm.replay=runs/a]}\n"
        "  b: {planner: llm, loop: [llm.base_url=http://127.0.0.1:9/v1, llm.model=b]}\n"
    )
    assert (
        command(monkeypatch, "compare", "--rows", str(tmp_path / "rows.yaml"), "--out", str(tmp_path / "out"))
        == 2
    )
    assert asked == ["a", "b"]


def test_one_folder_keeps_preparations_and_threads_apart(tmp_path: Path) -> None:
    configs = [base(), base(threads=1), base(preprocess={"bandwidth": 1500.0})]
    homes = []
    for config in configs:
        with open_home(config, tmp_path) as home:
            homes.append(home.folder)
    assert len(set(homes)) == 3


@pytest.mark.parametrize("suite", ["small-spr2icbhi", "small-icbhi2spr"])
def test_real_corpora_stay_what_they_are(suite: str) -> None:
    real = load_config(LoopConfig, suite)
    row = rows_of(with_planners(None, [], [], None))[0]
    one, other = (loop_config(real, row, seed) for seed in (100, 101))
    assert one.corpus == other.corpus == real.corpus
    assert (one.seed, other.seed) == (100, 101)


@pytest.mark.parametrize("name", ["compare-planners", "compare-hardness"])
def test_shipped_rows_are_loops(name: str) -> None:
    rows = rows_of(with_planners(load_config(CompareConfig, name), [], [], None))
    shared = load_config(LoopConfig, "quickstart")
    seen = {loop_config(shared, row, 100).model_dump_json() for row in rows}
    assert len(seen) == len(rows)
    assert all(row.config.why for row in rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"fill": {"planner": "fill"}}, "'none' must be there"),
        ({"none": {"planner": "fill"}}, "'none' must be there"),
        ({"none": {"planner": "none"}}, "reference 'oversample' is no row"),
        (
            {"none": {"planner": "none", "loop": ["budget=9"]}, "oversample": {"planner": "oversample"}},
            "budget",
        ),
        (
            {
                "none": {"planner": "none", "loop": ["diagnoser.balanced=true"]},
                "oversample": {"planner": "none"},
            },
            "diagnoser.balanced",
        ),
        ({"none": {"planner": "none"}, "oversample +w": {"planner": "oversample"}}, "reference"),
    ],
)
def test_rows_that_could_not_be_compared_are_refused(rows: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rows_of(validate(CompareConfig, {"rows": rows}, where="test"))


def test_unknown_planners_and_values_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no planner or row 'think'"):
        with_planners(None, ["think"], [], None)
    wrong = CompareConfig.model_validate(
        {
            "rows": {
                "none": {"planner": "none"},
                "oversample": {"planner": "oversample"},
                "odd": {"planner": "fill", "loop": ["thinker.pick=soft"]},
            }
        }
    )
    with pytest.raises(ConfigError, match=r"row 'odd'.*thinker.pick"):
        run_loops(base(), rows_of(wrong), [100], tmp_path / "work")
    assert not (tmp_path / "work").exists()
    with pytest.raises(ConfigError, match="waits for nobody"):
        loop_config(base(curriculum={"approve": True}), rows_of(with_planners(None, [], [], None))[0], 1)


# What rows share, and what is kept.


def test_rows_share_corpus_gate_clips_and_the_first_diagnoser(done: tuple[list[Loop], list[str]]) -> None:
    """Per seed: 6 loops; none, oversample and fill start from one diagnoser per balancing."""
    log = done[1]
    assert log.count("corpus") == 2 * 3  # one per seed, opened by the three lists of planners
    assert log.count("train") == 2 * 2 * (1 + 2 + 2)
    assert log.count("evaluate") == 2 * 2 * 3  # the test split: once per row and seed
    # Probes once per seed; fill plans by counts, so both balancings train on the same clips.
    assert log.count("generate") == 2 * (1 + 2)


def test_seeds_have_their_own_corpus(done: tuple[list[Loop], list[str]]) -> None:
    homes = {one.model.split("/")[0] for one in done[0]}
    assert len(homes) == 2
    assert {home.rpartition("-")[0] for home in homes} == {"sim-100", "sim-101"}


def test_what_is_finished_is_not_repeated(done: tuple[list[Loop], list[str]]) -> None:
    work, log = done[0][0].predictions.parents[4], done[1]
    before = len(log)
    again = loops(work, log, seeds=1)
    assert len(log) == before
    assert not any(one.fresh for one in again)
    assert [one.record for one in again] == [one.record for one in done[0][:6]]
    more = loops(work, log, ["oversample", "fill", "random"], seeds=1)
    assert [one.row.label for one in more if one.fresh] == ["random", "random +w"]


@pytest.mark.slow
@pytest.mark.parametrize("node", ["train", "generate", "evaluate"])
def test_interrupted_and_run_again_gives_the_same_results(
    tmp_path: Path, single: dict[str, Any], node: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        loops(tmp_path, [], fail_at=node, seeds=1)
    found = compare(base(), "oversample", loops(tmp_path, [], seeds=1), draws=50)
    assert dumps(found) == dumps(single)


def test_two_comparisons_in_one_folder_are_refused(tmp_path: Path) -> None:
    with (
        open_home(base(), tmp_path),
        pytest.raises(RunError, match=r"in use.*--work"),
        open_home(base(), tmp_path),
    ):
        pass


# Results and pages.


def test_figures_are_those_of_the_loops(done: tuple[list[Loop], list[str]], results: dict[str, Any]) -> None:
    rows = results["rows"]
    assert list(rows) == ["none", "none +w", "oversample", "oversample +w", "fill", "fill +w"]
    by_label = {
        (one.row.label, one.seed): one.record["test"]["metrics"]["accuracy"]["value"] for one in done[0]
    }
    for label, row in rows.items():
        values = [by_label[label, 100], by_label[label, 101]]
        assert row["scores"]["accuracy"]["values"] == values
        if row["name"] != "oversample":
            against = "oversample" + " +w" * row["balanced"]
            pairs = [a - by_label[against, s] for a, s in zip(values, (100, 101), strict=True)]
            assert row["differences"]["accuracy"]["values"] == pytest.approx(pairs, abs=1e-6)
    assert "differences" not in rows["oversample"]
    assert "differences" not in rows["oversample +w"]


def test_budget_and_trainings_are_matched_and_shown(results: dict[str, Any]) -> None:
    for label, row in results["rows"].items():
        adds = row["name"] != "none"
        assert row["clips"]["values"] == [12 * adds] * 2, label
        assert row["trainings"]["values"] == [1 + 2 * adds] * 2, label
        assert [one["clips"]["mean"] for one in row["efficiency"]] == [0, 6 * adds, 12 * adds]


def test_a_round_that_was_rolled_back_costs_clips_but_does_not_stand() -> None:
    rounds = [
        {"validation": {"macro_f1": 0.5}, "rolled_back": False},
        {"validation": {"macro_f1": 0.3}, "rolled_back": True},
        {"validation": {"macro_f1": 0.6}, "rolled_back": False},
    ]
    assert [one["macro_f1"] for one in standing(rounds)] == [0.5, 0.5, 0.6]


def test_a_closed_gate_is_told_and_is_no_finding(tmp_path: Path) -> None:
    found = compare(base(), "oversample", loops(tmp_path, [], skill=0.0, seeds=1), draws=50)
    for label in ("fill", "fill +w"):
        row = found["rows"][label]
        assert row["same_as"] == label.replace("fill", "oversample")
        for one in row["differences"].values():
            assert one["values"] == [0.0]
            assert one["over_subjects"] == [0.0, 0.0]
    text = markdown(found)
    (line,) = [one for one in text.splitlines() if one.startswith("| fill +w") and "trainings" not in one][:1]
    assert "gate closed: is oversample; same diagnosers as oversample +w" in line
    assert "| 100 | closed |" in text


def test_the_page_is_whole(results: dict[str, Any]) -> None:
    text = markdown(results)
    for title in (*TITLES.values(), "Sample efficiency", "Gates", "source prior", "over test subjects, 95 %"):
        assert title in text
    widths = {len(row) for row in score_table(results)}
    assert len(widths) == 1
    assert "support no claim" in text  # of two seeds
    tables = [part for part in text.split("\n\n") if part.startswith("| ")]
    for table in tables:
        assert len({line.count(" | ") for line in table.splitlines()}) == 1


def test_a_thinker_is_held_against_every_row(
    done: tuple[list[Loop], list[str]], results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any("against" in row for row in results["rows"].values())
    monkeypatch.setattr("agent.compare.results.PROPOSING", ("fill",))
    found = compare(base(), "oversample", done[0], draws=50)
    rows = found["rows"]
    assert list(rows["fill"]["against"]) == ["none", "none +w", "oversample", "oversample +w", "fill +w"]
    values = [rows[label]["scores"]["macro_f1"]["values"] for label in ("fill", "oversample +w")]
    apart = rows["fill"]["against"]["oversample +w"]["macro_f1"]
    assert apart["values"] == pytest.approx(np.subtract(*values).tolist(), abs=1e-6)
    text = markdown(found)
    assert "## `fill` against every row" in text and "| oversample +w |" in text
    assert rows["fill"]["against"]["oversample"] == rows["fill"]["differences"]


def test_a_comparison_of_the_thinker_holds_it_against_every_row(tmp_path: Path) -> None:
    found = compare(base(), "oversample", loops(tmp_path, [], ["oversample", "thinker"], seeds=1), draws=20)
    others = ["none", "none +w", "oversample", "oversample +w"]
    assert list(found["rows"]["thinker"]["against"]) == [*others, "thinker +w"]
    assert list(found["rows"]["thinker +w"]["against"]) == [*others, "thinker"]
    assert "## `thinker +w` against every row" in markdown(found)


def test_rounds_that_the_thinker_planned_are_told(results: dict[str, Any]) -> None:
    row = copy.deepcopy(results["rows"]["fill"])
    row["loops"][0]["stood_in"] = 2
    assert "planned by the thinker in 2 of 4 rounds" in note(row, results)


def test_seeds_that_were_tuned_on_and_the_upper_bound_are_stamped(results: dict[str, Any]) -> None:
    assert "Seeds 100 were used for tuning" in markdown(results | {"tuned_on": [100]})
    assert "**upper bound (simulator)**" in markdown(results | {"upper_bound": "upper bound (simulator)"})


def test_files_hold_everything_and_equal_results_are_equal_files(
    tmp_path: Path, done: tuple[list[Loop], list[str]], results: dict[str, Any]
) -> None:
    for name in ("one", "two"):
        write(results, done[0], tmp_path / name)
    assert read_json(tmp_path / "one" / "compare.json")["results"] == results
    for suffix in ("md", "svg", "png"):
        one, two = ((tmp_path / name / f"compare.{suffix}").read_bytes() for name in ("one", "two"))
        assert one == two, suffix
    assert str(tmp_path) not in (tmp_path / "one" / "compare.json").read_text()


def test_the_stream_has_a_line_for_every_figure(results: dict[str, Any]) -> None:
    found = [json.loads(line) for line in stream(results)]
    assert [(one["row"], one["score"]) for one in found] == [
        (label, name) for label in results["rows"] for name in TITLES
    ]
    assert all(len(one["values"]) == 2 for one in found)


# The command.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--planners", "think"], "no planner or row 'think'"),
        (["--suite", "icbhi"], "no suite 'icbhi'"),
        (["--suite", "spr2icbhi", "--config", "quickstart"], "not both"),
        (["--pick", "soft"], "no pick 'soft'"),
        (["--tuned-on", "0..9"], "no list of seeds"),
        (["--suite", "spr2icbhi", "--backend", "simulator"], "upper bound on simulated corpora"),
        (
            ["--planners", "llm"],
            "error row 'llm': planner 'llm' needs an endpoint: set llm.base_url and llm.model",
        ),
        (
            [
                "--planners",
                "llm",
                "-o",
                "llm.base_url=http://127.0.0.1:9/v1",
                "-o",
                "llm.model=m",
                "-o",
                "llm.retries=0",
            ],
            "see whether the server is up",
        ),
        (["--reference", "last year's"], "no planner or row"),
    ],
)
def test_wrong_options_end_with_two_before_any_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, "compare", "--out", "out", *options) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_help_has_examples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(monkeypatch, "compare", "--help") == 0
    text = capsys.readouterr().out
    for word in ("Examples", "--rows compare-hardness", "--backend simulator", "--suite spr2icbhi"):
        assert word in text
