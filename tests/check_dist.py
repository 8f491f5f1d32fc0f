"""Check what `python -m build` has built: ``python tests/check_dist.py dist``.

The contents; the page that a package index shows; and, installed into an environment of its own,
far from the repository and without an account: the command, and the README's first example.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import distributions

#: What the first example logs.
RUNS, ROWS = 2, 60


def problems(folder: Path) -> tuple[Path, list[str]]:
    """Return the wheel, and what is wrong with the files that were built."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    found = [f"{wheel.name}: {one}" for one in distributions.of_wheel(wheel)]
    found += [f"{sdist.name}: {one}" for one in distributions.of_sdist(sdist)]
    dead = distributions.dead(distributions.description(wheel))
    return wheel, found + [f"the description has a dead link: {link}" for link in dead]


def python_with(wheel: Path, folder: Path) -> Path:
    """Install a wheel into an empty environment; return its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel]
    subprocess.run([*command, "--constraint", distributions.ROOT / "constraints.txt"], check=True)
    return python


def run(python: Path, home: Path, *arguments: str, code: int = 0) -> str:
    """Run Python as someone who has nothing but the wheel; return what it prints."""
    mine = ("WANDB_", "RAY_", "PYTHON", "TUNE_", "COVERAGE")
    env = {name: text for name, text in os.environ.items() if not name.startswith(mine)}
    env |= {"HOME": str(home), "NETRC": str(home / ".netrc"), "RAY_ADDRESS": "local"}
    done = subprocess.run(
        [python, *arguments], cwd=home, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def check_doctor(python: Path, home: Path, version: str) -> None:
    """Without an account, that is the one problem; so its exit code is 1."""
    said = json.loads(
        run(python, home, "-m", "wbtune", "doctor", "--json", "--timeout=100", code=1)
    )
    wrong = [one["what"] for one in said["findings"] if one["level"] == "problem"]
    assert wrong == ["no W&B API key found"], said
    assert f"wbtune {version}," in said["findings"][0]["what"], said


def check_example(python: Path, home: Path) -> str:
    """The README's first example logs its runs; return its line that says how to send them."""
    page = (distributions.ROOT / "README.md").read_text(encoding="utf-8")
    example = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]
    (home / "example.py").write_text(example, encoding="utf-8")
    said = run(python, home, "example.py")
    lines = re.findall(r"^wbtune: .* wbtune sync (\S+)$", said, re.MULTILINE)
    assert len(lines) == 1, said
    sync = ("-m", "wbtune", "sync", lines[0], "--dry-run", "--json")
    found = json.loads(run(python, home, *sync))
    assert (found["runs"], found["rows"]) == (RUNS, ROWS), found
    return f"wbtune sync {lines[0]}"


def main() -> None:
    """Exit with what is wrong."""
    wheel, wrong = problems(Path(sys.argv[1]).resolve())
    if wrong:
        sys.exit("\n".join(wrong))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder, "home").resolve()
        home.mkdir()
        python = python_with(wheel, Path(folder, "environment"))
        module = run(python, home, "-c", "import wbtune; print(wbtune.__file__)")
        assert module.startswith(folder), module
        check_doctor(python, home, wheel.name.split("-")[1])
        sync = check_example(python, home)
    print(f"{wheel.name} is fine: contents, page, wbtune doctor, the README's first example")
    print(f"the example says how to send its {RUNS} runs with {ROWS} rows: {sync}")


if __name__ == "__main__":
    main()
