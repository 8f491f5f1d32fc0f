"""Guard the hooks that Tune calls: no exception of wbtune's ends an experiment."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec

from wbtune._data.signals import is_of_a_signal

logger = logging.getLogger("wbtune")

P = ParamSpec("P")


def never_raises(hook: Callable[P, None]) -> Callable[P, None]:
    """Log what a hook raises: an exception from a callback would end Tune's experiment."""

    @functools.wraps(hook)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except BaseException as error:
            # A result's values may raise even SystemExit when they are read. Ctrl-C gets through.
            if is_of_a_signal(error):
                raise
            # Cause: An error in wbtune, of which the traceback follows.
            # Cure: Report it with the traceback. What that call would have logged is missing;
            #   nothing else is.
            logger.exception("wbtune: %s failed; the experiment goes on", hook.__name__)

    return guarded
