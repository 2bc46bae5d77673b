"""Run a command as a child that never outlives the loop."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.stop import at_once
from training.errors import RunError
from training.orphans import die_with

PACKAGES = Path(__file__).resolve().parent.parent
TAIL = 15  # lines of the child's log shown when it fails


def run_command(arguments: Sequence[str], *, cwd: Path, log: Path, threads: int) -> None:
    """Run ``python -m agent.cli <arguments>`` and wait for it.

    On Linux the child gets SIGKILL when the loop dies, so that a killed loop leaves no trainer that
    would write into its run. A signal to the loop ends the child at once, for training may take hours
    and systems that send SIGTERM wait for seconds. Threads are fixed: sums depend on their number.

    Args:
        arguments: of ``resp-agent``.
        cwd: folder that relative paths in configs start from.
        log: file for the child's output.
        threads: of every numerical library.

    Raises:
        RunError: the child failed; carries the last lines of its log.
        Stopped: the loop was asked to end.
    """
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment[name] = str(threads)
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(PACKAGES), *filter(None, [environment.get("PYTHONPATH")])]
    )
    command = [sys.executable, "-P", "-m", "agent.cli", *arguments]
    parent = os.getpid()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: die_with(parent),
        )
        try:
            with at_once():
                code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL:])
        shown = " ".join(arguments[:2])
        raise RunError(
            f"`resp-agent {shown}` ended with {code}:\n{tail}", cure="mend the cause, then use --resume"
        )
