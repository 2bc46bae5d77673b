"""Real lengths end to end: a cough of 2 s, a minute read whole, windows beyond it, a narrative alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from beats.config import BeatsConfig
from beats.encoder import BeatsEncoder, grid_shape
from diagnoser.config import Anchors, DiagnoserConfig, DiagnoserSizes
from diagnoser.data import collate
from diagnoser.explain import explain_wave
from diagnoser.model import Diagnoser
from diagnoser.predict import DiagnoserRecord, Predictor, starts, windows
from diagnoser.text import Words
from resp229k.audio import RATE, Preprocess, load_audio, write_wav
from training.errors import DataError
from training.model import weights_digest

TEXT = "A male patient, aged 46 years."


@pytest.fixture(scope="module")
def encoder() -> BeatsEncoder:
    torch.manual_seed(0)
    sizes = BeatsConfig(
        embed_dim=8, dim=8, ffn_dim=8, layers=1, heads=1, conv_pos=8, conv_pos_groups=4, max_distance=100
    )
    return BeatsEncoder(sizes).eval()


def predictor(encoder: BeatsEncoder | None, seconds: float, *, text: bool = True, **sizes: Any) -> Predictor:
    """A diagnoser of random weights, trained on nothing, for clips of ``seconds``."""
    torch.manual_seed(0)
    defaults = {"hidden": 16, "heads": 2, "inner": 16, "layers": 1, "vocabulary": 100, "rows": 8}
    chosen = DiagnoserSizes(
        **{**defaults, "anchors": Anchors(rows=(0, 4)), "max_columns": grid_shape(seconds)[0], **sizes}
    )
    config = DiagnoserConfig(task="icbhi4", classes=("a", "b", "c"), feature_dim=8, sizes=chosen)
    model = Diagnoser(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    record = DiagnoserRecord(
        beats="nowhere",
        beats_digest="" if encoder is None else weights_digest(encoder),
        preprocess=Preprocess(seconds=seconds),
        text=text,
        seed=0,
    )
    made = Predictor(model, record, Words.train([TEXT], 100) if text else None)
    if encoder is not None:
        made.__dict__["_encoder"] = encoder  # instead of reading the folder
    return made


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=round(seconds * RATE))).astype(np.float32)


def test_two_seconds_are_twelve_columns_among_longer_clips(encoder: BeatsEncoder) -> None:
    made = predictor(encoder, 10.0, text_tokens=128)
    waves, texts = [noise(2.0), noise(10.0, 1)], [TEXT, None]
    cough, whole = made.pieces(waves, texts)
    assert cough.sample["features"].shape == (12, 8, 8) and whole.sample["features"].shape == (62, 8, 8)
    with torch.no_grad():
        woven = made.model.weave(**collate([cough.sample, whole.sample]))
    words = len(cough.sample["tokens"])
    assert woven.attend.sum(dim=1).tolist() == [3 + words + 12 * 8, 3 + 62 * 8]
    assert woven.everywhere.sum(dim=1).tolist() == [2 + 12 * 2, 2 + 62 * 2]
    together = made.probabilities(waves, texts)
    np.testing.assert_allclose(together[0], made.probabilities(waves[:1], texts[:1])[0], atol=1e-5)


@pytest.mark.real
def test_two_seconds_of_a_recorded_cough(encoder: BeatsEncoder, resp_data: Path) -> None:
    path = sorted((resp_data / "UK_COVID_19" / "audio").glob("*.wav"))[0]
    (piece,) = predictor(encoder, 10.0).pieces([load_audio(path, 0.0, 2.0)])
    assert piece.sample["features"].shape == (12, 8, 8)


@pytest.mark.parametrize(("seconds", "rows", "columns"), [(60.0, 8, 374), (86.0, 4, 537)])
def test_long_recordings_are_read_whole(
    encoder: BeatsEncoder, seconds: float, rows: int, columns: int
) -> None:
    """A minute with all rows and 86 s with pooled ones fit 4,096 places; the last second is heard."""
    sizes: dict[str, Any] = {"anchors": Anchors(every_columns=4), "rows": rows, "text_tokens": 128}
    made = predictor(encoder, seconds, max_columns=columns + 1, **sizes)
    assert made.model.config.sizes.places <= 4096
    wave = noise(seconds)
    (piece,) = made.pieces([wave])
    assert piece.sample["features"].shape[0] == columns
    other = wave.copy()
    other[-RATE:] = noise(1.0, 7) * 3
    with torch.no_grad():
        logits = [made.model(**collate([made.pieces([one])[0].sample])).logits[0] for one in (wave, other)]
    assert float((logits[0] - logits[1]).abs().max()) > 1e-5


@pytest.mark.parametrize("length", [10, 11, 17, 18, 25, 100, 1000, 1001])
def test_windows_cover_and_overlap(length: int) -> None:
    size = 10
    first = starts(length, size)
    assert first[0] == 0 and first[-1] == length - size
    # A quarter, but for rounding to whole samples.
    assert all(0 < after - before <= 0.75 * size + 1 for before, after in pairwise(first))
    heard = np.concatenate(windows(np.arange(length), size))
    assert set(heard.tolist()) == set(range(length))


def test_a_clip_that_fits_stays_whole() -> None:
    assert starts(10, 10) == [0] and starts(3, 10) == [0]
    assert len(windows(np.arange(3), 10)[0]) == 3


def test_beyond_the_longest_clip_windows_are_averaged(encoder: BeatsEncoder) -> None:
    made = predictor(encoder, 4.0)
    wave = noise(9.0)
    pieces = made.pieces([wave], [TEXT])
    assert [piece.start for piece in pieces] == pytest.approx([0.0, 2.5, 5.0])
    each = [made.probabilities([wave[round(p.start * RATE) :][: 4 * RATE]], [TEXT])[0] for p in pieces]
    np.testing.assert_allclose(made.probabilities([wave], [TEXT])[0], np.mean(each, axis=0), atol=1e-6)
    found = explain_wave(made, wave, TEXT)
    # Windows start between columns, so the last one may end a column early.
    assert 0 <= grid_shape(9.0)[0] - len(found.columns) <= 1 and bool((found.columns > 0).all())


def test_a_narrative_alone_needs_no_encoder(encoder: BeatsEncoder, tmp_path: Path) -> None:
    made = predictor(None, 4.0)
    made.model.set_temperatures(1.0, text=3.0)
    answer = made.predict_file(None, TEXT)
    assert answer.path is None and answer.label in made.classes and answer.probabilities is not None
    assert made.words is not None
    batch = collate([{"tokens": made.words.encode(TEXT, 32), "features": np.zeros((0, 8, 8))}])
    with torch.no_grad():
        expected = (made.model(**batch).logits[0].double() / 3.0).softmax(dim=-1).numpy()
    np.testing.assert_allclose(list(answer.probabilities.values()), expected, atol=1e-6)

    hearing = predictor(encoder, 4.0)
    hearing.model.set_temperatures(1.0, text=3.0)
    mixed = hearing.probabilities([noise(2.0), None, noise(2.0)], [TEXT, TEXT, None])
    np.testing.assert_allclose(mixed[1], expected, atol=1e-5)
    np.testing.assert_allclose(mixed[0], hearing.probabilities([noise(2.0)], [TEXT])[0], atol=1e-5)
    write_wav(tmp_path / "a.wav", noise(2.0), synthetic=False)
    write_wav(tmp_path / "b.wav", noise(2.0), synthetic=False)
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    rows = hearing.predict_files(paths, [TEXT, None])
    assert [row.path for row in rows] == paths
    for row, told in zip(rows, (TEXT, None), strict=True):
        assert row.path is not None and row == hearing.predict_file(row.path, told)
    assert (
        hearing.predict_files(paths, TEXT)[1].probabilities == rows[0].probabilities != rows[1].probabilities
    )


@pytest.mark.parametrize(("text", "told"), [(True, None), (True, ""), (False, TEXT)])
def test_nothing_to_go_by_is_refused(text: bool, told: str | None) -> None:
    made = predictor(None, 4.0, text=text)
    with pytest.raises(DataError, match="neither a recording nor a narrative"):
        made.probabilities([None], [told])
