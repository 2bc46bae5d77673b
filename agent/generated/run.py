"""One evaluation from weights to files: load, check that nobody knows the test clips, compare, write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
    check_tail,
    make_sides,
    simulated_test,
    simulated_train,
    sprsound,
)
from agent.generated.table import bars, markdown
from agent.pretrain import WEIGHT_FILES
from beats.encoder import BeatsEncoder
from beats.judge import Judge
from generator.config import FlowConfig
from generator.sample import Generator
from resp229k.corpus import Corpus
from resp229k.simulate.config import SimulateConfig
from training.config import weights_path
from training.errors import CheckpointError, DataError
from training.files import digest, folder_digest, write_bytes, write_json, write_text
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
    loaded = load(config)
    sides = find_sides(config, what, loaded, root=root, work=work)
    generator, judge, encoder = loaded.generator, loaded.judge, loaded.encoder
    ears = Ears(judge, encoder, generator.seconds)
    configs = digest([folder_digest(loaded.folder, f"**/{kind}") for kind in WEIGHT_FILES])
    results, shown = Comparison(sides, generator, ears, config, work / "clips" / configs[:8]).run()
    # Names, not paths: the files say nothing of the machine.
    named = {
        name: Path(path).name
        for name in ("weights", "beats", "judge", "encoder")
        if (path := getattr(config, name))
    }
    made_with = {
        "config": config.model_dump(mode="json") | named,
        "weights": generator.digests,
        "judge": weights_digest(judge),
        "encoder": weights_digest(encoder),
    }
    return {**made_with, **results}, shown, sides


class Loaded(NamedTuple):
    """Networks of an evaluation, and the folder of the generator's."""

    folder: Path
    generator: Generator
    judge: Judge
    encoder: BeatsEncoder


def load(config: EvaluateConfig) -> Loaded:
    """Read the networks.

    Raises:
        CheckpointError: one is missing, or does not fit the task.
        ContaminationError: the judge knows subjects of the generator.
    """
    folder = weights_path(config.weights)
    FlowConfig.of_weights(folder)  # says what the folder lacks
    beats_path = None if config.beats is None else beats.find(config.beats)
    generator = Generator.load(folder, config.sample, beats_path=beats_path)
    if not generator.labels(config.task):
        raise CheckpointError(
            f"the generator was not trained on {config.task}",
            path=folder,
            cure=f"give --task: {', '.join(generator.trained.labels)}",
        )
    judge, path = load_judge(config, folder)
    check_judge(judge.provenance.subjects, taught_by(generator), path)
    encoder = generator.encoder if config.encoder is None else beats.load_encoder(beats.find(config.encoder))
    return Loaded(folder, generator, judge, encoder)


def taught_by(generator: Generator) -> set[str]:
    """Subjects that taught the generator its classes.

    Its encoder may have heard others, the judge's too: it learned no class from them.
    """
    networks = [network for network in (generator.mllm, generator.flow) if network is not None]
    return {subject for network in networks for subject in network.provenance.subjects}


def find_sides(config: EvaluateConfig, what: str | Path, loaded: Loaded, *, root: str, work: Path) -> Sides:
    """Both sides of the comparison; the rest as in :func:`evaluate_generator`.

    Raises:
        CheckpointError: the judge lacks a class.
        DataError: fewer than two classes have test clips.
        ContaminationError: a network knows test subjects.
    """
    generator, judge = loaded.generator, loaded.judge
    known = generator.labels(config.task)
    if isinstance(what, str):  # all are compared, and simulating thousands of clips takes long
        check_classes(known, judge)
        check_tail(config.tail or (), known)
    train, test = corpora(config, what, loaded, root=root, work=work)
    sides = make_sides(
        what if isinstance(what, str) else f"corpus {what.resolve().name}",
        config.task,
        known,
        train,
        test,
        config.tail or default_tail(what, config.task, known),
        taught=taught_by(generator),
    )
    check_classes(sides.classes, judge)
    others = {"generator": generator.subjects, "judge": judge.provenance.subjects}
    if config.encoder is not None:
        others["encoder of the Fréchet distance"] = loaded.encoder.provenance.subjects
    check_apart(sides.test.subjects, others)
    return sides


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


def check_classes(classes: Sequence[str], judge: Judge) -> None:
    """Refuse a judge that lacks a class.

    Raises:
        CheckpointError: naming the classes.
    """
    if strange := sorted(set(classes) - set(judge.classes)):
        raise CheckpointError(
            f"the judge does not know {', '.join(strange)}", cure="give a judge of these classes with --judge"
        )


def corpora(
    config: EvaluateConfig, what: str | Path, loaded: Loaded, *, root: str, work: Path
) -> tuple[Corpus, Corpus]:
    """The training side, and the held-out clips."""
    if what == SIMULATED:
        generator = loaded.generator
        diseases = generator.labels("disease16")
        if config.task not in ("disease16", "icbhi4") or not diseases:
            raise DataError(
                f"the simulator makes no {config.task} clips for these weights",
                cure="use --task disease16 or icbhi4, or --corpus",
            )
        test = simulated_test(
            config.task,
            generator.labels(config.task),
            diseases,
            clips=config.clips,
            seconds=generator.seconds,
            seed=config.seed,
            work=work,
        )
        return simulated_train(loaded.folder, diseases, work, config.train_clips), test
    if what == SPRSOUND:
        return sprsound(root, work)
    corpus = Corpus.open(Path(what))
    learned = [clip for clip in corpus.clips if clip.split in LEARNED and not clip.synthetic]
    held_out = corpus.subset(split="test", task=config.task)
    return Corpus(corpus.folder, learned), as_test(held_out.clips, corpus.folder)


def default_tail(what: str | Path, task: str, known: Sequence[str]) -> tuple[str, ...] | None:
    """The tail where the clips do not tell it: both protocols are balanced, or nearly.

    Of diseases it is those that a loop's simulated corpus has few of, of events the one that is rare everywhere.
    """
    if what not in (SIMULATED, SPRSOUND):
        return None
    return ("both",) if task == "icbhi4" else tuple(known[-SimulateConfig().rare :])


def write(results: dict[str, Any], shown: Shown, sides: Sides, out: Path) -> None:
    """Write ``results.json``, ``results.md``, ``page.html`` and the plots into ``out``."""
    drawn = plots(results, {name: heard.frames for name, heard in shown.rows.items()})
    for name, png in drawn.items():
        write_bytes(out / f"{name}.png", png)
    write_text(out / "results.md", markdown(results))
    write_text(out / "page.html", render(results, shown, sides, drawn))
    write_json(out / "results.json", {**results, "bars": bars(results)})
