"""A loop with the fakes as a process of its own: ``python durability_loop.py RUN [--resume] [--slow NODE]``.

With ``--serve`` it reads such lines from stdin and forks a process for each, so that the packages are
imported once; it prints the process's id and, when it has ended, how.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from agent_fakes import FakeRooms, config

import agent.loop
from agent.loop import run_loop
from training.errors import RespError


class SlowRooms(FakeRooms):
    """Takes its time, so that a signal hits within a step; ``slow`` is a step that takes seconds."""

    slow = ""

    def _called(self, name: str) -> None:
        super()._called(name)
        time.sleep(1.5 if name == self.slow else 0.02)


agent.loop.write_report = lambda *_: None  # as long as the rest of a loop of fakes, and tested elsewhere


def main(arguments: list[str]) -> int:
    run, resume = Path(arguments[0]), "--resume" in arguments
    rooms = SlowRooms(run)
    rooms.slow = arguments[-1] if "--slow" in arguments else ""
    try:
        run_loop(config(rounds=1, planners=["fill", "oversample"]), run, resume, rooms)  # type: ignore[arg-type]
    except (RespError, OSError) as error:
        print(error, flush=True)
        return 2
    return 0


def serve() -> None:
    with tempfile.TemporaryDirectory() as folder:
        main([f"{folder}/first"])  # imports whatever a loop imports on its way
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                code = main(line.split())
            except SystemExit as stop:
                code = int(stop.code or 0)
            finally:
                os._exit(code)
        print(f"pid {child}", flush=True)
        print(f"ended {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        sys.exit(main(sys.argv[1:]))
