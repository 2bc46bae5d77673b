"""What a planner is given and what it returns, and the one check that every plan must pass."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from agent.config import Pick, PlannerName
from training.config import Strict
from training.errors import DataError

Policy = Literal["own", "cross-device", "cross-source", "confused-with"]
POLICIES: tuple[Policy, ...] = ("own", "cross-source", "cross-device", "confused-with")
Making = Literal["restyle", "synthesize"]  # methods that make new clips
# Far above any budget. Python refuses to print integers of thousands of digits, which JSON and YAML may hold.
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class PlanItem(Strict):
    """``count`` clips of one class; ``style`` says whose recordings lend the style.

    ``own``: recordings of the class itself. ``cross-source``: of sources that lack the class,
    ``cross-device``: of devices that lack it in the sources that have it, so that a rare class stops being a
    mark of where it was recorded.
    ``confused-with``: of the class it is most often taken for, so that style cannot tell the two apart.

    ``pick`` says which of the candidates stay (see :func:`agent.screen.screen`); null keeps the judge's
    likeliest.
    """

    label: str
    count: Count
    style: Policy = "own"
    pick: Pick | None = None
    reason: str


class Plan(Strict):
    """What to add in a round. The counts sum to ``budget`` exactly; ``nothing`` has no items.

    ``method`` is ``synthesize``, ``restyle`` (real clips with another recording's style) or
    ``duplicate`` (real clips drawn again).
    """

    planner: PlannerName
    method: Literal["nothing", "duplicate", "restyle", "synthesize"]
    budget: int = Field(ge=0)
    items: list[PlanItem] = []
    note: str = ""

    @model_validator(mode="after")
    def _sums(self) -> Self:
        total = sum(item.count for item in self.items)
        if self.method == "nothing":
            if self.items:
                raise ValueError("a plan that adds nothing has no items")
        elif total != self.budget:
            raise ValueError(f"the counts sum to {total}, not to the budget of {self.budget}")
        names = [(item.label, item.style, item.pick) for item in self.items]
        if len(set(names)) != len(names):
            raise ValueError("a class occurs twice with the same style and pick")
        return self

    @property
    def counts(self) -> dict[str, int]:
        """Planned clips per class."""
        found: dict[str, int] = {}
        for item in self.items:
            found[item.label] = found.get(item.label, 0) + item.count
        return found


class ClassState(Strict):
    """What a planner may know of one class.

    Figures of the diagnoser come from the ``plan`` split: ``f1``, ``recall``, mean ``confidence`` in the
    true class (calibrated), ``confused``, the share of the class's clips given another class, and
    ``confusions``, which classes they were given and how often.
    """

    label: str
    support: int = Field(ge=0)  # clips in the plan split
    f1: float = Field(ge=0, le=1)
    f1_error: float | None = Field(default=None, gt=0)  # its standard error; null takes F1 as exact
    recall: float = Field(default=0.0, ge=0, le=1)
    confidence: float = Field(ge=0, le=1)
    confidence_error: float | None = Field(default=None, gt=0)  # as of F1
    first_confidence: float | None = Field(default=None, ge=0, le=1)  # before anything was added
    confused: float = Field(ge=0, le=1)
    confusions: dict[str, int] = {}
    real: int = Field(ge=0)  # real training clips
    extra: int = Field(default=0, ge=0)  # clips added in earlier rounds
    tail: bool = False
    single_source: bool = False  # the class stands in fewer sources than train has
    gains: list[float] = []  # change of F1 per earlier round in which the class was given clips
    gain_errors: list[float] = []  # their standard errors
    screened: int = Field(default=0, ge=0)  # candidates of the class in earlier screens
    rejected: int = Field(default=0, ge=0)  # those found unusable, copies, duplicates, off class or too hard
    # Distinct draws by method and style; a method that is missing was not counted and has no limit.
    draws: dict[Making, dict[Policy, int]] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.gains) != len(self.gain_errors) or any(e <= 0 for e in self.gain_errors):
            raise ValueError("every gain needs a standard error above 0")
        if self.rejected > self.screened:
            raise ValueError("more clips rejected than screened")
        return self

    @property
    def partner(self) -> str | None:
        """The class it is most often taken for; the name decides ties."""
        return min(self.confusions, key=lambda n: (-self.confusions[n], n), default=None)

    def most(self, method: str, style: Policy) -> float:
        """Distinct clips that a method can make of the class in a style; infinite where not limited.

        Duplicates have no limit: to repeat is what that control does.
        """
        if method == "restyle":
            limits = self.draws.get("restyle")
        else:
            limits = self.draws.get("synthesize") if method == "synthesize" else None
        return float("inf") if limits is None else float(limits.get(style, 0))


class PlanRequest(Strict):
    """Everything a planner is given: figures of classes, never a clip, and nothing of the test split.

    ``plannable`` are the classes that may be synthesized; duplicated and restyled may be any class that
    has real clips. ``rolled_back`` are the earlier rounds that were undone because they did harm.
    """

    budget: int = Field(ge=1)
    classes: list[ClassState]
    plannable: list[str] = []
    round: int = Field(default=1, ge=1)
    rolled_back: list[int] = []
    seed: int = Field(default=0, ge=0)

    def ordered(self) -> list[ClassState]:
        """Classes by name, whatever order they came in."""
        return sorted(self.classes, key=lambda c: c.label)


def validate_plan(plan: Plan, request: PlanRequest) -> Plan:
    """Return the plan if the request allows it, whoever made it.

    Raises:
        DataError: naming every fault: an unknown class, a budget not met, a class that the method cannot
            make, more clips than there are distinct draws, a style that nobody can lend, a style or a
            pick for duplicates.
    """
    faults = _faults(plan, request)
    if faults:
        raise DataError(f"the plan of {plan.planner} is not allowed: " + "; ".join(faults))
    return plan


def _faults(plan: Plan, request: PlanRequest) -> list[str]:
    if plan.method == "nothing":
        return []
    found = []
    total = sum(plan.counts.values())
    if total != request.budget:
        found.append(f"it has {total} clips, the budget is {request.budget}")
    states = {c.label: c for c in request.classes}
    for label in sorted(set(plan.counts) - set(states)):
        found.append(f"there is no class {label!r}")
    asked: dict[tuple[str, Policy], int] = {}
    for item in plan.items:
        if item.label in states:
            asked[item.label, item.style] = asked.get((item.label, item.style), 0) + item.count
            if plan.method == "duplicate" and (item.style != "own" or item.pick):
                found.append(f"duplicates of {item.label} have no style and no pick")
    for label in sorted({label for label, _ in asked}):
        if plan.method == "synthesize" and label not in request.plannable:
            found.append(f"{label} cannot be synthesized")
        elif states[label].real == 0:
            found.append(f"{label} has no real clip to start from")
    for (label, style), count in sorted(asked.items()):
        most = states[label].most(plan.method, style)
        if most == 0:
            found.append(f"no recording lends {label} the style {style}")
        elif count > most:
            found.append(f"{label} has {most:.0f} distinct draws in style {style}, {count} are planned")
    return found
