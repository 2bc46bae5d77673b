"""Raw labels of the publishers → classes of our tasks. Versioned: a change of meaning raises ``VERSION``.

A raw label that is not listed here is quarantined as unknown, never guessed and never "other".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from resp229k.clip import EventKind

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


def disease(source: str, raw: str) -> str | None:
    """``disease16`` class of a source's raw diagnosis; None when unknown."""
    return _find(_DISEASE[source], raw)


def spr_event(raw: str) -> tuple[str, tuple[EventKind, ...]] | None:
    """``spr_event`` class and sounds of a raw event type; None when unknown."""
    return _find(_SPR_EVENT, raw)


def spr_record(raw: str) -> str | None:
    """``spr_record`` class of a raw record annotation; None when unknown."""
    return _find(_SPR_RECORD, raw)


def _find(table: dict[str, T], raw: str) -> T | None:
    return table.get(raw.strip().lower())


def has_crackle(kinds: Iterable[str]) -> bool:
    """Whether the sounds contain a crackle."""
    return any(kind in _CRACKLES for kind in kinds)


def has_wheeze(kinds: Iterable[str]) -> bool:
    """Whether the sounds contain a continuous one: rhonchi and stridor count as wheeze in ``icbhi4``."""
    return any(kind not in _CRACKLES for kind in kinds)
