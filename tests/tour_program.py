"""Run a notebook from the top, and write it with its outputs: ``python tour_program.py FROM TO``.

Its kernel is this Python's, and works in the folder of TO.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

import wbtune  # noqa: F401 - the kernel's is the same


def main():
    notebook, done = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    book = nbformat.read(notebook, as_version=4)
    os.chdir(done.parent)  # where the kernel's sockets are, too
    NotebookClient(
        book,
        startup_timeout=280,  # seconds; a busy machine is slow
        timeout=280,
        km=AsyncKernelManager(kernel_name="python3", transport="ipc"),
        resources={"metadata": {"path": str(done.parent)}},
    ).execute()
    nbformat.write(book, done)


if __name__ == "__main__":
    main()
