"""Container images without a registry or a builder: a root made of one binary and the libraries it loads."""

import hashlib
import json
import pathlib
import re
import shutil
import tarfile

from harness import run


def root_of(binary, directory):
    """Lays out a root with `/tawny`, its shared libraries and a /tmp; returns it as a tar file."""
    shutil.rmtree(directory, ignore_errors=True)
    root = directory / "root"
    root.mkdir(parents=True)
    run("strip", "--strip-debug", "-o", root / "tawny", binary)
    for library in re.findall(r"(?:=> )?(/\S+) \(0x", run("ldd", binary).stdout):
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pathlib.Path(library).resolve(), target)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    layer = directory / "layer.tar"
    run("tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-C", root, "-cf", layer, ".")
    shutil.rmtree(root)
    return layer


def docker_archive(layer, tag):
    """Wraps a root in the archive `ctr images import` and `docker load` take."""
    digest = hashlib.sha256(layer.read_bytes()).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/"], "Entrypoint": ["/tawny"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
    for name, content in (("config.json", config), ("manifest.json", manifest)):
        (layer.parent / name).write_text(json.dumps(content))
    archive = layer.parent / "image.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("manifest.json", "config.json", "layer.tar"):
            tar.add(layer.parent / name, name)
    return archive
