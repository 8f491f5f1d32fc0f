"""Ray's workers, forked from one process that has imported Ray and wandb.

A worker takes four seconds of CPU, three of them for what every worker imports, and the suite
starts many hundreds. `python` makes a command that Ray takes for Python: a worker's program is run
in a fork of a process that has the imports behind it, with the environment, the folder and the
outputs that the raylet gave. The first worker of a job starts that process, which ends with the
raylet. Ray's other processes are started as they are.

As a program, this needs the standard library alone: it is started for each worker, and waits for
its end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
from pathlib import Path

#: What every worker imports; Ray reads these variables at that moment.
MODULES = ("numpy", "pandas", "pyarrow.fs", "ray.train", "ray.tune", "wandb")
SAME = ("RAY_JOB_ID", "RAY_RAYLET_PID")
PROGRAM = "default_worker.py"
CONTEXT = "--serialized-runtime-env-context="


def python(folder: Path) -> str:
    """Make the command, and return its path; sockets are put into the folder, too."""
    command = folder / "python"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {__file__} "{folder}" "$@"\n')
    command.chmod(0o755)
    return str(command)


def main() -> None:
    """Be what the raylet starts."""
    folder, *words = sys.argv[1:]
    asked = worker(words)
    if asked is None:
        os.execv(sys.executable, [sys.executable, *words])
    address = "-".join([f"{folder}/warm", *(os.environ[name] for name in SAME)])
    message = json.dumps([*asked, str(Path.cwd())]).encode()
    with connected(address) as connection:
        socket.send_fds(connection, [len(message).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(message)
        while connection.recv(1):  # until the fork has ended
            pass


def worker(words: list[str]) -> tuple[list[str], dict[str, str]] | None:
    """Return a worker's arguments and its environment; None if it is no ordinary one."""
    at = next((at for at, word in enumerate(words) if word.endswith(PROGRAM)), None)
    if at is None or not all(os.environ.get(name) for name in SAME):
        return None
    given = words[at:]
    env = dict(os.environ)
    # Ray would start another Python, only to set variables: Tune gives each trial one.
    for word in [word for word in given if word.startswith(CONTEXT)]:
        context = json.loads(word.removeprefix(CONTEXT))
        env.update(context.pop("env_vars"))
        context.pop("py_executable")
        if any(context.values()):
            return None
        given.remove(word)
    return [word for word in given if not word.startswith("--language=")], env


def connected(address: str) -> socket.socket:
    """Connect to the process with the imports; the first who asks starts it."""
    connection = socket.socket(socket.AF_UNIX)
    with Path(f"{address}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            connection.connect(address)
        except FileNotFoundError:
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(address)
            listening.listen(100)
            if os.fork() == 0:
                os.setsid()
                os.set_inheritable(listening.fileno(), True)
                code = f"import warm_workers; warm_workers.serve({listening.fileno()})"
                os.environ["PYTHONPATH"] = os.pathsep.join(
                    filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH")))
                )
                os.execv(sys.executable, [sys.executable, "-u", "-c", code])
            listening.close()
            connection.connect(address)
    return connection


def serve(number: int) -> None:
    """Fork a worker for each that asks, as long as the raylet lives."""
    import importlib

    raylet = int(os.environ["RAY_RAYLET_PID"])
    own = {str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    base = [entry for entry in sys.path[1:] if entry not in own]
    for name in MODULES:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    with socket.socket(fileno=number) as listening:
        listening.settimeout(2)
        while Path(f"/proc/{raylet}").exists():
            with contextlib.suppress(TimeoutError):
                connection, _ = listening.accept()
                with connection:
                    if os.fork() == 0:
                        listening.close()
                        become(connection, base)


def become(connection: socket.socket, base: list[str]) -> None:
    """Be the worker that was asked for, in this fork."""
    import runpy

    from ray._raylet import Config

    os.setpgid(0, 0)  # Ray ends a worker's whole group
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection.settimeout(None)
    head, outputs, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as stream:
        sys.argv, env, folder = json.loads(stream.read(int.from_bytes(head, "big")))
    for number, output in enumerate(outputs):
        os.dup2(output, number)
        os.close(output)
    os.environ.clear()
    os.environ.update(env)
    Config.initialize("")  # how Ray's processes recognise one another
    os.chdir(folder)
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [str(Path(sys.argv[0]).parent), *filter(None, given), *base]
    status = 1
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
