"""The sheet: a plan as YAML that the user edits before clips are made."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from agent.planners import Plan, PlanItem, PlanRequest, validate_plan
from training.errors import DataError
from training.files import write_text

CURE = "mend it, then resume; nothing is lost"


def write_sheet(path: Path, plan: Plan, request: PlanRequest) -> None:
    """Write the plan's items, with what may be changed in comments."""
    lines = [
        f"Plan of {plan.planner} for round {request.round}: {plan.method}. No clip has been made yet.",
        f"The counts must sum to the budget of {request.budget} clips.",
        *_choices(),
        "Classes allowed (real training clips, F1 on the plan split):",
        *[
            f"  {c.label} ({c.real}, {c.f1:.2f})"
            for c in request.ordered()
            if c.real and (plan.method != "synthesize" or c.label in request.plannable)
        ],
    ]
    if plan.note:
        lines += textwrap.wrap(f"Note: {plan.note}", 100)
    head = "".join(f"# {line}\n" for text in lines for line in text.splitlines())
    items = [item.model_dump(mode="json") for item in plan.items]
    body = yaml.safe_dump({"items": items}, sort_keys=False, allow_unicode=True, width=100)
    write_text(path, head + body)


def read_sheet(path: Path, plan: Plan, request: PlanRequest) -> Plan:
    """The plan with the items of the sheet.

    Raises:
        DataError: the sheet is no YAML, or the plan is not allowed; names line and field.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, yaml.SafeLoader)
        values = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 ({error})", path=path, cure=CURE) from error
    except (yaml.YAMLError, ValueError) as error:  # a date that is none, a number beyond digits
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f"line {mark.line + 1}: "
        problem = getattr(error, "problem", None) or str(error)
        raise DataError(f"{where}not YAML ({problem})", path=path, cure=CURE) from error
    if not isinstance(values, dict) or list(values) != ["items"]:
        raise DataError("must hold 'items' and nothing else", path=path, cure=CURE)
    try:
        edited = Plan.model_validate({**plan.model_dump(mode="json"), **values})
    except ValidationError as error:
        faults = []
        for problem in error.errors():
            place = problem["loc"] or ("items",)
            key = ".".join(str(part) for part in place)
            faults.append(f"line {_line(tree, place)}, {key}: {problem['msg']}")
        raise DataError("; ".join(faults), path=path, cure=CURE) from error
    try:
        return validate_plan(edited, request)
    except DataError as error:
        raise DataError(f"{error.message}{_places(tree, edited, request)}", path=path, cure=CURE) from error


def _choices() -> list[str]:
    """``field: values`` of the fields that take one of a few."""
    found = []
    for name, field in PlanItem.model_json_schema()["properties"].items():
        kinds = [field, *field.get("anyOf", [])]
        values = [value for kind in kinds for value in kind.get("enum", [])]
        if values:
            optional = any(kind.get("type") == "null" for kind in kinds)
            found.append(f"{name}: {' | '.join([*map(str, values), *(['null'] if optional else [])])}")
    return found


def _line(node: Any, place: tuple[int | str, ...]) -> int:
    """Line of a value in the YAML text, or of the nearest thing around it, from 1."""
    line = node.start_mark.line + 1
    for part in place:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        elif isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == part), None)
        else:
            node = None
        if node is None:
            break
        line = node.start_mark.line + 1
    return line


def _places(tree: Any, plan: Plan, request: PlanRequest) -> str:
    """Lines of the items of classes that one look at the request finds fault with."""
    states = {c.label: c for c in request.classes}
    wrong = []
    for place, item in enumerate(plan.items):
        state = states.get(item.label)
        beyond = state is not None and item.count > state.most(plan.method, item.style)
        barred = plan.method == "synthesize" and item.label not in request.plannable
        if state is None or not state.real or beyond or barred:
            wrong.append(f"line {_line(tree, ('items', place, 'label'))}, items.{place}")
    return f" ({'; '.join(wrong)})" if wrong else ""
