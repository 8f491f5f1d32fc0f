"""The helper process: ``python -m wbtune._helper``, one for each experiment's driver.

Runs in: the helper process; the driver also uses `messages`. In come the driver's messages,
on standard input; out go the runs, and on standard output a line of JSON for each thing that the
driver should know.

- `process`: its signals, its limits, its replies.
- `helper`: carries out the messages of each run (`stream`) in order. `opener`, `row_logger` and
  `outbox`, `closer` and `uploads` do the work, by the functions of a `backend`. `requests` are
  about the whole experiment: its sweep, the tag of its best run.
"""
