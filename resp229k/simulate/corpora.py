"""Simulated corpora: parallel, independent of the number of workers, atomic, and reopened when present."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from resp229k.audio import RATE
from resp229k.clip import Clip, Split
from resp229k.corpus import Corpus
from resp229k.simulate.clips import make_clip, make_recipe
from resp229k.simulate.compose import draw_subject
from resp229k.simulate.config import SIMULATED, VERSION, SimulateConfig, check_built
from resp229k.simulate.seeds import stream
from resp229k.simulate.style import source_style
from resp229k.tasks import get_task
from training.errors import DataError
from training.files import digest, new_folder, read_json, write_json
from training.orphans import die_with
from training.progress import track

COMMENT = "simulated respiratory sound of a Resp-Agent corpus; not a recording of a person"
RECORD = "simulate.json"  # what the corpus was made from


@dataclass(frozen=True)
class Job:
    """One clip to make; everything in it is plain data, so it travels to a worker process."""

    source: str
    subject: int
    number: int  # of the subject's clips
    split: Split
    task: str
    label: str
    seconds: float

    @property
    def subject_id(self) -> str:
        """Global identity of the subject."""
        return f"{self.source}:{self.subject}"


def simulate_corpus(config: SimulateConfig, folder: Path) -> Corpus:
    """Make the corpus of a config in ``folder``, or reopen it if it is already there.

    Labels: ``disease16`` from the recipe, ``icbhi4`` from the events. Subjects are in one split
    only; the sources of train, of valid and of test are disjoint.

    Raises:
        DataError: the folder holds something else.
    """
    what = {"corpus": config.model_dump(mode="json", exclude={"workers"}), "version": VERSION}
    return _make(list(corpus_jobs(config)), folder, what, config.workers)


def simulate_events(
    n: int,
    seed: int,
    folder: Path,
    *,
    classes: Sequence[str] = SIMULATED,
    seconds: float = 4.0,
    workers: int = 2,
    subjects_per_source: int = 12,
) -> Corpus:
    """Make ``n`` clips for pre-training: split ``pretrain``, many random styles, events annotated.

    Every second subject is drawn from the recipe of one of ``classes`` in turn (labels ``disease16``
    and ``icbhi4``), the others are event mixtures without a disease (``icbhi4`` alone). Three clips per subject. Sources
    are called ``sim-pretrain<seed>-<k>``: none of them is in a corpus of :func:`simulate_corpus`.

    Raises:
        DataError: the folder holds something else, ``n`` or ``seconds`` is below 1, or a class is
            unknown or none is given.
    """
    if n < 1 or seconds < 1:
        raise DataError(f"cannot make {n} clips of {seconds} s", cure="ask for 1 clip of 1 s or more")
    if not classes:
        raise DataError("no class to simulate", cure=f"give some of: {', '.join(SIMULATED)}")
    for name in classes:
        check_built(name)
    options = {
        "n": n,
        "seed": seed,
        "classes": list(classes),
        "seconds": seconds,
        "subjects_per_source": subjects_per_source,
    }
    jobs = list(event_jobs(n, seed, classes, seconds, subjects_per_source))
    return _make(jobs, folder, {"events": options, "version": VERSION}, workers)


def corpus_jobs(config: SimulateConfig) -> Iterator[Job]:
    """The clips of a config; the subjects of a class take turns on its sources."""
    train = config.train_counts()
    groups: list[tuple[Split, str, int, tuple[str, ...]]] = []
    for label in config.classes:
        groups.append(("train", label, train[label], config.train_sources_of(label)))
        groups.append(("select", label, config.select, config.sources()["valid"]))
        groups.append(("plan", label, config.plan, config.sources()["valid"]))
        groups.append(("test", label, config.test, config.sources()["test"]))
    next_subject: dict[str, int] = {}
    for split, label, count, sources in groups:
        for first in range(0, count, config.clips_per_subject):
            source = sources[first // config.clips_per_subject % len(sources)]
            subject = next_subject.get(source, 0)
            next_subject[source] = subject + 1
            for number in range(min(config.clips_per_subject, count - first)):
                yield Job(source, subject, number, split, "disease16", label, config.seconds)


def event_jobs(
    n: int, seed: int, classes: Sequence[str], seconds: float, subjects_per_source: int
) -> Iterator[Job]:
    """The clips of :func:`simulate_events`."""
    mixtures = get_task("icbhi4").classes
    for index in range(n):
        subject, number = divmod(index, 3)
        source, place = divmod(subject, subjects_per_source)
        turn = subject // 2
        task, labels = ("disease16", classes) if subject % 2 == 0 else ("icbhi4", mixtures)
        name = f"sim-pretrain{seed}-{source}"
        yield Job(name, place, number, "pretrain", task, labels[turn % len(labels)], seconds)


def _make(jobs: Sequence[Job], folder: Path, what: dict[str, Any], workers: int) -> Corpus:
    wanted = digest(what)
    if (folder / RECORD).is_file():
        if read_json(folder / RECORD).get("digest") == wanted:
            return Corpus.open(folder)
        raise DataError(
            "holds a corpus of another config", path=folder, cure="delete it or name another folder"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError("exists and is no simulated corpus", path=folder, cure="name another folder")
    with new_folder(folder) as temporary:
        (temporary / "audio").mkdir()
        clips = list(track(_run(jobs, temporary, workers), "simulating clips", total=len(jobs)))
        Corpus(temporary, clips).save()
        write_json(temporary / RECORD, {"digest": wanted, **what})
    return Corpus.open(folder)


def _run(jobs: Sequence[Job], folder: Path, workers: int) -> Iterable[Clip]:
    """Clips in the order of the jobs."""
    if workers == 1 or len(jobs) < 32:
        yield from (run_job(job, folder) for job in jobs)
        return
    # Spawn, not fork: the parent may already hold threads of torch.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=die_with, initargs=(os.getpid(),))
    with pool:
        yield from pool.map(run_job, jobs, [folder] * len(jobs), chunksize=8)


def run_job(job: Job, folder: Path) -> Clip:
    """Make one clip and write it to ``folder/audio``."""
    # The subject's stream does not hold the clip's number: all clips of a subject agree on it.
    rng = stream(job.subject_id, job.task, job.label, "subject")
    recipe = make_recipe(job.task, job.label, rng)
    subject = draw_subject(recipe, rng)
    seed = f"{job.subject_id}/{job.number}"
    made = make_clip(job.task, job.label, recipe, subject, source_style(job.source), job.seconds, seed)
    name = f"{job.source}-{job.subject:04d}-{job.number}"
    write_flac(folder / "audio" / f"{name}.flac", made.wave)
    return Clip(
        clip_id=name,
        recording_id=name,
        subject_id=job.subject_id,
        source=job.source,
        split=job.split,
        path=f"audio/{name}.flac",
        start=0.0,
        end=made.wave.size / RATE,
        device=made.device,
        sample_rate=made.sample_rate,
        labels=made.labels,
        events=made.events,
        metadata=made.metadata,
    )


def write_flac(path: Path, wave: np.ndarray) -> None:
    """Write 16-bit FLAC that says it is simulated.

    Its comment differs from that of generated clips: a simulated clip may be in valid or test.
    """
    with sf.SoundFile(path, "w", samplerate=RATE, channels=1, format="FLAC", subtype="PCM_16") as file:
        file.comment = COMMENT
        file.write(wave)
