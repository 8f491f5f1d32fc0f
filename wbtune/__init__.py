"""Weights & Biases for Ray Tune: each trial has its own W&B run, complete however it ends.

Which one to take:

- `wandb_tuner` instead of ``tune.Tuner``: trials are logged from the driver, as they are.
- `wandb_trial` decorates a trainable function that wants the run itself, as ``run``.
- `WandbMixin` is the same for a class trainable, as ``self.run``.
- `WandbLoggerCallback` and `setup_wandb` replace those of ``ray.air.integrations.wandb``;
  only the import line changes.
- `restore_wandb_tuner` continues an experiment whose driver has died.
- `capabilities` lists what works with the installed releases of Ray and wandb, and what does not.

::

    from ray import tune
    from wbtune import wandb_tuner

    def train(config):
        tune.report({"loss": config["lr"]})

    wandb_tuner(
        train,
        {"lr": tune.grid_search([0.1, 1.0])},
        project="mnist",
        mode="offline",  # to log online, leave it out and run `wandb login` first
    ).fit()

Every error that wbtune raises on purpose is a `WbtuneError`. Whatever can be known on the driver
is raised there, before any trial.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from wbtune.errors import (
    ConfigurationError,
    CredentialsError,
    InvalidTrainableError,
    ServerUnreachableError,
    UnknownOptionError,
    WbtuneError,
)

if TYPE_CHECKING:
    from wbtune.callback import WandbLoggerCallback
    from wbtune.compatibility import capabilities
    from wbtune.decorator import wandb_trial
    from wbtune.mixin import WandbMixin
    from wbtune.restore import restore_wandb_tuner
    from wbtune.setup import setup_wandb
    from wbtune.tuner import wandb_tuner

__version__ = "0.2.0"

__all__ = [
    "ConfigurationError",
    "CredentialsError",
    "InvalidTrainableError",
    "ServerUnreachableError",
    "UnknownOptionError",
    "WandbLoggerCallback",
    "WandbMixin",
    "WbtuneError",
    "capabilities",
    "restore_wandb_tuner",
    "setup_wandb",
    "wandb_trial",
    "wandb_tuner",
]

#: The module of each public name. It is imported when the name is first used, so that
#: `import wbtune`, which the helper process needs too, imports neither Ray nor wandb.
_MODULES: Final = {
    "WandbLoggerCallback": "callback",
    "WandbMixin": "mixin",
    "capabilities": "compatibility",
    "restore_wandb_tuner": "restore",
    "setup_wandb": "setup",
    "wandb_trial": "decorator",
    "wandb_tuner": "tuner",
}


def __getattr__(name: str) -> Any:
    """Import a public name's module when the name is first used."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg, name=name, obj=import_module(__name__))
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, without the modules that define them."""
    return [*__all__, "__doc__", "__name__", "__version__"]
