"""Images for containers, made in no time: busybox, a few files, and the machine's own libraries and Pythons.

An image is a tar of a few megabytes. What is large comes from the machine, by bind mounts that ``mounts`` names: the
folders of shared libraries, and those of the Pythons, each at its own path, so that they find what they need.
"""

import io
import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

from tests.lab import pythons

BUSYBOX = "/bin/busybox"
FOLDERS = ("bin", "dev", "etc", "home", "lib", "lib64", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin",
           "usr/lib", "usr/local", "usr/local/bin", "var", "var/tmp")
USER = "ann"  # an account of every image, number 1000
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n%s:x:1000:1000::/home:/bin/sh\n" % USER,
    "etc/group": "root:x:0:\n%s:x:1000:\n" % USER,
    "etc/hosts": "127.0.0.1 localhost\n",
}
# The first process of a container: waits for orphans of all that ends in it. A shell would do so too, now and then.
INIT = ("import os, signal, time\n"
        "def reap(*args):\n"
        "    try:\n"
        "        while os.waitpid(-1, os.WNOHANG)[0]: pass\n"
        "    except OSError: pass\n"
        "signal.signal(signal.SIGCHLD, reap)\n"
        "signal.signal(signal.SIGTERM, lambda *args: os._exit(0))\n"
        "while True: signal.pause()\n")


def busybox():
    """The busybox to put into images: one that needs no library. None where there is none."""
    for path in (BUSYBOX, "/usr/bin/busybox"):
        if os.path.exists(path):
            answer = subprocess.run([path, "--list"], capture_output=True, text=True, check=False, env={})
            linked = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
            if answer.returncode == 0 and "=>" not in linked:
                return path
    return None


def image(shell=True, python=None):
    """The bytes of a tar: a root file system. ``shell``: with busybox and all its commands. ``python``: where
    /usr/local/bin/python3 leads (a path that a mount provides)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in FOLDERS:
            _add(tar, folder, tarfile.DIRTYPE, mode=0o1777 if folder.endswith("tmp") else 0o755)
        for name, text in FILES.items():
            _add(tar, name, tarfile.REGTYPE, text.encode())
        if python is not None:
            _add(tar, "usr/local/bin/python3", tarfile.SYMTYPE, link=python)
        if shell:
            path = busybox()
            _add(tar, "bin/busybox", tarfile.REGTYPE, Path(path).read_bytes(), 0o755)
            names = subprocess.run([path, "--list"], capture_output=True, text=True, check=True).stdout.split()
            for name in names:
                if name != "busybox":
                    _add(tar, "bin/" + name, tarfile.SYMTYPE, link="busybox")
    return buffer.getvalue()


def _add(tar, name, kind, data=b"", mode=0o644, link=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.mode, entry.linkname = kind, len(data), mode, link
    tar.addfile(entry, io.BytesIO(data))


def system_python():
    """The path of the Python that images have as python3: the one that runs the tests, behind its environment."""
    return os.path.realpath(sys.executable)


def mounts():
    """[(path on the machine, path in a container)]: shared libraries and all Pythons of the machine."""
    found = {}
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    for path in ("/lib64", "/lib/" + multiarch, "/usr/lib/" + multiarch):
        if os.path.isdir(path):
            found[path] = os.path.realpath(path)
    for path in [system_python(), *(os.path.realpath(python.argv[0]) for python in inside().values())]:
        found.update((place, place) for place in _places(path))
    return [(source, target) for target, source in sorted(found.items())]


def inside():
    """{"3.6": Python, ...}: the Pythons that run in a container, those of a chroot left out."""
    return {minor: python for minor, python in pythons.one_each().items() if python.origin != "chroot"}


def _places(executable):
    """What an interpreter consists of: its prefix, or, of one in /usr, the program and its library."""
    prefix = os.path.dirname(os.path.dirname(executable))
    if prefix not in ("/usr", "/"):
        return [prefix]
    library = "/usr/lib/" + os.path.basename(executable)
    return [executable, library]


def standalone(folder, python=None):
    """Make a folder that is a whole Python, with its own loader and libraries: ``bin/python3`` in it is a line of shell
    that starts it, wherever the folder is. For machines, and containers, that have none."""
    folder = Path(folder)
    executable = python or system_python()
    prefix = os.path.dirname(os.path.dirname(executable))
    version = subprocess.run([executable, "-c", "import sys; print('python%d.%d' % sys.version_info[:2])"],
                             capture_output=True, text=True, check=True).stdout.strip()
    for part in ("bin", "lib", "loader"):
        (folder / part).mkdir(parents=True)
    unwanted = {"site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "ensurepip", "turtledemo",
                "lib2to3", "pydoc_data", "unittest", "__pycache__"}
    library = os.path.join(prefix, "lib", version)
    for path, names, files in os.walk(library):
        names[:] = [name for name in names if name not in unwanted and not name.startswith("config-")]
        target = folder / "lib" / version / os.path.relpath(path, library)
        target.mkdir(parents=True, exist_ok=True)
        for name in files:
            (target / name).write_bytes(Path(path, name).read_bytes())
    (folder / "bin" / "python").write_bytes(Path(executable).read_bytes())
    modules = [str(path) for path in (folder / "lib" / version / "lib-dynload").glob("*.so") if "tk" not in path.name]
    linked = subprocess.run(["ldd", executable, *modules], capture_output=True, text=True, check=False).stdout
    loader = ""
    for line in linked.splitlines():
        path = line.strip().rpartition("=> ")[2].partition(" ")[0]
        if path.startswith("/") and not path.endswith(":") and os.path.exists(path):
            (folder / "loader" / os.path.basename(path)).write_bytes(Path(path).read_bytes())
            if "=>" not in line:
                loader = os.path.basename(path)
    start = folder / "bin" / "python3"
    start.write_text('#!/bin/sh\nhere=${0%%/bin/*}\nexec "$here/loader/%s" --argv0 "$0" --library-path "$here/loader" '
                     '"$here/bin/python" "$@"\n' % loader)
    for path in (start, folder / "bin" / "python", folder / "loader" / loader):
        path.chmod(0o755)
    return folder
