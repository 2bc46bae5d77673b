from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from beats.config import BeatsConfig
from beats.encoder import BeatsEncoder
from generator.fad import columns, embeddings, fad, frechet
from resp229k.audio import Preprocess
from training.errors import DataError

GOLDEN = {"all": 81.17918787253717, "halves": 1.5844673928259105, "shifted": 16.0, "few": 106.36368914128789}
"""What ``frechet-audio-distance`` 0.3.4 says of :func:`samples` (numpy 1.26.4, scipy 1.17.1).

Made in an environment of its own, for it pins numpy < 2::

    python3.11 -m venv golden
    golden/bin/pip install "numpy<2" "scipy<1.18"
    golden/bin/pip install --no-deps frechet-audio-distance==0.3.4

and there, with ``sys.modules`` entries of ``unittest.mock.MagicMock()`` for the networks that it imports
(torch, laion_clap, encodec, resampy, ...), of each pair::

    package = object.__new__(frechet_audio_distance.fad.FrechetAudioDistance)
    statistics = package.calculate_embd_statistics
    package.calculate_frechet_distance(*statistics(a), *statistics(b))
"""


def samples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.RandomState(0)  # whose stream never changes between versions
    mix = rng.normal(size=(16, 16))
    return rng.normal(size=(200, 16)), 0.7 * rng.normal(size=(150, 16)) @ mix + rng.normal(size=16)


def exact(mean: np.ndarray, covariance: np.ndarray, count: int = 60, seed: int = 0) -> np.ndarray:
    """Rows whose mean and covariance are just these."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, mean.size))
    x -= x.mean(axis=0)
    white = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return mean + white @ np.linalg.cholesky(covariance).T


def test_golden_values_of_the_published_package() -> None:
    a, b = samples()
    assert frechet(a, b) == pytest.approx(GOLDEN["all"], rel=1e-10)
    assert frechet(a[:100], a[100:]) == pytest.approx(GOLDEN["halves"], rel=1e-9)
    assert frechet(a, a + 1.0) == pytest.approx(GOLDEN["shifted"], rel=1e-10)
    # Fewer rows than values: there the package takes the root of a singular matrix.
    assert frechet(a[:10], b[:12]) == pytest.approx(GOLDEN["few"], rel=1e-6)


def test_closed_form_of_axis_aligned_gaussians() -> None:
    first, second = np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 0.25])
    a = exact(np.zeros(3), np.diag(first))
    b = exact(np.array([1.0, -2.0, 0.5]), np.diag(second), count=80, seed=1)
    expected = 5.25 + np.square(np.sqrt(first) - np.sqrt(second)).sum()
    assert frechet(a, b) == pytest.approx(expected, rel=1e-10)
    assert frechet(b, a) == pytest.approx(expected, rel=1e-10)


def test_closed_form_of_correlated_gaussians() -> None:
    rng = np.random.default_rng(2)
    roots = rng.normal(size=(2, 5, 5))
    c, d = (root @ root.T + 0.1 * np.eye(5) for root in roots)
    expected = np.trace(c + d - 2 * np.real(sqrtm(c @ d)))
    assert frechet(exact(np.zeros(5), c), exact(np.zeros(5), d, seed=1)) == pytest.approx(expected, rel=1e-8)


def test_is_zero_for_the_same_and_does_not_turn_with_the_axes() -> None:
    a, b = samples()
    assert frechet(a, a) < 1e-9
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(16, 16)))[0]
    assert frechet(a @ turn, b @ turn) == pytest.approx(frechet(a, b), rel=1e-10)
    assert frechet(3 * a, 3 * b) == pytest.approx(9 * frechet(a, b), rel=1e-10)


def test_refuses_what_has_no_distance() -> None:
    a, b = samples()
    for rows, message in ((a[:1], "two rows"), (a[:, :4], "one encoder"), (np.full((3, 16), np.nan), "NaN")):
        with pytest.raises(DataError, match=message):
            frechet(rows, b)
    with pytest.raises(DataError, match="too few"):
        fad([a[:5]] * 3, [b])


def clips(count: int, seed: int, dim: int = 12, length: int = 6) -> list[np.ndarray]:
    """Clips whose columns share a mean of their own, as those of a recording do."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=dim) + 0.5 * rng.normal(size=(length, dim)) for _ in range(count)]


def test_extrapolation_takes_away_most_of_the_bias_of_few_clips() -> None:
    found = [fad(clips(60, seed), clips(2000, 100 + seed), seed=seed) for seed in range(4)]
    biased, infinite = (np.mean([getattr(one, key) for one in found]) for key in ("fad", "infinite"))
    assert biased > 0.25  # the truth is 0
    assert abs(infinite) < 0.3 * biased
    assert all(one.slope > 0 and one.r2 > 0.95 for one in found)
    one_draw = [fad(clips(60, seed), clips(2000, 100 + seed), seed=seed, draws=1).r2 for seed in range(4)]
    assert np.mean(one_draw) < np.mean([one.r2 for one in found])
    assert (found[0].clips_made, found[0].rows_made, found[0].dim) == (60, 360, 12)
    assert not found[0].singular and found[0] == fad(clips(60, 0), clips(2000, 100), seed=0)


def test_says_where_a_covariance_is_only_partly_known() -> None:
    assert fad(clips(4, 0, dim=32), clips(50, 1, dim=32)).singular


def test_one_vector_a_clip_is_the_mean_of_its_columns() -> None:
    encoder = BeatsEncoder(
        BeatsConfig(dim=16, embed_dim=16, ffn_dim=16, heads=2, layers=1, conv_pos=16, conv_pos_groups=4)
    ).eval()
    rng = np.random.default_rng(0)
    waves = [rng.normal(size=size).astype(np.float32) * 0.1 for size in (16_000, 8_000)]
    found = columns(encoder, waves, Preprocess(seconds=1.0))
    assert [clip.shape for clip in found] == [(6, 16), (3, 16)]
    whole = embeddings(encoder, waves, Preprocess(seconds=1.0))
    assert whole == pytest.approx(np.stack([clip.mean(0) for clip in found]))
