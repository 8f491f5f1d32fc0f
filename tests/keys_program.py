"""A driver that is given its key in every way: ``python keys_program.py FOLDER URL KEYS``.

Only this process knows a key: Ray is started before there is one, and its workers have an
empty home. Each way has a key of its own (KEYS: one letter each, forty times). URL has a
password, too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import ray
from drivers import local_ray, quick_workers
from ray import tune

from wbtune import WandbLoggerCallback, WandbMixin, setup_wandb, wandb_trial, wandb_tuner

QUICK = {"x_file_stream_transmit_interval": 1}


def seen_in_processes(keys):
    """What any process of this machine tells of the keys, but the driver's own environment."""
    driver = int(os.environ["DRIVER"])
    seen = []
    for process in psutil.process_iter():
        try:
            texts = [*process.cmdline()]
            if process.pid != driver:
                texts += process.environ().values()
        except psutil.Error:
            continue
        seen += [key for key in keys if any(key * 40 in text for text in texts)]
    return seen


def reports(config):
    for i in range(1, 4):
        tune.report({"i": i, "seen": len(seen_in_processes(config["letters"]))})


@wandb_trial
def decorated(config, run):
    assert "WANDB_API_KEY" not in os.environ
    reports(config)


class Mixed(WandbMixin, tune.Trainable):
    def setup(self, config):
        self.letters, self.i = config["letters"], 0

    def step(self):
        self.i += 1
        seen = len(seen_in_processes(self.letters))
        return {"i": self.i, "seen": seen, "done": self.i >= 3}

    def save_checkpoint(self, checkpoint_dir):
        pass


def with_setup(config):
    run = setup_wandb(config, project="p", settings=QUICK)
    for i in range(1, 4):
        run.log({"i": i, "seen": len(seen_in_processes(config["letters"]))})


def key_from_the_hook():
    return os.environ["HOOKS"] * 40


def fit(folder, name, trainable, callbacks=(), **options):
    run_config = tune.RunConfig(
        name=name, storage_path=folder, verbose=0, callbacks=list(callbacks)
    )
    space = {"letters": sys.argv[3]}
    if callbacks:
        tuner = tune.Tuner(trainable, param_space=space, run_config=run_config)
    else:
        options = {"project": "p", "settings": QUICK, **options}
        tuner = wandb_tuner(trainable, param_space=space, run_config=run_config, **options)
    assert not tuner.fit().errors


def main():
    folder, url, letters = sys.argv[1:]
    os.environ["DRIVER"] = str(os.getpid())
    quick_workers()
    local_ray(2, _temp_dir=str(Path(folder, "ray")))
    argument, file, environment, netrc, hook = (letter * 40 for letter in letters)
    os.environ |= {"WANDB_BASE_URL": url, "WANDB_ENTITY": "team", "WANDB_MODE": "online"}
    Path("home").mkdir()
    os.environ["NETRC"] = str(Path("home", "netrc").absolute())
    os.chdir("home")
    callback = WandbLoggerCallback(project="p", settings=QUICK)

    settings = {**QUICK, "base_url": url}
    fit(folder, "argument", decorated, api_key=argument, settings=settings)
    Path("key.txt").write_text(file)
    fit(folder, "file", decorated, api_key_file="key.txt")  # relative, and on this node alone
    Path("key.txt").unlink()
    os.environ["WANDB_API_KEY"] = environment
    fit(folder, "environment", reports, [callback])
    del os.environ["WANDB_API_KEY"]
    host = url.rpartition("@")[2]
    Path("netrc").write_text(f"machine {host}\n  login user\n  password {netrc}\n")
    Path("netrc").chmod(0o600)
    fit(folder, "netrc", Mixed)
    Path("netrc").unlink()
    os.environ |= {"WANDB_SETUP_API_KEY_HOOK": "keys_program.key_from_the_hook", "HOOKS": hook[0]}
    fit(folder, "hook", with_setup, [WandbLoggerCallback(project="p", settings=QUICK)])
    ray.shutdown()
    print("all fitted")


if __name__ == "__main__":
    sys.modules["keys_program"] = sys.modules["__main__"]
    main()
