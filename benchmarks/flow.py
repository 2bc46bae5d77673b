"""Speed of a training step of the flow decoder on a CPU: ``python benchmarks/flow.py [--weights tiny] [--quick]``.

One crop of the weights' own sizes, fresh weights, one thread, processor time. Prints JSON lines: a step in bf16 against
one in fp32, and against one in bf16 whose attention is torch's own bf16 kernel. bf16 pays where the processor has
instructions for it (AMX, AVX512_BF16). ``--quick`` is a test.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from unittest import mock

import torch
from torch import Tensor
from turns import in_turn, report  # first: it makes the packages importable

from generator import dit
from generator.config import FlowConfig
from generator.decoder import FlowDecoder
from training.config import weights_path

CROP, REFERENCE = 12, 25  # columns


def batch(config: FlowConfig, size: int) -> dict[str, Tensor]:
    """Random input of a step."""
    frames = round(CROP * 0.16 * config.codec.frame_rate)
    return {
        "units": torch.randint(config.codebook, (size, CROP, config.rows)),
        "columns": torch.full((size,), CROP),
        "label": torch.zeros(size, dtype=torch.long),
        "features": torch.randn(size, REFERENCE, config.rows, config.feature_dim),
        "feature_columns": torch.full((size,), REFERENCE),
        "spectrum": torch.randn(size, 2 * config.codec.dim),
        "mel": torch.randn(size, frames, config.codec.dim),
        "frames": torch.full((size,), frames),
    }


def step(model: FlowDecoder, optimizer: torch.optim.Optimizer, given: dict[str, Tensor], bf16: bool) -> None:
    """One update."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        loss = model(**given).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="tiny", help="a folder of train pretrain, or a shipped set")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = FlowDecoder.from_pretrained(weights_path(args.weights) / "flow").config
    model = FlowDecoder(config).train()
    optimizer = torch.optim.AdamW(model.parameters())
    given = batch(config, 2 if args.quick else 32)

    def by_torch() -> None:
        with mock.patch.object(dit, "attend", torch.nn.functional.scaled_dot_product_attention):
            step(model, optimizer, given, bf16=True)

    calls = {
        "fp32": partial(step, model, optimizer, given, bf16=False),
        "torch": by_torch,
        "bf16": partial(step, model, optimizer, given, bf16=True),
    }
    taken = in_turn(calls, 1 if args.quick else 10, time.process_time)
    report("flow training step in bf16 over fp32", taken["fp32"] / taken["bf16"])
    report(
        "flow training step over one with the library's bf16 attention", taken["torch"] / taken["bf16"], 1.0
    )


if __name__ == "__main__":
    main()
