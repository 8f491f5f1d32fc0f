"""`Sweep`: the W&B sweep that an experiment's runs belong to."""

from __future__ import annotations

from typing import NamedTuple


class Sweep(NamedTuple):
    """A sweep at W&B; it can be pickled, and sent as JSON.

    Attributes:
        id: its id, which its runs have and which is in its address.
        node: what W&B's interface calls it.
        entity: the user or team that it belongs to.
        project: its project.
    """

    id: str
    node: str
    entity: str
    project: str
