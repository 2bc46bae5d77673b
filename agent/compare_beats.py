"""Compare recipes of the audio encoder and its units: trained on the shipped weights' clips, kept, summed up."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agent.config_pretrain import HeardConfig
from agent.heard import encoder_corpora, window_corpora
from agent.pretrain import run_stage
from beats.compare import DISTIL, RECIPES, Heard, RecipeConfig, RecipeRow, compare_recipe
from beats.frames import FrameClips
from beats.probe import FEATURES, LOG_MEL
from beats.probe_data import SUITES, ProbeSet, load_sets
from beats.tags import TaggedClips
from training.errors import ConfigError
from training.files import digest, new_folder, read_json, write_json
from training.progress import console
from training.statistics import plus_minus

FORMAT = 1  # raised when results of earlier code would differ
Key = tuple[str, str]


def compare_beats(
    data: HeardConfig, config: RecipeConfig, recipes: Sequence[str], out: Path, work: Path
) -> list[RecipeRow]:
    """Train and probe every recipe with every seed; what was finished before is not repeated.

    ``out`` gets ``compare.json``, ``compare.csv`` and ``compare.png``.

    Args:
        data: what the shipped weights hear.
        config: compute and seeds.
        recipes: of :data:`beats.compare.RECIPES`.
        out: folder of the results.
        work: keeps corpora and every finished recipe.

    Raises:
        ConfigError: there is no such recipe.
        DataError: recordings are missing.
    """
    if unknown := [name for name in recipes if name not in RECIPES]:
        raise ConfigError(f"unknown recipe {unknown[0]!r}", cure=f"use some of: {', '.join(RECIPES)}")
    corpora = encoder_corpora(data, work)
    whole = window_corpora(data, corpora, work)
    subjects = {subject for corpus in (*corpora, *whole) for subject in corpus.subjects}
    suites = list(SUITES) if data.root is not None else ["simulated"]
    sets = load_sets(
        suites, work=work / "probe", root=data.root or "", without=subjects, limit=config.probe_clips
    )
    heard = Heard(TaggedClips(corpora, data.seconds), FrameClips(whole, data.seconds))
    fixed = [
        config.model_dump(mode="json", exclude={"seeds"}),
        DISTIL.model_dump(mode="json"),
        [corpus.digest for corpus in (*corpora, *whole)],
        [[one.name, one.subjects.tolist(), one.labels.tolist()] for one in sets],
    ]
    found: list[dict[str, Any]] = []
    jobs = [(seed, name) for seed in range(config.seeds) for name in recipes]
    for number, (seed, name) in enumerate(jobs, start=1):
        console.print(f"{number} of {len(jobs)}: {name}, seed {seed}")
        key = digest([FORMAT, fixed, [asdict(stage) for stage in RECIPES[name]], name, seed])
        folder = work / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
        make = partial(_make, name=name, heard=heard, sets=sets, config=config, seed=seed)
        found.append(read_json(run_stage(folder, key, make) / "compare.json"))
    rows = [RecipeRow.model_validate(row) for one in found for row in one["rows"]]
    settings = config.model_dump(mode="json")
    stages = [{"recipe": name, "seed": seed, **one} for (seed, name), one in zip(jobs, found, strict=True)]
    write_json(out / "compare.json", {"config": settings, "recipes": stages})
    with (out / "compare.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(RecipeRow.model_fields))
        table.writeheader()
        table.writerows(row.model_dump() for row in rows)
    plot_recipes(rows, out / "compare.png")
    return rows


def _make(
    folder: Path,
    *,
    name: str,
    heard: Heard,
    sets: Sequence[ProbeSet],
    config: RecipeConfig,
    seed: int,
) -> None:
    with new_folder(folder) as temporary:
        report = compare_recipe(name, heard, sets, config, seed, folder.with_name("fit"))
        write_json(temporary / "compare.json", report)


def grouped(rows: Sequence[RecipeRow]) -> dict[Key, dict[str, list[RecipeRow]]]:
    """Rows by recipe and what is read, and by suite, in the order they came; one per seed."""
    found: dict[Key, dict[str, list[RecipeRow]]] = {}
    for row in rows:
        found.setdefault((row.recipe, row.read), {}).setdefault(row.suite, []).append(row)
    return found


def table(rows: Sequence[RecipeRow]) -> list[list[str]]:
    """Balanced accuracy per suite, mean ± std over seeds; in brackets what units keep of the features' gain.

    That is the gain over chance by that of the recipe's features, each summed over the seeds.
    """
    groups = grouped(rows)
    suites = list(dict.fromkeys(row.suite for row in rows))
    lines = [["recipe", "read from", *suites, "perplexity", "dead"]]
    for (recipe, read), by_suite in groups.items():
        every = [row for part in by_suite.values() for row in part]
        cells = []
        for suite in suites:
            values = [row.balanced_accuracy for row in by_suite[suite]]
            cell = plus_minus(values, 3)
            if every[0].perplexity:
                cell += _kept(by_suite[suite], groups[recipe, FEATURES][suite])
            cells.append(cell)
        use = [
            " + ".join(f"{value:.0f}" for value in np.mean(counts, axis=0))
            for counts in ([row.perplexity for row in every], [row.dead for row in every])
        ]
        lines.append([recipe, read, *cells, *use])
    chance = {row.suite: row.chance for row in rows}
    lines.append(["chance", "", *(f"{chance[suite]:.3f}" for suite in suites), "", ""])
    return lines


def _kept(units: Sequence[RecipeRow], features: Sequence[RecipeRow]) -> str:
    gain, most = (sum(row.balanced_accuracy - row.chance for row in part) for part in (units, features))
    return f" ({gain / most:.2f})" if most > 0 else ""


def plot_recipes(rows: Sequence[RecipeRow], path: Path) -> None:
    """Draw every recipe's balanced accuracy per suite, a dot per seed, dashed at chance; and codebooks."""
    from matplotlib.figure import Figure  # imported late: tables alone need no plotting

    groups = grouped(rows)
    chance = {row.suite: row.chance for row in rows}
    figure = Figure(figsize=(3.0 * len(chance) + 5, 0.34 * len(groups) + 1.6), layout="constrained")
    axes = figure.subplots(1, len(chance) + 1, sharey=True, squeeze=False)[0]
    for place, ((_, read), by_suite) in enumerate(groups.items()):
        colour = {LOG_MEL: "C7", FEATURES: "C0"}.get(read, "C1")
        for axis, suite in zip(axes, chance, strict=False):
            values = [row.balanced_accuracy for row in by_suite[suite]]
            axis.barh(place, np.mean(values), color=colour, alpha=0.45)
            axis.plot(values, [place] * len(values), ".", color=colour)
        used = [row for part in by_suite.values() for row in part if row.perplexity]
        if used:
            axes[-1].plot([sum(row.perplexity) for row in used], [place] * len(used), ".", color="C1")
            dead = np.mean([sum(row.dead) for row in used])
            right = axes[-1].get_yaxis_transform()
            axes[-1].text(1.02, place, f"{dead:.0f} dead", fontsize="small", va="center", transform=right)
    for axis, (suite, level) in zip(axes, chance.items(), strict=False):
        axis.axvline(level, color="black", linestyle="--", linewidth=1)
        axis.set_title(suite)
        axis.set_xlabel("balanced accuracy")
    axes[-1].set_title("codebooks")
    axes[-1].set_xlabel("perplexity, a dot per suite and seed")
    axes[-1].set_xlim(left=0)
    names = [f"{recipe}: {read}" if read == FEATURES else read for recipe, read in groups]
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
