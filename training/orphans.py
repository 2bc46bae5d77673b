"""Children that never outlive the process that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with(parent: int) -> None:
    """Ask, in a child, for SIGKILL at its parent's death; leave at once if it died before that was asked.

    The kernel tells of the death of the *thread* that started the child: start it from one that stays. On
    other systems than Linux only the second half is done.

    Args:
        parent: process id of the parent, taken there.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
