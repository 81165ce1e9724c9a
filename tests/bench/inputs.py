#!/usr/bin/env python3
"""Makes the inputs of the benchmarks: inputs.py DIR. Needs root, busybox (static), mmdebstrap, umoci and skopeo, and a
registry at 127.0.0.1:5000 for the two base images."""

import pathlib
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile

REGISTRY = "127.0.0.1:5000"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FILES, BYTES = 20_000, 200 << 20


def base(directory, name, tag, make, command):
    """An image with one layer, made by `make` as a tar file, in the registry."""
    layout = directory / "bases" / name
    if not layout.exists():
        layout.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            layer = pathlib.Path(scratch) / "layer.tar"
            make(layer)
            image = f"{layout}:{tag}"
            for arguments in (["init", "--layout", str(layout)], ["new", "--image", image],
                              ["raw", "add-layer", "--image", image, str(layer)],
                              ["config", "--image", image, f"--config.cmd={command}", f"--config.env={PATH}"]):
                subprocess.run(["umoci", *arguments], check=True)
    subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:{tag}",
                    f"docker://{REGISTRY}/{name}:{tag}"], check=True)


def busybox(layer):
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(layer, "w") as archive:
        root = pathlib.Path(scratch)
        for name in ("bin", "etc", "tmp", "root", "proc", "sys", "dev", "usr/bin", "var/tmp"):
            (root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
        for applet in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True).stdout.split():
            if applet != "busybox":
                (root / "bin" / applet).symlink_to("busybox")
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
        (root / "tmp").chmod(0o1777)
        archive.add(root, arcname=".")


def debian(layer):
    subprocess.run(["mmdebstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(layer)], check=True)


def many_files(directory):
    """Files of skewed sizes (median about 5 kB) whose content is cut from this machine's own programs and texts."""
    if directory.exists():
        return
    chance = random.Random(1)
    pool = bytearray()
    for top in ("/usr/bin", "/usr/share", "/usr/lib"):
        for path in sorted(p for p in pathlib.Path(top).rglob("*") if p.is_file() and not p.is_symlink()):
            if 2_000 < path.stat().st_size < 4_000_000:
                pool += path.read_bytes()
            if len(pool) > BYTES:
                break
    weights = [chance.lognormvariate(0, 1.2) for _ in range(FILES)]
    total = sum(weights)
    for number, weight in enumerate(weights):
        size = max(1, int(weight / total * BYTES))
        start = chance.randrange(len(pool) - size)
        path = directory / f"{number % 20:02}" / f"{number // 20 % 50:02}" / f"file{number:05}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pool[start:start + size])


def main():
    directory = pathlib.Path(sys.argv[1]).resolve()
    dockerfiles = {
        "a": f"FROM {REGISTRY}/busybox:1.35\n" + "".join(f"RUN echo step {n} > /step{n}\n" for n in range(10)),
        "b": f"FROM {REGISTRY}/busybox:1.35\nCOPY tree /srv/tree\nRUN find /srv/tree -type f | wc -l > /count\n",
        "c": f"FROM {REGISTRY}/debian:bookworm\nRUN mkdir /opt/data && cp -a /usr /opt/data/1 && cp -a /usr /opt/data/2\n",
        "d": (f"FROM {REGISTRY}/debian:bookworm AS build\nWORKDIR /src\nCOPY main.c .\n"
              "RUN mkdir -p /out/bin && cp -a /usr/lib /out/lib && cp main.c /bin/ls /bin/cat /out/bin/\n"
              f"FROM {REGISTRY}/debian:bookworm AS assets\nRUN mkdir /a && cp -a /usr/share/. /a/\n"
              f"FROM {REGISTRY}/busybox:1.35\nCOPY --from=build /out /app\nCOPY --from=assets /a /app/assets\n"
              "RUN ls /app > /app/index\nCMD [\"/bin/sh\"]\n"),
    }
    for name, text in dockerfiles.items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / name / "Dockerfile").write_text(text)
    (directory / "d/main.c").write_text("int main(void) { return 0; }\n")
    many_files(directory / "b/tree")
    base(directory, "busybox", "1.35", busybox, "/bin/sh")
    base(directory, "debian", "bookworm", debian, "bash")


main()
