"""The evaluation as tables, page and files: bounds, verdicts, escaping, what a repeated call does."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from agent_cli import run
from generated_fakes import CLASSES, FakeGenerator, FakeJudge, make_corpus

from agent.generated.compare import Comparison, Shown
from agent.generated.config import EvaluateConfig
from agent.generated.figures import own_style, summary
from agent.generated.hear import Ears
from agent.generated.protocol import Sides, make_sides
from agent.generated.run import write
from agent.generated.table import BARS, bars, cell, class_table, markdown, swap_table, table, words
from agent.pages import picture_uri
from beats.config import BeatsConfig
from beats.encoder import BeatsEncoder
from resp229k.audio import RATE
from training.errors import DataError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"))
    train, test = corpus.subset(split="train"), corpus.subset(split="test")
    return make_sides("<i>mine</i>", "icbhi4", CLASSES, train, test, ("both",), taught=set(train.subjects))


@pytest.fixture(scope="module")
def ears() -> Ears:
    small = BeatsConfig(
        embed_dim=16, dim=16, ffn_dim=16, layers=1, heads=2, conv_pos=8, conv_pos_groups=2, max_distance=400
    )
    torch.manual_seed(0)
    return Ears(FakeJudge(), BeatsEncoder(small).eval(), 1.0)  # type: ignore[arg-type]


Compared = tuple[dict[str, Any], Shown]
CONFIG = EvaluateConfig(task="icbhi4", clips=4, seeds=1)


@pytest.fixture(scope="module")
def compared(sides: Sides, ears: Ears, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    generator, work = FakeGenerator(), tmp_path_factory.mktemp("work")
    results, shown = Comparison(sides, generator, ears, CONFIG, work).run()  # type: ignore[arg-type]
    return {"config": CONFIG.model_dump(mode="json"), **results}, shown


def test_rows_stand_between_their_bounds(compared: Compared) -> None:
    rows = {name: row["figures"] for name, row in compared[0]["rows"].items()}
    assert list(rows) == ["real", "codec", "generator", "noise"]
    # A tone survives the codec, and is no nearer to the real ones than before it.
    assert rows["codec"]["recall_ratio"]["mean"] == 1 and rows["codec"]["fad_ratio"]["mean"] > 1
    assert "style_cosine" not in rows["codec"]
    for name in ("real", "generator"):  # the fake generator makes real tones
        assert rows[name]["recall_ratio"]["mean"] == 1
        assert rows[name]["tstr_ratio"]["mean"] == 1
        assert rows[name]["memorised"]["mean"] <= 0.2
    assert rows["real"]["memorised"]["mean"] == 0  # no clip lies nearer to a training clip than the nearest
    assert rows["real"]["fad_ratio"]["mean"] == pytest.approx(1)
    assert rows["noise"]["recall"]["mean"] < 0.5
    assert rows["noise"]["tstr_ratio"]["mean"] < 0.7
    assert "style_cosine" not in rows["real"]


def test_swaps_hear_the_label_and_not_the_style(
    compared: Compared,
) -> None:
    swaps = compared[0]["swaps"]
    assert swaps["style swap"]["p_acc"]["mean"] == swaps["content swap"]["p_acc"]["mean"] == 1
    assert swaps["style swap"]["own_style"]["mean"] < 0.8  # it has three styles to choose from, and one tone
    assert "own_style" not in swaps["content swap"]


def test_the_protocol_tells_the_counts(compared: Compared) -> None:
    assert compared[0]["protocol"]["clips"] == dict.fromkeys(CLASSES, 4)
    assert compared[0]["protocol"]["seeds"] == [0]


def test_tables_hold_all_rows_and_the_verdicts(
    compared: Compared,
) -> None:
    results = compared[0]
    rows = {row[0]: row for row in table(results)}
    assert rows["figure"] == ["figure", "real", "codec", "generator", "noise", "target", "met"]
    assert rows["trained on it / on real"][-2:] == ["≥ 0.7", "yes"]
    assert rows["judge recall / real"][-2:] == ["", ""]  # asked of the simulated test clips alone
    names = [row[0] for row in class_table(results)]
    assert names == ["class", "normal", "crackle", "wheeze", "both (tail)"]
    assert swap_table(results)[0] == ["figure", "style swap", "content swap"]
    text = markdown(results)
    assert "0 other to 1 same device" in text
    widths = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert len(set(widths)) == 3  # every line of a table has the columns of its header


def test_criteria_depend_on_the_test_clips(compared: Compared) -> None:
    def asked(what: str) -> list[tuple[str, str | None]]:
        protocol = {**compared[0]["protocol"], "what": what}
        return [(bar["figure"], bar["label"]) for bar in bars({**compared[0], "protocol": protocol})]

    assert ("recall_ratio", None) in asked("simulated")
    assert ("recall_ratio_tail", None) in asked("simulated")
    assert [pair for pair in asked("sprsound") if pair[0] == "recall_ratio"] == [
        ("recall_ratio", "crackle"),
        ("recall_ratio", "wheeze"),
    ]


def test_a_bar_with_two_bounds_is_met_between_them() -> None:
    diversity = next(bar for bar in BARS if bar.figure == "diversity")
    assert [diversity.met(value) for value in (0.7, 0.8, 1.2, 1.3)] == [False, True, True, False]
    assert diversity.words == "0.8 to 1.2"


def with_figures(results: dict[str, Any], **figures: dict[str, Any]) -> dict[str, Any]:
    row = results["rows"]["generator"]
    row = {**row, "figures": {**row["figures"], **figures}}
    return {**results, "rows": {**results["rows"], "generator": row}}


def test_a_bound_within_a_deviation_is_told(compared: Compared) -> None:
    for mean, std, word in (
        (0.72, 0.05, "yes, within ±"),
        (0.68, 0.05, "no, within ±"),
        (0.8, 0.05, "yes"),
        (0.72, None, "yes"),
    ):
        found = with_figures(compared[0], tstr_ratio={"mean": mean, "std": std, "values": [mean]})
        (row,) = (row for row in table(found) if row[0] == "trained on it / on real")
        assert row[-1] == word


def test_a_distance_without_a_line_is_not_drawn_on(compared: Compared) -> None:
    for r2, text in ((0.95, "0.100"), (0.5, "–")):
        told = {"fad_infinite": {"mean": 0.1, "std": None}, "fad_r2": {"mean": r2, "std": None}}
        found = with_figures(compared[0], **told)
        given = [row[3] for row in table(found) if row[0] == "FAD∞ to real"]  # no row where none has a line
        assert (given or ["–"]) == [text] and ("FAD∞ is not given" in " ".join(words(found))) == (r2 < 0.9)


def test_a_search_among_some_of_the_training_clips_is_told(compared: Compared) -> None:
    protocol = {**compared[0]["protocol"], "what": "simulated"}
    for clips in (None, 100):
        found = {
            **compared[0],
            "protocol": protocol,
            "config": {**compared[0]["config"], "train_clips": clips},
        }
        assert ("real clips come nearer as well" in " ".join(words(found))) == (clips is not None)
    found = {**compared[0], "protocol": {**protocol, "what": "sprsound"}}
    assert "of these recordings alone" in " ".join(words(found))


def test_a_figure_that_was_not_measured_meets_nothing(
    compared: Compared,
) -> None:
    results = compared[0]
    figures = {k: v for k, v in results["rows"]["generator"]["figures"].items() if k != "memorised"}
    row = {**results["rows"]["generator"], "figures": figures}
    without = {**results, "rows": {**results["rows"], "generator": row}}
    bar = next(bar for bar in bars(without) if bar["figure"] == "memorised")
    assert bar["met"] is None
    assert next(row for row in table(without) if row[0] == "memorised share")[-1] == "not measured"


def test_words_say_when_the_judge_cannot_tell(
    compared: Compared,
) -> None:
    results = compared[0]
    assert "cannot tell" not in " ".join(words(results))
    deaf = {**results, "protocol": {**results["protocol"], "judge_recall_real": 0.25}}
    assert "cannot tell" in " ".join(words(deaf))


def test_words_say_when_there_are_too_few_clips_for_a_distance(compared: Compared) -> None:
    results = copy.deepcopy(compared[0])
    rows = {row[0]: row for row in table(results)}
    assert rows["clips in FAD"][3] == "16.000"
    assert "FAD of 16 clips holds mostly the chance of so few" in " ".join(words(results))
    results["rows"]["generator"]["figures"]["fad_clips"]["mean"] = 300.0
    assert "holds mostly the chance" not in " ".join(words(results))


def test_wheezes_that_are_not_made_share_no_pitch(monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.generated import figures
    from agent.generated.figures import MEASURES

    nan = float("nan")
    held = {
        "a": dict.fromkeys(MEASURES, SimpleNamespace(made=nan, real=300.0, ks=nan, real_ks=nan)),
        "b": dict.fromkeys(MEASURES, SimpleNamespace(made=200.0, real=300.0, ks=0.5, real_ks=nan)),
        "c": dict.fromkeys(MEASURES, SimpleNamespace(made=200.0, real=nan, ks=nan, real_ks=nan)),
    }
    monkeypatch.setattr(figures, "event_faithfulness", lambda *_, **__: held)
    empty = SimpleNamespace(events=[], labels=[])
    ground = SimpleNamespace(classes=tuple("abc"), subjects=[], b=empty, seed=0)
    found = figures.Measured({}, {name: {} for name in "abc"}, [])
    figures._events(found, empty, ground)  # type: ignore[arg-type]
    assert found.figures["wheeze_hertz_ks"] == pytest.approx(0.75)
    assert found.classes["a"]["wheeze_hertz_ks"] == 1 and "wheeze_hertz_ks" not in found.classes["c"]


def test_page_is_escaped_and_asks_for_nothing(compared: Compared, sides: Sides, tmp_path: Path) -> None:
    results, shown = compared
    write(results, shown, sides, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.json", "results.md", "page.html", "recall.png", "fad.png", "modulation.png",
    }  # fmt: skip
    page = (tmp_path / "page.html").read_text()
    assert "<b>device" not in page
    assert "&lt;b&gt;device" in page
    assert "<i>mine" not in page
    assert all(link.startswith("data:") for link in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert "http" not in re.sub(r'"data:[^"]*"', "", page)
    assert page.count("<audio") == len(CLASSES) * (2 * 3 + 2)  # two made with style and nearest, two real
    assert str(sides.test.folder) not in page + (tmp_path / "results.json").read_text()


def test_summary_keeps_what_is_no_number_out_of_the_mean() -> None:
    found = summary([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": float("nan")}, {"a": 5.0}])
    assert found["a"] == {"mean": 3.0, "std": 2.0, "values": [1.0, 3.0, 5.0]}
    assert found["b"] == {"mean": None, "std": None, "values": [2.0, None, None]}
    assert cell(found["a"]) == "3.000 ± 2.000"
    assert cell(found["b"]) == cell(None) == "–"
    assert summary([{"a": 1.0}])["a"]["std"] is None


def test_own_style_is_the_nearest_of_the_group() -> None:
    pool = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 5.0]])
    made = np.array([[0.1, 0.0], [0.2, 0.1], [0.0, 4.0], [0.0, 0.0]])
    assert own_style(made, pool, [0, 1, 2, 0], [0, 0, 0, 1]) == pytest.approx(2 / 3)
    assert own_style(made[:1], pool, [0], [0]) is None


def test_pictures_are_small_and_of_short_clips_too() -> None:
    for seconds in (0.2, 4.0):
        wave = np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)
        assert 200 < len(picture_uri(wave)) < 90_000


def test_clips_of_one_style_alone_are_refused(sides: Sides, ears: Ears, tmp_path: Path) -> None:
    seen: dict[str, int] = {}
    clips = []
    for clip in sides.test.clips:
        clips += [] if clip.subject_id in seen else [clip.model_copy(update={"device": "one"})]
        seen[clip.subject_id] = 1
    lone = Sides(
        sides.what, sides.task, sides.classes, (), sides.train, type(sides.test)(sides.test.folder, clips)
    )
    with pytest.raises(DataError, match="no two subjects' clips of"):
        Comparison(lone, FakeGenerator(), ears, CONFIG, tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "give one thing to compare with"),
        (["--simulated", "--suite", "sprsound"], "give one thing to compare with"),
        (["--suite", "icbhi"], "unknown suite"),
        (["--simulated", "--task", "tasks"], "unknown task"),
        (["--simulated", "--task", "covid"], "was not trained on covid"),
        (["--simulated", "--judge", "tiny/judge-icbhi4"], "judges icbhi4, not disease16"),
        (["--simulated", "-o", "guidence=3"], "unknown key 'guidence'"),
        (["--simulated", "--tail", "Bronchitis"], "tail class 'Bronchitis' is not compared"),
        (["--simulated", "--weights", "tiny/flow"], "holds no generator"),
    ],
)
def test_what_does_not_fit_ends_with_code_2(
    args: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = run(
        monkeypatch, "evaluate-generator", *args, "--out", str(tmp_path / "o"), "--work", str(tmp_path / "w")
    )
    assert code == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "w").exists()
