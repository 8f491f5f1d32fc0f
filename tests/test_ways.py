"""The contract that every way keeps: the guide's programs, complete, on real Ray and wandb."""

from __future__ import annotations

import re

import pytest
from programs import PROJECT, ROWS, WAYS, run_config

from wbtune._run import run_log

#: Ray's handler of SIGTERM ends an actor by raising. In a callback of a weak reference, Python
#: prints that, and goes on.
RAYS_OWN = re.compile(
    r"Exception ignored in: [^\n]+\nTraceback (?:(?!Traceback ).)*?"
    r"in sigterm_handler\n.*?\nSystemExit: \d+\n",
    re.DOTALL,
)


@pytest.mark.parametrize("way", WAYS)
def test_guide(way, ray, tmp_path, capfd, printed):
    """Each trial is a complete run, with the identity that the guide promises."""
    name = "".join(char if char.isalnum() else "-" for char in way)
    build, count = WAYS[way]
    results = build(count, run_config(tmp_path, name)).fit()

    assert not results.errors
    logs = run_log.read_runs(tmp_path / name)
    trials = {result.metrics["trial_id"]: result for result in results}
    assert set(logs) == set(trials)
    assert len(trials) == count
    for trial_id, log in logs.items():
        assert len(log.rows) == ROWS
        assert all(isinstance(row["loss"], float) for row in log.rows)
        assert log.rows[-1]["loss"] == trials[trial_id].metrics["loss"]
        assert [row["_step"] for row in log.rows] == sorted({row["_step"] for row in log.rows})
        assert log.exit_code == 0
        assert log.summary["wbtune/outcome"] == "finished"
        assert log.summary["wbtune/dropped"] == 0
        assert log.name.endswith(trial_id)
        assert log.project == PROJECT
        explicit = way.endswith(("in a class", "WandbMixin")) and "tuner" not in way
        assert log.group == ("Example" if explicit else name)
        assert log.config["mean"] == trials[trial_id].config["mean"]
        assert log.config["sd"] == trials[trial_id].config["sd"]
        assert len(log.paths) == 1
    captured = capfd.readouterr()
    everything = RAYS_OWN.sub("", captured.out + captured.err + printed(tmp_path / name))
    assert "wandb:" not in everything
    assert "Traceback" not in everything
    closing = [line for line in (captured.out + captured.err).splitlines() if "wbtune" in line]
    with_callback = "callback" in way or "tuner" in way
    # Where the runs are, and the command that uploads them.
    assert len(closing) == 2 * with_callback, closing
