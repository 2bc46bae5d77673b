"""The probes as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from beats.probe import ProbeRow


def plot_probes(rows: Sequence[ProbeRow], path: Path) -> None:
    """Draw probes and codebooks into a PNG.

    Above: balanced accuracy of every representation per suite with its interval over subjects, dashed
    at chance. Below: how often every unit occurs, sorted, one line per suite and codebook; units that never
    occur lie beyond the end of the line.
    """
    from matplotlib.figure import Figure  # imported late: tables alone need no plotting

    suites = list(dict.fromkeys(row.suite for row in rows))
    figure = Figure(figsize=(max(7.0, 2.4 * len(suites)), 7), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False)[:, 0]
    for axis, suite in zip(
        above.subplots(1, len(suites), squeeze=False, sharey=True)[0], suites, strict=True
    ):
        _bars(axis, [row for row in rows if row.suite == suite])
        axis.set_title(suite)
    axis = below.subplots()
    for row in rows:
        for number, book in enumerate(row.codebooks):
            counts = sorted((count for count in book.counts if count), reverse=True)
            name = row.suite if len(row.codebooks) == 1 else f"{row.suite}, codebook {number + 1}"
            label = f"{name}: perplexity {book.perplexity:.0f} of {book.codebook}, {book.dead} dead"
            axis.plot(range(1, len(counts) + 1), [count / sum(counts) for count in counts], label=label)
    sizes = [book.codebook for row in rows for book in row.codebooks]
    if sizes:
        axis.axvline(max(sizes), color="black", linestyle=":", linewidth=1)
        axis.set_yscale("log")
        axis.legend(fontsize="small")
    axis.set_xlabel("units, the commonest first")
    axis.set_ylabel("share of places")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _bars(axis, rows: Sequence[ProbeRow]) -> None:  # type: ignore[no-untyped-def]
    means = [row.balanced_accuracy.mean for row in rows]
    # The interval is of all seeds together: a mean at its edge must not give a negative bar.
    low = [max(0.0, mean - row.interval[0]) for mean, row in zip(means, rows, strict=True)]
    high = [max(0.0, row.interval[1] - mean) for mean, row in zip(means, rows, strict=True)]
    names = [row.representation for row in rows]
    axis.bar(names, means, yerr=[low, high], color=["C7", "C0", "C1"][: len(rows)], capsize=3)
    axis.axhline(rows[0].chance, color="black", linestyle="--", label=f"chance {rows[0].chance:.2f}")
    kept = [row.kept for row in rows if row.kept is not None]
    axis.set_ylim(0, 1)
    axis.set_ylabel("balanced accuracy")
    axis.legend(title=f"kept {kept[0]:.2f}" if kept else None, fontsize="small")
