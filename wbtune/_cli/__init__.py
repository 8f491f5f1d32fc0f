"""The command line: ``wbtune import``, ``sync``, ``overview`` and ``doctor``.

Runs in: a process of its own, beside or after an experiment. In comes a folder that Ray Tune or
wbtune wrote; what a command did is printed, with ``--json`` for machines.

- `main`: the group of commands, and what becomes of errors.
- `output`: what is printed, and progress.
- `import_command`, `sync_command`, `overview_command`, `doctor_command`: one command each.
- `importing`, `syncing`, `overview`, `doctor`: what the commands do.
"""
