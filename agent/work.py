"""Idempotent work: a node's outputs live in ``rounds/NN/<node>-<hash8 of its inputs>/``.

The folder appears under its name when it is complete and ends with ``done.json``, so a node that is
run again returns at once, and nodes of different planners with equal inputs share one folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.config import LoopConfig
from agent.pace import Pace
from training.errors import RunError
from training.files import digest, new_folder, read_json, write_json
from training.run import Run

if TYPE_CHECKING:
    from agent.rooms import Rooms

DONE = "done.json"


@dataclass
class Work:
    """What every node is handed: the run, its config, and the other rooms.

    ``fresh`` lists the folders made by this process, for the progress lines and the tests; ``pace`` is
    how far it is.
    """

    run: Run
    config: LoopConfig
    rooms: Rooms
    fresh: list[str] = field(default_factory=list)
    pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self.pace = Pace(len(self.config.planners), self.config.rounds)

    def path(self, relative: str) -> Path:
        """A path of the run from its relative form."""
        return self.run.folder / relative

    def once(
        self, node: str, number: int, inputs: dict[str, Any], make: Callable[[Path], dict[str, Any]]
    ) -> tuple[str, dict[str, Any]]:
        """Run ``make(folder)`` unless it was done with the same inputs.

        Args:
            node: name of the node.
            number: round the outputs belong to.
            inputs: JSON values that decide the outcome.
            make: writes into the folder it is given and returns a JSON summary.

        Returns:
            the folder relative to the run, and the summary.

        Raises:
            RunError: the folder exists without ``done.json`` or with other inputs.
        """
        folder, key = self._place(node, number, inputs)
        name = self.run.relative(folder)
        found = self.find(node, number, inputs)
        if found is not None:
            return name, found
        with new_folder(folder) as temporary:
            result = make(temporary)
            write_json(temporary / "inputs.json", inputs)
            write_json(temporary / DONE, {"inputs": key, "result": result})
        self.fresh.append(name)
        return name, result

    def find(self, node: str, number: int, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """The summary of what :meth:`once` made of these inputs; None where it is still to be made.

        Raises:
            RunError: as :meth:`once`.
        """
        folder, key = self._place(node, number, inputs)
        if not folder.exists():
            return None
        if not (folder / DONE).is_file():
            raise RunError("is incomplete", path=folder, cure="remove this folder and use --resume")
        record = read_json(folder / DONE)
        if record["inputs"] != key:
            raise RunError("holds the results of other inputs", path=folder, cure="remove this folder")
        result: dict[str, Any] = record["result"]
        return result

    def _place(self, node: str, number: int, inputs: dict[str, Any]) -> tuple[Path, str]:
        """Folder of a node's outputs, and the digest of its inputs."""
        key = digest({"node": node, "inputs": inputs})
        return self.run.folder / "rounds" / f"{number:02d}" / f"{node}-{key[:8]}", key
