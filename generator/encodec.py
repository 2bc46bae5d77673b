"""Continuous latents of EnCodec (Défossez et al. 2022, arXiv 2210.13438) through transformers' EncodecModel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from generator.codec import frames_of, level
from generator.codec_config import EncodecConfig
from resp229k.audio import RATE, resample
from training.config import expand
from training.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import EncodecModel

CURE = (
    "download config.json and model.safetensors of huggingface.co/facebook/encodec_24khz into a folder "
    "and set the codec's weights to it"
)


def load_encodec(config: EncodecConfig) -> EncodecModel:
    """Read a local folder strictly, in float32 and eval mode.

    Raises:
        CheckpointError: there is none, it is damaged, tensors are missing, unexpected or of another shape,
            or the model has other frames than the config says, several channels, or looks ahead.
    """
    if config.weights is None:
        raise CheckpointError("the codec encodec needs weights, and none are given", cure=CURE)
    folder = expand(config.weights)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise CheckpointError(f"holds no {name}", path=folder, cure=CURE)
    from safetensors import SafetensorError
    from transformers import EncodecModel

    try:
        loaded: Any = EncodecModel.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are named below
        )
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = f"is no EncodecModel ({type(error).__name__}: {str(error).splitlines()[0]})"
        raise CheckpointError(reason, path=folder, cure=CURE) from error
    model: EncodecModel = loaded[0]
    info: Mapping[str, Any] = loaded[1]
    for what in ("missing", "unexpected", "mismatched"):
        if names := sorted(str(name) for name in info[f"{what}_keys"]):
            raise CheckpointError(f"has {what} tensors: {', '.join(names)}", path=folder, cure=CURE)
    _check(config, model)
    return model.eval()


def _check(config: EncodecConfig, model: EncodecModel) -> None:
    """Refuse a model whose frames are not what the config says."""
    its = model.config
    wanted = {
        "sampling_rate": config.rate,
        "hop_length": config.hop,
        "hidden_size": config.dim,
        "audio_channels": 1,
        "normalize": False,  # of the wave: its level would have to travel beside the frames
        "chunk_length_s": None,
        "use_causal_conv": True,  # otherwise what follows a clip would change its frames
        "norm_type": "weight_norm",  # the other one averages over time
    }
    wrong = [f"{name} {getattr(its, name)}" for name, value in wanted.items() if getattr(its, name) != value]
    if wrong:
        raise CheckpointError(
            f"has {', '.join(wrong)}, where {', '.join(f'{k} {v}' for k, v in wanted.items())} is needed",
            path=config.weights,
            cure="give the model of 24 kHz, or set rate, hop and dim to the model's",
        )


class EncodecCodec:
    """Latents of EnCodec's encoder, one frame every ``hop`` samples; its decoder makes the wave.

    Raises:
        CheckpointError: as :func:`load_encodec`.
    """

    def __init__(self, config: EncodecConfig):
        self.config = config
        self.model = load_encodec(config)

    def length(self, samples: int) -> int:
        """Frames of a wave with ``samples`` samples at 16 kHz."""
        return frames_of(samples, self.config.rate, self.config.hop)

    @torch.inference_mode()
    def encode(self, wave: np.ndarray) -> np.ndarray:
        """Wave ``(N,)`` at 16 kHz → normalised latents ``(L, M)`` float32.

        Frame ``l`` is made from what lies before the end of hop ``l``.

        Raises:
            AudioError: the wave is empty or silent.
        """
        c, size = self.config, self.length(wave.size) * self.config.hop
        wave = resample(wave / level(wave) * c.rms, RATE, c.rate)[:size]
        wave = np.pad(wave, (0, size - wave.size))
        latents = self.model.encoder(torch.from_numpy(wave)[None, None])[0].T.numpy()
        return ((latents - np.asarray(c.mean)) / np.asarray(c.std)).astype(np.float32)

    @torch.inference_mode()
    def decode(self, frames: np.ndarray, *, samples: int | None = None, seed: int = 0) -> np.ndarray:
        """Normalised latents ``(L, M)`` → wave float32 at 16 kHz, cut to ``samples``; ``seed`` is not needed."""
        c = self.config
        latents = (frames * np.asarray(c.std) + np.asarray(c.mean)).astype(np.float32)
        values = torch.from_numpy(np.ascontiguousarray(latents.T))[None]
        if c.quantise:
            quantizer = self.model.quantizer
            values = quantizer.decode(quantizer.encode(values))
        wave = self.model.decoder(values)[0, 0].numpy()
        return resample(wave, c.rate, RATE)[:samples]
