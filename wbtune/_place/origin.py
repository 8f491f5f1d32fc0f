"""Where an object of ours was sent from: so that its trials find the login of that driver.

A decorated function or a class with the mixin is all that `tune.Tuner` or a trainer of Ray
Train has of ours. When it is about to be sent (it is pickled; Ray derives an actor's class of
it), its driver hands over what its environment says *then*, also if that was set after
``ray.init``, and the object takes along the name to ask by. No pickle has more than the name.
"""

from __future__ import annotations

import logging

from wbtune._place import credentials, handover, identity
from wbtune._upstream import ray_store

logger = logging.getLogger("wbtune")


def name(before: str = "") -> str:
    """The name under which the trials that get an object from here find their login.

    Args:
        before: the name under which it came here.
    """
    if ray_store.job() is None:
        return before
    if ray_store.is_driver():
        return handover.process()
    here = identity.of_here()  # a trial that starts others: its own login is theirs
    return before if here is None else here.fit or here.origin or before


def hand_over() -> None:
    """On a driver, hand over what its environment says now; elsewhere, nothing is to be done."""
    if ray_store.job() is None or not ray_store.is_driver():
        return
    try:
        credentials.hand_over(credentials.of_process(), handover.process())
    except Exception as error:  # noqa: BLE001 - pickling a function must not fail for a tracker
        logger.warning("wbtune: this driver's login can't be handed over: %s", type(error).__name__)
