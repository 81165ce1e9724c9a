#!/usr/bin/env python3
"""Times what a plugin costs before its first call: loads.py [--coop target/release/coop] [--rounds 5] [PLUGIN...].

For each plugin: the first use on a machine that has compiled nothing, and the uses after it, each a process of its own.
PLUGIN is a name or a reference; without one, the bundled plugins. Beside the time that passes it gives processor time,
which says the same on a machine that others use too.
"""

import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import tempfile
import time

BUNDLED = ["docker", "dockerfile", "ftp", "git", "http", "kubernetes", "oci", "push", "script"]


def inspect(coop, plugin, work):
    """Seconds that pass and seconds of all processors."""
    env = dict(os.environ, XDG_CACHE_HOME=str(work / "cache"), COOP_ROOT=str(work / "store"))
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([coop, "plugin", "inspect", plugin], env=env, check=True, stdout=subprocess.DEVNULL)
    passed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coop", default="target/release/coop")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("plugins", nargs="*", default=BUNDLED)
    arguments = parser.parse_args()
    print(f"{'plugin':24} {'first s':>8} {'cpu s':>8} {'later ms':>9} {'cpu ms':>8}")
    for plugin in arguments.plugins:
        with tempfile.TemporaryDirectory() as directory:
            work = pathlib.Path(directory)
            first, first_cpu = inspect(arguments.coop, plugin, work)
            later = [inspect(arguments.coop, plugin, work) for _ in range(arguments.rounds)]
            passed, cpu = (statistics.median(column) * 1000 for column in zip(*later))
        print(f"{plugin[-24:]:24} {first:8.2f} {first_cpu:8.2f} {passed:9.1f} {cpu:8.1f}", flush=True)


if __name__ == "__main__":
    main()
