"""What training reads: the corpora opened, their features computed, the repeats applied."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnoser.config import MAKERS, DiagnoserTrainConfig
from diagnoser.predict import DiagnoserRecord
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from training.config import expand
from training.errors import CheckpointError, ContaminationError, DataError
from training.files import read_json
from training.model import Provenance, weights_digest

if TYPE_CHECKING:
    from beats.cache import FeatureStore
    from beats.encoder import BeatsEncoder


@dataclass
class Material:
    """What training reads: clips with their features, and who they are."""

    train: list[Clip]  # extra copies included
    select: list[Clip]
    store: Any
    corpora: list[Corpus]  # the clips' audio
    feature_dim: int
    feature_rows: int
    heard: Provenance  # of the encoder
    maker_subjects: list[str]  # whom generator and judge of the synthetic clips were trained on
    record: DiagnoserRecord
    encoder: BeatsEncoder | None  # only if it is trained too


def gather(config: DiagnoserTrainConfig, store: FeatureStore | None = None) -> Material:
    """Open the corpora, compute the features, apply the repeats.

    Args:
        config: what to train on.
        store: features of the corpus's clips by this encoder and preprocessing, where there are some already,
            as folds share them.

    Raises:
        DataError: no clips to train or select on, or repeats of unknown clips.
        ContaminationError: a synthetic clip comes from a subject that is held out.
        CheckpointError: there is no encoder at ``beats.weights``, or the features are another's.
    """
    import beats
    from beats.cache import FeatureStore, StoreSet

    encoder = beats.load_encoder(beats.find(config.beats.weights))
    if store is not None and store.weights.encoder != weights_digest(encoder):
        raise CheckpointError("features are not of this encoder", path=config.beats.weights)
    corpus = Corpus.open(expand(config.corpus))
    train = corpus.subset(split="train", task=config.task)
    select = corpus.subset(split="select", task=config.task)
    for part, name in ((train, "train"), (select, "select")):
        if not len(part):
            raise DataError(f"no {name} clips with a label of {config.task}", path=corpus.folder)
    held_out = {clip.subject_id for clip in corpus.clips if clip.split in ("select", "plan", "test")}
    parts = [Corpus(corpus.folder, train.clips + select.clips)]
    for folder in config.synthetic:
        parts.append(_synthetic(expand(folder), config.task, held_out))
    stores = [] if store is None else [store]
    stores += [
        FeatureStore.build(
            part,
            encoder=encoder,
            preprocess=config.preprocess,
            folder=expand(config.cache) if config.cache else part.folder / "features",
            max_gb=config.max_gb,
        )
        for part in parts[len(stores) :]
    ]
    added = [clip for part in parts[1:] for clip in part.clips]
    clips = [*train.clips, *added]
    return Material(
        train=clips + repeats(config, clips),
        select=select.clips,
        store=StoreSet(stores),
        corpora=parts,
        feature_dim=stores[0].index.dim,
        feature_rows=stores[0].index.rows,
        heard=encoder.provenance,
        maker_subjects=sorted({name for part in parts[1:] for name in makers(part.folder)}),
        record=DiagnoserRecord(
            beats=config.beats.weights,
            beats_digest=stores[0].weights.encoder,
            preprocess=config.preprocess,
            text=config.text,
            seed=config.seed,
        ),
        encoder=encoder.requires_grad_(True) if config.tune_encoder else None,
    )


def _synthetic(folder: Path, task: str, held_out: set[str]) -> Corpus:
    corpus = Corpus.open(folder).subset(task=task)
    if not len(corpus):
        raise DataError(f"no clips with a label of {task}", path=folder)
    real = [clip.clip_id for clip in corpus.clips if not clip.synthetic]
    if real:
        raise DataError(
            f"{len(real)} clips are not synthetic, e.g. {real[0]}",
            path=folder,
            cure="put real clips into the corpus itself, where the splits are checked",
        )
    leaked = sorted({clip.subject_id for clip in corpus.clips} & held_out)
    if leaked:
        raise ContaminationError(
            f"synthetic clips were made from {len(leaked)} held-out subjects, e.g. {leaked[0]}",
            path=folder,
            cure="take style references from training subjects",
        )
    return corpus


def makers(folder: Path) -> list[str]:
    """Subjects that the makers of a synthetic corpus were trained on; none if the folder does not say.

    Raises:
        DataError: the list is no list of subjects.
    """
    path = folder / MAKERS
    if not path.is_file():
        return []
    found = read_json(path)
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise DataError("must be a list of subject ids", path=path)
    return found


def repeats(config: DiagnoserTrainConfig, clips: list[Clip]) -> list[Clip]:
    """The extra copies that the repeats file asks for.

    Raises:
        DataError: an unknown clip, or no count.
    """
    if config.repeats is None:
        return []
    path = expand(config.repeats)
    wanted = read_json(path)
    known = {clip.clip_id: clip for clip in clips}
    if not isinstance(wanted, dict) or any(type(n) is not int or n < 0 for n in wanted.values()):
        raise DataError("must map clip ids to numbers of extra copies", path=path)
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise DataError(f"{len(unknown)} clips are no training clips, e.g. {unknown[0]}", path=path)
    return [known[name] for name in sorted(wanted) for _ in range(wanted[name])]
