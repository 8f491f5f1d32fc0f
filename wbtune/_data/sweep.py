"""`Sweep`: the W&B sweep that an experiment's runs belong to."""

from __future__ import annotations

from typing import Final, NamedTuple

#: The job type of the run for a whole experiment, by which W&B's tables can be filtered.
JOB_TYPE: Final = "sweep"
#: The tag of the best trial's run.
BEST: Final = "best"
#: The entry of the summary of the run for the whole that names that run.
BEST_RUN: Final = "best/run"
#: The entry of its config that is the sweep's config, if the user gave one.
GIVEN: Final = "sweep_config"


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
