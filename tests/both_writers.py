"""Write one run as the driver's helper does, and one as a trial does; without Ray."""

from __future__ import annotations

import sys
from pathlib import Path

from wbtune._data.outcomes import FINISHED
from wbtune._helper.outbox import Outbox
from wbtune._run import closing, opening, run_spec

ROWS = 30


def spec_of(folder, run_id):
    """What to open."""
    init = {"project": "public", "mode": "offline", "dir": str(folder), "id": run_id}
    return run_spec.RunSpec(init, {"lr": 0.1}, dict(run_spec.SETTINGS))


def main(folder):
    opening.prepare_for_many()
    spec = spec_of(folder, "driver")
    run = opening.open_run(spec, for_trial_elsewhere=True)
    opening.define_metrics(run, spec)
    outbox = Outbox()
    for i in range(ROWS):
        outbox.log(run, {"i": i, "loss": i / 2, run_spec.X_AXIS: i + 1, "text": "é"}, i)
    outbox.send()
    opening.update_config(run, {"more": 1})
    closing.close_run(run, FINISHED, {"wbtune/dropped": 0})

    run = opening.open_run(spec_of(folder, "trial"))
    for i in range(ROWS):
        run.log({"i": i, "loss": i / 2})
    run.summary["best"] = 0.0
    closing.close_run(run, FINISHED)
    closing.end_core()
    print("closed both", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
