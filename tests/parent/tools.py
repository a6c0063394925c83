"""Children to order, for the reaper's tests: forked ones that end on command, and scripts in a process of their own."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.lab import poll

ROOT = Path(__file__).resolve().parents[2]
SUITE = Path(__file__).with_name("reaper_suite.py")
LONG = 12  # seconds; only a hang gets there
BACKENDS = {"pidfd": {}, "polled": {"open_pidfd": None, "exit_status": None}}

PRELUDE = """\
import ctypes, os, signal, subprocess, sys, threading
sys.path[:0] = [%r, %r]
from contextree.core import process
from contextree.parent.loop import Loop as Broker
from contextree.core.wire import errors
from contextree.parent.child_state import *
from contextree.parent.reaper import Reaper
from tests.parent.tools import LONG, Gate, fork, gated, until
""" % (str(ROOT), str(ROOT / "tests"))


_close = os.close  # this module is imported before gevent patches it; gevent's waits for the hub


def fork(work, *args):
    """The pid of a child that runs ``work(*args)`` and exits with what it returns."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        code = work(*args) or 0
    finally:
        os._exit(code)


class Gate:
    """Forked children block in ``wait`` until ``open`` (or until the test's process is gone)."""

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def wait(self, code=0):
        _close(self.writer)
        os.read(self.reader, 1)
        return code

    def open(self):
        if self.reader >= 0:
            _close(self.reader)
            _close(self.writer)
        self.reader = -1

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.open()


def gated(reaper, gate, code=0):
    """A monitored child that exits with ``code`` once the gate opens."""
    return reaper.monitor(fork(gate.wait, code), "gated %d" % code)


def until(condition, what="it"):
    """Poll for something that nobody can wait for (another process's state in /proc)."""
    poll.until(condition, what, LONG, 0.002)


def proc_state(pid):
    """The letter of /proc: Z for a zombie; "" when the process is gone."""
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descriptors():
    """{number: target} of this process."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink("/proc/self/fd/" + name)
        except FileNotFoundError:
            pass
    return found


def script(text, *argv, before=(), python=sys.executable, **options):
    """Run ``text`` (after PRELUDE) in a process of its own; its output. Fails where it fails."""
    options.setdefault("timeout", 2 * LONG)
    words = ["-W", "error", "-W", "ignore:This process", "-c", PRELUDE + textwrap.dedent(text)]  # of forks
    command = [*before, python, *words, *argv]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert done.returncode == 0, "status %d\n%s" % (done.returncode, done.stdout)
    return done.stdout


def strace(text, tmp_path, calls):
    """Run ``text`` under strace; the list of its system calls of these names, one line each, failed restarts left
    out."""
    log = tmp_path / "strace"
    output = script(text, before=("strace", "-f", "-qq", "-e", "signal=none", "-e", "trace=" + calls, "-o", str(log)))
    lines = re.sub(r"^\d+ +", "", log.read_text(), flags=re.MULTILINE).splitlines()
    return output, [line for line in lines if "resumed>" not in line]


ALONE = """
from importlib import import_module
from tests.parent.tools import BACKENDS
broker = Broker(); broker.start()
reaper = Reaper(broker, stop_interval=0.01, **BACKENDS[%(backend)r])
reaper.backend = %(backend)r
import_module(%(module)r).%(name)s.check(reaper)
assert reaper.alive == 0, "children left: %%s" %% reaper._children
broker.stop()
assert broker.count["errors"] == 0
"""


def alone(*backends):
    """The test ``check(reaper)`` runs in a process of its own, for each of these backends (all, if none is named).

    A fork copies the page tables of its process: 1 ms for a small one, 7 ms and more for one that has collected all
    tests. Those with hundreds of forks took up to 19 s."""
    import pytest

    def wrap(check):
        def test(backend):
            script(ALONE % {"backend": backend, "module": check.__module__, "name": check.__name__})

        test.check = check
        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return pytest.mark.parametrize("backend", backends or BACKENDS)(test)

    return wrap
