"""A root file system with a Python in about a second, from what this machine has: for every kind of container.

busybox-static gives sh and the tools; the interpreter, its standard library and the shared libraries that they want are
copied with their paths. It is made once per Python, in the cache, and nobody writes to it: a container gets it as the
lower half of an overlay (``overlay``), or read-only.
"""

import fcntl
import functools
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab import pythons

FORMAT = 1  # raise it when what is made here changes
LEFT_OUT = ("test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "site-packages",
            "dist-packages", "config-*", "*.a", "pydoc_data", "distutils", "__phello__")  # fmt: skip
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nann:x:1234:1234:Ann:/home/ann:/bin/sh\n"
                  "nobody:x:65534:65534::/:/bin/false\n",
    "etc/group": "root:x:0:\nann:x:1234:\nextra:x:4321:ann\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/os-release": "ID=lab\nNAME=lab\n",
    # pid 1: reaps, and ends on the signals that container managers send
    "sbin/init": '#!/bin/sh\ntrap "exit 0" TERM PWR INT RTMIN+3\nwhile :; do sleep 1000 & wait $!; done\n',
}
FOLDERS = ("bin", "dev", "etc", "proc", "sys", "tmp", "run", "root", "home/ann", "var/tmp", "usr/bin", "usr/sbin",
           "usr/lib", "lib", "lib64", "sbin", "opt")  # fmt: skip
_ASK = ("import json, sys, sysconfig; p = sysconfig.get_paths(); "
        "print(json.dumps([sys.executable, sys.base_prefix, p['stdlib'], p['platstdlib']]))")


class CannotMake(Exception):
    """It cannot be made here; the text says why."""


@functools.cache
def make(minor=None):
    """The path of the tree with this Python (``"3.6"``; None: the machine's own; ``""``: none at all). Made if absent.

    Nobody may write there. Raises CannotMake.
    """
    if os.geteuid() != 0:
        raise CannotMake("needs root")
    busybox = shutil.which("busybox")
    if not busybox or shutil.which("ldd") is None or subprocess.run(
            ["ldd", busybox], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0:
        raise CannotMake("no static busybox (package busybox-static)")
    python = None
    if minor:
        python = pythons.one_each().get(minor)
        if python is None or python.origin == "chroot":
            raise CannotMake("no Python %s on this machine" % minor)
    words = None if minor == "" else list(python.argv) if python else _own()
    name = "tree-%d-%s" % (FORMAT, "bare" if words is None else re.sub(r"\W", "_", words[0].strip("/")))
    home = pythons.cache_directory()
    with open(home / "trees.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / name).exists():
            unfinished = home / ("unfinished-" + secrets.token_hex(4))
            try:
                _build(unfinished, words, busybox)
                unfinished.rename(home / name)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return home / name


def tar(tree):
    """The tree as an archive beside it; made if absent."""
    path = tree.with_name(tree.name + ".tar")
    with open(tree.with_name("trees.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            part = path.with_suffix(".part")
            subprocess.run(["tar", "-C", str(tree), "-cf", str(part), "."], check=True, timeout=60)
            part.rename(path)
    return path


def standalone(folder):
    """Make a folder that is a whole Python, with its own loader and libraries: ``bin/python3`` in it is a line of shell
    that starts it, wherever the folder is."""
    executable, _prefix, parts, libraries = _parts(_own())
    for name in ("bin", "lib", "loader"):
        (folder / name).mkdir(parents=True)
    for part in parts:
        place = folder / "lib" / os.path.basename(part)
        place.mkdir(exist_ok=True)
        _tar(part, place, ["--exclude=" + pattern for pattern in LEFT_OUT])
    shutil.copy2(executable, folder / "bin/python")
    for library in libraries:
        shutil.copy2(library, folder / "loader")
    loader = next(name for name in os.listdir(folder / "loader") if name.startswith("ld-"))
    start = folder / "bin/python3"
    start.write_text('#!/bin/sh\nhere=${0%%/bin/*}\nexec "$here/loader/%s" --argv0 "$0" --library-path "$here/loader" '
                     '"$here/bin/python" "$@"\n' % loader)
    start.chmod(0o755)
    return folder


def _own():
    """The distribution's Python rather than one of a virtual environment or of pyenv: its libraries are plain ones."""
    return ["/usr/bin/python3"] if os.access("/usr/bin/python3", os.X_OK) else [sys.executable]


def _build(root, words, busybox):
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    for name, text in FILES.items():
        (root / name).write_text(text)
    (root / "sbin/init").chmod(0o755)
    os.chown(root / "home/ann", 1234, 1234)
    shutil.copy2(busybox, root / "bin/busybox")
    subprocess.run(["chroot", str(root), "/bin/busybox", "--install", "-s", "/bin"], check=True, timeout=20)
    root.chmod(0o755)
    if words is not None:
        _copy_python(root, words)


def _copy_python(root, words):
    """The interpreter at its own path, and as /usr/bin/python3."""
    executable, prefix, parts, libraries = _parts(words)
    leave = ["--exclude=" + pattern for pattern in LEFT_OUT]
    for path in parts:
        (root / path[1:]).mkdir(parents=True, exist_ok=True)
        _tar(path, root / path[1:], leave)
    (root / executable[1:]).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(executable, root / executable[1:])
    for folder in Path(root, prefix[1:]).parents:  # a Python below root's home is for everybody in here
        if folder == root:
            break
        folder.chmod(folder.stat().st_mode | 0o055)
    if executable != "/usr/bin/python3":
        (root / "usr/bin/python3").symlink_to(executable)
    for library in libraries:
        target = root / library[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy2(library, target)


def _parts(words):
    """(interpreter, its prefix, the folders of its library, the shared libraries that it all wants)."""
    found = subprocess.run([*words, "-ISc", _ASK], stdout=subprocess.PIPE, check=True, timeout=20, text=True).stdout
    executable, prefix, *folders = json.loads(found)
    executable = os.path.realpath(executable)
    folders = sorted({os.path.realpath(path) for path in folders})
    folders = [path for path in folders if not any(path.startswith(other + "/") for other in folders)]
    binaries = [executable, *(str(path) for part in folders for path in Path(part, "lib-dynload").glob("*.so"))]
    return executable, prefix, folders, _libraries(binaries)


def _tar(source, target, options):
    reader = subprocess.Popen(["tar", "-C", source, *options, "-cf", "-", "."], stdout=subprocess.PIPE)
    try:
        subprocess.run(["tar", "-C", str(target), "-xf", "-"], stdin=reader.stdout, check=True, timeout=60)
    finally:
        reader.stdout.close()
        reader.wait(60)


def _libraries(binaries):
    done = subprocess.run(["ldd", *binaries], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, text=True,
                          timeout=60)  # fmt: skip
    return sorted(set(re.findall(r"(?:=> |^\s+)(/\S+) \(0x", done.stdout, re.MULTILINE)))
