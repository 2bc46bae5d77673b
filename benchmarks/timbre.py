"""Which vectors hear a recorder: ``python benchmarks/timbre.py [--clips 240] [--beats tiny]``.

Simulated clips of all classes and of as many subjects, in 6 sources. Prints JSON lines: mean cosine of pairs of
one source and of two, always of two subjects, and the AUROC of the one against the other.
"""
# ruff: noqa: E402

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

# Python looks in the script's own folder first, where a file may have a package's name.
sys.path = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

import beats
from generator.fad import embeddings
from generator.timbre import style_pairs, style_similarity, style_vector
from resp229k.simulate import SIMULATED, simulate_clip

SOURCES = 6


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument(
        "--beats", default="tiny", help="encoder: a folder, a published file or a shipped set"
    )
    args = parser.parse_args()
    sources = [f"style-{n % SOURCES}" for n in range(args.clips)]
    labels = [SIMULATED[(n // SOURCES) % len(SIMULATED)] for n in range(args.clips)]
    waves = [
        simulate_clip(label, seed=n, source=source).wave
        for n, (label, source) in enumerate(zip(labels, sources, strict=True))
    ]
    same, other = style_pairs(sources, [str(n) for n in range(args.clips)])
    encoder = beats.load_encoder(beats.find(args.beats)).eval()
    vectors = {
        "BEATs": (embeddings(encoder, waves), False),
        "BEATs, standardised": (embeddings(encoder, waves), True),
        "style vector": (np.stack([style_vector(wave) for wave in waves]), True),
    }
    for name, (rows, standardise) in vectors.items():
        alike, unlike = ((rows[pairs[:, 0]], rows[pairs[:, 1]]) for pairs in (same, other))
        found = style_similarity(*alike, alike, unlike, standardise=standardise)
        figures = {"same": found.same, "other": found.other, "auroc": found.auroc}
        print(
            json.dumps({"name": name} | {key: round(value, 3) for key, value in figures.items()}), flush=True
        )


if __name__ == "__main__":
    main()
