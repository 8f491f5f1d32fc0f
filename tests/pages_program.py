"""The Python examples of pages, in one process: ``pages_program.py RESULTS MARKER PAGE...``.

Each is a main program of its own, as a user's file would be, and all of them have one Ray. One
that calls ``ray.init`` starts its own, and one with a trainer gets its own, as its workers can't
be forked. The home is the current folder, and empty when a page begins; what a page leaves there is
moved into a folder of its own, as Ray reads only once where the home is. What became of each
example is written to RESULTS, a line of JSON for each (see `page_examples.run`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import linecache
import os
import signal
import sys
import time
import traceback
import types
from pathlib import Path

from drivers import local_ray, quick_workers
from page_examples import ROOT, blocks, fenced

#: For one example: seconds on a slow machine are many.
BLOCK_S = 300
#: This program's, while an example prints to a file.
ITS_STDERR = os.dup(2)


class TooLongError(BaseException):
    """An example takes too long; no example catches this."""


def main() -> None:
    """Run the examples of all pages that have the marker."""
    results, marker, *pages = sys.argv[1:]
    quick_workers()
    signal.signal(signal.SIGALRM, _too_long)
    home = Path.home()
    for page in map(Path, pages):
        name = page.relative_to(ROOT).with_suffix("").as_posix().replace("/", "-")
        folder = Path(results).with_name(name)
        folder.mkdir()
        _write_files(page, home)
        for block in blocks(page, marker):
            _write_files(page, home, before=block.line)
            began = time.monotonic()
            with _place(home), _printing(folder.with_suffix(".txt")) as printed:
                error = _run(block)
            text = printed.read_text(encoding="utf-8", errors="replace")
            text = text.replace(str(home), "/home/user")
            result = {"name": block.name, "error": error, "printed": text, "home": str(folder)}
            result["seconds"] = round(time.monotonic() - began, 1)
            with Path(results).open("a", encoding="utf-8") as file:
                print(json.dumps(result), file=file)
        for path in home.iterdir():
            if path.name != ".ray":  # its workers find a token there
                path.rename(folder / path.name)
    print("all pages")


def _too_long(_number, _frame):
    raise TooLongError(f"an example may take {BLOCK_S} s")


def _write_files(page, folder, before=10**9):
    """Write the blocks with a title; the first of a name, or the last before a line."""
    found = [one for one in fenced(page) if one.title and one.line < before]
    for block in found if before < 10**9 else reversed(found):
        (folder / block.title).write_text(block.text, encoding="utf-8")


@contextlib.contextmanager
def _place(home):
    """The current folder, a path to import from and an environment, for one example."""
    before = dict(os.environ)
    os.chdir(home)
    sys.argv = ["example.py"]
    sys.path.insert(0, str(home))
    try:
        yield
    finally:
        sys.path.remove(str(home))
        os.chdir(ROOT)
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _printing(path):
    """All that this process and its children print goes to a file."""
    saved = [os.dup(1), os.dup(2)]
    with path.open("w", encoding="utf-8") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield path
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)


def _run(block):
    """Run an example; the traceback, if it fails."""
    import ray

    # Where Ray hangs in its own code, no signal gets through: then the whole program ends.
    faulthandler.dump_traceback_later(BLOCK_S + 60, exit=True, file=ITS_STDERR)
    its_own = "ray.init(" in block.text
    if its_own or _trains(block):
        ray.shutdown()
    if not (its_own or ray.is_initialized()):
        local_ray(4, forked=not _trains(block))
    # A traceback shows the page and its lines; those of an included file have numbers of their own.
    source = "\n" * (block.line - 1) + block.text
    linecache.cache[block.name] = (len(source), None, source.splitlines(keepends=True), block.name)
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    signal.alarm(BLOCK_S)
    try:
        exec(compile(source, block.name, "exec"), vars(module))
    except (Exception, SystemExit, TooLongError) as error:  # noqa: BLE001 - all are told
        if not (isinstance(error, SystemExit) and not error.code):
            return "".join(traceback.format_exception(error))
    finally:
        signal.alarm(0)
        _end_run()
        if its_own or _trains(block):
            ray.shutdown()
        faulthandler.cancel_dump_traceback_later()
    return None


def _trains(block):
    """Say whether its workers start actors: see `local_ray`."""
    return "Trainer(" in block.text


def _end_run():
    """At the end of a program, wandb finishes the run that is open."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


if __name__ == "__main__":
    main()
