"""The names in a result that are Tune's own."""

from __future__ import annotations

import functools


@functools.cache
def reserved() -> frozenset[str]:
    """Return the names that Tune fills in itself, or that tell it what to do."""
    from ray.tune import result  # noqa: PLC0415 - needs ray

    return frozenset({*result.AUTO_RESULT_KEYS, result.DONE, result.SHOULD_CHECKPOINT})
