"""Weights & Biases for Ray Tune, as declarations."""

from wbtune.callback import WandbLoggerCallback
from wbtune.decorator import wandb_trial
from wbtune.errors import (
    ConfigurationError,
    CredentialsError,
    InvalidTrainableError,
    ServerUnreachableError,
    UnknownOptionError,
    WbtuneError,
)
from wbtune.mixin import WandbMixin
from wbtune.setup import setup_wandb
from wbtune.tuner import restore_wandb_tuner, wandb_tuner

__all__ = [
    "ConfigurationError",
    "CredentialsError",
    "InvalidTrainableError",
    "ServerUnreachableError",
    "UnknownOptionError",
    "WandbLoggerCallback",
    "WandbMixin",
    "WbtuneError",
    "restore_wandb_tuner",
    "setup_wandb",
    "wandb_trial",
    "wandb_tuner",
]
