"""The process between a trial and its program: it ends the program when the trial is gone.

A trial may be killed at any time, and its program must not go on without it. Ray, too, kills the
children of a trial's process, but neither their children nor gently. So this process leaves its
parent at once (Ray does not find it), starts the program in a process group of its own, and ends
the group as soon as the trial closes its end of a pipe, or is gone.

It is run as a file, with nothing but Python's own library, which takes some milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading


def main(arguments: list[str]) -> None:
    """Run a program to its end, or to the trial's.

    Args:
        arguments: the pipe that the trial closes; the pipe that says how the program ended, as its
            exit code or as text if it could not be started; the seconds that it has after SIGTERM;
            and its command line.
    """
    life, report, seconds = int(arguments[0]), int(arguments[1]), float(arguments[2])
    if os.fork():
        os._exit(0)
    os.setsid()
    try:
        program = subprocess.Popen(  # noqa: S603 - as the sweep file says
            arguments[3:], stdin=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        os.write(report, str(error).encode())
        return
    threading.Thread(target=_end_with_trial, args=(life, program, seconds), daemon=True).start()
    ended = str(program.wait()).encode()
    with contextlib.suppress(BrokenPipeError):  # the trial is gone
        os.write(report, ended)


def _end_with_trial(life: int, program: subprocess.Popen[bytes], seconds: float) -> None:
    os.read(life, 1)  # nothing is ever written to it
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(seconds)
        os.killpg(program.pid, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
