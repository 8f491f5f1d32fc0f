"""What a trial's folder is called tells which trial it is of, where nothing else does."""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

#: Tune calls it by the trial's name, which ends with its id, by its number, and by what was sampled
#: as ``name=value``. Ids are ``06d2f_00001`` by Tune's own search, or else ``a1b2c3d4``
#: [Ray 2.7 to 2.60, ``Trial._generate_dirname``, ``Trial.generate_id``].
_BY_TUNE: Final = (
    re.compile(r"(?P<name>(?:[^=]*?_)?(?P<id>[0-9a-f]{5}_\d{5,}))(?:_|$)"),
    re.compile(r"(?P<name>(?:[^=]*?_)?(?P<id>[0-9a-f]{8}))_\d+_"),
)


class Named(NamedTuple):
    """A trial, as its folder's name tells.

    Attributes:
        trial_id: its id.
        name: its name.
        is_by_tune: whether Tune made the folder's name, so that these are Tune's own; they are the
            user's otherwise.
    """

    trial_id: str
    name: str
    is_by_tune: bool


def trial_of(folder: str) -> Named:
    """Which trial a folder of this name is of.

    Values of parameters are left out: they may have to be masked.

    >>> trial_of("train_06d2f_00001_1_lr=0.1000_2026-01-01_00-00-00")
    Named(trial_id='06d2f_00001', name='train_06d2f_00001', is_by_tune=True)
    >>> trial_of("train_a1b2c3d4_1_lr=0.1000_2026-01-01_00-00-00")
    Named(trial_id='a1b2c3d4', name='train_a1b2c3d4', is_by_tune=True)
    >>> trial_of("the best one")
    Named(trial_id='the best one', name='the best one', is_by_tune=False)
    >>> trial_of("best_1_lr=0.1000_2026-01-01_00-00-00")
    Named(trial_id='trial-4dbe38f8', name='trial-4dbe38f8', is_by_tune=False)
    """
    found = next(filter(None, (pattern.match(folder) for pattern in _BY_TUNE)), None)
    if found is not None:
        return Named(found["id"], found["name"], is_by_tune=True)
    if "=" in folder:
        folder = f"trial-{hashlib.sha256(folder.encode()).hexdigest()[:8]}"
    return Named(folder, folder, is_by_tune=False)
