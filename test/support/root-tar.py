"""Writes the root file system of a test image to stdout, as a tar: files of Debian packages of this machine with the
libraries they need.

  root-tar.py [--busybox] [--file PATH=TEXT]... [--mode PATH=OCTAL]... [--directory PATH]... [--tree PATH]... [--copy PATH=SOURCE]... PACKAGE...
"""

import argparse
import io
import os
import subprocess
import sys
import tarfile
import time

LEFT_OUT = ("/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/info", "/usr/share/bash-completion",
            "/usr/share/lintian", "/usr/lib/systemd", "/var/lib/git", "/usr/share/gitweb", "/lib/systemd")


def real(path):
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def is_program(path):
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def libraries(programs):
    found = set()
    if not programs:
        return found
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True).stdout
    for line in said.splitlines():
        for word in line.split():
            if word.startswith("/") and not word.endswith(":"):
                found.add(word)
    return found


def package_files(packages):
    said = subprocess.run(["dpkg", "-L", *packages], capture_output=True, text=True, check=True).stdout
    paths = set()
    for path in said.splitlines():
        if path.startswith("/") and not path.startswith(LEFT_OUT) and (os.path.isfile(path) or os.path.islink(path)):
            paths.add(real(path))
    return paths


def tree_files(top):
    for directory, _, names in os.walk(top):
        for name in names:
            yield os.path.join(directory, name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--busybox", action="store_true")
    for name in ("--file", "--mode", "--directory", "--tree", "--copy"):
        parser.add_argument(name, action="append", default=[])
    parser.add_argument("packages", nargs="*")
    args = parser.parse_args()

    out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.GNU_FORMAT)
    made = set()
    modes = {path: int(mode, 8) for path, mode in (each.split("=", 1) for each in args.mode)}

    def directory(path, mode=0o755):
        if path in ("", "/") or path in made:
            return
        directory(os.path.dirname(path))
        made.add(path)
        info = tarfile.TarInfo(path.lstrip("/"))
        info.type, info.mode, info.mtime = tarfile.DIRTYPE, modes.get(path, mode), int(time.time())
        out.addfile(info)

    def link(path, target):
        made.add(path)
        info = tarfile.TarInfo(path.lstrip("/"))
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
        out.addfile(info)

    def text(path, content):
        if path in made:
            return
        directory(os.path.dirname(path))
        made.add(path)
        info = tarfile.TarInfo(path.lstrip("/"))
        data = content.encode()
        info.size, info.mode, info.mtime = len(data), modes.get(path, 0o644), int(time.time())
        out.addfile(info, io.BytesIO(data))

    # Debian keeps programs and libraries below /usr, behind these links.
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if os.path.islink("/" + name):
            directory("/usr")
            directory("/usr/" + name)
            link("/" + name, "usr/" + name)
    for path in args.directory:
        directory(path)
    directory("/tmp", 0o1777)
    directory("/root", 0o700)
    for each in args.file:
        path, content = each.split("=", 1)
        text(path, content)

    paths = package_files(args.packages) if args.packages else set()
    for top in args.tree:
        paths.update(tree_files(os.path.realpath(top)))
    if args.busybox:
        paths.add(real("/bin/busybox"))
    copies = [each.split("=", 1) for each in args.copy]
    sources = {source for _, source in copies}
    programs = sorted({os.stat(path).st_ino: path for path in paths | sources if is_program(path)}.values())
    for library in libraries(programs):
        paths.add(real(library))
        paths.add(os.path.realpath(library))
    for path in sorted(paths):
        if path in made:
            continue
        directory(os.path.dirname(path))
        made.add(path)
        info = out.gettarinfo(path, path.lstrip("/"))
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        if info.isreg():
            info.mode = modes.get(path, info.mode)
            with open(path, "rb") as file:
                out.addfile(info, file)
        else:
            out.addfile(info)
    for path, source in copies:
        directory(os.path.dirname(path))
        made.add(path)
        info = out.gettarinfo(source, path.lstrip("/"))
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        with open(source, "rb") as file:
            out.addfile(info, file)
    if args.busybox:
        for applet in subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
            path = real("/bin/" + applet)
            if path not in made:
                link(path, "busybox")
    out.close()


main()
