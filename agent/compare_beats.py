"""Compare recipes of the audio encoder and its units: trained on the shipped weights' clips, kept, summed up."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agent.config_pretrain import PretrainConfig
from agent.pretrain import encoder_corpora, run_stage
from beats.compare import RECIPES, RecipeConfig, RecipeRow, compare_recipe
from beats.probe_data import SUITES, ProbeSet, load_sets
from beats.tags import TaggedClips
from training.errors import ConfigError
from training.files import digest, new_folder, read_json, write_json
from training.progress import console

Key = tuple[str, str | None]


def compare_beats(
    data: PretrainConfig, config: RecipeConfig, recipes: Sequence[str], out: Path, work: Path
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
    heard = {subject for corpus in corpora for subject in corpus.subjects}
    suites = list(SUITES) if data.root is not None else ["simulated"]
    sets = load_sets(
        suites, work=work / "probe", root=data.root or "", without=heard, limit=config.probe_clips
    )
    clips = TaggedClips(corpora, data.seconds)
    found: list[dict[str, Any]] = []
    jobs = [(seed, name) for seed in range(config.seeds) for name in recipes]
    for number, (seed, name) in enumerate(jobs, start=1):
        console.print(f"{number} of {len(jobs)}: {name}, seed {seed}")
        settings = config.model_dump(mode="json", exclude={"seeds"})
        key = digest([settings, name, seed, [corpus.digest for corpus in corpora], suites])
        folder = work / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
        make = partial(_make, name=name, clips=clips, sets=sets, config=config, seed=seed)
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
    clips: TaggedClips,
    sets: Sequence[ProbeSet],
    config: RecipeConfig,
    seed: int,
) -> None:
    with new_folder(folder) as temporary:
        report = compare_recipe(name, clips, sets, config, seed, folder.with_name("fit"))
        write_json(temporary / "compare.json", report)


def gains(rows: Sequence[RecipeRow]) -> dict[Key, dict[str, list[RecipeRow]]]:
    """Rows by (recipe, units) and suite, in the order they came; one per seed."""
    found: dict[Key, dict[str, list[RecipeRow]]] = {}
    for row in rows:
        found.setdefault((row.recipe, row.units), {}).setdefault(row.suite, []).append(row)
    return found


def table(rows: Sequence[RecipeRow]) -> list[list[str]]:
    """Balanced accuracy per suite, mean ± std over seeds; of units with what they keep of the features' gain."""
    grouped = gains(rows)
    suites = list(dict.fromkeys(row.suite for row in rows))
    lines = [["recipe", "read from", *suites, "kept, mean", "perplexity", "dead"]]
    for (recipe, units), by_suite in grouped.items():
        cells = [_cell([row.balanced_accuracy for row in by_suite[suite]]) for suite in suites]
        every = [row for part in by_suite.values() for row in part]
        kept = [row.kept for row in every if row.kept is not None]
        lines.append(
            [
                recipe,
                units or "features",
                *cells,
                f"{np.mean(kept):.2f}" if kept else "",
                " + ".join(f"{value:.0f}" for value in np.mean([row.perplexity for row in every], axis=0)),
                " + ".join(f"{value:.0f}" for value in np.mean([row.dead for row in every], axis=0)),
            ]
        )
    chance = {row.suite: row.chance for row in rows}
    lines.append(["chance", "", *(f"{chance[suite]:.3f}" for suite in suites), "", "", ""])
    return lines


def _cell(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


def plot_recipes(rows: Sequence[RecipeRow], path: Path) -> None:
    """Draw every recipe's gain over chance per suite, a dot per seed, units beside their features."""
    from matplotlib.figure import Figure  # imported late: tables alone need no plotting

    grouped = gains(rows)
    suites = list(dict.fromkeys(row.suite for row in rows))
    figure = Figure(figsize=(3.2 * len(suites) + 2.5, 0.34 * len(grouped) + 1.6), layout="constrained")
    names = [recipe if units is None else f"    {units}" for recipe, units in grouped]
    axes = figure.subplots(1, len(suites), sharey=True, squeeze=False)[0]
    for axis, suite in zip(axes, suites, strict=True):
        for place, ((_, units), by_suite) in enumerate(grouped.items()):
            values = [row.balanced_accuracy for row in by_suite[suite]]
            colour = "C0" if units is None else "C1"
            axis.barh(place, np.mean(values), color=colour, alpha=0.45)
            axis.plot(values, [place] * len(values), ".", color=colour)
        axis.axvline(by_suite[suite][0].chance, color="black", linestyle="--", linewidth=1)
        axis.set_title(suite)
        axis.set_xlabel("balanced accuracy")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
