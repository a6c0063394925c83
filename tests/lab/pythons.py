"""Every CPython on this machine that a target may have: 2.7 (for the refusal) and 3.6 to 3.15.

They come from pyenv, from PATH, and, for the newest two, from a chroot of the Debian suite that carries them. A Python
is its words: ``subprocess.run(python.argv + ["-c", "..."])`` runs it wherever it lives.
"""

import fcntl
import functools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

MINORS = ("2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
CHROOT_SUITE = "forky"
CHROOT_MINORS = ("3.14", "3.15")
ROOT = Path(__file__).resolve().parents[2]
_PROBE = (
    "import platform, sys; v = sys.version_info; "
    "print('%s %d.%d.%d %s' % (platform.python_implementation(), v[0], v[1], v[2], sys.executable))"
)


class Python(NamedTuple):
    """One interpreter: ``minor`` ("3.6"), ``version`` ("3.6.15"), ``argv`` (its words), ``origin``."""

    minor: str
    version: str
    argv: tuple
    origin: str

    def run(self, *args, **options):
        """subprocess.run of this Python with ``args``; text output is captured and a failure raises."""
        options = {"stdout": subprocess.PIPE, "check": True, "timeout": 60, "universal_newlines": True, **options}
        return subprocess.run([*self.argv, *args], **options)


class CannotPrepare(Exception):
    """The chroot cannot be made here; the text says why."""


def cache_directory():
    """Where downloads and chroots are kept; made if absent."""
    path = Path(os.environ.get("CONTEXTREE_CACHE") or ROOT / ".cache")
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


@functools.cache
def find():
    """All usable Pythons, one per full version and origin, oldest first, as a tuple of Python."""
    found = {}
    for origin, argv in _candidates():
        python = _ask(origin, argv)
        if python is not None:
            found.setdefault((python.minor, python.version), python)
    return tuple(sorted(found.values(), key=lambda python: _key(python.version)))


def one_each():
    """One Python per minor version: {"3.6": Python, ...}, oldest first."""
    return {python.minor: python for python in find()}


def _key(version):
    return tuple(int(part) for part in version.split("."))


def _candidates():
    for root in _pyenv_roots():
        for path in sorted(root.glob("versions/*/bin/python")):
            yield "pyenv", (str(path),)
    for minor in MINORS:
        for folder in os.get_exec_path():
            path = os.path.join(folder, "python" + minor)
            if os.access(path, os.X_OK):
                yield "path", (path,)
    chroot = chroot_directory()
    if os.geteuid() == 0 and (chroot / "complete").exists():
        for minor in CHROOT_MINORS:
            yield "chroot", ("chroot", str(chroot / "root"), "/usr/bin/python" + minor)


def _pyenv_roots():
    pyenv = shutil.which("pyenv")
    if pyenv:
        answer = subprocess.run([pyenv, "root"], stdout=subprocess.PIPE, text=True, timeout=20, check=False)
        if answer.returncode == 0:
            return [Path(answer.stdout.strip())]
    return [Path(os.environ["PYENV_ROOT"])] if os.environ.get("PYENV_ROOT") else []


def _ask(origin, argv):
    """The Python behind ``argv``, or None: a shim of a version that is not there, another implementation, too new."""
    try:
        answer = subprocess.run(
            [*argv, "-c", _PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
            text=True, timeout=20, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = answer.stdout.split(None, 2)
    if answer.returncode or len(words) != 3 or words[0] != "CPython":
        return None
    minor = ".".join(words[1].split(".")[:2])
    if origin == "path":
        argv = (words[2].strip(),)  # behind a shim or a link: the real one
    return Python(minor, words[1], argv, origin) if minor in MINORS else None


# --------------------------------------------------------------------------------------------------- the chroot
def chroot_directory():
    """The folder of the chroot: ``root`` is its file system, ``complete`` is there when it is ready."""
    return cache_directory() / ("chroot-" + CHROOT_SUITE)


def prepare_chroot():
    """Make the chroot with the newest Pythons unless it is there; returns its Pythons. CannotPrepare says why not.

    Only packages are unpacked, no maintainer script runs: about ten seconds and 120 MB.
    """
    if os.geteuid() != 0:
        raise CannotPrepare("needs root")
    home = chroot_directory()
    home.mkdir(exist_ok=True)
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            _make_chroot(home)
    find.cache_clear()
    return tuple(python for python in find() if python.origin == "chroot")


def _make_chroot(home):
    if not shutil.which("mmdebstrap"):
        raise CannotPrepare("mmdebstrap is not installed")
    mirror = debian_mirror()
    if mirror is None:
        raise CannotPrepare("the apt sources of this machine name no Debian mirror")
    root = home / "root"
    shutil.rmtree(root, ignore_errors=True)
    packages = ["dash", *("python" + minor for minor in CHROOT_MINORS)]
    command = [
        "mmdebstrap", "--quiet", "--variant=extract", "--include=" + ",".join(packages),
        "--aptopt=Acquire::Check-Valid-Until \"false\"", CHROOT_SUITE, str(root),
        "deb [trusted=yes] %s %s main" % (mirror, CHROOT_SUITE),
    ]  # fmt: skip
    environ = dict(os.environ, LC_ALL="C.UTF-8")
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
            env=environ, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CannotPrepare("mmdebstrap took longer than 300 s") from None
    if done.returncode:
        raise CannotPrepare("mmdebstrap: " + " / ".join(done.stdout.strip().splitlines()[-2:]))
    for name in ("bin", "sbin", "lib", "lib64"):  # links of base-files, which is not among the packages
        if (root / "usr" / name).is_dir() and not os.path.lexists(root / name):
            (root / name).symlink_to("usr/" + name)
    for minor in CHROOT_MINORS:
        if _ask("chroot", ("chroot", str(root), "/usr/bin/python" + minor)) is None:
            raise CannotPrepare("python%s does not run in the chroot" % minor)
    (home / "complete").touch()


def debian_mirror():
    """The Debian mirror that this machine's own apt sources name, or None."""
    folder = Path("/etc/apt")
    for path in [*sorted(folder.glob("sources.list.d/*.sources")), folder / "sources.list",
                 *sorted(folder.glob("sources.list.d/*.list"))]:  # fmt: skip
        text = path.read_text(errors="replace") if path.exists() else ""
        match = re.search(r"^(?:URIs:\s*|deb\s+(?:\[[^]]*\]\s+)?)(\S+/debian/?)(?:\s|$)", text, re.MULTILINE)
        if match:
            return match.group(1)
    return None
