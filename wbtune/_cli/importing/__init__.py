"""Make runs of an experiment that Tune's files know, and W&B does not.

Rows are written to W&B's own logs, with each result's own time, and then sent by W&B's own sync.
A second time, only what is new is added: what a run has is read from its logs, or asked of the
server.

- `experiment`: the whole; `target`: where to; `trial`: one run; `results`: what it lacks.
- `upload`, `checkpoints`: to the server. `sweep`: the experiment as one thing.
- `report`: what is said at the end.
"""
