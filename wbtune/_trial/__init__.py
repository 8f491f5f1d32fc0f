"""Open, write and close a trial's own run, along with its `Trainable`.

Runs in: a trial's process. In come the calls that Tune and Ray Train make to the user's code; out
goes the trial's own run.

- Hooks: `tune_hooks` (a `Trainable`), `train_hooks` (a training loop of Ray Train), `function_run`
  (one call of a decorated function), `caller` (which of them the calling code runs in).
- The run: `trial_run`, with `run_plan` and `run_start` (opening), `result_log` and `row_joiner`
  (rows), `outcome_tracker`, `actor_reuse`, `process_lock`.
- What `@wandb_trial` makes of a function: `trial_function`, `run_parameter`; `tuner_options` sends
  the options of a `wandb_tuner` along with it.
"""
