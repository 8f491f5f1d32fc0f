"""Optuna's PED-ANOVA: which parameters decide whether a trial is among the best."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from wbtune._overview.parameters import Parameter
from wbtune._overview.scores import Scores

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

#: Optuna advises at least five trials among the best tenth.
ENOUGH: Final = 50


def importances(scores: Scores, parameters: Sequence[Parameter]) -> dict[str, float]:
    """The importance of each parameter; they add up to 1.

    Args:
        scores: at least `ENOUGH` trials with a value.
        parameters: those that vary. The releases of Optuna before 5 leave out those that some
            trials do not have.

    Raises:
        ImportError: if Optuna is not installed, or one without PED-ANOVA (before 3.6).
    """
    with _quiet():
        import optuna  # noqa: PLC0415 - an extra
        from optuna.importance import PedAnovaImportanceEvaluator  # noqa: PLC0415 - the same

        level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces each study
        try:
            study = optuna.create_study(direction="maximize" if scores.is_max else "minimize")
            study.add_trials(_trials(scores, parameters))
            found = optuna.importance.get_param_importances(
                study, evaluator=PedAnovaImportanceEvaluator()
            )
        finally:
            optuna.logging.set_verbosity(level)
    # Their names are the parameters' indices: Optuna need not accept every name.
    return {parameters[int(name)].name: value for name, value in found.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that PED-ANOVA is experimental, and of its own dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _trials(scores: Scores, parameters: Sequence[Parameter]) -> Iterator[FrozenTrial]:
    from optuna.trial import create_trial  # noqa: PLC0415 - an extra

    distributions = {str(at): _distribution(one) for at, one in enumerate(parameters)}
    columns = {str(at): one.positions.tolist() for at, one in enumerate(parameters)}
    whole = {str(at) for at, one in enumerate(parameters) if one.is_integer or one.categories}
    for trial in scores.known:
        params: dict[str, Any] = {
            name: int(column[trial]) if name in whole else column[trial]
            for name, column in columns.items()
            if not math.isnan(column[trial])
        }
        yield create_trial(
            params=params,
            distributions={name: distributions[name] for name in params},
            value=float(scores.values[trial]),
        )


def _distribution(parameter: Parameter) -> BaseDistribution:
    """Where a parameter was sampled: in its bounds, and where it was seen (PBT leaves these)."""
    from optuna import distributions as of  # noqa: PLC0415 - an extra

    if parameter.categories:
        return of.CategoricalDistribution(range(len(parameter.categories)))
    known, (low, high) = parameter.known, parameter.bounds
    least, greatest = float(known.min()), float(known.max())
    if not parameter.is_log or low > 0:
        least = min(least, low) if math.isfinite(low) else least
    greatest = max(greatest, high) if math.isfinite(high) else greatest
    if parameter.is_integer:
        return of.IntDistribution(math.floor(least), math.ceil(greatest), log=parameter.is_log)
    return of.FloatDistribution(least, greatest, log=parameter.is_log)
