"""Copy runs to and from an experiment's remote storage (S3, say).

W&B writes a run into a local folder. If the experiment's storage is remote, that is a
staging folder of the node, and an offline run is copied to ``<experiment>/wandb`` in the
storage when it is closed, and now and then before (:mod:`wbtune._run.live_copies`). In the other
direction, the logs of earlier attempts are fetched, so that a retried trial knows of them on any
node.
"""

from __future__ import annotations

import glob
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from wbtune._data import timeouts

logger = logging.getLogger("wbtune")

#: The beginning of the name of an offline run's folder, which ends in the run's id.
OFFLINE: Final = "offline-run-"
#: How many bytes of a file are read at once.
_AT_ONCE: Final = 1 << 20


class Remote(NamedTuple):
    """The place in a remote storage where an experiment's runs are kept.

    Attributes:
        filesystem: any file system of ``pyarrow.fs``.
        path: the folder's path in that file system.
    """

    filesystem: Any
    path: str

    def __str__(self) -> str:
        return f"{self.filesystem.type_name}://{self.path}"

    def deliver(
        self,
        folder: Path | str,
        run_id: str = "",
        seconds: float = timeouts.COPY_S,
        is_interrupted: Callable[[], bool] = bool,
        after: Callable[[], object] = bool,
    ) -> bool:
        """Copy offline runs to the storage; a failure is logged.

        Args:
            folder: the local folder, which contains ``wandb/``.
            run_id: copy all segments of this run; if empty, those of every run.
            seconds: how long to wait.
            is_interrupted: whether to stop waiting.
            after: waits until nobody else copies these runs.

        Returns:
            Whether everything was copied.
        """
        wandb = Path(folder, "wandb")
        pattern = f"{OFFLINE}*-{glob.escape(run_id)}" if run_id else f"{OFFLINE}*"
        # Found by their logs' names: if two segments were begun in the same second, the second
        # one's folder has a number after the id.
        log = f"run-{glob.escape(run_id)}.wandb" if run_id else "*.wandb"
        runs = {path.parent for path in wandb.glob(f"{OFFLINE}*/{log}")}

        def work() -> None:
            after()
            self._deliver(wandb, runs)

        error = _within(seconds, work, is_interrupted)
        if error is not None:
            logger.warning(
                "wbtune: not copied to %s: %s: %s. Send it from this node: wandb sync %s",
                self,
                type(error).__name__,
                error,
                wandb / pattern,
            )
        return error is None

    def put(self, file: Path, is_interrupted: Callable[[], bool] = bool) -> str | None:
        """Copy a file of the experiment's folder to the storage; a failure is logged.

        Returns:
            Where it is there; None if it was not copied.
        """
        target = f"{self.path.rpartition('/')[0]}/{file.name}"
        error = _within(timeouts.COPY_S, lambda: self._copy(file, target), is_interrupted)
        if error is None:
            return f"{self.filesystem.type_name}://{target}"
        kind = type(error).__name__
        # Cause: The storage is away, or can't be written.
        # Cure: Copy the file yourself, or: wbtune overview DIR.
        logger.warning("wbtune: %s is not copied to %s: %s: %s", file, self, kind, error)
        return None

    def _deliver(self, wandb: Path, runs: Iterable[Path]) -> None:
        for run in sorted(runs):
            for file in sorted(run.rglob("*")):
                if file.is_file():  # it may be W&B's link to a log that is gone
                    self.copy(file, wandb)

    def copy(self, file: Path, wandb: Path, size: int | None = None) -> None:
        """Copy a file of a run.

        Args:
            file: the file, below ``wandb``.
            wandb: the local folder of the runs.
            size: copy only this many bytes of it.

        Raises:
            Exception: whatever the file system raises.
        """
        self._copy(file, f"{self.path}/{file.relative_to(wandb).as_posix()}", size)

    def _copy(self, file: Path, target: str, size: int | None = None) -> None:
        there = self.filesystem.get_file_info(target)
        left = file.stat().st_size if size is None else size
        # A run's log only grows: one of the same or a greater size there has all of this one.
        if file.suffix == ".wandb" and (there.size or 0) >= left:
            return
        if not there.is_file:
            self.filesystem.create_dir(target.rpartition("/")[0], recursive=True)
        with (
            file.open("rb") as source,
            self.filesystem.open_output_stream(target, compression=None) as sink,
        ):
            while data := source.read(min(left, _AT_ONCE)):
                sink.write(data)
                left -= len(data)

    def fetch(self, folder: Path | str, run_id: str = "", seconds: float = timeouts.COPY_S) -> None:
        """Copy from the storage the runs' logs that are not here, or not all; a failure is logged.

        Args:
            folder: the local folder, which contains ``wandb/``.
            run_id: copy the logs of this run; if empty, those of every run.
            seconds: how long to wait.
        """
        wanted = re.compile(rf".*-{re.escape(run_id)}(-\d+)?" if run_id else ".*")
        error = _within(seconds, lambda: self._fetch(Path(folder, "wandb"), wanted))
        if error is not None:
            # Cause: The storage is away.
            # Cure: Nothing to do: the run goes on, but wbtune/attempt may be too small.
            logger.warning(
                "wbtune: could not look for earlier attempts in %s: %s: %s",
                self,
                type(error).__name__,
                error,
            )

    def _fetch(self, wandb: Path, wanted: re.Pattern[str]) -> None:
        from pyarrow import fs  # noqa: PLC0415 - as above

        for run in self.runs():
            # A run that was written here has files besides its log. That of another node may have
            # been fetched while it was written.
            if not wanted.fullmatch(run) or (wandb / run / "files").exists():
                continue
            for info in self.filesystem.get_file_info(fs.FileSelector(f"{self.path}/{run}")):
                if info.extension == "wandb" and info.size > _size(wandb / run / info.base_name):
                    (wandb / run).mkdir(parents=True, exist_ok=True)
                    part = wandb / run / f"{info.base_name}.part"
                    fs.copy_files(
                        info.path,
                        str(part),
                        source_filesystem=self.filesystem,
                        destination_filesystem=fs.LocalFileSystem(),
                        use_threads=False,
                    )
                    part.replace(wandb / run / info.base_name)

    def run_ids(self) -> set[str]:
        """The ids of the runs that were copied to the storage; none if it does not answer."""
        found: set[str] = set()

        def look() -> None:
            from pyarrow import fs  # noqa: PLC0415 - as above

            selector = fs.FileSelector(self.path, allow_not_found=True, recursive=True)
            found.update(
                info.base_name.removeprefix("run-").removesuffix(".wandb")
                for info in self.filesystem.get_file_info(selector)
                if info.extension == "wandb"
            )

        _within(timeouts.COPY_S, look)
        return found

    def runs(self) -> list[str]:
        """The names of the offline runs' folders in the storage."""
        from pyarrow import fs  # noqa: PLC0415 - as above

        found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        names = [info.base_name for info in found if info.type == fs.FileType.Directory]
        return [name for name in names if name.startswith(OFFLINE)]


def _size(path: Path) -> int:
    """The size of a file; -1 if there is none."""
    return path.stat().st_size if path.exists() else -1


def _within(
    seconds: float, work: Callable[[], None], is_interrupted: Callable[[], bool] = bool
) -> Exception | None:
    """Call ``work`` in a thread of its own, and wait for at most this many seconds."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a remote storage may raise anything
            raised.append(error)

    thread = threading.Thread(target=run, name="wbtune-copy", daemon=True)
    thread.start()
    until = time.monotonic() + seconds
    thread.join(min(seconds, timeouts.COPY_LEAST_S))
    while thread.is_alive() and time.monotonic() < until and not is_interrupted():
        thread.join(timeouts.LOOK_S)
    if thread.is_alive():
        return TimeoutError(f"not done after {seconds:g} s, or interrupted")
    return raised[0] if raised else None
