"""Turn the calls that Tune's loop makes into messages to the helper process.

Runs in: the driver. In come the calls of Tune's callbacks; out go the messages that the helper
carries out. Tune's loop does not wait for it and gets no exception from it.

- The experiment's hooks: `experiment_start`, `experiment`, `experiment_end`, `last_lines`.
- Its trials: `trials` (which run each gets), `trial_state`, `trial_runs` (opened and ended),
  `endings` (their outcomes), `restoring` (after a crash), `reopening`, `folders`.
- The experiment as one thing (``sweep=True``): `description` and `sweep_space` (what is searched),
  `sweep_start`, `experiment_run` (the run for the whole), `sweep_end` with `conclusion` and
  `best`. By a sweep's config: `sweep_plan` (what Tune is given), `sweep_shown`.
- Checkpoints: `artifacts` (which are uploaded), `checkpoint_copies`, `checkpoint_references`.
- The way to the helper: `writer`, `message_queue`, `rows`, `unacknowledged`, and `supervisor`,
  which starts and replaces it, a `helper_process` or a `helper_thread`.
"""
