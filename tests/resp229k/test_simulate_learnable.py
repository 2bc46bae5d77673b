"""Is the simulated task hard but learnable, and does the long tail hurt? Hand-crafted features, one forest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import stft
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import f1_score

from resp229k.audio import RATE
from resp229k.corpus import Corpus
from resp229k.simulate import SimulateConfig, simulate_corpus


def features(wave: np.ndarray) -> np.ndarray:
    """Statistics of a log-band spectrogram, and of its fine bins for tones."""
    hertz, _, spectrum = stft(wave, RATE, nperseg=512, noverlap=352, boundary=None)
    power = np.abs(spectrum) ** 2
    edges = np.geomspace(60, 7500, 33)
    low, high = edges[:-1, None], np.maximum(edges[1:], edges[:-1] + 32)[:, None]
    bands = np.log(((hertz >= low) & (hertz < high)).astype(float) @ power + 1e-12)
    centred = bands - bands.mean(1, keepdims=True)
    steps = np.abs(np.diff(bands, axis=1))
    fine = np.log(power[2:64] + 1e-12)
    ridge = fine[4:-4] - np.median(sliding_window_view(fine, 9, axis=0), axis=-1)
    held = sliding_window_view(ridge, 8, axis=1).mean(-1)
    parts = [bands.mean(1) - bands.mean(), centred.std(1), steps.mean(1)]
    parts += list(np.percentile(centred, [5, 25, 75, 95, 99], axis=1))
    parts += list(np.percentile(steps, [50, 90, 99], axis=1)) + list(np.percentile(held, [90, 98], axis=1))
    return np.concatenate(parts)


def table(corpus: Corpus, split: str) -> tuple[np.ndarray, np.ndarray]:
    part = corpus.subset(split=split)
    return np.stack([features(part.audio(clip)) for clip in part.clips]), part.labels("disease16")


@pytest.mark.slow
def test_balanced_training_is_learnable_and_the_long_tail_is_worse(tmp_path: Path) -> None:
    config = SimulateConfig(select=0, plan=0)
    tailed = simulate_corpus(config, tmp_path / "tailed")
    balanced = simulate_corpus(
        config.model_copy(update={"head": 60, "tail": 60, "rare": 0, "test": 0}), tmp_path / "balanced"
    )
    test, truth = table(tailed, "test")
    score = {}
    for name, corpus in (("tailed", tailed), ("balanced", balanced)):
        forest = ExtraTreesClassifier(300, random_state=0).fit(*table(corpus, "train"))
        score[name] = f1_score(truth, forest.predict(test), average="macro")
    assert score["balanced"] > 0.5  # chance is 0.17
    assert score["balanced"] < 0.85
    assert score["tailed"] < score["balanced"] - 0.15
