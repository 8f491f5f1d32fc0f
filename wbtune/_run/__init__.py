"""One W&B run, in any process: open, guard and close it, and read it back from its files.

Runs in: a trial's process, the helper process, and, if there is no helper, the driver. In come
a `RunSpec`, rows and an outcome; out goes a run that contains all of it, on disk or at the server.

- A run: `run_spec` (what to open), `opening`, `closing`, `ownership`, `links`, `environment`.
- Its contents: `steps`, `media`, `experiment_media`.
- What protects it when wandb-core dies or hangs: `guard` (reopens the run), `sending`,
  `replay` (what was sent recently), `core`, `watchdog`, `forks`, `segments`.
- Its files: `run_files` (where they are, how they ended); `run_log` reads one run back, with
  `log_rows`, `log_summary`, `log_records` and `log_file`; `without_core` writes, with `log_writer`,
  and so does `relay`, for `wbtune sync`.
"""
