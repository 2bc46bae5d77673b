"""Temperature scaling: one number that makes probabilities mean what they say."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

LOWEST, HIGHEST = 0.2, 10.0


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of ``labels (N,)`` under ``softmax(logits (N, C) / temperature)``."""
    scaled = logits / temperature
    return float((logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]).mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature in ``[0.2, 10]`` with the smallest negative log-likelihood; 1 if none is better.

    The loss is convex in the inverse temperature, so a bounded search finds the minimum.
    """
    found = minimize_scalar(
        lambda inverse: negative_log_likelihood(logits, labels, 1.0 / inverse),
        bounds=(1.0 / HIGHEST, 1.0 / LOWEST),
        method="bounded",
        options={"xatol": 1e-4},
    )
    temperature = float(1.0 / found.x)
    better = found.fun < negative_log_likelihood(logits, labels)
    return temperature if better else 1.0


def retemper(probs: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """Probabilities ``(N, C)`` as they were before a division of the logits by ``temperatures (N,)``.

    ``log p`` is the scaled logits up to a constant, so ``T log p`` are the logits up to one. Exact but for
    probabilities that single precision holds as 0, which stay 0.
    """
    with np.errstate(divide="ignore"):
        logits = np.log(probs.astype(np.float64)) * temperatures[:, None]
    return np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
