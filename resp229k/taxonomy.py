"""Raw labels of the publishers → classes of our tasks. Versioned: a change of meaning raises ``VERSION``.

A raw label that is not listed here is an error that names every unknown one, never a guess and
never "other".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from resp229k.clip import EventKind
from training.errors import DataError

T = TypeVar("T")
VERSION = 1

# disease16, by source. Keys are compared without case and surrounding blanks.
_DISEASE: dict[str, dict[str, str]] = {
    "sprsound": {
        "control group": "Control",
        "asthma": "Asthma",
        "pneumonia (non-severe)": "Pneumonia",
        "pneumonia (severe)": "Pneumonia",
        "bronchitis": "Bronchitis",
        "bronchiolitis": "Bronchiolitis",
        "bronchiectasia": "Bronchiectasis",
        "acute upper respiratory infection": "URTI",
        "airway foreign body": "Airway Foreign Body",
        # A symptom or a disease outside the sixteen classes.
        "hemoptysis": "Other Respiratory Disease",
        "chronic cough": "Other Respiratory Disease",
        "pulmonary hemosiderosis": "Other Respiratory Disease",
        "other respiratory diseases": "Other Respiratory Disease",
    },
    "icbhi": {
        "healthy": "Control",
        "asthma": "Asthma",
        "copd": "COPD",
        "pneumonia": "Pneumonia",
        "bronchiolitis": "Bronchiolitis",
        "bronchiectasis": "Bronchiectasis",
        "urti": "URTI",
        "lrti": "LRTI",
    },
}

# SPRSound event type → (class of spr_event, the sounds it contains).
_SPR_EVENT: dict[str, tuple[str, tuple[EventKind, ...]]] = {
    "normal": ("Normal", ()),
    "rhonchi": ("Rhonchi", ("rhonchus",)),
    "wheeze": ("Wheeze", ("wheeze",)),
    "stridor": ("Stridor", ("stridor",)),
    "coarse crackle": ("Coarse Crackle", ("coarse crackle",)),
    "fine crackle": ("Fine Crackle", ("fine crackle",)),
    "wheeze+crackle": ("Wheeze+Crackle", ("wheeze", "crackle")),
}

_SPR_RECORD: dict[str, str] = {
    "normal": "Normal",
    "cas": "CAS",
    "das": "DAS",
    "cas & das": "CAS & DAS",
    "poor quality": "Poor Quality",
}

_CRACKLES = frozenset({"crackle", "fine crackle", "coarse crackle"})


class Reader:
    """Looks raw labels up and remembers those it does not know, so that one error can list them all."""

    def __init__(self, source: str):
        self.source = source
        self.unknown: set[str] = set()

    def disease(self, raw: str) -> str | None:
        """``disease16`` class of a raw diagnosis; None and remembered when unknown."""
        return self._find(_DISEASE[self.source], raw, "diagnosis")

    def spr_event(self, raw: str) -> tuple[str, tuple[EventKind, ...]] | None:
        """``spr_event`` class and sounds of a raw event type; None and remembered when unknown."""
        return self._find(_SPR_EVENT, raw, "event")

    def spr_record(self, raw: str) -> str | None:
        """``spr_record`` class of a raw record annotation; None and remembered when unknown."""
        return self._find(_SPR_RECORD, raw, "record annotation")

    def finish(self, where: object) -> None:
        """Complain about everything unknown.

        Raises:
            DataError: with all unknown raw labels and the file that they belong into.
        """
        if self.unknown:
            raise DataError(
                f"unknown raw labels of {self.source}: {', '.join(sorted(self.unknown))}",
                path=str(where),
                cure="correct the annotation, or add the label to resp229k/taxonomy.py and raise its VERSION",
            )

    def _find(self, table: dict[str, T], raw: str, what: str) -> T | None:
        found = table.get(raw.strip().lower())
        if found is None:
            self.unknown.add(f"{what} {raw.strip()!r}")
        return found


def has_crackle(kinds: Iterable[str]) -> bool:
    """Whether the sounds contain a crackle."""
    return any(kind in _CRACKLES for kind in kinds)


def has_wheeze(kinds: Iterable[str]) -> bool:
    """Whether the sounds contain a continuous one: rhonchi and stridor count as wheeze in ``icbhi4``."""
    return any(kind not in _CRACKLES for kind in kinds)
