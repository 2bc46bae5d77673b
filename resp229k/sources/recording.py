"""What an adapter yields: one published file with its annotations, read but not yet decoded."""

from __future__ import annotations

from pathlib import Path

from resp229k.clip import EventKind, Metadata
from resp229k.quarantine import UNKNOWN_LABEL, Finding
from resp229k.tasks import icbhi4_label
from resp229k.taxonomy import has_crackle, has_wheeze
from training.config import Strict
from training.errors import DataError


class Stretch(Strict):
    """One annotated event or breathing cycle, in seconds of its recording.

    Times stand as published: an impossible pair is judged, and quarantined, where the audio is known.
    """

    start: float
    end: float
    kinds: tuple[EventKind, ...] = ()  # the sounds it contains; none means normal
    labels: dict[str, str] = {}  # task -> class, beside icbhi4
    known: bool = True  # whether the taxonomy knows its raw label; if not, it only keeps its place in the row

    @property
    def crackle(self) -> bool:
        """Whether it contains a crackle."""
        return has_crackle(self.kinds)

    @property
    def wheeze(self) -> bool:
        """Whether it contains a wheeze, rhonchus or stridor."""
        return has_wheeze(self.kinds)

    @property
    def icbhi4(self) -> str:
        """Four-class label."""
        return icbhi4_label(self.crackle, self.wheeze)


class Recording(Strict):
    """One file of a source.

    ``path`` is where the audio should be: publishers ship annotations of recordings that a partial
    download does not hold (:attr:`present`). ``fault`` says why the annotation cannot be used,
    ``unknown`` lists raw labels that the taxonomy does not know, one finding each.
    """

    source: str
    recording_id: str  # <source>:<file stem>
    subject_id: str  # <source>:<subject>
    path: Path
    device: str | None = None
    stretches: tuple[Stretch, ...] = ()
    labels: dict[str, str] = {}  # task -> class, of the whole recording
    metadata: Metadata = Metadata()
    notes: tuple[str, ...] = ()  # published contradictions, e.g. two ages
    fault: str | None = None
    unknown: tuple[Finding, ...] = ()

    @property
    def present(self) -> bool:
        """Whether the audio file is here."""
        return self.path.is_file()


def unknown_label(root: Path, file: Path, what: str, raw: str, clip_id: str | None = None) -> Finding:
    """A raw label that the taxonomy does not know.

    Args:
        root: the source's folder; the finding's path starts with its name.
        file: where the label stands.
        what: kind of label, and whose it is.
        raw: the label as published.
        clip_id: the event concerned.
    """
    path = file.relative_to(root.parent).as_posix()
    return Finding(path=path, reason=UNKNOWN_LABEL, clip_id=clip_id, detail=f"{what} {raw.strip()!r}")


def source_folder(root: Path, name: str, pattern: str, url: str) -> list[Path]:
    """Annotation files of a source, sorted.

    Raises:
        DataError: the folder is missing or holds none.
    """
    cure = f"unpack the published corpus ({url}) there, or set RESP_DATA to the folder that holds it"
    if not root.is_dir():
        raise DataError(f"no {name} folder here", path=root, cure=cure)
    files = sorted(root.glob(pattern))
    if not files:
        raise DataError(f"the {name} folder holds no annotation ({pattern})", path=root, cure=cure)
    return files


def number(text: str | None) -> float | None:
    """A published number; None where it is missing (empty, NA).

    Raises:
        ValueError: neither a number nor a missing mark.
    """
    return None if text is None or text.strip() in ("", "NA", "NaN", "nan") else float(text)


def flat(error: Exception) -> str:
    """An exception on one line, for :attr:`Recording.fault`."""
    return f"{type(error).__name__}: " + " ".join(str(error).split())
