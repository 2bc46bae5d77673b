"""Compare designs of the generator: each trained on the same clips, measured on clips that nobody has met."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from agent.config_designs import DesignsConfig
from agent.config_pretrain import PretrainConfig
from agent.generated.config import EvaluateConfig
from agent.generated.run import SIMULATED, SPRSOUND, evaluate_generator, write
from agent.pretrain import RECORD, WEIGHT_FILES, Prepared, prepare, run_stage
from generator.config import Network, SampleConfig
from generator.pretrain import train_flow, train_mllm
from training.config import dump_config, load_config, weights_path
from training.errors import ConfigError
from training.files import digest, folder_digest, new_folder, read_json, write_json
from training.progress import console

FORMAT = 3  # raised when results of earlier code would differ
TASKS = {SIMULATED: "disease16", SPRSOUND: "icbhi4"}
DEV = 100  # added to seeds: no design is chosen on the simulated sources that a release is measured on
COMPUTE = "compute.json"


@dataclass(frozen=True)
class Measured:
    """One training and what it is worth.

    Attributes:
        design: its name.
        seed: of weights and draws.
        compute: processor seconds and parameters of each network.
        histories: of the trainings, network → entries ``{"step", "loss"}`` and ``{"step", "metric"}``.
        results: comparison → figures of the generator's row, and of the real row.
    """

    design: str
    seed: int
    compute: dict[str, dict[str, float]]
    histories: dict[str, list[dict[str, float]]]
    results: dict[str, dict[str, dict[str, float]]]


class Designs:
    """Trains and measures designs; what was finished before is not repeated.

    Args:
        config: the designs.
        clips: per class, row and seed of an evaluation, at most.
        override: of ``base``, for all designs.
        work: keeps clips, features and every finished design.
    """

    def __init__(self, config: DesignsConfig, clips: int, override: Sequence[str], work: Path):
        self.config, self.clips, self.override, self.work = config, clips, list(override), work

    def settings(self, name: str, seed: int = 0) -> PretrainConfig:
        """What a design is trained by.

        Raises:
            ConfigError: there is no such design, it changes no setting that there is, or a setting of the designs' is
                overridden.
        """
        if name not in self.config.designs:
            raise ConfigError(
                f"unknown design {name!r}", cure=f"use some of: {', '.join(self.config.designs)}"
            )
        design = self.config.designs[name]
        seeds = [f"{part}seed={seed}" for part in ("", "mllm_fit.", "flow_fit.")]
        own = [f"generator.{change}" for change in (*self.config.train, *design.train, *seeds)]
        lent = [f"beats.weights={self.config.weights}/beats"]
        fixed = {change.partition("=")[0] for change in (*own, *lent)}
        for change in self.override:
            key = change.partition("=")[0].strip()
            if key in fixed:
                raise ConfigError(
                    f"{key} is set for the design {name!r}",
                    cure="change it in a file for --config, not by -o",
                )
        return load_config(PretrainConfig, self.config.base, [*self.override, *own, *lent])

    def draws(self, name: str) -> SampleConfig:
        """How a design's clips are drawn."""
        return load_config(SampleConfig, None, list(self.config.designs[name].draw))

    @cached_property
    def ready(self) -> Prepared:
        """Clips, features and units, the same for all."""
        return prepare(self.settings(next(iter(self.config.designs))), self.work)

    def measure(self, name: str, seed: int, against: Sequence[str]) -> Measured:
        """Train a design with a seed, and hold its clips against real ones.

        Args:
            name: of the design.
            seed: of weights and draws.
            against: ``simulated``, ``sprsound``.
        """
        settings = self.settings(name, seed)
        folder = self.work / "designs" / f"{name.replace(' ', '-')}-{seed}"
        key = self._key(settings.generator.model_dump(mode="json"))
        weights = run_stage(folder, key, partial(self._train, settings))
        results = {}
        for what in against:
            make = partial(self._evaluate, weights, name, seed, what)
            drawn = digest([key, self.draws(name).model_dump(mode="json"), self.clips, self.config.weights])
            found = read_json(
                run_stage(folder.with_name(f"{folder.name}-{what}"), drawn, make) / "results.json"
            )
            results[what] = {row: _means(one["figures"]) for row, one in found["rows"].items()}
        told = {part: read_json(weights / part / "metrics.json") for part in _parts(weights)}
        histories = {part: one["history"] for part, one in told.items()}
        return Measured(name, seed, read_json(weights / COMPUTE), histories, results)

    def _key(self, settings: dict[str, Any]) -> str:
        """What decides the outcome of trainings with these settings."""
        taught = [corpus.digest for corpus in self.ready.taught]
        lent = [folder_digest(self.ready.base, f"**/{kind}") for kind in WEIGHT_FILES]
        return digest([FORMAT, settings, taught, lent])

    def _train(self, settings: PretrainConfig, folder: Path) -> None:
        compute: dict[str, dict[str, float]] = {}
        with new_folder(folder) as temporary:
            shutil.copytree(self.ready.base, temporary / "beats")
            if settings.generator.flow.content != "none":
                made = self._mllm(settings)
                shutil.copytree(made / "mllm", temporary / "mllm")
                compute = read_json(made / COMPUTE)
            compute |= self._network("flow", settings, temporary)
            dump_config(settings, temporary / RECORD)
            write_json(temporary / COMPUTE, compute)

    def _mllm(self, settings: PretrainConfig) -> Path:
        """The Resp-MLLM, once for all designs that differ in their flow decoder alone."""
        key = self._key(settings.generator.of("mllm"))

        def make(folder: Path) -> None:
            with new_folder(folder) as temporary:
                write_json(temporary / COMPUTE, self._network("mllm", settings, temporary))

        return run_stage(self.work / "designs" / f"mllm-{key[:8]}", key, make)

    def _network(self, part: Network, settings: PretrainConfig, folder: Path) -> dict[str, dict[str, float]]:
        """Train one network into a folder; what it took."""
        train = {"mllm": train_mllm, "flow": train_flow}[part]
        begun = time.process_time()
        metrics = train(self.ready.taught, self.ready.store, settings.generator, folder / part)
        seconds = round(time.process_time() - begun, 1)
        return {part: {"seconds": seconds, "parameters": metrics["parameters"]}}

    def _evaluate(self, weights: Path, name: str, seed: int, what: str, folder: Path) -> None:
        config = EvaluateConfig(
            weights=str(weights),
            task=TASKS[what],
            clips=self.clips,
            seeds=1,
            seed=DEV + seed,
            judge=f"{self.config.weights}/judge-{TASKS[what]}",
            sample=self.draws(name),
        )
        root = self.settings(name).root or ""
        results, shown, sides = evaluate_generator(config, what, root=root, work=self.work / "evaluate")
        with new_folder(folder) as temporary:
            write(results, shown, sides, temporary)


def _means(figures: dict[str, Any]) -> dict[str, float]:
    return {name: one["mean"] for name, one in figures.items() if one["mean"] is not None}


def _parts(weights: Path) -> list[str]:
    return [part for part in ("mllm", "flow") if (weights / part).is_dir()]


def compare_designs(
    config: DesignsConfig,
    names: Sequence[str],
    seeds: int,
    clips: int,
    override: Sequence[str],
    work: Path,
) -> list[Measured]:
    """Train and measure designs, seed by seed, so that an interruption leaves whole seeds.

    Args:
        config: the designs.
        names: those that are compared.
        seeds: trainings of each, 0 … seeds - 1.
        clips: per class, row and seed of an evaluation, at most.
        override: of the base, for all designs.
        work: keeps clips, features and every finished design.

    Raises:
        ConfigError: there is no such design, or one cannot be trained or drawn from so.
        CheckpointError: the lending weights lack a part.
        DataError: the real recordings are not there.
    """
    designs = Designs(config, clips, override, work)
    for name in names:
        designs.settings(name), designs.draws(name)  # refused here, not after hours
    weights_path(config.weights)
    against = [SIMULATED] if designs.settings(names[0]).root is None else [SIMULATED, SPRSOUND]
    found = []
    jobs = [(seed, name) for seed in range(seeds) for name in names]
    for number, (seed, name) in enumerate(jobs, start=1):
        console.print(f"{number} of {len(jobs)}: {name}, seed {seed}", highlight=False)
        found.append(designs.measure(name, seed, against))
    return found
