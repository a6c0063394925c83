"""Environments in which the product is installed as users do it: by a wheel, an editable one, a tarball.

What the product needs (ansible-core and the rest) is linked from an environment of ``tests.ansible.cores``: without the
product, which that has by links.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.ansible.cores import Core
from tests.lab.poll import until
from tests.lab.pythons import ROOT

COLLECTION = "ansible_collections/contextree/fast"
OURS = ("contextree", "ansible_collections")
PLAY = """\
- hosts: all
  gather_facts: false
  tasks:
    - ping:
    - command: echo done
    - copy: {content: text, dest: "%s"}
"""


def source(folder: Path) -> Path:
    """What the product is built from, with links to its sources."""
    for name in ("pyproject.toml", "setup.py", "README.md"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    for name in ("contextree", "ansible_plugin"):
        (folder / name).symlink_to(ROOT / name)
    (folder / COLLECTION).parent.mkdir(parents=True)
    (folder / COLLECTION).symlink_to("../../ansible_plugin")
    return folder


def build(kind: str, home: Path, target: Path, *settings: object) -> Path:
    """The file that a function of setuptools' makes of ``source(home)``."""
    script = "import setuptools.build_meta as backend; backend.%s(%s)" % (
        kind, ", ".join(map(repr, (str(target), *settings))))
    done = subprocess.run([sys.executable, "-c", script], cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(iter(target.iterdir()))


def site_packages(python: Path) -> Path:
    """Where a Python has what is installed."""
    words = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    return Path(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.strip())


class Environment:
    """A virtual environment in ``home`` with what ``core`` has, but nothing of ours until it is installed."""

    def __init__(self, core: Core, home: Path) -> None:
        self.core = core
        self.home = home
        self.python = home / "venv/bin/python"
        subprocess.run([core.folder / "python", "-m", "venv", "--without-pip", home / "venv"], check=True)
        self.site = site_packages(self.python)
        for path in site_packages(core.folder / "python").iterdir():
            if path.name not in OURS:
                (self.site / path.name).symlink_to(path)

    def run(self, *words: object, status: int | None = 0, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Its Python with arguments, in a folder of its own, with no variable that says where anything is."""
        path = os.pathsep.join([str(self.home / "venv/bin"), os.environ["PATH"]])
        environment = {"HOME": str(self.home), "PATH": path, "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1",
                       "ANSIBLE_DEPRECATION_WARNINGS": "0", "ANSIBLE_PYTHON_INTERPRETER": str(self.python), **variables}
        done = subprocess.run([self.python, *map(str, words)], cwd=self.home, env=environment, timeout=120,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert status is None or done.returncode == status, done.stdout + done.stderr
        return done

    def install(self, wheel: Path) -> None:
        """Install a wheel of ours by pip."""
        done = subprocess.run([self.core.folder / "python", "-m", "pip", "--python", self.python, "install", "-q",
                               "--no-deps", "--no-index", "--disable-pip-version-check", wheel], cwd=self.home,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def lay(self, folder: Path) -> Path:
        """A copy of the collection, as it is unpacked, below ``folder``; where it is."""
        copy = folder / COLLECTION
        shutil.copytree(ROOT / "ansible_plugin", copy, ignore=shutil.ignore_patterns("__pycache__"))
        return copy

    def ansible(self, program: str, *words: object, **variables: str) -> "subprocess.CompletedProcess[str]":
        """``ansible-galaxy`` for "galaxy", and so on."""
        return self.run("-m", "ansible", program, *words, **variables)

    def play(self, **variables: str) -> tuple["subprocess.CompletedProcess[str]", int]:
        """A short play at this machine; also how many requests our multiplexer has had, 0 where there was none."""
        (self.home / "play.yml").write_text(PLAY % (self.home / "out"))
        statistics = self.home / "statistics"
        statistics.unlink(missing_ok=True)
        words = "-i", "me,", "-c", variables.pop("connection", "local"), "play.yml"
        done = self.ansible("playbook", *words, ANSIBLE_CONTEXTREE_STATS=str(statistics), **variables)
        assert (self.home / "out").read_text() == "text"
        return done, requests(statistics) if "contextree.fast falls back" not in done.stderr else 0


def requests(statistics: Path) -> int:
    """What the multiplexer has counted, which it writes when it has seen that the run is over."""
    until(statistics.exists, "the multiplexer has written its statistics")
    return int(json.loads(statistics.read_text()).get("requests", 0))


@functools.cache
def version() -> str:
    """Of the product."""
    import contextree

    return contextree.__version__
