#!/usr/bin/env python3
"""Times what a plugin costs before its first call: loads.py [--coop target/release/coop] [--rounds 5] [PLUGIN...].

A flow with one step that has a wrong parameter: the plugin is fetched, compiled, loaded and asked for its schema, and
then not called. For each plugin: the first use on a machine that has compiled nothing, and the uses after it, each a
process of its own; `nothing` is the same flow without a plugin, which is what the process costs. PLUGIN is a name or a
reference; without one, the bundled plugins. Beside the time that passes it gives processor time, which says the same on
a machine that others use too.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

BUNDLED = ["docker", "dockerfile", "ftp", "git", "http", "kubernetes", "oci", "push", "script"]


def flow(plugin):
    """A plugin of another role than `task` is refused for that."""
    step = {"uses": plugin, "with": {"no-such-parameter": 1}}
    named = {"plugins": {"plugin": {"from": plugin}}} if ":" in plugin else {}
    if named:
        step["uses"] = "plugin"
    return json.dumps({"version": 1, **named, "flow": {"step": step}})


def use(coop, work):
    """Seconds that pass and seconds of all processors."""
    env = dict(os.environ, XDG_CACHE_HOME=str(work / "cache"), COOP_ROOT=str(work / "store"))
    start = time.perf_counter()
    process = subprocess.Popen([coop, "run"], env=env, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (1, 2):
        raise SystemExit(f"a wrong parameter should have been refused:\n{said}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coop", default="target/release/coop")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("plugins", nargs="*", default=BUNDLED)
    arguments = parser.parse_args()
    coop = pathlib.Path(arguments.coop).resolve()
    print(f"{'plugin':24} {'first s':>8} {'cpu s':>8} {'later ms':>9} {'cpu ms':>8}")
    for plugin in ["nothing", *arguments.plugins]:
        with tempfile.TemporaryDirectory() as directory:
            work = pathlib.Path(directory)
            (work / "cooperage.yaml").write_text(flow(plugin))
            first, first_cpu = use(coop, work)
            later = [use(coop, work) for _ in range(arguments.rounds)]
            passed, cpu = (statistics.median(column) * 1000 for column in zip(*later))
        print(f"{plugin[-24:]:24} {first:8.2f} {first_cpu:8.2f} {passed:9.1f} {cpu:8.1f}", flush=True)


if __name__ == "__main__":
    main()
