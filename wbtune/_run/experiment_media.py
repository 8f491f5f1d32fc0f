"""Log what is known of a whole experiment: the table of its trials, and its overview."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from wandb import Run

#: The keys of the run's summary under which W&B shows them.
TRIALS: Final = "trials"
OVERVIEW: Final = "overview"


def log(run: Run, columns: Sequence[str], rows: Sequence[Sequence[Any]], page: str) -> None:
    """Log a table of trials and an overview to an open run.

    Args:
        run: the run for the whole experiment.
        columns: the names of the table's columns.
        rows: the table, of plain data.
        page: the path of the overview; empty if there is none.
    """
    import wandb  # noqa: PLC0415 - wandb is imported when first needed

    # By itself: the table is an artifact, too, which may be refused.
    if page:
        with Path(page).open(encoding="utf-8") as file:
            run.log({OVERVIEW: wandb.Html(file, inject=False)})
    # A column may have numbers for some trials and text for others.
    table = wandb.Table(columns=list(columns), data=list(rows), allow_mixed_types=True)
    run.log({TRIALS: table})
