#!/usr/bin/env python3
"""Times what plugins cost: loads.py [--coop target/release/coop] [--rounds 5] [--calls COMPONENT] [PLUGIN...].

A flow with one step that has a wrong parameter: the plugin is fetched, compiled, loaded and asked for its schema, and
then not called. For each plugin: the first use on a machine that has compiled nothing, and the uses after it, each a
process of its own; `nothing` is the same flow without a plugin, which is what the process costs. PLUGIN is a name or a
reference; without one, the bundled plugins. Beside the time that passes it gives processor time, which says the same on
a machine that others use too.

With --calls it times a flow of 1,000 steps, each after the one before, and divides by their number. COMPONENT is a task
that does nothing for `do: nothing`: `cargo build --release --target wasm32-wasip2` makes one in tests/adversarial/guests.
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


def use(coop, work, codes=(1, 2)):
    """Seconds that pass and seconds of all processors."""
    env = dict(os.environ, XDG_CACHE_HOME=str(work / "cache"), COOP_ROOT=str(work / "store"))
    start = time.perf_counter()
    process = subprocess.Popen([coop, "run"], env=env, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in codes:
        raise SystemExit(f"the run ended with {process.returncode} and not with one of {codes}:\n{said}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def calls(component, count):
    grants = {
        "http": ["http://granted.example"], "tcp": ["127.0.0.1:*", "[::1]:*", "localhost:*"], "secrets": ["GRANTED"],
        "fs": [{"access": "write", "mount": "/data", "path": "data"}], "registries": ["push", "pull"],
        "sources": ["**"], "run": True, "state": True,
    }
    steps = {f"s{n}": {"uses": "task", "with": {"do": "nothing"}, "needs": [f"s{n - 1}"][:n]} for n in range(count)}
    return json.dumps({"version": 1, "plugins": {"task": {"from": f"file:{component}", "allow": grants}}, "flow": steps})


def time_calls(coop, component, rounds, count=1000):
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        (work / "data").mkdir()
        times = {}
        for steps in (1, count):
            (work / "cooperage.yaml").write_text(calls(component, steps))
            use(coop, work, (0,))
            times[steps] = statistics.median(use(coop, work, (0,))[0] for _ in range(rounds))
        print(f"{count} calls: {times[count]:.2f} s, {(times[count] - times[1]) / count * 1000:.2f} ms each")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coop", default="target/release/coop")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=pathlib.Path)
    parser.add_argument("plugins", nargs="*", default=BUNDLED)
    arguments = parser.parse_args()
    coop = pathlib.Path(arguments.coop).resolve()
    if arguments.calls:
        return time_calls(coop, arguments.calls.resolve(), arguments.rounds)
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
