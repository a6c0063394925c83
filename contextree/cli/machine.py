"""What this machine has: other Pythons on PATH, ssh, what the kernel offers."""

import errno
import os
import re
import resource
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

from contextree.parent import pidfd

FDS_PER_CHILD = 3  # link, stderr, pidfd
_NAME = re.compile(r"python3(\.[0-9]+)?")
_ASK = "import sys; print(*sys.version_info[:3], sep='.')"
OLDEST = (3, 6)


class Python(NamedTuple):
    """An interpreter that was asked for its version."""

    version: tuple[int, ...]
    path: str

    @property
    def minor(self) -> str:
        """``3.9``."""
        return ".".join(map(str, self.version[:2]))


def pythons(timeout: float = 3.0) -> list[Python]:
    """The Pythons on PATH, one of each minor version, oldest first; those that do not answer in time are left out."""
    started: dict[str, subprocess.Popen[str]] = {}
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        try:
            names = [name for name in os.listdir(folder or ".") if _NAME.fullmatch(name)]
        except OSError:
            continue
        for name in names:
            path = os.path.join(folder, name)
            if path not in started and os.access(path, os.X_OK) and len(started) < 40:
                try:
                    started[path] = subprocess.Popen(
                        [path, "-I", "-c", _ASK], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL, text=True)
                except OSError:
                    continue
    found: dict[tuple[int, ...], Python] = {}
    for path, process in started.items():
        with process:
            try:
                answer = process.communicate(timeout=timeout)[0].strip()
            except subprocess.TimeoutExpired:
                process.kill()
                continue
        if process.returncode == 0 and re.fullmatch(r"3\.[0-9]+\.[0-9]+", answer):
            version = tuple(map(int, answer.split(".")))
            if version >= OLDEST:
                found.setdefault(version[:2], Python(version, path))
    return sorted(found.values())


class Fact(NamedTuple):
    """One line of ``contextree doctor``: ``ok`` is True, False (contextree does not work) or None (works with less)."""

    what: str
    found: str
    ok: bool | None = True


def facts() -> Iterator[Fact]:
    """What contextree needs and uses, and what of it is here."""
    yield Fact("Python", f"{sys.version.split()[0]} at {sys.executable or '?'}", bool(sys.executable) or None)
    yield Fact("system", f"{' '.join(os.uname()[i] for i in (0, 2, 4))}", sys.platform.startswith("linux") or None)
    if hasattr(select, "epoll"):
        yield Fact("loop", "epoll")
    else:
        yield Fact("loop", "poll: slower with many contexts, and no foreign loop can watch it", None)
    yield children()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = soft == resource.RLIM_INFINITY
    enough = "" if unlimited else f" (at most {count(hard)}): about {max(0, soft - 50) // FDS_PER_CHILD} children"
    yield Fact("descriptors", count(soft) + enough, unlimited or soft >= 256 or None)
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    yield Fact("processes", count(soft), soft == resource.RLIM_INFINITY or soft >= 100 or None)
    yield ssh()
    others = [python.minor for python in pythons()]
    yield Fact("Pythons on PATH", " ".join(others) or "none", bool(others) or None)


def count(limit: int) -> str:
    """A limit of the kernel's in words."""
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


def children() -> Fact:
    """How the end of child processes is noticed here."""
    try:
        os.close(pidfd.open_pidfd(os.getpid()))
    except OSError as error:
        why = errno.errorcode.get(error.errno or 0, error.errno)
        return Fact("children", f"no pidfds ({why}): they are looked at by a timer", None)
    return Fact("children", "pidfd: their end is noticed at once")


def ssh() -> Fact:
    """The system's ssh."""
    path = shutil.which("ssh")
    if path is None:
        return Fact("ssh", "not on PATH: install OpenSSH's client to reach other hosts", None)
    try:
        done = subprocess.run([path, "-V"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        return Fact("ssh", f"{path} does not run: {error}", None)
    return Fact("ssh", f"{(done.stderr or done.stdout).strip().split(',')[0]} at {path}", done.returncode == 0 or None)
