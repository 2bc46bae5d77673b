"""The report: it tells the story, escapes every name from data, and holds all it shows."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile as sf
from agent_fakes import CLASSES, FakeRooms, config
from headless import SOUNDS, browser

from agent.config import ThinkerConfig
from agent.graph import build_graph, checkpoints
from agent.loop import run_loop
from agent.report import gather, render
from agent.reporting import story
from agent.reporting.listen import listen
from agent.rooms import UPPER_BOUND
from agent.state import LoopState
from agent.work import Work
from resp229k.audio import RATE
from training.files import read_json

VOID = {"meta", "img", "br", "link"}
EVIL = "<script>alert('x')</script>"
LONG = "A_very_long_name_without_any_place_to_break_" * 6


class Parser(HTMLParser):
    """Collects elements and the words inside sections; refuses elements that are not closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[tuple[str, str]] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, str] = {"": ""}
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.found.append((tag, found))
        if tag not in VOID:
            self.open.append((tag, found.get("aria-labelledby") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if not any(tag == "style" for tag, _ in self.open):
            for section in {name for _, name in self.open} | {""}:
                self.words[section] = f"{self.words.get(section, '')} {data}"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]

    def text(self, section: str = "") -> str:
        return " ".join(self.words[section].split())


class Told:
    """A finished run: its work, states and summary."""

    def __init__(self, folder: Path, skill: float = 1.0, **values: Any):
        self.config = config(**values)
        rooms: Any = FakeRooms(folder, skill=skill)
        self.summary = run_loop(self.config, folder, rooms=rooms)
        run: Any = SimpleNamespace(folder=folder)
        self.work = Work(run, self.config, rooms)
        with checkpoints(folder) as saver:
            graph = build_graph(self.work, saver)
            self.states: dict[str, LoopState] = {
                name: graph.get_state({"configurable": {"thread_id": name}}).values  # type: ignore[misc]
                for name in self.config.planners
            }

        self.found = gather(self.work, self.states, self.summary["results"])

    def page(self, states: dict[str, LoopState] | None = None, results: Any = None) -> str:
        results = results or self.summary["results"]
        found = (
            self.found if states is None else self.found | {"story": story.tell(self.work, states, results)}
        )
        return render({**self.summary, "results": results}, found)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("report") / "run"
    # Needs so sharpened that the Thinker plans two classes of the four: the others have no clip but probes.
    planners = ["none", "oversample", "thinker"]
    return Told(folder, rounds=1, planners=planners, thinker=ThinkerConfig(sharpness=8))


@pytest.fixture(scope="module")
def page(told: Told) -> str:
    return told.work.path("report.html").read_text()


def _rename(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {_rename(k, names): _rename(v, names) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rename(v, names) for v in value]
    return names.get(value, value) if isinstance(value, str) else value


def _hostile(told: Told) -> str:
    """The page with names, notes and reasons that try to leave their place."""
    names = {
        "normal": EVIL,
        "crackle": 'x" onerror="alert(1)',
        "wheeze": "哮鸣音 $\\frac$ &amp;",
        "both": LONG,
    }
    found = copy.deepcopy(told.found)
    for planner in found["story"]:
        for one in planner["rounds"]:
            one["note"] = f"{EVIL} & more"
            for item in one["items"]:
                item["reason"] = f'{EVIL} "{LONG}"'
                item["style"] = EVIL
    for card in found["sounds"]["classes"]:
        for one in card["real"]:
            one["name"] = f"../{EVIL}.wav\"'><img src=x onerror=alert(1)>"
        for one in card["made"]:
            one["reference"] = card["real"][0]
    results = {**told.summary["results"], "name": EVIL}
    return render({**told.summary, "results": _rename(results, names)}, _rename(found, names))


def test_it_tells_what_every_round_did(told: Told, page: str) -> None:
    parsed = Parser(page)
    text = parsed.text("p3-r1")
    assert text.startswith("Round 1 Weak both (F1 0.00, tail)")
    assert "Most often both was taken for normal, 3 of 3 clips." in text
    record = told.states["thinker"]["records"][1]
    for item in record["items"]:
        assert f"{item['label']} {item['reason']} {item['count']} {item['style']}" in text
    screen = read_json(told.work.path(record["screen"]) / "screen.json")
    assert f"{sum(screen['kept'].values())} of {len(screen['verdicts'])} candidates, 6 planned." in text
    assert f"surplus {len(screen['verdicts']) - 6}" in text
    assert "Macro-F1 0.650 → 0.650 (+0.000)" in text
    assert "not screened" in parsed.text("p2-r1") and "Nothing: the diagnoser is the same" in parsed.text(
        "p1-r1"
    )
    # Every planner's test stands beside the controls of the run.
    assert re.search(r"thinker 0\.600 .* oversample control 0\.600 .* none control 0\.600", parsed.text("p3"))
    targets = {str(found["href"])[1:] for found in parsed.all("a")}
    assert targets == {"short", "p1", "p1-r1", "p2", "p2-r1", "p3", "p3-r1", "listen", "confusion", "limits"}
    assert targets <= {found.get("id") for _, found in parsed.found}


def test_it_holds_all_it_shows(page: str) -> None:
    parsed = Parser(page)
    assert not parsed.all("script")
    assert all(str(one["src"]).startswith("data:") for one in parsed.all("img") + parsed.all("audio"))
    assert all(str(one.get("href", "data:,")).startswith("data:") for one in parsed.all("link"))
    assert not re.search(r"https?:|//[a-z]|url\(|@import", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    assert all(one.get("alt") for one in parsed.all("img"))
    assert all(
        one.get("tabindex") == "0" and one.get("aria-label")
        for one in parsed.all("div")
        if one.get("class") == "scroll"
    )
    for words in ("not a medical device", "source prior", "Gate open.", "viewport"):
        assert words in page
    assert UPPER_BOUND not in page and len(page) < 8_000_000


def test_players_hold_the_clips(told: Told, page: str) -> None:
    found = Parser(page).all("audio")
    # Both classes of the plan show two kept clips, the others two probes; each beside its real ones.
    assert len(found) == 4 * 2 + 2 + 2 + 2 + 1
    kept = sf.read(
        sorted(told.work.path(told.states["thinker"]["records"][1]["screen"]).glob("corpus/audio/*.wav"))[0]
    )[0]
    waves = []
    for one in found:
        kind, data = str(one["src"]).split(",")
        assert kind == "data:audio/flac;base64"
        wave, rate = sf.read(io.BytesIO(base64.b64decode(data)))
        assert rate == RATE and wave.size == RATE
        waves.append(wave)
    assert any(abs(wave - kept).max() < 1e-4 for wave in waves)


def test_hostile_names_stay_text(told: Told) -> None:
    page = _hostile(told)
    parsed = Parser(page)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not parsed.all("script")
    for _, attributes in parsed.found:
        assert not [name for name in attributes if name.startswith("on")]
    assert all(str(one["src"]).startswith("data:") for one in parsed.all("img"))
    text = parsed.text()
    assert "哮鸣音 $\\frac$ &amp;" in text and LONG in text and f"{EVIL} & more" in text


def test_a_rolled_back_round_and_an_edited_plan_are_told(told: Told) -> None:
    states = copy.deepcopy(told.states)
    states["thinker"]["records"][1] |= {
        "rolled_back": True,
        "edited": True,
        "guard": {"difference": -0.2, "low": -0.31, "high": -0.1},
    }
    results = copy.deepcopy(told.summary["results"])
    results["planners"]["thinker"]["rounds"][1]["rolled_back"] = True
    parsed = Parser(told.page(states, results))
    text = parsed.text("p3-r1")
    assert "edited by the user" in text and "95 % interval -0.310 to -0.100" in text
    assert "Rolled back: the round did harm" in text
    assert "synthetic rolled back" in parsed.text()  # in the table of rounds
    # A plot of the clips that joined training would show none of them.
    assert not story.sums(states["thinker"]["records"]) and story.sums(told.states["thinker"]["records"])


@pytest.mark.parametrize(
    ("stood_in", "words"), [(False, "by a language model"), (True, "the thinker stood in")]
)
def test_plans_of_a_language_model_are_marked(stood_in: bool, words: str) -> None:
    assert story.marks({"stood_in": stood_in}, "llm")[0].startswith(words)
    assert story.marks({"fallback": True}, "llm") == ["gate closed: oversample instead"]
    assert story.marks({}, "thinker") == []


def test_records_of_older_runs_are_told_as_far_as_they_go(told: Told) -> None:
    states = copy.deepcopy(told.states)
    states["oversample"]["records"][1]["items"] = [
        {"label": "both", "count": 6, "style": "own", "reason": "rare"}
    ]
    states["oversample"]["records"][1]["method"] = "synthesize"
    new = {"rolled_back", "guard", "note", "gate_folder", "gate", "screen", "short", "planned"}
    for state in states.values():
        state["records"] = [{k: v for k, v in r.items() if k not in new} for r in state["records"]]
        state["scores"] = [{k: v for k, v in s.items() if k not in ("f1", "folder")} for s in state["scores"]]
    results = copy.deepcopy(told.summary["results"])
    for planner in results["planners"].values():
        planner["rounds"] = [
            {k: v for k, v in one.items() if k not in ("rolled_back", "edited", "guard")}
            for one in planner["rounds"]
        ]
    parsed = Parser(told.page(states, results))
    assert "both rare 6 own" in parsed.text("p2-r1")
    assert "The error profile of this round is not in the run's folder." in parsed.text("p3-r1")


def test_a_closed_gate_and_a_run_without_synthesis(tmp_path: Path) -> None:
    closed = Told(tmp_path / "closed", skill=0, rounds=1)
    parsed = Parser(closed.page())
    assert "Gate closed." in parsed.text()
    assert "gate closed: oversample instead" in parsed.text("p1-r1")
    assert "add oversample to its planners" in parsed.text("p1")
    assert "Synthetic · gate probe" in parsed.text()


def test_a_run_that_makes_nothing(tmp_path: Path) -> None:
    none = Told(tmp_path / "none", rounds=1, planners=["none"])
    parsed = Parser(none.page())
    assert "This run made no synthetic clip" in parsed.text() and not parsed.all("audio")
    assert "Gate: not asked" in parsed.text()


def test_restyled_clips_are_told_from_synthetic_ones(told: Told, tmp_path: Path) -> None:
    restyled = Parser(Told(tmp_path / "restyled", rounds=1, planners=["restyle"]).page()).text()
    assert "Restyled · restyle, round 1" in restyled and "Synthetic · restyle" not in restyled
    assert "Restyled ones are: a real clip" in restyled
    assert "Restyled" not in Parser(told.page()).text()


def test_style_references_come_from_the_provenance(told: Told, tmp_path: Path) -> None:
    record = told.states["thinker"]["records"][1]
    records = {p: p.read_text() for p in told.work.path(record["screen"]).glob("corpus/audio/*.json")}
    try:
        for path in records:
            path.write_text(json.dumps({"reference": "train-wheeze-0"}))
        found = listen(told.work, told.states)
    finally:
        for path, text in records.items():
            path.write_text(text)
    made = [one for card in found["classes"] for one in card["made"] if one["origin"] == "thinker, round 1"]
    assert made and all(one["reference"]["name"] == "train-wheeze-0" for one in made)


def test_the_page_stays_small(told: Told) -> None:
    whole = listen(told.work, told.states)
    size = sum(len(one["sound"] + one["picture"]) for c in whole["classes"] for one in c["made"] + c["real"])
    half = listen(told.work, told.states, limit=size // 2)
    # Second clips go first: every class still has one.
    assert [len(card["made"]) for card in half["classes"]] == [1] * 4 and half["shown"] == 4 < whole["shown"]
    tiny = listen(told.work, told.states, limit=10)
    assert tiny["classes"] == [] and tiny["left_out"] == sorted(CLASSES)


def test_upper_bound_is_said_wherever_figures_stand(told: Told) -> None:
    page = told.page(results={**told.summary["results"], "upper_bound": UPPER_BOUND})
    assert page.count(UPPER_BOUND) >= 5  # banner, gate, test table, round table, clips
    scores = page[page.index('id="short"') : page.index("Source prior")]
    rows = {row.partition("<")[0].strip(): row for row in scores.split("<tr><td>")[1:]}
    # A control that adds real clips again has none of the simulator's.
    assert [name for name, row in rows.items() if UPPER_BOUND in row] == ["thinker"]


@pytest.fixture
def hostile(told: Told, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "report.html"
    path.write_text(_hostile(told))
    yield path


@pytest.mark.slow
def test_a_browser_shows_it(hostile: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as tab:
        for width, dark in ((390, True), (1200, False)):
            tab.size(width, dark=dark)
            tab.open(hostile)
            tab.run("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert tab.run("document.documentElement.scrollWidth") <= width
            ground = tab.run("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == dark
            pictures = "[...document.images].map(i => i.complete && i.naturalWidth > 0)"
            assert set(tab.run(pictures)) == {True}
            small = "[...document.querySelectorAll('p, td, th, li, summary, dd')].map(e => parseFloat(getComputedStyle(e).fontSize))"
            assert min(tab.run(small)) >= 14
            assert tab.complaints() == [] and tab.requests() == []
        lengths = tab.run(SOUNDS)
        assert len(lengths) > 10 and all(abs(length - 1) < 0.01 for length in lengths)
        # A details element opens by keyboard.
        tab.run(
            "(d => { d.open = false; d.querySelector('summary').focus() })(document.querySelector('details'))"
        )
        tab.press("Enter", 13)
        assert tab.run("document.querySelector('details').open")
        tab.run("location.hash = '#listen'")
        assert tab.run("Math.abs(document.getElementById('listen').getBoundingClientRect().top) < 5")
        assert tab.complaints() == [] and tab.requests() == []
