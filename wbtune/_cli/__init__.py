"""The command line: ``wbtune import``, ``sync``, ``overview`` and ``doctor``.

Runs in: a process of its own, beside or after an experiment. In comes a folder that Ray Tune or
wbtune wrote; what a command did is printed, with ``--json`` for machines.

- `main`: the group of commands, and what becomes of errors.
- `output`: what is printed, and progress.
- `import_command`, `sync_command`, `overview_command`, `doctor_command`: one command each.
- `overview_record` and `known_by_runs`: what the overview shows, from Tune's files and from runs.
- `doctor`: what is looked at, by subject.
"""
