"""The process between a trial and its program: it ends the program when the trial is gone.

A trial may be killed at any time, and its program must not go on without it. Ray, too, kills the
children of a trial's process, but neither their children nor gently. So this process leaves its
parent at once (Ray does not find it), starts the program in a process group of its own, and ends
the group as soon as the trial closes its end of a pipe, or is gone.

It is run as a file, with nothing but Python's own library, which takes some milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import Final

#: Linux's ``PR_SET_CHILD_SUBREAPER``.
_SET_CHILD_SUBREAPER: Final = 36


def main(arguments: list[str]) -> None:
    """Run a program to its end, or to the trial's.

    Args:
        arguments: the pipe that the trial closes; the pipe that says how the program ended, as its
            exit code or as text if it could not be started; the seconds that its processes have
            after SIGTERM, and after SIGKILL; and its command line.
    """
    life, report = map(int, arguments[:2])
    seconds, last_seconds = map(float, arguments[2:4])
    if os.fork():
        os._exit(0)
    os.setsid()
    _adopt_orphans()
    try:
        program = subprocess.Popen(  # noqa: S603 - as the sweep file says
            arguments[4:], stdin=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        os.write(report, str(error).encode())
        return
    over, closed_by_waiter = os.pipe()
    waiter = threading.Thread(target=_wait, args=(program, closed_by_waiter), daemon=True)
    waiter.start()
    if life in select.select([life, over], [], [])[0]:
        _end(program, seconds, last_seconds)
    waiter.join()
    with contextlib.suppress(BrokenPipeError):  # the trial is gone
        os.write(report, str(program.returncode).encode())


def _adopt_orphans() -> None:
    """Become the parent of what the program leaves: another might not see for long that it ended.

    A container's first process, say, is seldom made for that.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wait(program: subprocess.Popen[bytes], pipe: int) -> None:
    program.wait()
    os.close(pipe)


def _end(program: subprocess.Popen[bytes], seconds: float, last_seconds: float) -> None:
    # A shell is gone at once, while the program that it has started may not want to end.
    if not _have_ended(program, signal.SIGTERM, seconds):
        _have_ended(program, signal.SIGKILL, last_seconds)


def _have_ended(program: subprocess.Popen[bytes], number: signal.Signals, seconds: float) -> bool:
    """Send a signal to all of a program's process group, and wait for their end.

    Returns:
        Whether they have ended within these seconds.
    """
    until = time.monotonic() + seconds
    try:
        os.killpg(program.pid, number)
        while time.monotonic() < until:
            if program.returncode is not None:
                with contextlib.suppress(ChildProcessError):  # there are none
                    while os.waitpid(-program.pid, os.WNOHANG)[0]:
                        pass
            os.killpg(program.pid, 0)
            time.sleep(0.02)  # nothing tells of a group's end
    except (ProcessLookupError, PermissionError):  # the latter on macOS, if they are zombies
        return True
    return False


if __name__ == "__main__":
    main(sys.argv[1:])
