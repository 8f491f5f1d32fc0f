"""The errors that wbtune raises on purpose.

::

    Exception
    └── WbtuneError                          every error of this package
        ├── ConfigurationError (ValueError)  an option's value can't be used
        ├── UnknownOptionError (TypeError)   an option's name is not known
        ├── InvalidTrainableError (TypeError)  this can't be a trainable, or not here
        ├── CredentialsError (ValueError)    no key, or a key that can't be used
        └── ServerUnreachableError (ConnectionError)  W&B's server does not answer

Whatever can be known on the driver is raised there, before any trial. A user's own exception
is never wrapped in one of these: it passes through unchanged.
"""

from __future__ import annotations


class WbtuneError(Exception):
    """The base of every error that wbtune raises on purpose."""


class ConfigurationError(WbtuneError, ValueError):
    """An option has a value that can't work; the message says which one can."""


class UnknownOptionError(WbtuneError, TypeError):
    """An option's name is neither wbtune's nor one of ``wandb.init``'s."""


class InvalidTrainableError(WbtuneError, TypeError):
    """The object can't be a trainable of Tune, or not in this place."""


class CredentialsError(WbtuneError, ValueError):
    """W&B needs an API key and none was found, or the one given is unusable."""


class ServerUnreachableError(WbtuneError, ConnectionError):
    """The W&B server does not answer, or its answer can't be used."""
