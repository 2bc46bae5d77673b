"""From a mel spectrogram back to sound."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MOMENTUM = 0.99  # of the fast Griffin-Lim algorithm (Perraudin et al. 2013)


def invert(mel: np.ndarray, filters: np.ndarray, hop: int, *, iterations: int, seed: int) -> np.ndarray:
    """A wave ``(L · hop,)`` float32 whose mel spectrogram is near ``mel (L, M)``; frame ``l`` centred at ``l · hop``.

    Magnitudes and phases are sought together (as in Masuyama et al. 2023, arXiv 2307.12232): what a band
    must hold is known, how its bins share it is not. White noise is brought to the spectrogram by scaling each
    bin with what its bands lack (:func:`_scaled`), made a wave, analysed again, and so on, with the momentum
    of the fast Griffin-Lim algorithm. That algorithm itself wants the magnitude of every bin; those that an
    inverse of the filters gives belong to no sound, and noise made from them fluctuates too much.

    Args:
        mel: magnitudes ``(L, M)``, above 0.
        filters: ``(M, n_fft / 2 + 1)``.
        hop: samples between frames.
        iterations: how often the wave is analysed; each takes one transform there and one back.
        seed: of the noise.
    """
    # Analysis of L whole hops has one more frame, centred on the end.
    target = torch.from_numpy(np.concatenate([mel, mel[-1:]]).T.astype(np.float32))
    bands = torch.from_numpy(filters)
    back = _back(bands)
    size, length = 2 * (filters.shape[1] - 1), len(mel) * hop
    window = torch.hann_window(size)

    def analyse(wave: Tensor) -> Tensor:
        return torch.stft(wave, size, hop, window=window, pad_mode="constant", return_complex=True)

    def render(spectrum: Tensor) -> Tensor:
        return torch.istft(spectrum, size, hop, window=window, length=length)

    noise = np.random.default_rng(seed).standard_normal(length, dtype=np.float32)
    before = spectrum = _scaled(analyse(torch.from_numpy(noise)), target, bands, back)
    for _ in range(iterations):
        heard = analyse(render(spectrum))
        spectrum = _scaled(heard + MOMENTUM * (heard - before), target, bands, back)
        before = heard
    return render(spectrum).numpy()


def _scaled(spectrum: Tensor, target: Tensor, bands: Tensor, back: Tensor) -> Tensor:
    """The spectrum ``(bins, L)``, each bin times the mean ratio of wanted to present in its bands."""
    return spectrum * (back @ (target / (bands @ spectrum.abs()).clamp_min(1e-8)))


def _back(bands: Tensor) -> Tensor:
    """Weights of the bands for each bin ``(bins, M)``, each row of sum 1; 0 for bins that no band reaches.

    Of those, such as 0 Hz, nothing is known and nothing would hold them to a level, so they stay silent.
    """
    return bands.T / bands.sum(dim=0)[:, None].clamp_min(1e-12)
