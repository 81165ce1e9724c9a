#!/usr/bin/env python3
"""Times what flows call beside the programs that people would call instead: tasks.py DIR [--rounds 5] [--only git,http,ftp,docker].

git: a clone of a repository of 50 MB. http, ftp: 500 MB down and up, beside curl. docker: a build with the engine of
DOCKER_HOST, beside `docker build`, of the context DIR/b or DIR/a that inputs.py made. Needs root, nginx, vsftpd, curl, git.
"""

import argparse
import http.server
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import threading
import time

MEBIBYTE = 1 << 20


def wait_for(port):
    import socket
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


class Backend(http.server.BaseHTTPRequestHandler):
    """git's own http-backend behind HTTP."""

    protocol_version = "HTTP/1.1"
    root = ""

    def do_GET(self):
        self.serve(b"")

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(length)
        self.serve(body)

    def serve(self, body):
        path, _, query = self.path.partition("?")
        env = {
            "GIT_PROJECT_ROOT": self.root, "GIT_HTTP_EXPORT_ALL": "", "PATH_INFO": path, "QUERY_STRING": query,
            "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)), "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "PATH": os.environ["PATH"], "HOME": "/",
        }
        process = subprocess.Popen(["git", "-c", "safe.directory=*", "http-backend"], env=env, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE)
        threading.Thread(target=lambda: (process.stdin.write(body), process.stdin.close()), daemon=True).start()
        head = []
        while (line := process.stdout.readline().strip()):
            head.append(line.decode().split(": ", 1))
        status = next((int(value.split()[0]) for name, value in head if name == "Status"), 200)
        self.send_response(status)
        for name, value in head:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        while chunk := process.stdout.read(1 << 16):
            self.wfile.write(chunk)
        process.wait()
        self.close_connection = True

    def log_message(self, *_):
        pass


def repository(directory):
    """A repository of about 50 MB in files of all sizes, most of them text."""
    work = directory / "repositories" / "app.git"
    if not work.exists():
        work.mkdir(parents=True)
        size, wanted = 0, 50 * MEBIBYTE
        sources = [p for top in ("/usr/lib/python3", "/usr/share/perl", "/usr/share/doc", "/usr/lib/gcc")
                   for p in sorted(pathlib.Path(top).rglob("*")) if p.is_file() and not p.is_symlink()]
        random.Random(1).shuffle(sources)
        for number, source in enumerate(sources):
            if size >= wanted:
                break
            length = source.stat().st_size
            if length > 4 * MEBIBYTE:
                continue
            target = work / f"d{number % 97}" / f"{number}-{source.name}"
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
            size += length
        git = ["git", "-C", str(work), "-c", "user.name=bench", "-c", "user.email=bench@example"]
        subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
        subprocess.run([*git, "add", "--all"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "all"], check=True)
        subprocess.run([*git, "gc", "-q"], check=True)
    return work.parent


def web(directory, port):
    files = directory / "web"
    (files / "up").mkdir(parents=True, exist_ok=True)
    temporary = directory / "web-temporary"
    temporary.mkdir(exist_ok=True)
    more = "".join(f"{name}_temp_path {temporary};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = directory / "nginx.conf"
    config.write_text(f"""daemon off; master_process off; pid {directory}/nginx.pid; error_log {directory}/nginx.log;
events {{}}
http {{ access_log off; client_max_body_size 0; sendfile on; {more}
  server {{ listen 127.0.0.1:{port}; root {files}; location /up/ {{ dav_methods PUT DELETE; }} }} }}
""")
    return files, subprocess.Popen(["nginx", "-c", str(config)])


def ftp(directory, port):
    root = directory / "ftp"
    (root / "pub").mkdir(parents=True, exist_ok=True)
    subprocess.run(["chown", "ftp", str(root / "pub")], check=True)
    config = directory / "vsftpd.conf"
    config.write_text(f"""listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
anon_root={root}
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
write_enable=YES
no_anon_password=YES
seccomp_sandbox=NO
pasv_address=127.0.0.1
anon_umask=022
local_umask=022
secure_chroot_dir=/var/run/vsftpd/empty
""")
    os.makedirs("/var/run/vsftpd/empty", exist_ok=True)
    return root / "pub", subprocess.Popen(["vsftpd", str(config)])


def timed(command, env, cwd, before=lambda: None):
    before()
    os.sync()
    start = time.perf_counter()
    process = subprocess.Popen(command, env=env, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{errors.decode(errors='replace')[-2000:]}")
    return seconds, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="git,http,ftp,docker")
    arguments = parser.parse_args()
    directory, wanted = arguments.directory.resolve(), arguments.only.split(",")
    project, bare, out = directory / "project", directory / "bare", directory / "out"
    # What is sent lies in a project of its own: a step works on the files of its project, so they are looked at.
    for place in (project, bare):
        place.mkdir(parents=True, exist_ok=True)
    coop = os.environ.get("COOP", "target/release/coop")
    env = dict(os.environ, COOP_ROOT=str(directory / "store"), XDG_CACHE_HOME=str(directory / "cache"))
    large = project / "large"
    if not large.exists():
        noise = random.Random(2)
        with open(large, "wb") as file:
            for _ in range(500):
                file.write(noise.randbytes(MEBIBYTE))
    run = [coop, "run", "--progress", "quiet"]

    def clean():
        subprocess.run(["rm", "-rf", str(out), str(directory / "store")], check=True)

    servers, jobs = [], {}
    ports = {"git": 5811, "http": 5812, "ftp": 5813}
    if "git" in wanted:
        Backend.root = str(repository(directory))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", ports["git"]), Backend)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{ports['git']}/app.git"
        jobs["git clone, 50 MB"] = ([*run, "git"], ["git", "clone", "-q", "--depth", "1", url, str(out)], bare)
    if "http" in wanted:
        files, server = web(directory, ports["http"])
        servers.append(server)
        shutil.copyfile(large, files / "large")
        url = f"http://127.0.0.1:{ports['http']}"
        jobs["http down, 500 MB"] = ([*run, "http-down"], ["curl", "-sf", "-o", str(out), f"{url}/large"], bare)
        jobs["http up, 500 MB"] = ([*run, "http-up"], ["curl", "-sf", "-T", str(large), f"{url}/up/curl"], project)
    if "ftp" in wanted:
        files, server = ftp(directory, ports["ftp"])
        servers.append(server)
        shutil.copyfile(large, files / "large")
        url = f"ftp://127.0.0.1:{ports['ftp']}/pub"
        jobs["ftp down, 500 MB"] = ([*run, "ftp-down"], ["curl", "-sf", "-o", str(out), f"{url}/large"], bare)
        jobs["ftp up, 500 MB"] = ([*run, "ftp-up"], ["curl", "-sf", "-T", str(large), f"{url}/curl"], project)
    if "docker" in wanted:
        docker = os.environ.get("DOCKER", "/usr/bin/docker")
        for workload, buildkit in [(workload, buildkit) for workload in ("a", "b") for buildkit in ("0", "1")]:
            context, builder = directory / workload, ("classic", "buildkit")[int(buildkit)]
            theirs = ["env", f"DOCKER_BUILDKIT={buildkit}", docker, "build", "-q", "--network", "host", "--no-cache",
                      "-t", f"docker-{workload}", str(context)]
            # In the engine, as `docker build` leaves it; and handed over to the store.
            file = context / f"{builder}.yaml"
            file.write_text(json.dumps({"version": 1, "flow": {"build": {"uses": "docker", "with": {"build": {
                "builder": builder, "network": "host", "no_cache": True, "tag": [f"coop-{workload}:latest"]}}}}}))
            jobs[f"docker build, {builder}, {workload}"] = ([*run, "-f", str(file)], theirs, context)
            ours = [coop, "build", "--builder", "docker", "--set", f"builder={builder}", "--set", "network=host",
                    "--set", "no_cache=true", "--quiet", "-t", f"coop-{workload}", str(context)]
            jobs[f"docker build, {builder}, {workload}, handed over"] = (ours, theirs, context)
    flow = f"""version: 1
flow:
  git: {{ uses: git, with: {{ url: 'http://127.0.0.1:{ports['git']}/app.git' }} }}
  http-down: {{ uses: http, with: {{ url: 'http://127.0.0.1:{ports['http']}/large', save: large }} }}
  http-up: {{ uses: http, with: {{ url: 'http://127.0.0.1:{ports['http']}/up/coop', file: large }} }}
  ftp-down: {{ uses: ftp, with: {{ url: 'ftp://127.0.0.1:{ports['ftp']}/pub', download: {{ from: large }} }} }}
  ftp-up: {{ uses: ftp, with: {{ url: 'ftp://127.0.0.1:{ports['ftp']}/pub', upload: {{ from: large, to: coop }} }} }}
"""
    for place in (project, bare):
        (place / "cooperage.yaml").write_text(flow)
    try:
        for name in ("http", "ftp"):
            if name in wanted:
                wait_for(ports[name])
        print("| | coop | peer | ratio | peak MiB |\n| --- | --- | --- | --- | --- |")
        for name, (ours, theirs, place) in jobs.items():
            times, peak = ([], []), 0
            for number in range(arguments.rounds + 1):
                # An engine keeps contexts from build to build, so the store may keep the digests of their files.
                before = clean if place in (bare, project) else lambda: None
                mine, memory = timed(ours, env, place, before)
                other, _ = timed(theirs, env, place, before)
                if number:
                    times[0].append(mine)
                    times[1].append(other)
                    peak = max(peak, memory)
            mine, other = map(statistics.median, times)
            print(f"| {name} | {mine:.2f} | {other:.2f} | {mine / other:.2f} | {peak:.0f} |", flush=True)
    finally:
        for server in servers:
            server.terminate()
            server.wait()


main()
