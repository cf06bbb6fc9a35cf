#!/usr/bin/python3
"""Builds the images of the example `users.toml` on a Debian machine, without a container engine.

    ./build.py FOLDER

writes FOLDER/register.tar and FOLDER/login.tar, OCI archives for `wherry image load`. Both have one layer with Debian's python3, as
it is installed here, and Flask from PyPI, and one with the service itself.
"""

import hashlib
import io
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SERVICES = ("register", "login")
FLASK = "flask==3.1.2"
# What runs no program, and what Python writes anew where it may.
LEFT_OUT = re.compile(r"^/usr/share/(doc|man|locale|lintian|bug|menu|pixmaps|applications)/|/__pycache__(/|$)")
# Debian's folders of old are links (usrmerge).
MERGED = ("bin", "sbin", "lib", "lib64")


def packages(root):
    """The installed packages that `root` needs, itself among them."""
    wanted, left = set(), [root]
    while left:
        package = left.pop()
        if package in wanted:
            continue
        query = ["dpkg-query", "--show", "--showformat", "${db:Status-Status}: ${Depends}, ${Pre-Depends}", package]
        shown = subprocess.run(query, capture_output=True, text=True, check=False)
        status, _, needs = shown.stdout.partition(":")
        if status != "installed":
            continue  # Virtual, or the other of two that would do.
        wanted.add(package)
        alternatives = re.split(r"[,|]", needs)
        left += [name.group() for name in (re.match(r"[a-z0-9.+-]+", text.strip()) for text in alternatives) if name]
    return wanted


def files(package):
    """The files and links of an installed package."""
    listed = subprocess.run(["dpkg-query", "--listfiles", package], capture_output=True, text=True, check=True)
    paths = (pathlib.Path(line) for line in listed.stdout.splitlines())
    return [path for path in paths if not LEFT_OUT.search(str(path)) and (path.is_symlink() or path.is_file())]


def inside(path):
    """Where a file of this machine is in the image."""
    parts = path.parts[1:]
    return "/".join(("usr",) + parts if parts[0] in MERGED else parts)


def plain(info):
    """The same file whoever built it, and whenever; any user may read it."""
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    info.mode |= 0o555 if info.mode & 0o100 else 0o444
    return info


def python_layer():
    """Debian's python3, and Flask below /app."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as layer:
        for name in MERGED:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            layer.addfile(link)
        paths = sorted({path for package in packages("python3") for path in files(package)})
        for path in paths:
            layer.add(path, inside(path), recursive=False, filter=plain)
        with tempfile.TemporaryDirectory() as folder:
            pip = ["python3", "-m", "pip", "install", "--quiet", "--no-compile", "--target", folder, FLASK]
            subprocess.run(pip, check=True)
            layer.add(folder, "app", filter=plain)
    return content.getvalue()


def service_layer(service):
    """The service as /app/service.py."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as layer:
        layer.add(HERE / f"{service}.py", "app/service.py", filter=plain)
    return content.getvalue()


def write(archive, name, content):
    """Adds a file to an archive."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def image(service, layers, target):
    """Writes an OCI archive: an image layout (OCI image specification 1.0) in a tar."""
    blobs = {}

    def blob(kind, content):
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    kind = "application/vnd.oci.image"
    stacked = [blob(f"{kind}.layer.v1.tar", layer) for layer in layers]
    machine = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    config = {
        "architecture": machine.stdout.strip(),
        "os": "linux",
        "config": {"Entrypoint": ["/usr/bin/python3", "/app/service.py"], "Env": ["PATH=/usr/bin:/bin"], "User": "65534"},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in stacked]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": blob(f"{kind}.config.v1+json", json.dumps(config).encode()),
        "layers": stacked,
    }
    reference = f"docker.io/library/user-{service}-service:1"
    root = blob(f"{kind}.manifest.v1+json", json.dumps(manifest).encode())
    root["annotations"] = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": "1"}
    with tarfile.open(target, "w") as archive:
        write(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        write(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": [root]}).encode())
        for digest, content in blobs.items():
            write(archive, f"blobs/sha256/{digest}", content)


def main():
    """Builds both images."""
    if len(sys.argv) != 2:
        sys.exit("usage: build.py FOLDER")
    folder = pathlib.Path(sys.argv[1])
    python = python_layer()
    for service in SERVICES:
        target = folder / f"{service}.tar"
        image(service, [python, service_layer(service)], target)
        print(f"{target}: {target.stat().st_size >> 20} MiB")


if __name__ == "__main__":
    main()
