"""Log-mel at 24 kHz and the Vocos vocoder (Siuzdak 2023, arXiv 2306.00814), read from its published weights.

The network predicts magnitude and phase of every bin of a short-time spectrum; one inverse transform makes
the wave. Names of tensors are the published ones, so that the published file loads as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from beats.official import BROKEN
from generator.codec import frames_of, level
from generator.codec_config import VocosConfig
from resp229k.audio import RATE, resample
from training.config import Strict, expand, validate
from training.errors import CheckpointError

CURE = (
    "download config.yaml and pytorch_model.bin of huggingface.co/charactr/vocos-mel-24khz (MIT, 54 MB) "
    "into a folder and set the codec's weights to it"
)
FLOOR = 1e-7  # of a mel magnitude, as published
LOUDEST = 1e2  # bound of a predicted magnitude, as published
NORM_EPS = 1e-6
WINDOWS = ("feature_extractor.mel_spec.spectrogram.window", "head.istft.window")
FILTERS = "feature_extractor.mel_spec.mel_scale.fb"


class Sizes(Strict):
    """Sizes of the network, from the published ``config.yaml``."""

    dim: int = Field(gt=0)
    intermediate_dim: int = Field(gt=0)
    num_layers: int = Field(gt=0)


class Block(nn.Module):
    """One-dimensional ConvNeXt block: depthwise convolution over time, then two layers for each frame."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.dwconv = nn.Conv1d(sizes.dim, sizes.dim, 7, padding=3, groups=sizes.dim)
        self.norm = nn.LayerNorm(sizes.dim, eps=NORM_EPS)
        self.pwconv1 = nn.Linear(sizes.dim, sizes.intermediate_dim)
        self.pwconv2 = nn.Linear(sizes.intermediate_dim, sizes.dim)
        self.gamma = nn.Parameter(torch.full((sizes.dim,), 1 / sizes.num_layers))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D, L)`` → ``(B, D, L)``."""
        inner = self.pwconv1(self.norm(self.dwconv(x).transpose(1, 2)))
        return x + (self.gamma * self.pwconv2(nn.functional.gelu(inner))).transpose(1, 2)


class Vocos(nn.Module):
    """Log-mel → wave at the config's rate."""

    def __init__(self, config: VocosConfig, sizes: Sizes):
        super().__init__()
        self.config = config
        self.backbone = nn.ModuleDict(
            {
                "embed": nn.Conv1d(config.mels, sizes.dim, 7, padding=3),
                "norm": nn.LayerNorm(sizes.dim, eps=NORM_EPS),
                "convnext": nn.Sequential(*(Block(sizes) for _ in range(sizes.num_layers))),
                "final_layer_norm": nn.LayerNorm(sizes.dim, eps=NORM_EPS),
            }
        )
        self.head = nn.ModuleDict({"out": nn.Linear(sizes.dim, config.n_fft + 2)})

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel ``(B, M, L)`` → wave ``(B, N)``: ``N = (L - 1) hop`` centred, ``L hop`` with "same" padding."""
        parts = self.backbone
        x = parts["norm"](parts["embed"](mel).transpose(1, 2)).transpose(1, 2)
        x = parts["final_layer_norm"](parts["convnext"](x).transpose(1, 2))
        magnitude, phase = self.head["out"](x).transpose(1, 2).chunk(2, dim=1)
        return overlap_add(torch.polar(magnitude.exp().clamp(max=LOUDEST), phase), self.config)


def overlap_add(spectrum: Tensor, config: VocosConfig) -> Tensor:
    """Inverse short-time transform ``(B, n_fft / 2 + 1, L)`` → ``(B, N)`` with a Hann window.

    The ends, where windows do not sum, are cut: half a window ("center"), or half of what a window has
    beyond a hop ("same"), which ``torch.istft`` does not offer.
    """
    size, hop, count = config.n_fft, config.hop, spectrum.shape[2]
    window = torch.hann_window(size, device=spectrum.device)

    def add(pieces: Tensor) -> Tensor:
        total = (count - 1) * hop + size
        return nn.functional.fold(pieces, (1, total), (1, size), stride=(1, hop))[:, 0, 0]

    wave = add(torch.fft.irfft(spectrum, size, dim=1) * window[:, None])
    weight = add((window**2)[None, :, None].expand(1, size, count))
    cut = _cut(config)
    return wave[:, cut:-cut] / weight[:, cut:-cut]


def _cut(config: VocosConfig) -> int:
    """Samples between a window's beginning and the sound that its frame stands for."""
    return config.n_fft // 2 if config.padding == "center" else (config.n_fft - config.hop) // 2


def filters(config: VocosConfig) -> np.ndarray:
    """HTK mel filters ``(M, n_fft / 2 + 1)`` up to half the rate, each with peak 1."""
    import librosa  # slow to import, and only needed once audio is touched

    return librosa.filters.mel(
        sr=config.rate, n_fft=config.n_fft, n_mels=config.mels, htk=True, norm=None
    ).astype(np.float32)


def load_vocos(config: VocosConfig) -> Vocos:
    """Read published weights strictly, in eval mode.

    Raises:
        CheckpointError: there are none, they are damaged or of another analysis than the config says, or
            tensors are missing, unexpected or of another shape.
    """
    if config.weights is None:
        raise CheckpointError("the codec vocos needs weights, and none are given", cure=CURE)
    folder = expand(config.weights)
    model = Vocos(config, _sizes(config, folder / "config.yaml"))
    path, state = _read(folder)
    ours = model.state_dict()
    published = {name: torch.hann_window(config.n_fft) for name in WINDOWS}
    published[FILTERS] = torch.from_numpy(filters(config).T.copy())
    expected = ours | published
    for what, names in (("misses", expected.keys() - state), ("has unexpected", state.keys() - expected)):
        if names:
            raise CheckpointError(f"{what} {', '.join(sorted(names))}", path=path, cure=CURE)
    for name, value in expected.items():
        if state[name].shape != value.shape:
            shapes = f"{tuple(state[name].shape)}, not {tuple(value.shape)}"
            raise CheckpointError(f"{name} has shape {shapes}", path=path, cure=CURE)
    for name, value in published.items():
        if not torch.allclose(state[name].float(), value, atol=1e-3):
            raise CheckpointError(f"was trained on another analysis: {name} differs", path=path, cure=CURE)
    model.load_state_dict({name: state[name].float() for name in ours})
    return model.eval()


def _sizes(config: VocosConfig, path: Path) -> Sizes:
    """The network's sizes, after checking that the file speaks of the config's frames."""
    if not path.is_file():
        raise CheckpointError("no such file", path=path, cure=CURE)
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
        mel, backbone, head = (
            dict(record[part]["init_args"]) for part in ("feature_extractor", "backbone", "head")
        )
        given = {
            "rate": mel["sample_rate"],
            "n_fft": mel["n_fft"],
            "hop": mel["hop_length"],
            "mels": mel["n_mels"],
            "padding": mel["padding"],
        }
        network = {name: backbone[name] for name in Sizes.model_fields}
        same = (backbone["input_channels"], head["dim"], head["n_fft"], head["hop_length"], head["padding"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        reason = f"is no config of a mel Vocos ({type(error).__name__}: {error})"
        raise CheckpointError(reason, path=path, cure=CURE) from error
    if same != (given["mels"], network["dim"], given["n_fft"], given["hop"], given["padding"]):
        raise CheckpointError("feature extractor, backbone and head do not fit", path=path, cure=CURE)
    wrong = [f"{name} {value}" for name, value in given.items() if value != getattr(config, name)]
    if wrong:
        raise CheckpointError(
            f"has {', '.join(wrong)}, the codec's config has others",
            path=path,
            cure="set the codec's config to these",
        )
    return validate(Sizes, network, where=str(path))


def _read(folder: Path) -> tuple[Path, Mapping[str, Tensor]]:
    """The weights' file and its tensors; of a pickle nothing but tensors and plain values is read."""
    path = folder / "model.safetensors"
    if not path.is_file():
        path = folder / "pytorch_model.bin"
    if not path.is_file():
        raise CheckpointError("holds no pytorch_model.bin and no model.safetensors", path=folder, cure=CURE)
    try:
        if path.suffix == ".safetensors":
            return path, load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, *BROKEN) as error:
        # Of torch's own message only the kind: the rest advises to unpickle whatever there is.
        reason = f"is damaged, or no file of tensors ({type(error).__name__})"
        raise CheckpointError(reason, path=path, cure=CURE) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError("holds more than tensors", path=path, cure=CURE)
    return path, state


class VocosCodec:
    """Frames of Vocos's log-mel, decoded by its network.

    Frames hold the bands up to 8 kHz. Above, recordings at 16 kHz have nothing but their rounding, which a
    generator should not have to learn; for the network those bands are filled with its level.

    Raises:
        CheckpointError: as :func:`load_vocos`.
    """

    def __init__(self, config: VocosConfig):
        self.config = config
        self.filters = filters(config)
        self.model = load_vocos(config)

    def length(self, samples: int) -> int:
        """Frames of a wave with ``samples`` samples at 16 kHz."""
        return frames_of(samples, self.config.rate, self.config.hop)

    def encode(self, wave: np.ndarray) -> np.ndarray:
        """Wave ``(N,)`` at 16 kHz → normalised log-mel ``(L, M)`` float32.

        Frame ``l`` is centred ``l`` hops from the beginning, or half a hop later with "same" padding.

        Raises:
            AudioError: the wave is empty or silent.
        """
        c, count = self.config, self.length(wave.size)
        mel = log_mel(resample(wave / level(wave) * c.rms, RATE, c.rate), count, c, self.filters)
        return ((mel[: c.dim].T - c.mean) / c.std).astype(np.float32)

    @torch.inference_mode()
    def decode(self, frames: np.ndarray, *, samples: int | None = None, seed: int = 0) -> np.ndarray:
        """Normalised log-mel ``(L, M)`` → wave float32 at 16 kHz, cut to ``samples``; ``seed`` is not needed."""
        c = self.config
        mel = np.clip(frames.astype(np.float64) * c.std + c.mean, np.log(FLOOR), c.ceiling).T
        mel = np.pad(mel, ((0, c.mels - c.dim), (0, 0)), constant_values=c.empty)
        if c.padding == "center":  # analysis of L whole hops has one more frame, centred on the end
            mel = np.concatenate([mel, mel[:, -1:]], axis=1)
        wave = self.model(torch.from_numpy(mel.astype(np.float32))[None])[0].numpy()
        return resample(wave, c.rate, RATE)[:samples]


def log_mel(wave: np.ndarray, count: int, config: VocosConfig, filters: np.ndarray) -> np.ndarray:
    """Published log-mel ``(M, count)`` of a wave ``(N,)`` at the config's rate."""
    import librosa

    if config.padding == "same":
        wave = np.pad(wave, (0, max(0, count * config.hop - wave.size)))  # whole hops, so that no end is lost
    padded = np.pad(wave, _cut(config), mode="reflect")
    padded = np.pad(padded, (0, max(0, config.n_fft - padded.size)))
    spectrum = librosa.stft(padded, n_fft=config.n_fft, hop_length=config.hop, center=False)
    return np.log(np.maximum(filters @ np.abs(spectrum[:, :count]), FLOOR))
