"""The page of simulated sounds: whole, offline, escaped, and readable in a browser."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import typer
from headless import browser
from typer.testing import CliRunner

from agent.cli.data_sounds import sounds
from resp229k.audio import RATE
from resp229k.simulate import SIMULATED, simulate_clip, write_page
from resp229k.simulate.page import render_page
from training.errors import DataError

VOID = {"meta", "img", "br", "link", "input"}


class Parser(HTMLParser):
    """Collects elements and refuses ones that are not closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_page(tmp_path_factory.mktemp("page") / "new", seed=2, seconds=2.0)
    assert path.name == "simulator.html" and path.stat().st_size < 8_000_000 / 3
    return path.read_text()


def test_it_holds_a_player_and_a_picture_per_class_and_nothing_from_elsewhere(page: str) -> None:
    parsed = Parser(page)
    players = parsed.all("audio")
    assert len(players) == len(parsed.all("img")) == len(parsed.all("article")) == 16
    for label, player in zip(SIMULATED, players, strict=True):
        kind, data = str(player["src"]).split(",")
        assert kind == "data:audio/flac;base64"
        with sf.SoundFile(io.BytesIO(base64.b64decode(data))) as file:
            assert "simulated" in file.comment
            heard = file.read(dtype="float32")
        made = simulate_clip(label, seed=2, seconds=2.0, source="page")
        assert heard.size == 2 * RATE
        assert np.abs(heard - made.wave).max() < 1e-4
        for event in made.events:
            assert f"{event.start:.2f}–{event.end:.2f} s" in page
    assert not re.search(r"https?:|//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    assert not parsed.all("script") and not parsed.all("link")
    for words in ("no recordings of persons", "Seed 2", "version 1", "viewport", "not a medical device"):
        assert words in page


def test_names_are_escaped_and_the_page_is_the_same_twice() -> None:
    evil = "<script>alert('x')</script>"
    page = render_page(seed=0, source=evil, seconds=1.0)
    assert "<script" not in page and "&lt;script&gt;" in page
    Parser(page)
    assert page == render_page(seed=0, source=evil, seconds=1.0)


def test_the_command(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(sounds)
    done = CliRunner().invoke(app, ["--out", str(tmp_path / "out"), "--seconds", "1", "--seed", "4"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "simulator.html").read_text().count("<audio") == 16
    (tmp_path / "file").write_text("mine")
    for wrong in (["--out", str(tmp_path / "file")], ["--out", str(tmp_path), "--seconds", "90"]):
        assert isinstance(CliRunner().invoke(app, wrong).exception, DataError)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_draws_it(width: int, tmp_path: Path) -> None:
    path = write_page(tmp_path)
    assert path.stat().st_size < 8_000_000
    with browser(tmp_path) as page:
        page.size(width, 900)
        page.open(path)
        assert page.run("document.documentElement.scrollWidth") <= width
        loaded = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
        assert page.run(loaded)
        page.shot(tmp_path / "shot.png")
        assert page.complaints() == [] and page.requests() == []
    from matplotlib.image import imread

    picture = imread(tmp_path / "shot.png")[..., :3]
    assert picture.shape[1] == width
    # The dark spectrograms stand on a light page, and nothing runs over its right edge.
    dark = (picture.sum(-1) < 1.2).mean()
    assert 0.08 < dark < 0.6
    assert picture[:, -8:].mean() > 0.9
