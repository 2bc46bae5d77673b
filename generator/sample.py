"""From requests to waves: units by the Resp-MLLM, frames by the flow decoder, samples by the codec."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

import beats
from beats.encode import encode_waves
from beats.encoder import BeatsEncoder, grid_shape
from beats.tokenizer import Quantizer
from beats.units import UnitTokenizer
from generator.codec import at_level, level, make_codec
from generator.config import Grounding, SampleConfig
from generator.data import prefix_length, spectrum_of
from generator.decoder import FlowDecoder
from generator.mllm import RespMLLM
from generator.request import Generated, Request
from generator.together import check_beats, check_together
from resp229k.audio import RATE, prepare
from training.errors import AudioError, DataError
from training.files import digest, file_digest
from training.progress import track
from training.seeds import derive

__all__ = ["Generated", "Generator", "Request"]


class Generator:
    """The trained networks, and how to draw from them.

    Args:
        encoder: BEATs, for the references.
        quantizer: the units that the networks were trained with.
        mllm: writes units; none for a flow decoder that reads none.
        flow: turns units, or the label alone, into frames.
        config: how clips are drawn; a guidance of the label that it leaves to the weights is theirs from
            here on, so that records of clips name it.
        digests: SHA-256 of each network's weights file, for the provenance of what is made.

    Raises:
        CheckpointError: the two networks were trained on different labels, units or preparation, or units
            are read and not written, or written and not read.
    """

    def __init__(
        self,
        encoder: BeatsEncoder,
        quantizer: UnitTokenizer | Quantizer,
        mllm: RespMLLM | None,
        flow: FlowDecoder,
        config: SampleConfig | None = None,
        digests: dict[str, str] | None = None,
    ):
        check_together(mllm, flow)
        self.encoder, self.mllm, self.flow = encoder.eval(), mllm and mllm.eval(), flow.eval()
        self.quantizer = quantizer.eval()
        self.config = config or SampleConfig()
        if mllm is not None and self.config.label_guidance is None:
            self.config = self.config.model_copy(update={"label_guidance": mllm.config.label_guidance})
        self.codec = make_codec(flow.config.codec)
        self.digests = digests or {}

    @classmethod
    def load(
        cls, folder: Path, config: SampleConfig | None = None, *, beats_path: Path | None = None
    ) -> Generator:
        """Read ``folder/flow``, ``folder/mllm`` if it reads units, and BEATs from ``folder/beats`` unless given.

        The networks go to a GPU where there is one.

        Args:
            folder: of weights.
            config: how clips are drawn.
            beats_path: encoder and tokenizer: a folder of ours, or a published tokenizer file.

        Raises:
            CheckpointError: a part is missing, or was not trained with the others.
        """
        heard = beats_path or folder / "beats"
        encoder, quantizer = beats.load(heard)
        flow = FlowDecoder.from_pretrained(folder / "flow")
        check_beats(flow, encoder, quantizer, heard)
        digests = {
            "encoder": file_digest(heard if heard.is_file() else heard / "encoder" / "model.safetensors"),
            "flow": file_digest(folder / "flow" / "model.safetensors"),
        }
        mllm = None
        if flow.config.content == "units":
            mllm = RespMLLM.from_pretrained(folder / "mllm")
            check_beats(mllm, encoder, quantizer, heard)
            digests["mllm"] = file_digest(folder / "mllm" / "model.safetensors")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(encoder, quantizer, mllm, flow, config, digests).to(device)

    @property
    def trained(self) -> Grounding:
        """What the networks were trained on."""
        return self.flow.config if self.mllm is None else self.mllm.config

    @property
    def device(self) -> torch.device:
        """Where the networks are; draws are made on the CPU, so that seeds mean the same everywhere."""
        return next(self.flow.parameters()).device

    def to(self, device: str) -> Generator:
        """Move the networks, and return this generator."""
        for network in (self.encoder, self.quantizer, self.mllm, self.flow):
            if network is not None:
                network.to(device)
        return self

    def labels(self, task: str) -> tuple[str, ...]:
        """Labels of a task that the weights were trained on, none if the task was not."""
        return self.trained.labels.get(task, ())

    @property
    def seconds(self) -> float:
        """The longest clip that can be made."""
        return self.trained.preprocess.seconds

    @property
    def subjects(self) -> list[str]:
        """Subjects that any of the networks was trained on."""
        models = (self.encoder, self.quantizer, self.mllm, self.flow)
        return sorted({subject for model in models if model for subject in model.provenance.subjects})

    @property
    def subjects_hash(self) -> str:
        """SHA-256 of :attr:`subjects`."""
        return digest(self.subjects)

    def check(self, request: Request) -> None:
        """Refuse what cannot be made.

        Raises:
            DataError: unknown task, label or events, a duration outside the trained range, or units that cannot
                be decoded.
        """
        self.trained.check(request.task, request.label, request.seconds)
        if request.units is not None and request.events is not None:
            raise DataError("events are for units yet to be written", cure="ask for events or give units")
        if self.mllm is not None:
            self.mllm.text.ids(request.task, request.label, request.events)
        elif request.events is not None:
            raise DataError("events need a Resp-MLLM, and there is none", cure="ask without events")
        longest = self.trained.columns
        if grid_shape(request.seconds)[0] > longest:
            raise DataError(
                f"{request.seconds} s cannot be generated", cure=f"the weights make {longest} columns at most"
            )
        if request.units is not None:
            self._check_units(request.units, request.seconds)

    def _check_units(self, units: np.ndarray, seconds: float) -> None:
        if self.mllm is None:
            raise DataError("this flow decoder reads no units", cure="ask without units")
        wanted = (grid_shape(seconds)[0], self.mllm.config.rows)
        codebook = self.mllm.config.codebook
        whole = np.issubdtype(units.dtype, np.integer)
        if units.shape != wanted or not whole or units.min() < 0 or units.max() >= codebook:
            raise DataError(
                f"units of shape {units.shape} and type {units.dtype} are no grid of {seconds} s",
                cure=f"give {wanted} units from 0 to {codebook - 1}",
            )

    def units_of(self, waves: Sequence[np.ndarray], seconds: Sequence[float]) -> list[np.ndarray]:
        """Units ``(T, F)`` of recordings ``(N,)`` at 16 kHz, as far as a clip of as many seconds has columns.

        Raises:
            AudioError: a prepared wave is shorter than one column.
        """
        grids = encode_waves(self.encoder, waves, self.trained.preprocess, self.config.batch)
        found = []
        for grid, length in zip(grids, seconds, strict=True):
            features = torch.from_numpy(grid[None, : grid_shape(length)[0]]).float()
            found.append(self.quantizer.units(features.to(self.device))[0].cpu().numpy())
        return found

    def generate(self, requests: Sequence[Request], seed: int) -> list[Generated]:
        """Make one clip per request; clip i depends on (seed, i) and its request, not on its neighbours.

        Raises:
            DataError: a request cannot be met; nothing is made then.
            ConfigError: the Resp-MLLM was not trained for the guidance; nothing is made then.
            AudioError: a reference cannot be used.
        """
        if self.mllm is not None:
            self.mllm.config.check_guidance(self.config.label_guidance, self.config.style_guidance)
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
        waves = [prepare(request.wave(), self.trained.preprocess) for request in requests]
        levels = [style_level(wave, request) for wave, request in zip(waves, requests, strict=True)]
        lengths = torch.tensor([wave.size for wave in waves], device=self.device)
        padded = pad_sequence([torch.from_numpy(wave) for wave in waves], batch_first=True)
        features, heard = self.encoder.encode(padded.to(self.device), lengths)
        features = features.half().float()  # as training read them from the cache
        sound = [self.codec.encode(wave) for wave in waves]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        samples = [round(request.seconds * RATE) for request in requests]
        columns = [grid_shape(request.seconds)[0] for request in requests]
        units = self._units(requests, columns, features, heard, generators)
        size = self.flow.config.codec.dim
        noise = [
            c.noise * torch.randn(self.codec.length(n), size, generator=g)
            for n, g in zip(samples, generators, strict=True)
        ]
        frames = self.flow.sample(
            units,
            torch.tensor(columns, device=self.device),
            torch.tensor([self.flow.label_index(r.task, r.label) for r in requests], device=self.device),
            features,
            heard,
            torch.from_numpy(np.stack([spectrum_of(frames) for frames in sound])).to(self.device),
            noise,
            **self._prefix(sound, noise),
            steps=c.steps,
            method=c.method,
            guidance=c.guidance,
            sway=c.sway,
            rtol=c.rtol,
            atol=c.atol,
        )
        return [
            Generated(
                at_level(
                    self.codec.decode(frames[i].cpu().numpy(), samples=samples[i], seed=seeds[i]), levels[i]
                ),
                None if units is None else units[i, : columns[i]].cpu().numpy(),
                requests[i],
                seeds[i],
            )
            for i in range(len(requests))
        ]

    def _units(
        self,
        requests: Sequence[Request],
        columns: Sequence[int],
        features: Tensor,
        heard: Tensor,
        generators: Sequence[torch.Generator],
    ) -> Tensor | None:
        """Units ``(B, T, F)`` as given, else by the Resp-MLLM, if there is one."""
        if self.mllm is None:
            return None
        units = torch.zeros(
            len(requests), max(columns), self.mllm.config.rows, dtype=torch.long, device=self.device
        )
        for row, request in zip(units, requests, strict=True):
            if request.units is not None:
                row[: len(request.units)] = torch.from_numpy(request.units.astype(np.int64))
        rest = [i for i, request in enumerate(requests) if request.units is None]
        if not rest:
            return units
        uniforms = [torch.rand(columns[i] * self.mllm.config.rows, generator=generators[i]) for i in rest]
        texts = [self.mllm.text.ids(r.task, r.label, r.events) for r in (requests[i] for i in rest)]
        written = self.mllm.sample(
            torch.stack(texts).to(self.device),
            features[rest],
            heard[rest],
            pad_sequence(uniforms, batch_first=True).to(self.device),
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            label_guidance=self.config.label_guidance,
            style_guidance=self.config.style_guidance,
        )
        units[rest, : written.shape[1]] = written
        return units

    def _prefix(self, sound: Sequence[np.ndarray], noise: Sequence[Tensor]) -> dict[str, Tensor]:
        """The first of the references' frames ``(L, M)``, as many as the flow decoder may be given."""
        share = self.flow.config.prefix
        if not share:
            return {}
        given = [
            torch.from_numpy(frames[: prefix_length(share, len(to_make), len(frames))])
            for frames, to_make in zip(sound, noise, strict=True)
        ]
        return {
            "prefix": pad_sequence(given, batch_first=True).to(self.device),
            "prefix_frames": torch.tensor([len(frames) for frames in given], device=self.device),
        }


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
