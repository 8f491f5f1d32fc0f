"""A trial's program as a process: started, waited for, and ended together with the trial."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from wbtune._data import timeouts
from wbtune._trial import program_supervisor
from wbtune.errors import WbtuneError

_LONGEST_REPORT: Final = 4096


class ProgramFailedError(WbtuneError):
    """A trial's program could not be started, or has failed."""


class ProgramProcess:
    """A program that is running; after the ``with`` block it is not any more.

    Args:
        arguments: its command line.
        environment: its whole environment.
        folder: its working directory.

    Attributes:
        ended: whether it is known to have ended.

    Raises:
        OSError: if no process can be started.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path
    ) -> None:
        life, self._life = os.pipe()
        self._report, report = os.pipe()
        self.ended = False
        seconds = (str(timeouts.PROGRAM_ENDS_S), str(timeouts.PROGRAM_KILLED_S))
        try:
            # `-I -S`: without what the environment or the site adds, which is the program's.
            subprocess.run(  # noqa: S603 - what the sweep file says is run, as by an agent
                [
                    *(sys.executable, "-I", "-S", program_supervisor.__file__),
                    *(str(life), str(report), *seconds, *arguments),
                ],
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                pass_fds=(life, report),
                check=True,
            )
        finally:
            os.close(life)
            os.close(report)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._life)
        if not self.ended:
            self.wait(timeouts.PROGRAM_ENDS_S + timeouts.PROGRAM_KILLED_S)
        os.close(self._report)

    def wait(self, seconds: float) -> bool:
        """Wait for the program's end.

        Returns:
            Whether it has ended.
        """
        readable, _, _ = select.select([self._report], [], [], seconds)
        self.ended = bool(readable)
        return self.ended

    def check(self) -> None:
        """After its end, raise unless it has ended well.

        Raises:
            ProgramFailedError: says how it has ended.
        """
        said = os.read(self._report, _LONGEST_REPORT).decode(errors="replace")
        if said == "0":
            return
        try:
            code = int(said)
        except ValueError:
            # Cause: The kernel, when memory ran out, or a user killed the trial's processes.
            # Cure: Run fewer trials at once: --max-concurrent.
            raise ProgramFailedError(said or "the program's parent process was killed") from None
        if code < 0:
            with contextlib.suppress(ValueError):  # a signal without a name
                # Cause: The kernel, when memory ran out (SIGKILL), a crash (SIGSEGV), or a user.
                # Cure: Look at the program's output above.
                raise ProgramFailedError(f"the program was ended by {signal.Signals(-code).name}")
        # Cure: Look at the program's output above.
        raise ProgramFailedError(f"the program ended with exit code {code}")
