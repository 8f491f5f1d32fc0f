"""One W&B run, wherever it is written: opened, guarded, closed, and read back from its files.

Runs in: a trial's process, the helper process, and, where there is no helper, the driver. In come
a `RunSpec`, rows and an outcome; out goes a run that says all of it, on disk or at the server.

- A run: `run_spec` (what to open), `opening`, `closing`, `ownership`, `links`, `environment`.
- What goes into it: `steps`, `media`.
- What is saved from a wandb-core that dies or hangs: `guard` (opens the run again), `sending`,
  `replay` (what was sent lately), `core`, `watchdog`, `forks`, `segments`.
- Its files: `run_files` (where they are, how they ended), `run_log` (one run, read back), by
  `log_rows`, `log_summary`, `log_records` and `log_file`; `without_core` writes by `log_writer`.
"""
