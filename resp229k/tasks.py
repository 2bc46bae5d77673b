"""Tasks: their classes, their normal class, and the fields that define their label."""

from __future__ import annotations

from training.config import Strict
from training.errors import DataError


class Task(Strict):
    """A labelling of clips.

    ``defining`` names the clip fields (``events``) and metadata fields (``diagnosis``, ``findings``)
    from which the label is made: a narrative for this task never mentions them.
    """

    name: str
    classes: tuple[str, ...]
    normal: str | None
    defining: frozenset[str]

    def index(self, label: str) -> int:
        """Class index of a label.

        Raises:
            DataError: the label is not of this task.
        """
        if label not in self.classes:
            raise DataError(
                f"unknown label {label!r} for task {self.name}", cure=f"use one of: {', '.join(self.classes)}"
            )
        return self.classes.index(label)


# Which clinical findings and diagnoses speak of one another: a diagnosis is a strong hint at the
# sounds and the reverse, so both are withheld from every task's narrative.
_CLINICAL = frozenset({"events", "findings", "diagnosis"})

DISEASES = (
    "Control",
    "Asthma",
    "COPD",
    "Pneumonia",
    "Bronchiolitis",
    "Pulmonary Fibrosis",
    "Bronchitis",
    "Bronchiectasis",
    "URTI",
    "LRTI",
    "COVID-19",
    "Heart Failure",
    "Pleural Effusion",
    "Lung Cyst",
    "Airway Foreign Body",
    "Other Respiratory Disease",
)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(name="disease16", classes=DISEASES, normal="Control", defining=_CLINICAL),
        Task(
            name="icbhi4",
            classes=("normal", "crackle", "wheeze", "both"),
            normal="normal",
            defining=_CLINICAL,
        ),
        Task(
            name="spr_event",
            classes=(
                "Normal",
                "Rhonchi",
                "Wheeze",
                "Stridor",
                "Coarse Crackle",
                "Fine Crackle",
                "Wheeze+Crackle",
            ),
            normal="Normal",
            defining=_CLINICAL,
        ),
        Task(
            name="spr_record",
            classes=("Normal", "CAS", "DAS", "CAS & DAS", "Poor Quality"),
            normal="Normal",
            defining=_CLINICAL,
        ),
        Task(name="covid", classes=("negative", "positive"), normal="negative", defining=_CLINICAL),
    )
}


def get_task(name: str) -> Task:
    """A task by name.

    Raises:
        DataError: there is no such task.
    """
    if name not in TASKS:
        raise DataError(f"unknown task {name!r}", cure=f"use one of: {', '.join(TASKS)}")
    return TASKS[name]


def icbhi4_label(crackle: bool, wheeze: bool) -> str:
    """Four-class label of a cycle or event from what it contains."""
    return {
        (False, False): "normal",
        (True, False): "crackle",
        (False, True): "wheeze",
        (True, True): "both",
    }[crackle, wheeze]
