"""Every time limit of the package, in seconds: who waits for whom, and for how long.

``tests/test_timeouts.py`` adds up what a trial's end may take in the worst case, and compares it
with what Tune allows.
"""

from __future__ import annotations

from typing import Final

# --- a trial's process, when its trial ends ---------------------------------------------------

#: All waits of a trial's end together, each of which is shorter if it has to be
#: (`deadline.Deadline`); except those of a close that had begun earlier. When the experiment is
#: ending, Tune waits 10 s for a trial that it has asked to end (Ray 2.60,
#: ``TuneController._actor_force_cleanup_timeout``).
END_S: Final = 9.0
#: The part of `END_S` that is kept for closing the run, while a function unwinds.
CLOSING_KEEPS_S: Final = 2.0
#: The trial waits for a stopped function to unwind: its ``finally:`` blocks may still log.
UNWIND_S: Final = 7.0
#: The trial waits for its run's uploads; the driver uploads what is left, or it stays on disk.
#: If Tune ends the trial, the wait is shorter: within `END_S`.
TRIAL_UPLOAD_S: Final = 10.0
#: The trial waits for wandb-core to close its run, in addition to the uploads, before it assumes
#: that wandb-core hangs: online, and where there is nothing to upload.
TRIAL_CLOSES_S: Final = 1.0
OFFLINE_CLOSES_S: Final = 8.0
#: The trial, or the driver's helper, waits for a new wandb-core to close the run after all, once
#: the one that hung has been killed.
CLOSES_AGAIN_S: Final = 5.0
#: The trial waits for its wandb-core to end, and again after it has been killed.
CORE_TEARDOWN_S: Final = 5.0
CORE_KILLED_S: Final = 1.0
#: The trial waits for the copy of its run to a remote storage, which then continues by itself.
TRIAL_COPY_S: Final = 10.0
#: A trial that `wbtune run` has started waits for its program's processes to end, after SIGTERM,
#: before they are killed; and then for that.
PROGRAM_ENDS_S: Final = 3.0
PROGRAM_KILLED_S: Final = 1.0
#: The trial waits for the wandb-core of its program, which was killed, to write the last rows.
PROGRAM_WRITES_S: Final = 1.0
#: The trial waits for the upload of these rows; otherwise the driver uploads them at the end.
PROGRAM_UPLOADS_S: Final = 2.0

# --- a trial's process, before and while it trains --------------------------------------------

#: The trial waits for wandb-core to open its run (W&B's ``init_timeout``).
TRIAL_INIT_S: Final = 30.0
#: The trial waits for a server that does not answer, before its run is kept on disk.
TRIAL_SERVER_S: Final = 3.0
#: A row that the trial logged waits for its result. Meanwhile it is not on disk.
RESULT_JOINS_S: Final = 0.5
#: A fork waits for a thread that is logging.
FORK_WAITS_S: Final = 1.0

#: The trial looks this often for what its program has logged.
PROGRAM_LOGS_S: Final = 0.2
#: The trial asks this often whether all trials are to end.
PROGRAM_ASKS_S: Final = 1.0

# --- the process that writes a run: a trial's, or the driver's helper -------------------------

#: A row that was logged waits in wandb-core before it is on disk, where it outlives the process.
FLUSH_S: Final = 0.3
#: A row is remembered, in case wandb-core or the helper dies: five times as long as it takes to
#: reach the disk, and until the run's log has grown since.
REMEMBER_S: Final = 1.5
#: The same, where wandb-core can't be asked to write that often: it does so every 15 s.
REMEMBER_LONG_S: Final = 20.0
#: Opening a run waits for wandb-core before it assumes that wandb-core hangs: longer than any
#: server may take.
RUN_OPENS_S: Final = 150.0
#: A row waits for wandb-core to answer which step is next, if other processes log to the run too.
STEP_ASKED_S: Final = 5.0
#: The watchdog waits between two checks of the logs, and between two questions to wandb-core.
LOOKS_EVERY_S: Final = 0.5
ASKS_EVERY_S: Final = 10.0
#: The watchdog waits for wandb-core's answer; twice, because the machine may be busy.
CORE_ANSWERS_S: Final = 20.0
#: The watchdog assumes that a row has reached wandb-core this long after it was sent.
CORE_LAG_S: Final = 1.5
#: The watchdog waits for a log that should grow: after its disk was full, and otherwise.
STALLED_S: Final = 3.0
STALLED_ANYWAY_S: Final = 60.0
#: The reader of a run's log waits for its exit record after ``finish``.
EXIT_RECORD_S: Final = 2.0

# --- the driver and its helper ----------------------------------------------------------------

#: The experiment's end waits for uploads, unless ``upload_timeout`` says otherwise; Ray's default.
UPLOAD_TIMEOUT_S: Final = 1800
#: An experiment that was interrupted waits for uploads, and for copies to a remote storage.
INTERRUPTED_UPLOAD_S: Final = 30.0
#: The helper waits for one run's uploads: several runs end at a time, and others are waiting.
DRIVER_UPLOAD_S: Final = 60.0
#: The helper waits for wandb-core to close a run, in addition to the uploads, before it assumes
#: that wandb-core hangs.
DRIVER_CLOSES_S: Final = 30.0
#: The helper waits for the results of a run's artifact uploads, when the run is closed.
UPLOAD_RESULT_S: Final = 5.0
#: In the helper, runs to be opened wait for those that are being closed; no longer than this,
#: because the latter may be waiting for a server that does not answer.
OPENING_WAITS_S: Final = 1.0
#: The helper waits for a server that does not answer, before it keeps a run on disk.
DRIVER_SERVER_S: Final = 8.0
#: Rows wait in the driver for a batch: with `FLUSH_S`, a row is on disk within a second.
BATCH_S: Final = 0.4
#: The driver waits for the helper to write everything to disk, if nothing is uploaded; and the
#: same after Ctrl-C.
ON_DISK_S: Final = 15.0
INTERRUPTED_ON_DISK_S: Final = 3.0
#: The driver waits for a thread of its own to write what a hanging helper has not written.
RESCUE_S: Final = 15.0
#: The driver reads the trials' results for the overview: two seconds for 100,000 of them.
RESULTS_READ_S: Final = 30.0
#: The run for a whole experiment counts its trials this often: a millisecond for a thousand.
COUNT_EVERY_S: Final = 5.0
#: A wait on the driver checks this often whether somebody has pressed Ctrl-C.
LOOK_S: Final = 0.2
#: The driver waits for the wandb-core of a killed helper to notice that, and to end.
CORE_ENDS_S: Final = 10.0
#: The driver waits for a process that it has killed to end. One that waits for a disk which does
#: not answer does not end even then.
KILLED_ENDS_S: Final = 3.0
#: The helper checks this often whether the driver is still there.
LOOK_FOR_DRIVER_S: Final = 1.0
#: The helper makes the last requests about an experiment, each within `SERVER_ANSWERS_S`; then
#: it begins no other.
REQUESTS_S: Final = 30.0
#: The helper waits for the driver to read its last messages.
LAST_ANSWERS_S: Final = 5.0
#: The helper ends when its driver is gone and nothing has progressed for this long, because its
#: wandb-core hangs, say. It is ten times what one run's end may wait for uploads
#: (`DRIVER_UPLOAD_S`).
HELPER_STUCK_S: Final = 600.0
#: Tune's loop waits for hard links to a checkpoint, about a thousand; a thread makes the rest.
LINKS_S: Final = 0.02

# --- a remote storage -------------------------------------------------------------------------

#: The driver, and a trial that is retried, wait for one copy from or to it.
COPY_S: Final = 30.0
#: The driver waits this long for a copy in any case, even after Ctrl-C.
COPY_LEAST_S: Final = 3.0
#: Offline runs that are being written are copied to it no more often than this; short, because
#: `wbtune sync --watch` has every row at the server within 20 s.
LIVE_COPIES_S: Final = 3.0

# --- Ray's key-value store --------------------------------------------------------------------

#: The driver waits for a trial to claim its run by `setup_wandb`, or to report a result.
CLAIM_S: Final = 10.0
#: A trial, and the driver before any trial, wait for the store's answer.
STORE_S: Final = 20.0
#: Tune's loop, and a trial that is ending, wait for the store's answer.
STORE_IN_LOOP_S: Final = 1.0
#: The wait between two attempts.
STORE_RETRY_S: Final = 0.5

# --- the command line -------------------------------------------------------------------------

#: ``wbtune doctor`` waits for the server, for a wandb-core of this machine, and for everything, a
#: file system that hangs included.
DOCTOR_SERVER_S: Final = 4.0
DOCTOR_SERVICE_S: Final = 1.0
DOCTOR_S: Final = 9.0

#: A trial that has not ended is taken for running, if something was written less than this ago:
#: Tune copies its files to their storage every five minutes.
RUNNING_S: Final = 600.0
#: ``wbtune import`` waits for W&B's answer whether an artifact was uploaded, after closing the run
#: has waited for the upload.
IMPORT_ARTIFACT_S: Final = 5.0
#: The time between two lines of progress, where there is no terminal for a bar.
PROGRESS_LINES_S: Final = 10.0

# --- W&B's server -----------------------------------------------------------------------------

#: The driver waits for a server that does not answer, unless W&B's own ``init_timeout`` is less.
LOGIN_SERVER_S: Final = 20.0
#: The driver waits to learn whose runs they are. That is short: the login has just worked.
ENTITY_ASKED_S: Final = 5.0
#: A request waits for its whole answer.
SERVER_ANSWERS_S: Final = 5.0
#: The wait between the first two attempts; it doubles each time.
SERVER_RETRY_S: Final = 0.5

# --- `wbtune sync` ----------------------------------------------------------------------------

#: It looks this often at logs that grow; wandb-core then looks once a second.
SYNC_LOOKS_S: Final = 0.5
#: It looks this often for new runs and segments, and whether the experiment has ended.
SYNC_DISCOVERS_S: Final = 3.0
#: wandb-core sends rows to the server this often; by itself every 15 s.
SYNC_SENDS_S: Final = 5.0
#: An interrupted sync's wandb-core lives for a second or two. What the server has of a run that
#: was partly uploaded has to be the same for this long, before the rest is sent.
SYNC_SETTLES_S: Final = 3.0
#: The server may need this long to count what it was sent.
SYNC_ARRIVES_S: Final = 30.0
#: A watched experiment of which all trials have ended gets no more of them after this long.
SYNC_QUIET_S: Final = 30.0
#: It waits for wandb-core to say that it has understood what to upload.
SYNC_CORE_ANSWERS_S: Final = 30.0
#: Nothing has arrived for this long while wandb-core is uploading: it asks why, and whether the
#: server is there at all.
SYNC_STALLS_S: Final = 60.0
#: Without any change for this long, an online run without an end is taken for dead.
SYNC_ABANDONED_S: Final = 600.0
#: While it watches, it prints a line no more often than this.
SYNC_LINES_S: Final = 10.0
