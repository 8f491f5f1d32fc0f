"""Change the tags of runs that have ended."""

from __future__ import annotations

from wbtune._data.options import RunOptions
from wbtune._data.outcomes import FINISHED, OUTCOME_TAGS
from wbtune._driver.reopening import reopening_arguments
from wbtune._driver.trial_state import TrialState, opened_id
from wbtune._driver.trials import Trials
from wbtune._driver.writer import Writer
from wbtune._helper.messages import Request, TagRun
from wbtune._place import transport
from wbtune._place.credentials import Login
from wbtune._run import links


class RunTags:
    """Changes the tags of an experiment's runs: by a request, or on disk.

    Args:
        trials: the experiment's trials.
        writer: writes the runs, and makes the requests.
        place: where the runs are at W&B, if that is known.
    """

    def __init__(self, trials: Trials, writer: Writer, place: links.Place | None) -> None:
        self._trials = trials
        self._writer = writer
        self._place = place

    def change(
        self, state: TrialState, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()
    ) -> None:
        """Change the tags of a trial's run.

        Args:
            state: the trial, which has ended.
            add: the tags to add.
            remove: the tags to remove.
        """
        if self._request(state, add, remove):
            return
        log = self._trials.folders.log_of(opened_id(state))
        if log is None:
            return  # its trial has opened no run
        # The run is continued in another segment, of which the tags count.
        given = log.tags if state.owns_run else state.spec.init.get("tags") or ()
        tags = [tag for tag in given if tag not in {*OUTCOME_TAGS, *add, *remove}]
        init = reopening_arguments(state.spec.init, log if state.owns_run else None)
        spec = state.spec._replace(init={**init, "id": log.id, "tags": [*tags, *add]})
        self._writer.start(state.key, spec, state.router, self._trials.login.secret)
        self._writer.end(state.key, state.outcome or FINISHED, state.notes)

    def forget_outcomes_before(self) -> None:
        """Remove what earlier attempts have left at the server, from runs that are finished now.

        wandb itself can't: it does not send that there are no tags [wandb 0.31]. If there are
        others, they replace the earlier ones.
        """
        for state in self._trials:
            is_again = state.attempt > 1 or state.is_continued
            if is_again and state.outcome is not None and not state.outcome.tags:
                self._request(state, (), tuple(sorted(OUTCOME_TAGS)))

    def _request(self, state: TrialState, add: tuple[str, ...], remove: tuple[str, ...]) -> bool:
        request = request_of(self._trials.options, self._trials.login)
        if request is None or self._place is None:
            return False
        log = self._trials.folders.log_of(opened_id(state)) if state.owns_run else None
        place = links.place_of(self._place, reopening_arguments(state.spec.init, log))
        where = (place.entity, place.project, opened_id(state))
        self._writer.request(TagRun(request, where, add, remove))
        return True


def request_of(options: RunOptions, login: Login) -> Request | None:
    """How requests about the experiment reach the server; None if they can't."""
    base_url = login.settings.get("base_url")
    if base_url is None or login.secret is None:
        return None
    given = options.init_kwargs.get("settings") or {}
    how = {name: given[name] for name in transport.SETTINGS if name in given}
    return Request(base_url, how, login.secret.reveal())
