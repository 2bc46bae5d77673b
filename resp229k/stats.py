"""How much of what: clips, subjects and hours per source, class and split."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import get_args

from resp229k.clip import Clip, Split
from resp229k.corpus import Corpus
from resp229k.tasks import get_task
from training.config import Strict


class StatsRow(Strict):
    """One cell group of the table."""

    source: str
    task: str
    label: str
    split: str
    clips: int
    subjects: int
    hours: float


def corpus_stats(corpus: Corpus, task: str) -> list[StatsRow]:
    """Rows by source, class (in the task's order) and split; combinations without clips are left out.

    Raises:
        DataError: unknown task, or a label that is not the task's.
    """
    known = get_task(task)
    groups: dict[tuple[str, int, int], list[Clip]] = defaultdict(list)
    order = get_args(Split)
    for clip in corpus.clips:
        if task in clip.labels:
            groups[clip.source, known.index(clip.labels[task]), order.index(clip.split)].append(clip)
    return [
        StatsRow(
            source=source,
            task=task,
            label=known.classes[label],
            split=order[split],
            clips=len(clips),
            subjects=len({clip.subject_id for clip in clips}),
            hours=sum(clip.seconds for clip in clips) / 3600,
        )
        for (source, label, split), clips in sorted(groups.items())
    ]


def plot_stats(rows: list[StatsRow], path: Path) -> None:
    """Draw clips per class as bars stacked by split, one panel per source, into a PNG."""
    from matplotlib.figure import Figure  # imported late: tables alone need no plotting

    sources = sorted({row.source for row in rows})
    figure = Figure(figsize=(1 + 5 * max(len(sources), 1), 4), layout="constrained")
    axes = figure.subplots(1, max(len(sources), 1), squeeze=False)[0]
    for axis, source in zip(axes, sources, strict=False):
        labels = list(dict.fromkeys(row.label for row in rows if row.source == source))
        below = dict.fromkeys(labels, 0)
        for index, split in enumerate(get_args(Split)):
            height = {row.label: row.clips for row in rows if (row.source, row.split) == (source, split)}
            if height:
                heights = [height.get(label, 0) for label in labels]
                axis.bar(
                    labels, heights, bottom=[below[label] for label in labels], label=split, color=f"C{index}"
                )
                below = {label: below[label] + height.get(label, 0) for label in labels}
        axis.set_title(source)
        axis.set_ylabel("clips")
        axis.tick_params(axis="x", labelrotation=45)
        axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
