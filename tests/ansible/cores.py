"""Virtual environments with the oldest, a middle and the newest ansible-core, each on a Python that it takes.

    python -m tests.ansible.cores [2.16] [2.19] [2.21] [newest]

They lie in the cache and are kept until the product's requirements or the Python change. The product is in them as its
wheel would lay it: ``contextree`` can be imported, and the collection lies beside it, with no path configured.
"""

import fcntl
import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.lab import pythons

# core -> Pythons of the controller, the preferred one first
PYTHONS = {"2.16": ("3.11", "3.10", "3.12"), "2.19": ("3.12", "3.11", "3.13"), "2.21": ("3.13", "3.12", "3.14")}
OLDEST, MIDDLE, NEWEST = PYTHONS
# not in the suite's table; made when they are asked for by name
BETWEEN = {"2.17": ("3.12", "3.11", "3.10"), "2.18": ("3.12", "3.11", "3.13"), "2.20": ("3.13", "3.12", "3.14")}


class CannotMake(Exception):
    """An environment cannot be made here; the text says why."""


class Core(NamedTuple):
    """An ansible-core: its ``version`` ("2.21") and the ``folder`` of its programs."""

    version: str
    folder: Path

    @property
    def number(self) -> tuple[int, ...]:
        """The version as numbers."""
        return tuple(int(part) for part in self.version.split("."))


def python_for(version: str) -> pythons.Python:
    """The Python that this core is to run on. CannotMake: this machine has none."""
    found = [python for python in pythons.find() if python.origin != "chroot"]
    wanted = {**PYTHONS, **BETWEEN}[version]
    for minor in wanted:
        for python in reversed(found):
            if python.minor == minor:
                return python
    raise CannotMake("ansible-core %s needs Python %s, which is not here" % (version, " or ".join(wanted)))


def requirements() -> list[str]:
    """What the product requires to run, from pyproject.toml."""
    text = (pythons.ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    assert listed, "pyproject.toml has no dependencies"
    return re.findall(r'"([^"]+)"', listed[1])


@functools.cache
def make(version: str) -> Core:
    """The environment with this core, made unless it is there. CannotMake says why it cannot be. For one thread."""
    python = python_for(version)
    home = pythons.cache_directory() / ("ansible-core-" + version)
    wanted = ["ansible-core==%s.*" % version, *requirements()]
    stamp = "%s %s %s %s\n" % (python.version, " ".join(python.argv), pythons.ROOT, " ".join(wanted))
    core = Core(version, home / "bin")
    with open(home.with_name(home.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        marker = home / "contextree-stamp"
        if not (marker.exists() and marker.read_text() == stamp):
            shutil.rmtree(home, ignore_errors=True)
            _run(*python.argv, "-m", "venv", str(home))
            _run(str(home / "bin/python"), "-m", "pip", "install", "-q", *wanted)
            _lay(home)
            marker.write_text(stamp)
    return core


def _lay(home: Path) -> None:
    """Lay the product into the environment, as links to this tree."""
    done = subprocess.run([str(home / "bin/python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                          stdout=subprocess.PIPE, text=True, check=True)
    site = Path(done.stdout.strip())
    collection = site / "ansible_collections" / "contextree"
    collection.mkdir(parents=True)
    (collection / "fast").symlink_to(pythons.ROOT / "ansible_plugin")
    (site / "contextree").symlink_to(pythons.ROOT / "contextree")


def _run(*words: str) -> None:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise CannotMake("%s: %s" % (" ".join(words[:4]), " / ".join(done.stdout.strip().splitlines()[-2:])))


def main() -> int:
    """Make those that are named, or all; print what there is, and why another is not."""
    status = 0
    for version in sys.argv[1:] or PYTHONS:
        try:
            core = make(NEWEST if version == "newest" else version)
        except CannotMake as error:
            print("left out: %s" % error)
            status = 1
        else:
            print("ansible-core %s: %s" % (version, core.folder))
    return status


if __name__ == "__main__":
    sys.exit(main())
