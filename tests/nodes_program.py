"""A cluster of two nodes on this machine: ``python nodes_program.py FOLDER``.

One experiment for each way in a shared local folder, and some in S3, whose runs are
copied to ``FOLDER/s3`` at the end, as somebody would who wants to sync them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import ray
from drivers import quick_workers, warm
from moto.server import ThreadedMotoServer
from pyarrow import fs
from ray import tune
from ray.cluster_utils import Cluster

from wbtune import WandbLoggerCallback, WandbMixin, setup_wandb, wandb_trial, wandb_tuner

PROJECT = "nodes"
NODES = ("node_a", "node_b")
ROWS = 5


def rows():
    node = ray.get_runtime_context().get_node_id()
    for i in range(ROWS):
        yield {"i": i, "on": node}


def plain(config):
    for row in rows():
        tune.report(row)


def sets_up(config):
    run = setup_wandb(config, project=PROJECT)
    for row in rows():
        run.log(row)
        tune.report(row)


@wandb_trial(project=PROJECT)
def decorated(config, run):
    for row in rows():
        run.log(row)
        tune.report(row)


@wandb_trial(project=PROJECT)
def fails_once(config, run):
    for row in rows():
        run.log(row)
        tune.report(row)
    mark = Path(config["folder"], config["node"])
    if not mark.exists():
        mark.touch()
        raise ValueError("once")


class Mixed(WandbMixin, tune.Trainable, project=PROJECT):
    def setup(self, config):
        self.rows = list(rows())

    def step(self):
        row = self.rows.pop(0)
        self.run.log(row)
        return {**row, "done": not self.rows}

    def save_checkpoint(self, checkpoint_dir):
        return {}

    def load_checkpoint(self, checkpoint):
        pass


def run_config(name, where, **more):
    return tune.RunConfig(name=name, verbose=0, **where, **more)


def fit(trainable, name, where, folder, *, build=tune.Tuner, **more):
    pinned = tune.with_resources(trainable, lambda config: {"cpu": 0.5, config["node"]: 1})
    space = {"node": tune.grid_search(list(NODES)), "folder": folder}
    results = build(pinned, param_space=space, run_config=run_config(name, where, **more)).fit()
    assert not results.errors, results.errors


def callback():
    return [WandbLoggerCallback(project=PROJECT)]


def tuner(trainable, **options):
    return wandb_tuner(trainable, log_results=False, **options)


def main(folder):
    shared = {"storage_path": str(Path(folder, "shared"))}
    fit(plain, "callback", shared, folder, callbacks=callback())
    fit(sets_up, "setup_wandb", shared, folder)
    fit(decorated, "wandb_trial", shared, folder)
    fit(Mixed, "WandbMixin", shared, folder)

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    s3 = fs.S3FileSystem(
        endpoint_override=f"{host}:{port}",
        scheme="http",
        access_key="x",
        secret_key="x",
        region="us-east-1",
        allow_bucket_creation=True,
    )
    s3.create_dir("bucket")
    remote = {"storage_path": "bucket/results", "storage_filesystem": s3}
    fit(plain, "s3-callback", remote, folder, callbacks=callback())
    fit(Mixed, "s3-WandbMixin", remote, folder, build=tuner)
    # Nobody but the trials is there to copy these.
    once_more = tune.FailureConfig(max_failures=1)
    fit(fails_once, "s3-wandb_trial", remote, folder, failure_config=once_more)
    fs.copy_files(
        "bucket/results",
        str(Path(folder, "s3")),
        source_filesystem=s3,
        destination_filesystem=fs.LocalFileSystem(),
    )
    server.stop()


if __name__ == "__main__":
    os.environ.pop("RAY_ADDRESS", None)
    quick_workers()
    with warm():
        head = {"num_cpus": 2, "resources": {"node_a": 1}, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.add_node(num_cpus=2, resources={"node_b": 1})
    ray.init(cluster.address, logging_level="error", log_to_driver=False)
    try:
        main(sys.argv[1])
    finally:
        ray.shutdown()
        cluster.shutdown()
    print("all fitted")
