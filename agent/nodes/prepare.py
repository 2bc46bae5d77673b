"""``prepare``: the corpus, and what the planners may know of its training split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.config import LoopConfig
from agent.planners import SYNTHESIZING
from agent.screen import ScreenReport
from agent.state import LoopState
from agent.work import Work
from resp229k.clip import VALID
from resp229k.corpus import Corpus
from resp229k.tasks import get_task
from training.config import validate
from training.errors import ConfigError, ContaminationError, DataError
from training.files import read_json, write_json


def prepare(work: Work, state: LoopState) -> dict[str, Any]:
    """Build the corpus once per run; count classes and sources of train."""
    config = work.config
    inputs = {
        "corpus": config.corpus.model_dump(mode="json"),
        "task": config.task,
        "preprocess": config.preprocess.model_dump(mode="json"),
        "weights": work.rooms.weights_digest(),
        "backend": config.generator.backend,
        "tail_share": config.tail_share,
        "planners": sorted(config.planners),
    }

    def make(folder: Path) -> dict[str, Any]:
        corpus = work.rooms.build_corpus(work.path("corpus"))
        encoder = work.rooms.encoder_provenance()
        check_held_out(corpus, set(encoder.subjects), "the encoder was trained")
        # Chosen on this corpus's own select it may be: that is what select is for.
        check_held_out(corpus, encoder.selected_on, "the encoder was chosen", ("plan", "test"))
        facts = training_facts(corpus, config)
        facts["plannable"] = _plannable(work, corpus, facts)
        write_json(folder / "facts.json", facts)
        unmade = [name for name, count in facts["real"].items() if count and name not in facts["plannable"]]
        synthesizes = bool(SYNTHESIZING & set(config.planners))
        return {
            "train": sum(facts["real"].values()),
            "tail": facts["tail"],
            "unmade": unmade if synthesizes else [],
        }

    folder, result = work.once("prepare", 0, inputs, make)
    note = f"{result['train']} training clips, tail: {', '.join(result['tail'])}"
    if result["unmade"]:
        note += (
            f"; no synthetic clips of {', '.join(result['unmade'])}: unknown to the generator or the judge"
        )
    return {"facts": folder, "note": note}


def read_facts(work: Work, state: LoopState) -> dict[str, Any]:
    """What :func:`prepare` found."""
    return read_json(work.path(state["facts"]) / "facts.json")


def read_screen(work: Work, folder: str) -> ScreenReport:
    """The screen's report in a node folder."""
    return validate(ScreenReport, read_json(work.path(folder) / "screen.json"), where=folder)


def training_facts(corpus: Corpus, config: LoopConfig) -> dict[str, Any]:
    """Counts and sources per class of the real training clips, and the tail.

    Raises:
        DataError: a split that the loop needs is empty, or train has a single class.
    """
    for split in ("train", "select", "plan", "test"):
        if not len(corpus.subset(split=split, task=config.task)):
            raise DataError(
                f"split {split} has no clip labelled for {config.task}",
                path=corpus.folder,
                cure="use a larger corpus or another task",
            )
    train = corpus.subset(split="train", task=config.task)
    real = train.counts(config.task)
    if sum(count > 0 for count in real.values()) < 2:
        raise DataError(
            f"train holds fewer than two classes of {config.task}",
            path=corpus.folder,
            cure="use a larger corpus or another task",
        )
    sources: dict[str, list[str]] = {}
    for name in real:
        sources[name] = sorted({c.source for c in train.clips if c.labels[config.task] == name})
    return {
        "corpus": corpus.digest,
        "real": real,
        "sources": sources,
        "train_sources": sorted({c.source for c in train.clips}),
        "tail": tail_classes(real, config.tail_share),
    }


def tail_classes(real: dict[str, int], share: float) -> list[str]:
    """Classes with less than ``share`` of an even share of the training clips; at least the rarest.

    Classes without training clips are no tail: nothing can be learnt or repeated of them.
    """
    present = {name: count for name, count in real.items() if count > 0}
    even = sum(present.values()) / len(present)
    tail = sorted(name for name, count in present.items() if count < share * even)
    return tail or [min(present, key=lambda name: (present[name], name))]


def check_held_out(
    corpus: Corpus, known: set[str], who: str, splits: Sequence[str] = (*VALID, "test")
) -> None:
    """Refuse weights that know the subjects which diagnosers are selected, planned and tested on.

    Args:
        corpus: of the loop.
        known: subjects that the weights know.
        who: and how they met them, e.g. "the encoder was trained".
        splits: that none of them may be in.

    Raises:
        ContaminationError: naming one of the subjects.
    """
    held_out = {c.subject_id for c in corpus.clips if c.split in splits}
    shared = sorted(held_out & known)
    if shared:
        raise ContaminationError(
            f"{who} on {len(shared)} held-out subjects, e.g. {shared[0]}",
            path=corpus.folder,
            cure="use weights that were trained on other subjects",
        )


def _plannable(work: Work, corpus: Corpus, facts: dict[str, Any]) -> list[str]:
    """Classes with training clips that both generator and judge know; none when nobody synthesizes.

    Raises:
        ContaminationError: generator or judge were trained on subjects that are held out here.
        ConfigError: clips of ``preprocess.seconds`` are longer than the generator can make.
    """
    if not SYNTHESIZING & set(work.config.planners):
        return []
    check_held_out(corpus, work.rooms.trained_subjects(), "generator or judge were trained")
    known = set(work.rooms.generator_labels()) & set(work.rooms.judge_classes())
    found = [name for name in get_task(work.config.task).classes if name in known and facts["real"][name] > 0]
    seconds, longest = work.config.preprocess.seconds, work.rooms.longest_clip()
    if found and seconds > longest:
        raise ConfigError(
            f"preprocess.seconds is {seconds:g}, the generator makes at most {longest:g} s",
            cure=f"set preprocess.seconds to {longest:g} or less, or plan without synthesis",
        )
    return found
