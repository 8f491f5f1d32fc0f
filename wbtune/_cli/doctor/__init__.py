"""Look for what keeps runs from arriving at W&B; nothing is started and nothing is changed.

Runs in: the command line. Each check is a function that yields findings. To add one, write it in
the module of its subject, and add it to the table in `examination`.

- `findings`: what a check gets, and what it yields.
- `examination`: the table of checks; all run at once, within one limit of time.
- `releases`, `login`, `environment`, `storage`: the checks, by subject.
"""
