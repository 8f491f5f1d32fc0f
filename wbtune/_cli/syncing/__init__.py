"""Send an experiment's offline runs, and go on doing so while they are written.

W&B's own sync gets a log of its own for each upload (`wbtune._run.relay`), which has what the
server lacks: so nothing is sent twice, and the segments of a run are one run.

- `experiment`: several runs at a time. `source`: where they are; `mirror`: in a remote storage.
- `runs`: their logs and rows; `upload`: one run; `sweep`: the sweep that they belong to.
- `watch`: whether the experiment goes on. `memory`: what the next sync knows.
- `progress` and `report`: what is printed.
"""
