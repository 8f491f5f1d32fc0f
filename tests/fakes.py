"""Fakes with behaviour: a run that refuses what wandb refuses, a trial as Tune's driver has it."""

from __future__ import annotations

from types import SimpleNamespace

from ray import tune

from wbtune._run import ownership


class FakeRun:
    """A run that keeps what it is given; drops a row whose step goes back, as wandb does."""

    def __init__(self, run_id="run", fails=frozenset()):
        self.id = run_id
        self.fails = fails
        self.starting_step = 0
        self.rows = []
        self.dropped = []
        self.exit_codes = []
        self.summary = {}
        self.config = {}
        self.tags = ()
        self.dir = "/nowhere/files"
        self.disabled = True  # nobody can look at it
        self.offline = False
        self._next = 0

    @property
    def step(self):
        return self._next

    def define_metric(self, name, **options):
        pass

    def log(self, data, step=None, commit=None):
        if "log" in self.fails:
            raise OSError("the fake can't log")
        assert not self.exit_codes, "logged after it was finished"
        step = self._next if step is None else step
        if step < self._next:
            self.dropped.append(data)
            return
        self.rows.append((step, dict(data)))
        self._next = step + 1

    def finish(self, exit_code=0):
        if "finish" in self.fails:
            raise OSError("the fake can't finish")
        self.exit_codes.append(exit_code)


class OwnsItsRun(ownership.OwnsRun, tune.Trainable):
    """A trainable class that the driver leaves alone."""


class FakeTrial:
    """What the driver's side of wbtune asks of Tune's `Trial`."""

    def __init__(self, trial_id, folder, trainable=tune.Trainable):
        self.trial_id = trial_id
        self.config = {"lr": 1.0}
        self.experiment_dir_name = "experiment"
        self.local_experiment_path = str(folder)
        self.storage = None
        self.experiment_tag = trial_id
        self.status = "RUNNING"
        self.num_failures = 0
        self.last_result = {}
        self.stopping_criterion = {}
        self.pickled_error_file = None
        self.run_metadata = SimpleNamespace()
        self._trainable = trainable
        self.error = None

    def __str__(self):
        return f"trial_{self.trial_id}"

    def get_trainable_cls(self):
        return self._trainable

    def get_pickled_error(self):
        return self.error

    def is_finished(self):
        return self.status in {"TERMINATED", "ERROR"}


class FakeStore(dict):
    """Ray's key-value store, which every process of a job can read."""

    def stand_in_for(self, module, monkeypatch):
        """Let the functions of `ray_store` use this."""
        monkeypatch.setattr(module, "job", lambda: "job")
        for name in ("store", "stored", "stored_keys", "remove_stored"):
            monkeypatch.setattr(module, name, getattr(self, name))

    def store(self, key, text, *, overwrite=True):
        if overwrite or key not in self:
            self[key] = text

    def stored(self, key):
        return self.get(key)

    def stored_keys(self, prefix):
        return [key for key in self if key.startswith(prefix)]

    def remove_stored(self, prefix):
        for key in self.stored_keys(prefix):
            del self[key]
