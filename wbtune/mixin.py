"""`WandbMixin`: a class trainable whose run is open when ``setup`` is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack

from wbtune._data.checks import key_in_code
from wbtune._data.keywords import DeclaredOptions
from wbtune._data.option_table import refused_at
from wbtune._data.options import RunOptions, parse
from wbtune._data.outcomes import Outcome
from wbtune._place import identity
from wbtune._run import closing, ownership
from wbtune._trial import tune_hooks
from wbtune._trial.trial_run import TrialRun
from wbtune._upstream import ray_storage, wandb_settings
from wbtune.errors import ConfigurationError, InvalidTrainableError

if TYPE_CHECKING:
    from wandb import Run

PUBLIC_NAME = "WandbMixin"


class WandbMixin(ownership.OwnsRun):
    """Give a class trainable its own W&B run, one for each trial.

    Put it before `tune.Trainable` among the bases. The class keywords are the declaration: the
    options of `wandb_trial`, except ``run_arg``. A subclass inherits the declaration and may
    override parts of it. ``self.run`` is open before ``setup`` is called, is also `wandb.run`,
    and is closed when Tune stops the trainable. With ``reuse_actors=True`` each trial
    gets its own run: ``self.run`` is the new one when ``reset_config`` is called.

    Raises:
        InvalidTrainableError: if `tune.Trainable` does not come after the mixin among the
            bases, or if the mixin itself is called.
        UnknownOptionError: for a keyword that neither wbtune nor ``wandb.init`` has.
        ConfigurationError: for a value that W&B does not accept, an ``api_key=`` or an ``id=``,
            or an option that only the driver can use (``upload_checkpoints=``).

    Runs on: driver (the declaration) and trial (the run).

    Examples:
        >>> from ray import tune
        >>> class Train(WandbMixin, tune.Trainable, project="docs", mode="offline"):
        ...     def setup(self, config):
        ...         self.lr = config["lr"]
        ...
        ...     def step(self):
        ...         self.run.log({"loss": self.lr})
        ...         return {"loss": self.lr, "done": True}

    Source: https://docs.ray.io/en/latest/tune/examples/tune-wandb.html, its third program,
    without passing ids by hand.
    """

    wbtune_options: ClassVar[RunOptions] = RunOptions()

    def __init_subclass__(cls, **declaration: Unpack[DeclaredOptions]) -> None:
        super().__init_subclass__()
        if "api_key" in declaration:
            raise ConfigurationError(key_in_code(PUBLIC_NAME, "api_key= in class keywords"))
        _check_bases(cls)
        names = wandb_settings.init_parameters() if declaration else frozenset()
        public_name = f"class {cls.__name__}({PUBLIC_NAME})"
        cls.wbtune_options |= parse(public_name, declaration, names, refused_at(PUBLIC_NAME))

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuse ``class Train(WandbMixin(project=...))``."""
        if cls is WandbMixin:
            msg = f"{PUBLIC_NAME} is a base class. Write its options as class keywords:"
            example = "class Train(WandbMixin, tune.Trainable, project=...)."
            raise InvalidTrainableError(f"{msg} {example}")
        new = super().__new__
        made: Self = new(cls) if new is object.__new__ else new(cls, *args, **kwargs)
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Passed on as given: the second parameter of an RLlib algorithm, for one, is not that of
        # `tune.Trainable`.
        config = _config(args, kwargs)
        trial_run = TrialRun(PUBLIC_NAME, self.wbtune_options)
        tune_hooks.attach(self, trial_run, reopens=True)  # type: ignore[arg-type]
        trial = identity.of_trainable(None, config, ray_storage.storage_among(args, kwargs))
        trial = trial._replace(sender=self.wbtune_sender)
        trial_run.open(trial, tune_hooks.without_tunes_keys(config))
        try:
            super().__init__(*args, **kwargs)
        except BaseException as error:
            trial_run.close(Outcome.failed(error))
            closing.end_core()
            raise

    @property
    def run(self) -> Run:
        """This trial's run."""
        trial_run = tune_hooks.attached_run(self)
        if trial_run is None or trial_run.run is None:
            msg = f"{type(self).__name__}.run is there once Tune has built the trainable."
            raise AttributeError(msg)
        return trial_run.run


def _config(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config among a trainable's arguments; for RLlib it may be an object."""
    given = kwargs.get("config", args[0] if args else None)
    if not isinstance(given, Mapping) and hasattr(given, "to_dict"):
        given = given.to_dict()
    return given if isinstance(given, Mapping) else {}


def _check_bases(cls: type) -> None:
    from ray.tune import Trainable  # noqa: PLC0415 - importing Ray takes long

    order = cls.__mro__
    behind = order[order.index(WandbMixin) :]
    if Trainable in order and Trainable not in behind:
        problem, cure = "tune.Trainable comes before it", "first"
    elif Trainable not in order and any("step" in vars(base) for base in order):
        problem, cure = "tune.Trainable is not among them", "in front of it"
    else:
        return
    msg = (
        f"{PUBLIC_NAME}: in the bases of {cls.__name__}, {problem}. "
        f"Put the mixin {cure}: class {cls.__name__}(WandbMixin, tune.Trainable)."
    )
    raise InvalidTrainableError(msg)
