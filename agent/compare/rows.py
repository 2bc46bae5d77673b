"""Rows of a comparison as loop configs: what all share, what a row changes, with and without balancing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.config import LoopConfig, Pick, PlannerName
from agent.config_compare import CompareConfig, RowConfig
from agent.planners import PLANNERS, SYNTHESIZING
from training.config import parse_override, set_value, validate
from training.errors import ConfigError

OWN = ("curriculum", "diagnoser", "gate", "generator", "llm", "screen", "thinker")
"""Sections that a row may change: the corpus, the budget and the rounds are the same for all."""
BALANCED = " +w"


@dataclass(frozen=True)
class Row:
    """A row of the tables.

    Attributes:
        name: of the row's config.
        config: the planner and what it changes.
        balanced: whether the diagnoser draws the classes equally often.
    """

    name: str
    config: RowConfig
    balanced: bool

    @property
    def label(self) -> str:
        """The name, marked where sampling is balanced."""
        return self.name + BALANCED * self.balanced


def with_planners(
    config: CompareConfig | None, planners: Sequence[str], picks: Sequence[Pick], reference: str | None
) -> CompareConfig:
    """Rows from a config and from planners' names, the control ``none`` and the reference always among them.

    Args:
        config: rows by name; None: planners alone.
        planners: each is a row more.
        picks: every synthesizing row that says nothing of ``thinker.pick`` gets a row more for each.
        reference: row to compare with; None takes the config's, or ``oversample``.

    Raises:
        ConfigError: there is no such planner or row.
    """
    given = dict(config.rows) if config is not None else {}
    chosen = reference or (config.reference if config is not None else "oversample")
    known = dict.fromkeys([*given, *PLANNERS, "llm"])
    for name in (*planners, chosen):
        if name not in known:
            raise ConfigError(f"there is no planner or row {name!r}", cure=f"use some of: {', '.join(known)}")
    controls = [name for name in ("none", chosen) if name not in given]
    names = dict.fromkeys([*controls, *given, *planners])
    rows = {name: given.get(name) or validate(RowConfig, {"planner": name}, where=name) for name in names}
    for name, row in list(rows.items()):
        picked = any(change.startswith("thinker.pick=") for change in row.loop)
        if row.planner in SYNTHESIZING and not picked:
            for pick in picks:
                rows[f"{name}, {pick}"] = RowConfig(
                    planner=row.planner, why=row.why, loop=(*row.loop, f"thinker.pick={pick}")
                )
    return CompareConfig(reference=chosen, rows=rows)


def for_models(config: CompareConfig, changes: Sequence[str]) -> tuple[CompareConfig, list[str]]:
    """The rows with changes of section ``llm`` given to those that ask a model, and the changes of the others.

    A loop without the planner ``llm`` would refuse some of them.
    """
    mine = [change for change in changes if change.startswith("llm.")]
    asking = {name: row for name, row in config.rows.items() if row.planner == "llm"}
    if not asking:
        return config, list(changes)
    given = {name: row.model_copy(update={"loop": (*mine, *row.loop)}) for name, row in asking.items()}
    rows = {name: given.get(name, row) for name, row in config.rows.items()}
    return CompareConfig(reference=config.reference, rows=rows), [c for c in changes if c not in mine]


def rows_of(config: CompareConfig) -> list[Row]:
    """Every row without and with balanced sampling.

    Raises:
        ConfigError: a name would be taken for a balanced row, the row ``none`` plans, or a row changes what
            all must share.
    """
    control = config.rows.get("none")
    if control is None or control.planner != "none":
        raise ConfigError("the row 'none' must be there and add nothing", cure="give it planner none")
    if config.reference not in config.rows:
        raise ConfigError(
            f"the reference {config.reference!r} is no row", cure=f"use one of: {', '.join(config.rows)}"
        )
    for name, row in config.rows.items():
        if name.endswith(BALANCED) or not name.strip():
            raise ConfigError(f"a row cannot be called {name!r}", cure=f"leave out {BALANCED.strip()!r}")
        for change in row.loop:
            keys = parse_override(change)[0]
            if keys[0] not in OWN or keys == ["diagnoser", "balanced"]:
                raise ConfigError(
                    f"row {name!r} changes {'.'.join(keys)}, which is the same for all rows",
                    cure=f"change {', '.join(OWN)} only; every row is run with and without balanced sampling",
                )
    return [Row(name, row, balanced) for name, row in config.rows.items() for balanced in (False, True)]


def loop_config(base: LoopConfig, row: Row, seed: int) -> LoopConfig:
    """The loop of a row and seed. A simulated corpus is drawn anew for every seed, subjects and all.

    Raises:
        ConfigError: a value of the row is wrong, or it asks the user for approval.
    """
    values = base.model_dump(mode="json")
    planners: list[PlannerName] = [row.config.planner]
    if row.config.planner != "llm":
        values["llm"]["replay"] = None  # is refused where nobody would read it
    values |= {"planners": planners, "seed": seed}
    values["diagnoser"]["balanced"] = row.balanced
    if base.corpus.kind == "simulated":
        values["corpus"]["simulate"]["seed"] = seed
    for change in row.config.loop:
        set_value(values, *parse_override(change))
    config = validate(LoopConfig, values, where=f"row {row.label!r}")
    if config.curriculum.approve:
        raise ConfigError("a comparison waits for nobody", cure="leave out curriculum.approve")
    return config
