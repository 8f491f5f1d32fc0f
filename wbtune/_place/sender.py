"""The driver that sent a decorated function or a mixin class, so that trials find its login.

Such an object is the only part of wbtune that `tune.Tuner` or a trainer of Ray Train has. When it
is about to be sent (it is pickled, or Ray derives an actor's class from it), the driver hands over
the login that its environment has *at that moment*, even if it was set after ``ray.init``. The
object carries the name under which trials find the login; a pickle contains only that name.
"""

from __future__ import annotations

import logging

from wbtune._place import driver_login, handover, identity
from wbtune._upstream import capabilities, ray_store

logger = logging.getLogger("wbtune")


def name(before: str = "") -> str:
    """The name under which trials that receive an object from this process find their login.

    Args:
        before: the name under which the object reached this process.
    """
    if ray_store.job() is None:
        return before
    if ray_store.is_driver():
        return handover.process()
    here = identity.of_here()  # a trial that starts other trials: they use its login
    return before if here is None else here.fit or here.sender or before


def hand_over() -> None:
    """On a driver, hand over the login of its environment; do nothing elsewhere."""
    if ray_store.job() is None or not ray_store.is_driver():
        return
    capabilities.warn_of_lost()
    try:
        driver_login.hand_over(driver_login.of_environment(), handover.process())
    except Exception as error:  # noqa: BLE001 - pickling a function must not fail because of W&B
        # Cause: The driver has no usable login, or Ray's head does not answer.
        # Cure: Set WANDB_API_KEY before ray.init, or run `wandb login` on each node.
        logger.warning("wbtune: this driver's login can't be handed over: %s", type(error).__name__)
