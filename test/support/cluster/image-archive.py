"""Makes an image of one layer out of a root file system, as an archive that containerd imports.

  image-archive.py NAME CONFIG ARCHIVE < root.tar

CONFIG is what an image says of how it is run, as JSON: {"Cmd": ["sh"], "User": "1000:1000"}.
"""

import hashlib
import io
import json
import os
import platform
import shutil
import sys
import tarfile
import tempfile

name, config, archive = sys.argv[1:]
architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]

with tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(archive))) as layer:
    shutil.copyfileobj(sys.stdin.buffer, layer, 2**20)
    layer.seek(0)
    hashed = hashlib.sha256()
    while chunk := layer.read(2**20):
        hashed.update(chunk)
    digest = hashed.hexdigest()
    size = layer.tell()
    layer.seek(0)
    image = json.dumps({
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": json.loads(config),
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "image-archive.py"}],
    }).encode()
    names = (hashlib.sha256(image).hexdigest() + ".json", digest + "/layer.tar")
    index = json.dumps([{"Config": names[0], "RepoTags": [name], "Layers": [names[1]]}]).encode()
    with tarfile.open(archive + ".new", "w") as out:
        def add(path, length, file):
            info = tarfile.TarInfo(path)
            info.size = length
            out.addfile(info, file)

        add(names[0], len(image), io.BytesIO(image))
        add(names[1], size, layer)
        add("manifest.json", len(index), io.BytesIO(index))
os.rename(archive + ".new", archive)
