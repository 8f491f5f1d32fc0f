"""The helper process: ``python -m wbtune._helper``, one for each experiment's driver.

Runs in: the helper process; only `messages` is the driver's, too. In come the driver's messages,
on standard input; out go the runs, and on standard output a line of JSON for each thing that the
driver should know.

- `process`: its signals, its limits, its replies.
- `helper`: the messages of each run (`stream`) in their order. The work: `opener`, `row_logger` and
  `outbox`, `closer`, `uploads`; by the functions of a `backend`.
"""
