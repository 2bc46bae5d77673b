"""Which networks can work together."""

from __future__ import annotations

from pathlib import Path

from beats.encoder import BeatsEncoder
from beats.tokenizer import Quantizer
from beats.units import UnitTokenizer
from generator.decoder import FlowDecoder
from generator.mllm import RespMLLM
from training.errors import CheckpointError
from training.model import weights_digest


def check_together(mllm: RespMLLM | None, flow: FlowDecoder) -> None:
    """Refuse networks that cannot work together.

    Raises:
        CheckpointError: naming what they differ in.
    """
    if mllm is None:
        if flow.config.content == "units":
            raise CheckpointError(
                "the flow decoder reads units, and there is no Resp-MLLM to write them",
                cure="give the Resp-MLLM that was trained with it",
            )
        return
    if flow.config.content == "none":
        raise CheckpointError(
            "the flow decoder reads no units, so that a Resp-MLLM would write in vain",
            cure="give no Resp-MLLM",
        )
    for field in ("labels", "codebook", "rows", "feature_dim", "preprocess"):
        a, b = getattr(mllm.config, field), getattr(flow.config, field)
        if a != b:
            raise CheckpointError(
                f"Resp-MLLM and flow decoder differ in {field}: {a} and {b}", cure="train both together"
            )


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
