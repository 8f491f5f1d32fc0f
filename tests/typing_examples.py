"""What type checkers make of the public names. Checked by mypy --strict; nobody runs it.

An example of something wrong carries the error that it has to give: without that error,
mypy would complain of the comment.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, assert_type

from ray import tune
from wandb import Run

from wbtune import (
    ConfigurationError,
    CredentialsError,
    InvalidTrainableError,
    UnknownOptionError,
    WandbLoggerCallback,
    WandbMixin,
    WbtuneError,
    setup_wandb,
    wandb_trial,
    wandb_tuner,
)

# --- The decorator keeps what the function returns; the run is no argument of it. ---


@wandb_trial
def bare(config: dict[str, float], run: Run) -> dict[str, float]:
    run.log({"loss": config["lr"]})
    return {"loss": config["lr"]}


@wandb_trial(project="docs", excludes=["debug/*"], log_results=False, tags=["a"], mode="offline")
def called(config: dict[str, float], run: Run) -> float:
    return config["lr"]


@wandb_trial()
def steps(config: dict[str, float]) -> Generator[dict[str, float], None, None]:
    yield config


class Trainer:
    @wandb_trial(project="docs")
    def train(self, config: dict[str, float], run: Run) -> int:
        return len(config)


assert_type(bare({}), dict[str, float])
assert_type(called({}), float)
assert_type(called({}, run=setup_wandb()), float)
assert_type(steps({}), Generator[dict[str, float], None, None])
assert_type(Trainer().train({}), int)
assert_type(wandb_trial(lambda config: "text")({}), str)

wandb_trial(3)  # type: ignore[call-overload]
wandb_trial("docs")  # type: ignore[call-overload]
wandb_trial(project=3)  # type: ignore[call-overload]
wandb_trial(excludes="loss")  # type: ignore[call-overload]
wandb_trial(tags="loss")  # type: ignore[call-overload]
wandb_trial(projct="docs")  # type: ignore[call-overload]
wandb_trial(mode="ofline")  # type: ignore[call-overload]
wandb_trial(upload_checkpoints="last")  # type: ignore[call-overload]
bare({}) + 1  # type: ignore[operator]


# --- The mixin has a run, which nobody assigns. ---


class Train(WandbMixin, tune.Trainable, project="docs", group="g", tags=["a"]):
    def setup(self, config: dict[str, Any]) -> None:
        assert_type(self.run, Run)
        self.run.watch(None)

    def step(self) -> dict[str, Any]:
        self.run = setup_wandb()  # type: ignore[misc]
        return {"loss": 1.0, "done": True}


class Slips(WandbMixin, tune.Trainable, projct="docs"):  # type: ignore[call-arg]
    pass


# --- The other ways. ---


class PPOLike:
    def to_dict(self) -> dict[str, Any]:
        return {}


assert_type(setup_wandb(), Run)
assert_type(setup_wandb({"lr": 0.1}, project="docs", rank_zero_only=False), Run)
assert_type(wandb_tuner(Train, project="docs"), tune.Tuner)
assert_type(
    wandb_tuner(bare, param_space={"lr": 0.1}, run_config=tune.RunConfig(), mode="offline"),
    tune.Tuner,
)
assert_type(wandb_tuner(bare, {"lr": 0.1}, upload_checkpoints="best"), tune.Tuner)
assert_type(wandb_tuner("PPO", PPOLike()), tune.Tuner)
wandb_tuner(bare, tune.TuneConfig())  # type: ignore[arg-type]
wandb_tuner(bare, project=3)  # type: ignore[arg-type]
wandb_tuner(bare, projct="docs")  # type: ignore[call-arg]
wandb_tuner(bare, metric="loss")  # type: ignore[call-arg]
wandb_tuner(bare, upload_checkpoints="bset")  # type: ignore[arg-type]
wandb_tuner(bare, excludes="abc")  # type: ignore[arg-type]
wandb_tuner(bare, name=5)  # type: ignore[arg-type]
wandb_tuner(bare, tags="abc")  # type: ignore[arg-type]

tune.RunConfig(callbacks=[WandbLoggerCallback("docs", "g", excludes=("a",), tags=["a"])])
WandbLoggerCallback(excludes=3)  # type: ignore[arg-type]
WandbLoggerCallback(excludes="abc")  # type: ignore[arg-type]
WandbLoggerCallback(upload_checkpoints="bset")  # type: ignore[arg-type]
WandbLoggerCallback(projct="docs")  # type: ignore[call-arg]
WandbLoggerCallback("docs", reinit=True, dir="runs", resume=False, anonymous="allow")
WandbLoggerCallback("docs", fork_from="a?_step=1", resume_from=None, monitor_gym=True)
setup_wandb({}, fork_from=None, resume_from="a?_step=1", anonymous="allow", force=True)
setup_wandb({}, trial_id="a", trial_name="b", excludes=["a"], project="docs", group="g")
setup_wandb({}, projct="docs")  # type: ignore[call-arg]
setup_wandb({}, job_type=3)  # type: ignore[arg-type]

# --- The errors are what their kind is elsewhere, and one base catches them all. ---

as_value_errors: list[ValueError] = [ConfigurationError(), CredentialsError()]
as_type_errors: list[TypeError] = [InvalidTrainableError(), UnknownOptionError()]
all_of_them: list[type[WbtuneError]] = [ConfigurationError, InvalidTrainableError]
