"""From requests to waves: units by the Resp-MLLM, frames by the flow decoder, samples by the codec."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

import beats
from beats.encoder import BeatsEncoder, grid_shape
from beats.tokenizer import Quantizer
from beats.units import UnitTokenizer
from generator.codec import level, make_codec
from generator.config import SampleConfig
from generator.data import spectrum_of
from generator.decoder import FlowDecoder
from generator.mllm import RespMLLM
from generator.request import Generated, Request
from resp229k.audio import RATE, prepare
from training.errors import AudioError, CheckpointError, DataError
from training.files import digest, file_digest
from training.model import weights_digest
from training.progress import track
from training.seeds import derive

__all__ = ["Generated", "Generator", "Request"]

PEAK = 0.99


class Generator:
    """The trained networks, and how to draw from them.

    Args:
        encoder: BEATs, for the references.
        quantizer: the units that the networks were trained with.
        mllm: writes units.
        flow: turns units into frames.
        config: how clips are drawn.
        digests: SHA-256 of each network's weights file, for the provenance of what is made.

    Raises:
        CheckpointError: the two networks were trained on different labels, units or preparation.
    """

    def __init__(
        self,
        encoder: BeatsEncoder,
        quantizer: UnitTokenizer | Quantizer,
        mllm: RespMLLM,
        flow: FlowDecoder,
        config: SampleConfig | None = None,
        digests: dict[str, str] | None = None,
    ):
        for field in ("labels", "codebook", "rows", "feature_dim", "preprocess"):
            a, b = getattr(mllm.config, field), getattr(flow.config, field)
            if a != b:
                raise CheckpointError(
                    f"Resp-MLLM and flow decoder differ in {field}: {a} and {b}", cure="train both together"
                )
        self.encoder, self.mllm, self.flow = encoder.eval(), mllm.eval(), flow.eval()
        self.quantizer = quantizer.eval()
        self.config = config or SampleConfig()
        self.codec = make_codec(flow.config.codec)
        self.digests = digests or {}

    @classmethod
    def load(
        cls, folder: Path, config: SampleConfig | None = None, *, beats_path: Path | None = None
    ) -> Generator:
        """Read ``folder/mllm`` and ``folder/flow``, and BEATs from ``folder/beats`` unless given.

        Args:
            folder: of weights.
            config: how clips are drawn.
            beats_path: encoder and tokenizer: a folder of ours, or a published tokenizer file.

        Raises:
            CheckpointError: a part is missing, or was not trained with the others.
        """
        heard = beats_path or folder / "beats"
        encoder, quantizer = beats.load(heard)
        mllm = RespMLLM.from_pretrained(folder / "mllm")
        flow = FlowDecoder.from_pretrained(folder / "flow")
        for model in (mllm, flow):
            check_beats(model, encoder, quantizer, heard)
        digests = {
            "encoder": file_digest(heard if heard.is_file() else heard / "encoder" / "model.safetensors"),
            "mllm": file_digest(folder / "mllm" / "model.safetensors"),
            "flow": file_digest(folder / "flow" / "model.safetensors"),
        }
        return cls(encoder, quantizer, mllm, flow, config, digests)

    def labels(self, task: str) -> tuple[str, ...]:
        """Labels of a task that the weights were trained on, none if the task was not."""
        return self.mllm.config.labels.get(task, ())

    @property
    def seconds(self) -> float:
        """The longest clip that can be made."""
        return self.mllm.config.preprocess.seconds

    @property
    def subjects(self) -> list[str]:
        """Subjects that any of the networks was trained on."""
        models = (self.encoder, self.quantizer, self.mllm, self.flow)
        return sorted({subject for model in models for subject in model.provenance.subjects})

    @property
    def subjects_hash(self) -> str:
        """SHA-256 of :attr:`subjects`."""
        return digest(self.subjects)

    def check(self, request: Request) -> None:
        """Refuse what cannot be made.

        Raises:
            DataError: unknown task or label, or a duration outside the trained range.
        """
        self.mllm.config.check(request.task, request.label, request.seconds)
        longest = self.mllm.config.columns
        if grid_shape(request.seconds)[0] > longest:
            raise DataError(
                f"{request.seconds} s cannot be generated", cure=f"the weights make {longest} columns at most"
            )

    def generate(self, requests: Sequence[Request], seed: int) -> list[Generated]:
        """Make one clip per request; clip i depends on (seed, i) and its request, not on its neighbours.

        Raises:
            DataError: a request cannot be met; nothing is made then.
            AudioError: a reference cannot be used.
        """
        for request in requests:
            self.check(request)
        made: list[Generated] = []
        size = self.config.batch
        for first in track(range(0, len(requests), size), "generate"):
            chunk = requests[first : first + size]
            made += self._chunk(chunk, [derive(seed, "clip", first + i) for i in range(len(chunk))])
        return made

    @torch.no_grad()
    def _chunk(self, requests: Sequence[Request], seeds: Sequence[int]) -> list[Generated]:
        """One batch through both networks and the codec."""
        c = self.config
        waves = [prepare(request.wave(), self.mllm.config.preprocess) for request in requests]
        levels = [style_level(wave, request) for wave, request in zip(waves, requests, strict=True)]
        lengths = torch.tensor([wave.size for wave in waves])
        features, heard = self.encoder.encode(
            pad_sequence([torch.from_numpy(wave) for wave in waves], batch_first=True), lengths
        )
        features = features.half().float()  # as training read them from the cache
        spectrum = torch.from_numpy(np.stack([spectrum_of(self.codec.encode(wave)) for wave in waves]))
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        samples = [round(request.seconds * RATE) for request in requests]
        columns = [grid_shape(request.seconds)[0] for request in requests]
        uniforms = [
            torch.rand(n * self.mllm.config.rows, generator=g)
            for n, g in zip(columns, generators, strict=True)
        ]
        units = self.mllm.sample(
            torch.stack([self.mllm.text.ids(request.task, request.label) for request in requests]),
            features,
            heard,
            pad_sequence(uniforms, batch_first=True),
            temperature=c.temperature,
            top_p=c.top_p,
        )
        mels = self.flow.config.codec.dim
        noise = [
            c.noise * torch.randn(self.codec.length(n), mels, generator=g)
            for n, g in zip(samples, generators, strict=True)
        ]
        frames = self.flow.sample(
            units,
            torch.tensor(columns),
            torch.tensor([self.flow.label_index(request.task, request.label) for request in requests]),
            features,
            heard,
            spectrum,
            noise,
            steps=c.steps,
            method=c.method,
            guidance=c.guidance,
            sway=c.sway,
        )
        return [
            Generated(
                at_level(self.codec.decode(frames[i].numpy(), samples=samples[i], seed=seeds[i]), levels[i]),
                units[i, : columns[i]].numpy(),
                requests[i],
                seeds[i],
            )
            for i in range(len(requests))
        ]


def check_beats(
    model: RespMLLM | FlowDecoder, encoder: BeatsEncoder, quantizer: UnitTokenizer | Quantizer, path: Path
) -> None:
    """Refuse BEATs weights that a network was not trained with.

    Args:
        model: trained on features and units.
        encoder: gave the features.
        quantizer: gave the units.
        path: where the two come from.

    Raises:
        CheckpointError: they differ by digest or, where the network's training noted none, by the width of
            the features or the size of the codebook.
    """
    name = type(model).__name__
    cure = f"give the encoder and tokenizer that this {name} was trained with, or train it again"
    for what, found, trained in (
        ("wide features", encoder.width, model.config.feature_dim),
        ("units", quantizer.config.codebook, model.config.codebook),
    ):
        if found != trained:
            raise CheckpointError(f"gives {found} {what}, the {name} knows {trained}", path=path, cure=cure)
    noted = model.provenance.notes.get("beats", {})
    for what, network in (("encoder", encoder), ("tokenizer", quantizer)):
        if what in noted and noted[what] != weights_digest(network):
            raise CheckpointError(
                f"its {what} is not the one that the {name} was trained with", path=path, cure=cure
            )


def style_level(wave: np.ndarray, request: Request) -> float:
    """Root mean square of the stretch ``(N,)`` of a reference that lends its style.

    Raises:
        AudioError: the stretch is empty or silent; names the reference.
    """
    try:
        return level(wave)
    except AudioError as error:
        raise AudioError(
            "the stretch that lends its style (the middle of a long recording) is empty or silent",
            path=request.reference_id,
            cure="cut out a stretch that holds sound, or choose another recording",
        ) from error


def at_level(wave: np.ndarray, rms: float) -> np.ndarray:
    """Scale a wave to a root mean square, or less where its peak would clip.

    Raises:
        AudioError: the wave is silent, so that it cannot be scaled.
    """
    gain = min(rms / level(wave), PEAK / float(np.abs(wave).max()))
    return (wave * gain).astype(np.float32)
