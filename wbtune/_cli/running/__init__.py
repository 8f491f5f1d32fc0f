"""The parts of ``wbtune run``. Runs on: driver."""
