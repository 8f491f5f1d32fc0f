"""Every time limit of the package, in seconds: who waits for whom, and for how long.

What a trial's end may take in the worst case is added up in ``tests/test_timeouts.py``, and held
against what Tune grants it.
"""

from __future__ import annotations

from typing import Final

# --- a trial's process, when its trial ends ---------------------------------------------------

#: Tune waits for a trial to end: 10 s from when it asks for that, if the experiment is at its end
#: (Ray 2.60, ``TuneController._actor_force_cleanup_timeout``). So all of these waits together end
#: by this, and each is shorter when it has to be (`deadline.Deadline`);
#: but for a close that had begun before.
END_S: Final = 9.0
#: What is kept of these for closing the run, while a function unwinds.
CLOSING_KEEPS_S: Final = 2.0
#: The trial waits for a stopped function to unwind: its ``finally:`` blocks may still log.
UNWIND_S: Final = 7.0
#: The trial waits for its run's uploads; the driver uploads what is left, or it stays on disk.
#: Less, where Tune ends the trial: within `END_S`.
TRIAL_UPLOAD_S: Final = 10.0
#: The trial waits for wandb-core to close its run, besides the uploads, before it is taken to
#: hang: online, and where there is nothing to upload.
TRIAL_CLOSES_S: Final = 1.0
OFFLINE_CLOSES_S: Final = 8.0
#: The trial, or the driver's helper, waits for a new wandb-core to close the run after all, when
#: the one that hung was killed.
CLOSES_AGAIN_S: Final = 5.0
#: The trial waits for its wandb-core to end, and for that again when it was killed.
CORE_TEARDOWN_S: Final = 5.0
CORE_KILLED_S: Final = 1.0
#: The trial waits for the copy of its run to a remote storage, which then goes on alone.
TRIAL_COPY_S: Final = 10.0

# --- a trial's process, before and while it trains --------------------------------------------

#: The trial waits for wandb-core to open its run (W&B's ``init_timeout``).
TRIAL_INIT_S: Final = 30.0
#: The trial waits for a server that is away, before its run is kept on disk.
TRIAL_SERVER_S: Final = 3.0
#: A row that the trial logged waits for the result that it belongs to. It is not on disk meanwhile.
RESULT_JOINS_S: Final = 0.5
#: A fork waits for a thread that is logging.
FORK_WAITS_S: Final = 1.0

# --- whoever writes a run: a trial, or the driver's helper ------------------------------------

#: A row that was logged waits in wandb-core before it is on disk, whatever happens to the process.
FLUSH_S: Final = 0.3
#: A row is remembered, in case wandb-core or the helper dies: five times as long as it takes to
#: reach the disk, and until the run's log has grown since.
REMEMBER_S: Final = 1.5
#: Opening a run waits for wandb-core before it is taken to hang: longer than any server may take.
RUN_OPENS_S: Final = 150.0
#: A row waits for wandb-core to say which step comes next, where other processes log to the run.
STEP_ASKED_S: Final = 5.0
#: The watchdog waits between two looks at the logs, and between two questions to wandb-core.
LOOKS_EVERY_S: Final = 0.5
ASKS_EVERY_S: Final = 10.0
#: The watchdog waits for wandb-core's answer; twice, because the machine may be busy.
CORE_ANSWERS_S: Final = 20.0
#: The watchdog takes a row to have reached wandb-core this long after it was sent.
CORE_LAG_S: Final = 1.5
#: The watchdog waits for a log that should grow: after its disk was full, and otherwise.
STALLED_S: Final = 3.0
STALLED_ANYWAY_S: Final = 60.0
#: Whoever reads a run's log waits for its exit record after ``finish``.
EXIT_RECORD_S: Final = 2.0

# --- the driver and its helper ----------------------------------------------------------------

#: The experiment's end waits for uploads, unless ``upload_timeout`` says otherwise; Ray's default.
UPLOAD_TIMEOUT_S: Final = 1800
#: An experiment that was interrupted waits for uploads, and for copies to a remote storage.
INTERRUPTED_UPLOAD_S: Final = 30.0
#: The helper waits for one run's uploads: several runs end at a time, and others are waiting.
DRIVER_UPLOAD_S: Final = 60.0
#: The helper waits for wandb-core to close a run, besides the uploads, before it is taken to hang.
DRIVER_CLOSES_S: Final = 30.0
#: The helper waits to hear what became of a run's artifacts, when the run is closed.
UPLOAD_RESULT_S: Final = 5.0
#: In the helper, runs to be opened wait for those that are being closed; no longer, because
#: these may wait for a server that is away.
OPENING_WAITS_S: Final = 1.0
#: The helper, before a run is kept on disk, waits for a server that is away.
DRIVER_SERVER_S: Final = 8.0
#: Rows wait in the driver for a batch: with `FLUSH_S`, a row is on disk within a second.
BATCH_S: Final = 0.4
#: The driver waits for the helper to get everything onto the disk, where nothing is uploaded;
#: and for somebody who waits with a finger on Ctrl-C.
ON_DISK_S: Final = 15.0
INTERRUPTED_ON_DISK_S: Final = 3.0
#: The driver waits for a thread of its own to write what a helper that hangs has not written.
RESCUE_S: Final = 15.0
#: Whoever waits on the driver looks this often whether somebody has pressed Ctrl-C.
LOOK_S: Final = 0.2
#: The driver waits for the core of a killed helper to notice, and to be gone.
CORE_ENDS_S: Final = 10.0
#: The driver waits for a process that it has killed: not even that ends one which waits for a
#: disk that does not answer.
KILLED_ENDS_S: Final = 3.0
#: The helper looks this often whether the driver is still there.
LOOK_FOR_DRIVER_S: Final = 1.0
#: The helper waits for the driver to read its last words.
LAST_WORDS_S: Final = 5.0
#: The helper ends when its driver is gone and nothing moves: its core hangs, say. It is ten times
#: what one run's end may wait for uploads (`DRIVER_UPLOAD_S`).
HELPER_STUCK_S: Final = 600.0
#: Tune's loop waits for hard links to a checkpoint, some thousand; a thread makes the rest.
LINKS_S: Final = 0.02

# --- a remote storage -------------------------------------------------------------------------

#: The driver, and a trial that is retried, wait for one copy from or to it.
COPY_S: Final = 30.0
#: A copy is waited for this long in any case, also after Ctrl-C.
COPY_LEAST_S: Final = 3.0

# --- Ray's key-value store --------------------------------------------------------------------

#: The driver waits for a trial to claim its run by `setup_wandb`, or to report a result.
CLAIM_S: Final = 10.0
#: A trial, and a driver before any trial, wait for the store's answer.
STORE_S: Final = 20.0
#: Tune's loop, and a trial that ends, wait for it.
STORE_IN_LOOP_S: Final = 1.0
#: The wait between two attempts.
STORE_RETRY_S: Final = 0.5

# --- W&B's server -----------------------------------------------------------------------------

#: The driver waits for a server that is away, if W&B's own ``init_timeout`` is not less.
LOGIN_SERVER_S: Final = 20.0
#: The driver waits to hear whose runs they are: it has just asked for the login.
ENTITY_ASKED_S: Final = 5.0
#: One question waits until its whole answer is there.
SERVER_ANSWERS_S: Final = 5.0
#: The wait between the first two attempts; doubled each time.
SERVER_RETRY_S: Final = 0.5
