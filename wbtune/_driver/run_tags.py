"""Change the tags of runs that have ended."""

from __future__ import annotations

from functools import cached_property

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
from wbtune._run.run_log import RunLog


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
        init = {**state.spec.init, "id": state.key}
        given = init.get("tags") or ()
        if state.owns_run:
            log = self._log_of(state)
            if log is None:
                return  # its trial has opened no run
            init, given = {**reopening_arguments(init, log), "id": log.id}, log.tags
        # The run is continued in another segment, of which the tags count.
        tags = [tag for tag in given if tag not in {*OUTCOME_TAGS, *add, *remove}]
        spec = state.spec._replace(init={**init, "tags": [*tags, *add]})
        self._writer.start(state.key, spec, state.router, self._trials.secret_for(state))
        self._writer.end(state.key, state.outcome or FINISHED, state.notes)

    def forget_outcomes_before(self) -> None:
        """Remove what earlier attempts have left at the server, from runs that are finished now.

        wandb itself can't: it does not send that there are no tags [wandb 0.31]. If there are
        others, they replace the earlier ones. A run of the driver's is closed once, unless the
        driver was killed.
        """
        for state in self._trials:
            is_again = state.is_continued or (state.attempt > 1 and state.owns_run)
            if is_again and state.outcome is not None and not state.outcome.tags:
                self._request(state, (), tuple(sorted(OUTCOME_TAGS)))

    def _log_of(self, state: TrialState) -> RunLog | None:
        folders = self._trials.folders
        return next(filter(None, map(folders.log_of, state.spec.ids)), None)

    def _request(self, state: TrialState, add: tuple[str, ...], remove: tuple[str, ...]) -> bool:
        request = request_of(self._trials.options, self._trials.login)
        if request is None or self._place is None:
            return False
        log = self._log_of(state) if state.owns_run else None
        place = links.place_of(self._place, reopening_arguments(state.spec.init, log))
        run_id = opened_id(state, self._on_disk) if log is None else log.id
        self._writer.request(TagRun(request, (place.entity, place.project, run_id), add, remove))
        return True

    @cached_property
    def _on_disk(self) -> set[str]:
        return self._trials.folders.run_ids()


def request_of(options: RunOptions, login: Login) -> Request | None:
    """How requests about the experiment reach the server; None if they can't."""
    base_url = login.settings.get("base_url")
    if base_url is None or login.secret is None:
        return None
    given = options.init_kwargs.get("settings") or {}
    how = {name: given[name] for name in transport.SETTINGS if name in given}
    return Request(base_url, how, login.secret.reveal())
