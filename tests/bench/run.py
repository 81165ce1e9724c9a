#!/usr/bin/env python3
"""Times coop beside other builders: run.py DIR [--rounds 5] [--builders coop,buildkit,classic,buildah] [--workloads a,b,c,d].

DIR is what inputs.py made. Base images come from the registry 127.0.0.1:5000; images are pushed to one on :5002 that
this program starts empty for every push. DOCKER_HOST names the Docker engine.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request

TARGET = "127.0.0.1:5002"


class Builder:
    """How one builder is told to do the three things, and how it is brought back to having only base images."""

    def __init__(self, work):
        self.work = work
        self.env = dict(os.environ)

    def reset(self, workload):
        raise NotImplementedError

    def build(self, tag, context):
        raise NotImplementedError

    def push(self, tag):
        raise NotImplementedError


class Coop(Builder):
    name = "coop"

    def __init__(self, work):
        super().__init__(work)
        self.binary = os.environ.get("COOP", "target/release/coop")
        self.store = work / "coop"
        self.env.update(XDG_CACHE_HOME=str(work / "coop-cache"), COOP_ROOT=str(self.store))

    def reset(self, workload):
        """Leaves the bases, unpacked as the peers have them."""
        if not self.store.exists():
            for base in ("busybox:1.35", "debian:bookworm"):
                self.call(["image", "pull", f"127.0.0.1:5000/{base}"])
                self.call(["build", "-t", "warm", "-f", "-", "--progress", "quiet", "."],
                          input=f"FROM 127.0.0.1:5000/{base}\nRUN true\n".encode(), cwd=self.work / "empty")
            self.call(["image", "rm", "--cache", "warm"])
        else:
            self.call(["image", "rm", "--cache", f"{TARGET}/{workload}:{self.name}"], check=False)

    def call(self, arguments, check=True, **more):
        subprocess.run([self.binary, *arguments], env=self.env, check=check, capture_output=True, **more)

    def build(self, tag, context):
        return [self.binary, "build", "--quiet", "-t", tag, str(context)]

    def push(self, tag):
        return [self.binary, "image", "push", "--progress", "quiet", tag]


class Docker(Builder):
    def __init__(self, work, buildkit):
        super().__init__(work)
        self.buildkit = buildkit
        self.env["DOCKER_BUILDKIT"] = "1" if buildkit else "0"
        self.binary = os.environ.get("DOCKER", "/usr/bin/docker")

    def reset(self, workload):
        commands = [["image", "prune", "-f"]]
        if self.buildkit:
            commands.insert(0, ["builder", "prune", "-af"])
        else:
            commands.insert(0, ["image", "rm", "-f", f"{TARGET}/{workload}:{self.name}"])
        for command in commands:
            subprocess.run([self.binary, *command], env=self.env, capture_output=True)

    def build(self, tag, context):
        return [self.binary, "build", "-q", "--network", "host", "-t", tag, str(context)]

    def push(self, tag):
        return [self.binary, "push", "-q", tag]


class BuildKit(Docker):
    name = "buildkit"

    def __init__(self, work):
        super().__init__(work, True)


class Classic(Docker):
    name = "classic"

    def __init__(self, work):
        super().__init__(work, False)


class Buildah(Builder):
    name = "buildah"

    def __init__(self, work):
        super().__init__(work)
        conf = work / "registries.conf"
        conf.write_text("".join(f'[[registry]]\nlocation="127.0.0.1:{p}"\ninsecure=true\n' for p in (5000, 5002)))
        self.env["CONTAINERS_REGISTRIES_CONF"] = str(conf)
        root = work / "buildah"
        self.base = ["buildah", "--root", str(root / "store"), "--runroot", str(root / "run"),
                     "--storage-driver", "overlay"]
        self.runtime = shutil.which("runc", path="/usr/sbin:/usr/bin:/sbin:/bin")

    def reset(self, workload):
        subprocess.run([*self.base, "rmi", "-f", f"{TARGET}/{workload}:{self.name}"], env=self.env, capture_output=True)
        subprocess.run([*self.base, "rmi", "--prune", "-f"], env=self.env, capture_output=True)

    def build(self, tag, context):
        return [*self.base, "bud", "-q", "--layers", "--isolation", "oci", "--runtime", self.runtime,
                "--network", "host", "-t", tag, str(context)]

    def push(self, tag):
        return [*self.base, "push", "-q", tag]


class Registry:
    """A registry with nothing in it."""

    def __init__(self, work):
        self.directory = work / "registry"
        self.config = work / "registry.yml"
        self.config.write_text(json.dumps({
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.directory)}},
            "http": {"addr": TARGET},
        }))
        self.process = None

    def restart(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()
        self.process = subprocess.Popen(["docker-registry", "serve", str(self.config)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://{TARGET}/v2/").close()
                return
            except OSError:
                time.sleep(0.02)
        sys.exit("the registry does not start")

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()

    def mebibytes(self):
        return sum(f.stat().st_size for f in self.directory.rglob("*") if f.is_file()) >> 20


def timed(builder, command):
    """Wall seconds and peak memory (MiB, the largest single process) of one command."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env=builder.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{errors.decode(errors='replace')[-1500:]}")
    return seconds, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--builders", default="coop,buildkit,classic,buildah")
    parser.add_argument("--workloads", default="a,b,c,d")
    arguments = parser.parse_args()
    directory = arguments.directory.resolve()
    work = directory / "work"
    (work / "empty").mkdir(parents=True, exist_ok=True)
    known = {builder.name: builder for builder in (Coop, BuildKit, Classic, Buildah)}
    builders = [known[name](work) for name in arguments.builders.split(",")]
    registry = Registry(work)
    results, memory, pushed = {}, {}, {}
    try:
        for round_number in range(arguments.rounds + 1):
            # Round 0 brings the bases into each store and warms the page cache; it is not counted.
            for workload in arguments.workloads.split(","):
                for builder in builders:
                    tag, context = f"{TARGET}/{workload}:{builder.name}", directory / workload
                    builder.reset(workload)
                    registry.restart()
                    # What the preparation wrote must not be written back on somebody's time.
                    os.sync()
                    cold, peak = timed(builder, builder.build(tag, context))
                    push, _ = timed(builder, builder.push(tag))
                    cached, _ = timed(builder, builder.build(tag, context))
                    pushed[workload, builder.name] = registry.mebibytes()
                    memory[workload, builder.name] = max(peak, memory.get((workload, builder.name), 0))
                    if round_number:
                        for step, seconds in (("cold", cold), ("push", push), ("cached", cached)):
                            results.setdefault((workload, step, builder.name), []).append(seconds)
            print(f"round {round_number} done", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("stopped early", file=sys.stderr)
    finally:
        registry.stop()
    report(results, memory, pushed, [builder.name for builder in builders])


def report(results, memory, pushed, names):
    print("| workload | step | " + " | ".join(names) + " | ours / best peer |")
    print("| --- | --- |" + " --- |" * (len(names) + 1))
    medians = {key: statistics.median(values) for key, values in results.items()}
    for workload, step in dict.fromkeys((workload, step) for workload, step, _ in results):
        cells = [f"{medians[workload, step, name]:.3f} ({min(results[workload, step, name]):.3f})" for name in names]
        print(f"| {workload} | {step} | " + " | ".join(cells) + f" | {ratio(medians, workload, (step,), names)} |")
        if step == "push":
            total = [f"{medians[workload, 'cold', name] + medians[workload, 'push', name]:.3f}" for name in names]
            steps = ("cold", "push")
            print(f"| {workload} | cold + push | " + " | ".join(total) + f" | {ratio(medians, workload, steps, names)} |")
    print("\nPeak memory of the client process in MiB, and MiB in the registry after the push:")
    for (workload, name), peak in memory.items():
        print(f"- {workload} {name}: {peak:.0f} MiB, {pushed[workload, name]} MiB")


def ratio(medians, workload, steps, names):
    total = {name: sum(medians[workload, step, name] for step in steps) for name in names}
    peers = [seconds for name, seconds in total.items() if name != "coop"]
    return f"{total['coop'] / min(peers):.2f}" if "coop" in total and peers else "-"


main()
