"""What every test must leave as it found it: descriptors, threads, children, and processes further down.

``watch(name)`` takes a snapshot, lets the test run, and compares. A difference gets a bounded time to go away (a
child that is being reaped, a thread on its last line); what is left then is a Leak, named: a descriptor with its
target, a thread with the line that it is on, a process with its command line. A leaked process is killed, so that it
cannot spoil the tests that follow.

Threads are taken from the interpreter, not from ``threading``: one started by ``_thread`` counts, one of a C library
does not. Orphans, processes that something we started has left behind, are found by a variable in their environment.
"""

import contextlib
import gc
import os
import re
import signal
import sys
import threading
import uuid

from tests.lab import processes
from tests.lab.poll import until

GRACE = 3.0
MARK = "CONTEXTREE_TEST_RUN"
# what Python and pytest's plugins open once and keep, each with the one who does
KEPT_FILES = re.compile(
    r"""^/dev/u?random$              # os.urandom on systems without getrandom
    |/\.coverage[^/]*(-journal)?$    # coverage's data
    |/\.hypothesis/                  # hypothesis's examples
    |^/proc/                         # listings in progress, our own among them
    """,
    re.VERBOSE,
)
# pytest-timeout's timer, pytest-xdist's worker, threads that trio keeps for ten seconds in case it wants them again
KEPT_THREADS = re.compile(r"^pytest_timeout |^execnet|^Trio thread ")
KEPT_PROCESSES = re.compile(r"multiprocessing[./]resource_tracker")  # one per process, ends with it


class Leak(AssertionError):
    """Something was left behind; the text names each thing."""


class Snapshot:
    """What this process holds at one moment."""

    def __init__(self):
        self.files = _files()
        self.threads = set(sys._current_frames())
        self.tasks = set(os.listdir("/proc/self/task"))
        self.children = _children()
        self.there = set(processes.every())

    def new_threads_show(self):
        """False while the kernel has a thread that the interpreter does not tell of: it is so new that it has not run
        its first line, or it is one of a C library."""
        new = set(os.listdir("/proc/self/task")) - self.tasks
        return len(new) <= len(set(sys._current_frames()) - self.threads)

    def leaks(self):
        """[(kind, number, description)] of what is there now and was not then."""
        found = []
        for fd, target in sorted(_files().items()):
            moved = fd in (1, 2) and fd in self.files  # by pytest's capture, which a run cut short by -x ends early
            if self.files.get(fd) != target and not moved and not KEPT_FILES.search(target):
                found.append(("fd", fd, "fd %d -> %s" % (fd, target)))
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            name = names.get(ident, "without a name")
            if ident not in self.threads and not KEPT_THREADS.search(name):
                place = "%s:%d in %s" % (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
                found.append(("thread", ident, "thread %r at %s" % (name, place)))
        mine = _children()
        for pid, (start, state) in sorted(mine.items()):
            if self.children.get(pid, (None,))[0] != start:
                what = "zombie" if state in "ZX" else "child"
                found.append(("child", pid, "%s %d: %s" % (what, pid, processes.command_line(pid))))
        new = [pid for pid in processes.every() if pid not in self.there and pid not in mine and _is_marked(pid)]
        found += [("orphan", pid, "orphan %d: %s" % (pid, processes.command_line(pid))) for pid in sorted(new)]
        return [item for item in found if not KEPT_PROCESSES.search(item[2])]


@contextlib.contextmanager
def watch(name, grace=GRACE):
    """Raise Leak at the end of the block if it left anything behind. For the thread that runs the tests."""
    os.environ.setdefault(MARK, "%d-%s" % (os.getpid(), uuid.uuid4().hex))
    before = Snapshot()
    yield
    with contextlib.suppress(AssertionError):
        until(before.new_threads_show, "new threads to show themselves", 0.3, 0.005)
    left = before.leaks()
    if not left:
        return
    gc.collect()  # an object in a cycle closes late; if it owned a descriptor Python's ResourceWarning says so
    with contextlib.suppress(AssertionError):
        until(lambda: not before.leaks(), "leaks to go away", grace)
    left = before.leaks()
    if left:
        _kill(left)
        raise Leak("left behind by %s:\n%s" % (name, "\n".join("  " + text for _kind, _number, text in left)))


def _files():
    """{fd: target} of this process."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            found[int(name)] = os.readlink("/proc/self/fd/" + name)
    return found


def _children():
    """{pid: (start time, state)} of this process's children."""
    found = {}
    for task in os.listdir("/proc/self/task"):
        try:
            with open("/proc/self/task/%s/children" % task) as file:
                pids = [int(word) for word in file.read().split()]
        except FileNotFoundError:  # the thread has just ended, or the kernel was built without this file
            pids = processes.every() if not os.path.exists("/proc/self/task/%d/children" % os.getpid()) else []
        for pid in pids:
            facts = processes.stat(pid)
            if facts and facts[0] == os.getpid():
                found[pid] = (facts[2], facts[1])
    return found


def _is_marked(pid):
    """True for a living process, not this one, that carries this run's mark in its environment."""
    mark = ("%s=%s" % (MARK, os.environ.get(MARK, "none"))).encode()
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            if mark not in file.read().split(b"\0"):
                return False
    except OSError:  # gone, or somebody else's
        return False
    return pid != os.getpid() and processes.alive(processes.identity(pid))


def _kill(left):
    for kind, pid, _text in left:
        if kind in ("child", "orphan"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if kind == "child":
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
