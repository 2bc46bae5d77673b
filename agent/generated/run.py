"""One evaluation from weights to files: load, check that nobody knows the test clips, compare, write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import beats
from agent.generated.compare import Comparison, Shown
from agent.generated.config import EvaluateConfig
from agent.generated.hear import Ears
from agent.generated.page import render
from agent.generated.plots import plots
from agent.generated.protocol import (
    LEARNED,
    Sides,
    as_test,
    check_apart,
    check_judge,
    make_sides,
    simulated_test,
    simulated_train,
    sprsound,
)
from agent.generated.table import bars, markdown
from beats.judge import Judge
from generator.config import MLLMConfig
from generator.sample import Generator
from resp229k.corpus import Corpus
from resp229k.simulate.config import SimulateConfig
from training.config import weights_path
from training.errors import CheckpointError, DataError
from training.files import write_bytes, write_json, write_text
from training.model import weights_digest

SIMULATED, SPRSOUND = "simulated", "sprsound"


def evaluate_generator(
    config: EvaluateConfig, what: str | Path, *, root: str, work: Path
) -> tuple[dict[str, Any], Shown, Sides]:
    """Measure a generator.

    Args:
        config: weights, task, how many clips.
        what: ``simulated``, ``sprsound``, or the folder of a corpus with a test split.
        root: folder of the recordings as published, for ``sprsound``.
        work: keeps corpora and generated clips, which are not made again.

    Returns:
        the results as JSON values, what the page shows, and the two sides.

    Raises:
        CheckpointError: the weights or the judge do not fit the task.
        DataError: a class has no test clips.
        ContaminationError: a network knows test subjects, or the judge those of the generator.
    """
    folder = weights_path(config.weights)
    known = MLLMConfig.of_weights(folder).labels.get(config.task, ())
    if not known:
        raise CheckpointError(
            f"the generator was not trained on {config.task}",
            path=folder,
            cure=f"give --task: {', '.join(MLLMConfig.of_weights(folder).labels)}",
        )
    judge, judge_path = load_judge(config, folder)
    generator = Generator.load(folder, config.sample)
    encoder = generator.encoder if config.encoder is None else beats.load_encoder(beats.find(config.encoder))
    taught = {*generator.mllm.provenance.subjects, *generator.flow.provenance.subjects}
    check_judge(judge.provenance.subjects, taught, judge_path)
    train, test = corpora(config, what, known, folder, generator, root=root, work=work)
    name = what if isinstance(what, str) else what.name
    tail = config.tail or default_tail(what, config.task, known)
    sides = make_sides(name, config.task, known, train, test, tail, taught=taught)
    if strange := sorted(set(sides.classes) - set(judge.classes)):
        raise CheckpointError(
            f"the judge does not know {', '.join(strange)}",
            path=judge_path,
            cure="give a judge of these classes with --judge",
        )
    others = {"generator": generator.subjects, "judge": judge.provenance.subjects}
    if config.encoder is not None:
        others["encoder of the Fréchet distance"] = encoder.provenance.subjects
    check_apart(sides.test.subjects, others)
    results, shown = Comparison(sides, generator, Ears(judge, encoder, generator.seconds), config, work).run()
    made_with = {
        # Names, not paths: the files say nothing of the machine.
        "config": config.model_dump(mode="json")
        | {
            name: Path(path).name
            for name in ("weights", "judge", "encoder")
            if (path := getattr(config, name))
        },
        "weights": generator.digests,
        "judge": weights_digest(judge),
        "encoder": weights_digest(encoder),
    }
    return {**made_with, **results}, shown, sides


def load_judge(config: EvaluateConfig, weights: Path) -> tuple[Judge, Path]:
    """The judge of the task.

    Raises:
        CheckpointError: there is none, or it judges another task.
    """
    path = weights / f"judge-{config.task}" if config.judge is None else weights_path(config.judge)
    if not path.is_dir():
        raise CheckpointError(
            f"the weights hold no judge-{config.task}",
            path=weights,
            cure="give a judge's folder with --judge",
        )
    judge = Judge.from_pretrained(path)
    if judge.task != config.task:
        raise CheckpointError(
            f"judges {judge.task}, not {config.task}", path=path, cure="give a judge of this task"
        )
    return judge, path


def corpora(
    config: EvaluateConfig,
    what: str | Path,
    known: Sequence[str],
    weights: Path,
    generator: Generator,
    *,
    root: str,
    work: Path,
) -> tuple[Corpus, Corpus]:
    """The training side, and the held-out clips."""
    if what == SIMULATED:
        diseases = generator.labels("disease16")
        if config.task not in ("disease16", "icbhi4") or not diseases:
            raise DataError(
                f"the simulator makes no {config.task} clips for these weights",
                cure="use --task disease16 or icbhi4, or --corpus",
            )
        test = simulated_test(
            config.task,
            known,
            diseases,
            clips=config.clips,
            seconds=generator.seconds,
            seed=config.seed,
            work=work,
        )
        return simulated_train(weights, work, config.train_clips), test
    if what == SPRSOUND:
        return sprsound(root, work)
    corpus = Corpus.open(Path(what))
    learned = [clip for clip in corpus.clips if clip.split in LEARNED and not clip.synthetic]
    held_out = corpus.subset(split="test", task=config.task)
    return Corpus(corpus.folder, learned), as_test(held_out.clips, corpus.folder)


def default_tail(what: str | Path, task: str, known: Sequence[str]) -> tuple[str, ...] | None:
    """Classes of the tail where the test clips are balanced: those that a loop's simulated corpus has few of."""
    if what != SIMULATED:
        return None
    return tuple(known[-SimulateConfig().rare :]) if task == "disease16" else ("both",)


def write(results: dict[str, Any], shown: Shown, sides: Sides, out: Path) -> None:
    """Write ``results.json``, ``results.md``, ``page.html`` and the plots into ``out``."""
    drawn = plots(results, {name: heard.frames for name, heard in shown.rows.items()})
    for name, png in drawn.items():
        write_bytes(out / f"{name}.png", png)
    write_text(out / "results.md", markdown(results))
    write_text(out / "page.html", render(results, shown, sides, drawn))
    write_json(out / "results.json", {**results, "bars": bars(results)})
