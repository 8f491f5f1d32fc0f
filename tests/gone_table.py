"""Take each private name from Ray and wandb in turn, log by three ways, and look at what arrives.

Run as `make gone`: it takes a minute or less a name. Where a name is gone, a capability may be
lost; never a row, a trial or an experiment.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gone
import releases
import tables

from wbtune import capabilities

#: Who writes a run: the driver's helper, a trial's function, a trial's class.
WAYS = ("WandbLoggerCallback", "@wandb_trial", "WandbMixin")


def without(names, address):
    """What arrives by the ways without these names; by the Ray at an address, if it has them."""
    address = address if names[0].startswith("wandb") else ""
    with tempfile.TemporaryDirectory(prefix="wbtune-gone-") as folder:
        path = str(gone.without(names, Path(folder)))
        how = releases.EACH_ITS_OWN
        return releases.run_program(ways=WAYS, path=[path], how=how, ray_address=address)


def shared_ray():
    """Start a Ray for all that lack a name of wandb: half of the time is Ray's start."""
    import ray

    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    os.environ |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    ray.init("local", num_cpus=8, include_dashboard=False, logging_level="error")
    return ray.get_runtime_context().gcs_address


def lost_by(name):
    """What is lost without a name: the words of its capabilities."""
    losses = [one.without for one in capabilities() if name in " ".join(one.needs)]
    return "; ".join(dict.fromkeys(losses))


def what_of(names):
    """The first cell of the row for these names."""
    package = names[0].partition(".")[0].partition(":")[0]
    return f"`{names[0]}`" if len(names) == 1 else f"all {len(names)} of {package}, at once"


def rows_in(page):
    """The rows that a page has, by their first cells."""
    _, _, rest = page.read_text(encoding="utf-8").partition("<!-- gone -->\n")
    lines = rest.partition("<!-- /gone -->")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: row for row in rows if len(row) == len(WAYS) + 2}


def main():
    """Print the table, and fail if anything was lost that no name may cost."""
    options = parsed()
    by_package = gone.private_names()
    each = [name for names in by_package.values() for name in names]
    if options.only:
        wanted = [[name] for name in each if any(part in name for part in options.only)]
    else:
        wanted = [*by_package.values(), *([name] for name in each)]
    rows = rows_in(options.write) if options.rest else {}
    tried = [names for names in wanted if what_of(names) not in rows]
    wrong, address = [], shared_ray()
    with ThreadPoolExecutor(options.at_once) as pool:
        found_of = pool.map(lambda names: without(names, address), tried)
        for names, found in zip(tried, found_of, strict=True):
            what, lost = what_of(names), found.lost(WAYS)
            words = lost_by(names[0]) if len(names) == 1 else "all that follows"
            rows[what] = [what, *map(found.cell, WAYS), words]
            print(" | ".join(rows[what]), flush=True)
            wrong += [f"WRONG: {what}: {one}" for one in lost]
            if lost:
                print(found.output[-3000:], file=sys.stderr)
            if options.write:  # each time, so that what was measured is kept
                done = [rows[what_of(one)] for one in wanted if what_of(one) in rows]
                table = tables.markdown(["gone", *WAYS, "what is lost"], done)
                tables.write(table, options.write, "gone")
    print(*wrong, sep="\n")
    return bool(wrong)


def parsed():
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="the file whose table is replaced")
    parser.add_argument("--only", nargs="*", default=[], help="names that contain one of these")
    parser.add_argument("--rest", action="store_true", help="only the names that it does not have")
    parser.add_argument("--at-once", type=int, default=1, help="how many are tried side by side")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--only has a part of the table, which is not to replace the whole")
    if options.rest and not options.write:
        parser.error("--rest is of the names that the file of --write does not have")
    return options


if __name__ == "__main__":
    sys.exit(main())
