"""The command line: ``wbtune import``, ``sync``, ``overview`` and ``doctor``.

Runs in: a process of its own, beside or after an experiment. In comes a folder that Ray Tune or
wbtune wrote; what a command did is printed, with ``--json`` for machines.

- `main`: the group of commands, and what becomes of errors.
- `output`: what is printed, and progress.
- `import_command`, `sync_command`, `overview_command`, `doctor_command`: one command each.
- `sync_experiment` sends runs: `sync_source` finds them, `sync_runs` counts their rows,
  `sync_upload` sends one, `sync_sweep` makes the sweep, `sync_watch` says when it is over,
  `sync_mirror` copies from a remote storage, `sync_memory` is what the next one knows,
  `sync_progress` and `sync_report` are what is printed.
"""
