#!/usr/bin/env python3
"""Builds Dockerfiles with `coop` and with BuildKit (through a Docker daemon) and compares what comes out.

    compare.py --coop BIN cases  DIR [--update]             cases of our own: DIR/<name>/{Dockerfile,context.txt,files/}
    compare.py --coop BIN suite  DIR --context DIR ...      Dockerfiles that share one context

Compared are the flattened file tree (path, kind, permissions, owner, bytes, link target, extended attributes, hard
links; no times) and the part of the configuration that a container sees. `cases --update` writes what the oracle
made to <name>/expected.json, in the form that the test `conformance` reads; a case whose options.txt says
`# by specification` has no oracle, and `--update` writes what coop made, for checking by eye.

Docker is found as usual (DOCKER_HOST). Needs nothing but Python and a `docker` client that can reach BuildKit.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = ["Env", "Cmd", "Entrypoint", "WorkingDir", "User", "ExposedPorts", "Volumes", "Labels", "Healthcheck",
          "StopSignal", "OnBuild", "Shell"]
# What runc leaves below a RUN of the oracle: mount points for files that only exist while the process runs.
MOUNT_POINTS = {"dev", "proc", "sys", "etc", "etc/hosts", "etc/resolv.conf", "etc/hostname", ".dockerenv", "etc/mtab"}
LONGEST_INLINE = 80
HEAD = "# Results\n\nWritten by `compare.py`: images of `coop` against images of BuildKit.\n\n"


# ---- a build context, described

def lay_out(case, where):
    """Makes the context of a case: files/, then the lines of context.txt, then the Dockerfile."""
    os.makedirs(where)
    os.chmod(where, 0o755)
    files = os.path.join(case, "files")
    for directory, names, leaves in os.walk(files):
        below = os.path.join(where, os.path.relpath(directory, files))
        for name in names:
            os.mkdir(os.path.join(below, name))
            os.chmod(os.path.join(below, name), 0o755)
        for name in leaves:
            source = os.path.join(directory, name)
            shutil.copyfile(source, os.path.join(below, name))
            os.chmod(os.path.join(below, name), 0o755 if os.stat(source).st_mode & 0o100 else 0o644)
    listing = os.path.join(case, "context.txt")
    later = []
    for line in open(listing).read().splitlines() if os.path.exists(listing) else []:
        if not line or line.startswith("#"):
            continue
        kind, path, rest = (line.split(" ", 2) + [""])[:3]
        target = os.path.join(where, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if kind == "link":
            os.symlink(rest, target)
            continue
        if kind == "hard":
            os.link(os.path.join(where, rest), target)
            continue
        mode, _, rest = rest.partition(" ")
        if kind == "dir":
            os.makedirs(target, exist_ok=True)
        elif kind == "file":
            open(target, "w").write(rest.replace("\\n", "\n"))
        elif kind == "fifo":
            os.mkfifo(target)
        elif kind == "host":
            shutil.copyfile(rest, target)
        else:
            raise SystemExit(f"{listing}: what is {kind!r}?")
        later.append((target, int(mode, 8)))
    for target, mode in later:
        os.chmod(target, mode)
    shutil.copyfile(os.path.join(case, "Dockerfile"), os.path.join(where, "Dockerfile"))


def options(case):
    """The lines of options.txt: arguments for both builders, and whether the oracle knows the feature."""
    path = os.path.join(case, "options.txt")
    lines = open(path).read().splitlines() if os.path.exists(path) else []
    return [line for line in lines if line and not line.startswith("#")], "# by specification" not in lines


# ---- an image, flattened

class Image:
    """The file tree and configuration of an image in an archive as `docker save` writes it."""

    def __init__(self, path):
        with tarfile.open(path) as archive:
            manifest = json.load(archive.extractfile("manifest.json"))[0]
            document = json.load(archive.extractfile(manifest["Config"]))
            self.config = {key: value for key in CONFIG if (value := (document.get("config") or {}).get(key))}
            self.files = {}
            self.groups = {}
            for name in manifest["Layers"]:
                member = archive.getmember(name)
                while member.issym():
                    member = archive.getmember(os.path.normpath(os.path.join(os.path.dirname(member.name),
                                                                             member.linkname)))
                with tarfile.open(fileobj=archive.extractfile(member)) as layer:
                    self.apply(layer)
        self.files.setdefault(".", {"kind": "dir", "mode": 0o755, "owner": "0:0"})
        self.name_groups()

    def apply(self, layer):
        added = {}
        members = [(os.path.normpath(member.name).lstrip("/") or ".", member) for member in layer]
        for path, _ in members:
            directory, name = os.path.split(path)
            if name == ".wh..wh..opq":
                self.forget(directory, itself=False)
            elif name.startswith(".wh."):
                self.forget(os.path.join(directory, name[4:]))
        for path, member in members:
            if os.path.basename(path).startswith(".wh."):
                continue
            entry = self.entry(layer, member, added)
            if path in self.files and (self.files[path]["kind"] == "dir") != (entry["kind"] == "dir"):
                self.forget(path)
            self.files[path] = added[path] = entry

    def entry(self, layer, member, added):
        if member.islnk():
            return added.get(os.path.normpath(member.linkname)) or self.files[os.path.normpath(member.linkname)]
        entry = {"mode": member.mode & 0o7777, "owner": f"{member.uid}:{member.gid}"}
        xattrs = {name[len("SCHILY.xattr."):]: value for name, value in member.pax_headers.items()
                  if name.startswith("SCHILY.xattr.")}
        if xattrs:
            entry["xattrs"] = ",".join(f"{name}={value.encode('utf-8', 'surrogateescape').hex()}"
                                       for name, value in sorted(xattrs.items()))
        if member.isdir():
            entry["kind"] = "dir"
        elif member.issym():
            entry.update(kind="link", target=member.linkname)
            del entry["mode"]
        elif member.isfifo():
            entry["kind"] = "fifo"
        elif member.ischr() or member.isblk():
            entry.update(kind="device", target=f"{member.devmajor}:{member.devminor}")
        else:
            data = layer.extractfile(member).read()
            entry.update(kind="file", size=len(data), data=contents(data))
        return entry

    def forget(self, path, itself=True):
        for known in [known for known in self.files if known.startswith(path + "/") or (itself and known == path)]:
            del self.files[known]

    def name_groups(self):
        """Names hard links after the first path of their group."""
        first = {}
        for path in sorted(self.files):
            entry = self.files[path]
            if id(entry) in first:
                self.files[path] = {**entry, "same": first[id(entry)]}
            else:
                first[id(entry)] = path

    def lines(self, busybox=None):
        """One line of text for each path."""
        return {path: describe(entry, busybox) for path, entry in self.files.items()}


def contents(data):
    """Short text as it is, anything else as a digest."""
    if len(data) <= LONGEST_INLINE and all(byte in (9, 10) or 32 <= byte < 127 for byte in data):
        return json.dumps(data.decode())
    return "sha256:" + hashlib.sha256(data).hexdigest()


def describe(entry, busybox):
    mode = f"{entry['mode']:04o} " if "mode" in entry else ""
    text = f"{entry['kind']} {mode}{entry['owner']}"
    if entry["kind"] == "file":
        data = "busybox" if entry["data"] == busybox else entry["data"]
        text += f" {data}"
    if "target" in entry:
        text += f" -> {entry['target']}"
    if "xattrs" in entry:
        text += f" {entry['xattrs']}"
    if "same" in entry:
        text += f" = {entry['same']}"
    return text


# ---- the two builders

class Failed(Exception):
    """A build failed; the message is the end of what it said."""


def run(command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600, **more)
    if done.returncode:
        raise Failed(done.stdout.decode(errors="replace")[-1500:])


def coop(args, context, dockerfile, extra, tag):
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "image.tar")
        command = [args.coop, "--root", args.root, "--config", args.config, "build", "--progress=plain",
                   "--compression=none", "-f", dockerfile, *extra, "-t", tag,
                   "-o", f"type=docker,dest={path}", context]
        run(command, stdin=subprocess.DEVNULL)
        return Image(path)


def oracle(args, context, dockerfile, extra, tag):
    env = {**os.environ, "DOCKER_BUILDKIT": "1"}
    extra = [item for item in extra if not item.startswith("--isolation")]
    run([args.docker, "build", "--network=host", "--progress=plain", "-f", dockerfile, *extra, "-t", tag, context],
        env=env, stdin=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "image.tar")
        run([args.docker, "save", "-o", path, tag])
        return Image(path)


def attempt(builder, *args):
    try:
        return builder(*args)
    except (Failed, subprocess.TimeoutExpired) as failure:
        return failure


def differences(ours, theirs, ignore=None):
    """What differs, as lines; mount points that the oracle leaves behind are not counted, nor what `ignore` matches."""
    found = []
    a, b = ours.lines(), theirs.lines()
    for path in sorted(set(a) | set(b)):
        if a.get(path) == b.get(path) or (path in MOUNT_POINTS and path not in a) or (ignore and ignore.search(path)):
            continue
        found.append(f"{path}: coop {a.get(path, 'has none')}; BuildKit {b.get(path, 'has none')}")
    for key in CONFIG:
        mine, other = ours.config.get(key), theirs.config.get(key)
        if mine != other:
            found.append(f"{key}: coop {json.dumps(mine)}; BuildKit {json.dumps(other)}")
    return found


def judge(ours, theirs, ignore=None):
    """The verdict on one Dockerfile: `same` or `differs`, and why."""
    if isinstance(ours, Exception) and isinstance(theirs, Exception):
        return "same", ["both refuse"]
    if isinstance(ours, Exception):
        return "differs", [f"coop fails: {ours}"]
    if isinstance(theirs, Exception):
        return "differs", [f"BuildKit fails: {theirs}"]
    found = differences(ours, theirs, ignore)
    return ("differs", found) if found else ("same", [])


# ---- cases of our own

def expectation(image, base, ours):
    """What a case expects: what its image has beside the base, without mount points that coop leaves out."""
    if isinstance(image, Exception):
        return {"fails": True}
    busybox = base.files["bin/busybox"]["data"]
    before, after = base.lines(busybox), image.lines(busybox)
    if not isinstance(ours, Exception):
        after = {path: line for path, line in after.items() if path not in MOUNT_POINTS or path in ours.files}
    files = {path: line for path, line in after.items() if before.get(path) != line}
    if "bin/busybox" in image.files:
        files.update({path: "gone" for path in sorted(before) if path not in after})
        config = {key: value for key, value in image.config.items() if base.config.get(key) != value}
    else:
        config = image.config
        files = after
    return {"config": config, "files": dict(sorted(files.items()))}


def run_cases(args):
    with tempfile.TemporaryDirectory() as scratch:
        context = os.path.join(scratch, "base")
        lay_out(os.path.join(HERE, "base"), context)
        dockerfile = os.path.join(context, "Dockerfile")
        bases = coop(args, context, dockerfile, [], "busybox"), oracle(args, context, dockerfile, [], "busybox:latest")
        for line in differences(*bases):
            print(f"the base: {line}")
        names = [name for name in sorted(os.listdir(args.directory)) if re.search(args.only, name)]
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            results = list(pool.map(lambda name: one_case(args, scratch, name, bases), names))
    return results


def one_case(args, scratch, name, bases):
    case, context = os.path.join(args.directory, name), os.path.join(scratch, "case-" + name)
    lay_out(case, context)
    extra, known = options(case)
    dockerfile = os.path.join(context, "Dockerfile")
    ours = attempt(coop, args, context, dockerfile, extra, f"conformance/{name}")
    theirs = attempt(oracle, args, context, dockerfile, extra, f"conformance/{name}") if known else ours
    verdict, why = judge(ours, theirs)
    if not known:
        verdict, why = "by specification", ["the oracle does not know the feature"]
    report(name, verdict, why if verdict == "differs" else [])
    if args.update:
        expected = expectation(theirs, bases[1] if known else bases[0], ours)
        with open(os.path.join(case, "expected.json"), "w") as file:
            json.dump(expected, file, indent=2, ensure_ascii=False)
            file.write("\n")
    return name, verdict, why


# ---- a suite of Dockerfiles with one context

def prepare(text, rename):
    """The Dockerfile with its bases replaced by those that both builders can have."""
    def replace(match):
        return match.group(1) + rename.get(match.group(2), re.sub(r"@sha256:[0-9a-f]{64}", "", match.group(2)))
    return re.sub(r"(?mi)^(FROM\s+(?:--\S+\s+)*|(?:COPY|RUN)\s.*?\bfrom=)([^\s,\\]+)", replace, text)


def run_suite(args):
    rename = dict(pair.split("=", 1) for pair in args.rename)
    skip = json.load(open(args.skip)) if args.skip else {}
    extra_arguments = json.load(open(args.arguments)) if args.arguments else {}
    names = [name for name in sorted(os.listdir(args.directory))
             if not name.endswith(".dockerignore") and re.search(args.only, name)]
    with tempfile.TemporaryDirectory() as scratch:
        def one(name):
            if name in skip:
                report(name, "not applicable", [])
                return name, "not applicable", [skip[name]]
            where = os.path.join(scratch, name)
            os.makedirs(where)
            path = os.path.join(where, "Dockerfile")
            with open(path, "w") as file:
                file.write(prepare(open(os.path.join(args.directory, name)).read(), rename))
            beside = os.path.join(args.directory, name + ".dockerignore")
            if os.path.exists(beside):
                shutil.copyfile(beside, path + ".dockerignore")
            extra = extra_arguments.get("*", []) + extra_arguments.get(name, [])
            ours = attempt(coop, args, args.context, path, extra, "conformance/" + name.lower())
            theirs = attempt(oracle, args, args.context, path, extra, "conformance/" + name.lower())
            verdict, why = judge(ours, theirs, re.compile(args.ignore) if args.ignore else None)
            report(name, verdict, why)
            return name, verdict, why
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            return list(pool.map(one, names))


def report(name, verdict, why):
    print(f"{verdict:16} {name}")
    for line in why[:12]:
        print("    " + line.replace("\n", "\n    "))
    if len(why) > 12:
        print(f"    and {len(why) - 12} more")
    sys.stdout.flush()


def write_table(path, title, results, reasons):
    """Writes the section `title` of the table of results. `reasons` judges: name -> why a difference is right."""
    counts, rows = {}, []
    for name, verdict, why in results:
        counts[verdict] = counts.get(verdict, 0) + 1
        reason = reasons.get(name) or ("; ".join(why[:3]) if verdict != "same" else (why or [""])[0])
        reason = re.sub(r"\s+", " ", reason).replace("|", "\\|")[:400]
        rows.append(f"| {name} | {verdict} | {reason} |\n")
    known = open(path).read() if os.path.exists(path) else HEAD
    sections = re.split(r"(?m)^(?=## )", known)
    kept = [section for section in sections[1:] if not section.startswith(f"## {title}\n")]
    section = (f"## {title}\n\n" + ", ".join(f"{verdict}: {count}" for verdict, count in sorted(counts.items()))
               + "\n\n| case | result | why |\n| --- | --- | --- |\n" + "".join(rows) + "\n")
    with open(path, "w") as file:
        file.write(sections[0] + "".join(sorted([*kept, section])).rstrip("\n") + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coop", default="coop")
    parser.add_argument("--docker", default="docker")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="only names that match this expression")
    parser.add_argument("--route", help="HOST[:PORT]/PATH that coop reads images of Docker Hub from")
    parser.add_argument("--table", help="file for the table of results")
    parser.add_argument("--title", help="section of that file")
    parser.add_argument("--reasons", help="JSON: name -> judgement of its difference, for the table")
    commands = parser.add_subparsers(dest="command", required=True)
    cases = commands.add_parser("cases")
    cases.add_argument("directory", nargs="?", default=os.path.join(HERE, "cases"))
    cases.add_argument("--update", action="store_true")
    suite = commands.add_parser("suite")
    suite.add_argument("directory")
    suite.add_argument("--context", required=True)
    suite.add_argument("--rename", action="append", default=[], help="BASE=BASE for FROM and from=")
    suite.add_argument("--skip", help="JSON: name -> why it is not applicable")
    suite.add_argument("--ignore", help="expression for paths that hold the time of the build")
    suite.add_argument("--arguments", help="JSON: name (or *) -> arguments for both builders")
    args = parser.parse_args()
    reasons = json.load(open(args.reasons)) if args.reasons else {}
    with tempfile.TemporaryDirectory() as state:
        args.root, args.config = os.path.join(state, "root"), os.path.join(state, "config.yaml")
        with open(args.config, "w") as file:
            file.write(f"pull:\n  docker.io:\n    location: {args.route}\n" if args.route else "{}\n")
        results = (run_cases if args.command == "cases" else run_suite)(args)
    if args.table:
        write_table(args.table, args.title or args.command, results, reasons)
    bad = sum(verdict == "differs" and name not in reasons for name, verdict, _ in results)
    print({verdict: sum(v == verdict for _, v, _ in results) for verdict in sorted({v for _, v, _ in results})})
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
