"""Vocos stated a second time, from its publication alone: plain loops, float64, nothing from ``generator``.

Weights are state dicts in the published naming; ``cfg`` is the published ``config.yaml``.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import yaml

Arrays = dict[str, np.ndarray]


def published(padding: str = "center", mels: int = 100, n_fft: int = 1024, hop: int = 256) -> dict:
    """``config.yaml`` of a small network; the published one has dim 512, 1536 and 8 layers."""
    mel = {"sample_rate": 24000, "n_fft": n_fft, "hop_length": hop, "n_mels": mels, "padding": padding}
    backbone = {"input_channels": mels, "dim": 12, "intermediate_dim": 20, "num_layers": 2}
    head = {"dim": 12, "n_fft": n_fft, "hop_length": hop, "padding": padding}
    return {
        "feature_extractor": {
            "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
            "init_args": mel,
        },
        "backbone": {"class_path": "vocos.models.VocosBackbone", "init_args": backbone},
        "head": {"class_path": "vocos.heads.ISTFTHead", "init_args": head},
    }


def shapes(cfg: dict) -> dict[str, tuple[int, ...]]:
    """Published names and shapes of the trained tensors."""
    sizes = cfg["backbone"]["init_args"]
    dim, inner = sizes["dim"], sizes["intermediate_dim"]
    out = cfg["head"]["init_args"]["n_fft"] + 2
    found: dict[str, tuple[int, ...]] = {"backbone.embed.weight": (dim, sizes["input_channels"], 7)}
    found |= {"backbone.embed.bias": (dim,), "head.out.weight": (out, dim), "head.out.bias": (out,)}
    for norm in ("norm", "final_layer_norm"):
        found |= {f"backbone.{norm}.weight": (dim,), f"backbone.{norm}.bias": (dim,)}
    for i in range(sizes["num_layers"]):
        block = f"backbone.convnext.{i}"
        found |= {f"{block}.dwconv.weight": (dim, 1, 7), f"{block}.dwconv.bias": (dim,)}
        found |= {f"{block}.norm.weight": (dim,), f"{block}.norm.bias": (dim,), f"{block}.gamma": (dim,)}
        found |= {f"{block}.pwconv1.weight": (inner, dim), f"{block}.pwconv1.bias": (inner,)}
        found |= {f"{block}.pwconv2.weight": (dim, inner), f"{block}.pwconv2.bias": (dim,)}
    return found


def random_state(cfg: dict, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random float32 weights at which every part matters, with the published buffers."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: 0.3 * torch.randn(shape, generator=generator) + (1.0 if name.endswith("norm.weight") else 0.0)
        for name, shape in shapes(cfg).items()
    }
    window = torch.from_numpy(hann(cfg["head"]["init_args"]["n_fft"])).float()
    state["feature_extractor.mel_spec.spectrogram.window"] = window
    state["head.istft.window"] = window
    state["feature_extractor.mel_spec.mel_scale.fb"] = torch.from_numpy(htk(cfg)).float()
    return state


def write(folder: Path, cfg: dict, state: dict[str, torch.Tensor]) -> Path:
    """A folder as it is published."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(cfg))
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def hann(size: int) -> np.ndarray:
    """Periodic Hann window."""
    return np.array([0.5 - 0.5 * math.cos(2 * math.pi * n / size) for n in range(size)])


def htk(cfg: dict) -> np.ndarray:
    """Triangles of height 1 between points evenly spaced in HTK mel ``(bins, mels)``."""
    c = cfg["feature_extractor"]["init_args"]
    top = 2595 * math.log10(1 + c["sample_rate"] / 2 / 700)
    points = [700 * (10 ** (top * m / (c["n_mels"] + 1) / 2595) - 1) for m in range(c["n_mels"] + 2)]
    bank = np.zeros((c["n_fft"] // 2 + 1, c["n_mels"]))
    for k in range(bank.shape[0]):
        hertz = k * c["sample_rate"] / c["n_fft"]
        for m in range(c["n_mels"]):
            low, peak, high = points[m : m + 3]
            bank[k, m] = max(0.0, min((hertz - low) / (peak - low), (high - hertz) / (high - peak)))
    return bank


def log_mel(wave: np.ndarray, cfg: dict) -> np.ndarray:
    """Natural log of the magnitudes' mel, floored at 1e-7 ``(mels, frames)``; both ends are mirrored."""
    c = cfg["feature_extractor"]["init_args"]
    size, hop = c["n_fft"], c["hop_length"]
    pad = size // 2 if c["padding"] == "center" else (size - hop) // 2
    wave = wave.astype(np.float64)
    wave = np.concatenate([wave[pad:0:-1], wave, wave[-2 : -pad - 2 : -1]])
    frames = [
        np.abs(np.fft.rfft(wave[i : i + size] * hann(size))) for i in range(0, wave.size - size + 1, hop)
    ]
    return np.log(np.maximum(np.array(frames) @ htk(cfg), 1e-7)).T


def norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Layer norm over the first axis of ``(D, L)``."""
    return ((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-6)) * weight[:, None] + bias[:, None]


def convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Seven taps over time with zeros outside; depthwise where the kernel has one input channel."""
    length = x.shape[1]
    padded = np.pad(x, ((0, 0), (3, 3)))
    out = np.repeat(bias[:, None], length, axis=1)
    for t in range(length):
        piece = padded[:, t : t + 7]
        for d in range(weight.shape[0]):
            inputs = piece[d : d + 1] if weight.shape[1] == 1 else piece
            out[d, t] += float((weight[d] * inputs).sum())
    return out


def gelu(x: np.ndarray) -> np.ndarray:
    """x Φ(x)."""
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def decode(mel: np.ndarray, state: dict[str, torch.Tensor], cfg: dict) -> np.ndarray:
    """Log-mel ``(mels, L)`` → wave ``(N,)``."""
    w: Arrays = {name: value.double().numpy() for name, value in state.items()}
    x = convolution(mel, w["backbone.embed.weight"], w["backbone.embed.bias"])
    x = norm(x, w["backbone.norm.weight"], w["backbone.norm.bias"])
    for i in range(cfg["backbone"]["init_args"]["num_layers"]):
        p = f"backbone.convnext.{i}"
        y = convolution(x, w[f"{p}.dwconv.weight"], w[f"{p}.dwconv.bias"])
        y = norm(y, w[f"{p}.norm.weight"], w[f"{p}.norm.bias"])
        y = gelu(w[f"{p}.pwconv1.weight"] @ y + w[f"{p}.pwconv1.bias"][:, None])
        y = w[f"{p}.pwconv2.weight"] @ y + w[f"{p}.pwconv2.bias"][:, None]
        x = x + w[f"{p}.gamma"][:, None] * y
    x = norm(x, w["backbone.final_layer_norm.weight"], w["backbone.final_layer_norm.bias"])
    values = w["head.out.weight"] @ x + w["head.out.bias"][:, None]
    bins = values.shape[0] // 2
    spectrum = np.minimum(np.exp(values[:bins]), 100.0) * np.exp(1j * values[bins:])
    c = cfg["head"]["init_args"]
    size, hop, count = c["n_fft"], c["hop_length"], mel.shape[1]
    total, weight = np.zeros((count - 1) * hop + size), np.zeros((count - 1) * hop + size)
    for t in range(count):
        total[t * hop : t * hop + size] += np.fft.irfft(spectrum[:, t], size) * hann(size)
        weight[t * hop : t * hop + size] += hann(size) ** 2
    cut = size // 2 if c["padding"] == "center" else (size - hop) // 2
    return total[cut:-cut] / weight[cut:-cut]
