"""What every test gets: a home of its own, no key, offline; and one Ray for the session."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from drivers import local_ray
from marks import marks_of, reached

hypothesis.settings.register_profile(
    "wbtune",
    deadline=None,  # machines are shared: a slow example is not a failure
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
# `make quick` asks for it; `make test` tries as many as each property wants.
hypothesis.settings.register_profile(
    "quick", parent=hypothesis.settings.get_profile("wbtune"), max_examples=10
)
hypothesis.settings.load_profile("wbtune")

# Before anything imports Ray or wandb: workers inherit it, and wandb reads it once.
for _name in [name for name in os.environ if name.startswith("WANDB_")]:
    del os.environ[_name]
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_ERROR_REPORTING"] = "false"
os.environ["RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
# Workers that nobody has asked for yet: none of Tune's trials takes one.
os.environ["RAY_prestart_worker_first_driver"] = "0"  # noqa: SIM112 - Ray's spelling
# Nobody reads what workers print, but Ray looks for new files ten times a second, in each cluster.
os.environ["RAY_LOG_MONITOR_MANY_FILES_THRESHOLD"] = "1"
os.environ["LOG_NAME_UPDATE_INTERVAL_S"] = "2"
# A shell's background job ignores Ctrl-C, and so would all the programs that are to be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Measured by coverage, processes start half as fast: only those of tests with `measured` are.
_COVERAGE = "COVERAGE_PROCESS_CONFIG"
_MEASURED = os.environ.get(_COVERAGE, "")
# Hundreds of workers import the same modules: one of them compiles.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with what it needs, so that ``-m`` can leave it out."""
    for item in items:
        assert isinstance(item, pytest.Function)
        names = [item.function.__name__, *([item.cls.__name__] if item.cls else [])]
        names += item.fixturenames
        given = [mark.name for mark in item.iter_markers()]
        for mark in marks_of(reached(item.path, names), item.fixturenames, given):
            item.add_marker(mark)
    # Two files at a time: the long ones first, so that neither of the two is left with one.
    no_units = Counter(item.path for item in items if not item.get_closest_marker("unit"))
    items.sort(key=lambda item: no_units[item.path], reverse=True)


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty home: no netrc, no settings of the person who runs the tests."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("NETRC", str(folder / ".netrc"))
        patch.setenv(_COVERAGE, "")
        for name in ("CONFIG", "DATA", "CACHE"):
            patch.setenv(f"WANDB_{name}_DIR", str(folder / name.lower()))
        # wandb reads the environment once, when it is first asked: not in a test that changes it.
        from wandb.sdk import wandb_setup

        from wbtune._run import closing

        wandb_setup._setup(start_service=False)
        yield folder
        closing.end_core()


@pytest.fixture(scope="module")
def measured(home: Path) -> Iterator[None]:
    """The processes that these tests start are measured, if coverage measures at all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_COVERAGE, _MEASURED)
        yield


@pytest.fixture(autouse=True)
def no_core_for_children() -> Iterator[None]:
    """A core that a test has in this process is not that of the programs that others start.

    Nor are the settings those of other tests, if wandb has read the environment in this one.
    """
    from wbtune._run import closing

    before = _wandb_has_read()
    yield
    os.environ.pop("WANDB_SERVICE", None)
    if _wandb_has_read() != before:
        closing.end_core()


def _wandb_has_read() -> tuple[int, dict[str, Any] | None]:
    """Return which singleton wandb has, and its settings: it may have had none until now."""
    from wandb.sdk import wandb_setup

    settings = wandb_setup._singleton and wandb_setup._singleton.settings_if_loaded
    return id(wandb_setup._singleton), settings and dict(settings)


@pytest.fixture(autouse=True)
def no_unmarked_ray(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tune starts a Ray where there is none: a test that brings it about needs the marker."""
    before = _has_ray()
    yield
    assert before or request.node.get_closest_marker("ray") or not _has_ray()


def _has_ray() -> bool:
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before ``ray.init``: `tune.with_parameters` keeps its data instead of storing them."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)


@pytest.fixture(scope="session")
def ray(home: Path) -> Iterator[Any]:
    """One Ray for the whole session; its workers end with it."""
    import ray

    # By its environment: for a `runtime_env`, a job waits for workers of its own.
    with pytest.MonkeyPatch.context() as patch:
        # The workers import the tests' own modules.
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.setenv(_COVERAGE, "")
        local_ray(4)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def moto() -> Iterator[tuple[Any, str]]:
    """Moto's S3 with a bucket: a file system of pyarrow, and what follows a path in an address."""
    from moto.server import ThreadedMotoServer
    from pyarrow import fs

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    s3 = fs.S3FileSystem(
        access_key="any",
        secret_key="any",
        region="us-east-1",
        scheme="http",
        endpoint_override=f"{host}:{port}",
        allow_bucket_creation=True,
    )
    s3.create_dir("bucket")
    yield s3, f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    s3.delete_dir_contents("bucket")  # all of moto's servers in this process have the same buckets
    server.stop()


@pytest.fixture
def printed(ray: Any, capfd: pytest.CaptureFixture[str]) -> Callable[[Path], str]:
    """What the processes of an experiment have printed: its driver, its trials and its helper."""
    folder = Path(ray._private.worker._global_node.get_logs_dir_path())
    before = {path: path.stat().st_size for path in folder.glob("worker-*")}

    def read(experiment: Path) -> str:
        texts = [*capfd.readouterr()]
        for path in folder.glob("worker-*"):
            with path.open("rb") as file:
                file.seek(before.get(path, 0))
                texts.append(file.read().decode(errors="replace"))
        of_helper = experiment / "wandb" / "wbtune.log"
        if of_helper.exists():
            texts.append(of_helper.read_text(encoding="utf-8", errors="replace"))
        return "\n".join(texts)

    return read
