"""A tree for each module, with a context of every kind that a program can be run in, and ways to look for what is left
of programs."""

import sys
import uuid

import pytest

import contextree
from contextree.connect import local as local_method
from contextree.core import process
from contextree.parent.importer import THREADS
from tests.lab import processes
from tests.lab.poll import until
from tests.run import far

MARK = "CONTEXTREE_TEST_PROGRAM"


def untrusted(router, name):
    """A child whose answers are plain data."""
    plan = local_method.plan(name=name)
    plan.trusted = False
    return router.grow(plan)


@pytest.fixture(scope="module")
def router():
    """A root whose helper threads run already: the guard looks at each test."""
    with contextree.Router() as router:
        modules = router.engine.modules
        while modules.threads < THREADS:
            modules.threads += 1
            process.start_thread(modules.work, ())
        waiter = process.Waiter()
        router.engine.later(waiter.wake)
        assert waiter.wait(10)
        until(lambda: len(modules.jobs.waiters) == THREADS, "the threads to run")
        yield router


def warm(context):
    """``context``, in which a program has run."""
    assert context.run(["true"]).returncode == 0
    return context


@pytest.fixture(scope="module")
def local(router):
    """An exec'd child with this Python."""
    return warm(router.local(name="local"))


@pytest.fixture(scope="module", params=["local", "fork", "direct", "nested", "untrusted", "3.6", "newest", "ssh"])
def place(request, router, pythons):
    """Contexts of every kind."""
    kind = request.param
    if kind == "nested":
        return warm(router.local(via=router.fork()))
    if kind == "local":
        return request.getfixturevalue("local")
    if kind == "fork":
        return warm(router.fork())
    if kind == "direct":
        return warm(router.fork(direct=True))
    if kind == "untrusted":
        return warm(untrusted(router, "stranger"))
    if kind == "ssh":
        sshd = request.getfixturevalue("sshd")
        return warm(router.ssh("key", ssh_config=sshd.ssh_config))
    own = [name for name, python in pythons.items() if len(python.argv) == 1]  # in a chroot there are no programs
    minor = kind if kind in pythons else max(own, key=lambda name: tuple(map(int, name.split("."))))
    if kind == "3.6" and minor != kind:
        pytest.skip("no Python 3.6 here")
    return warm(router.local(python=pythons[minor].argv, name="newest" if kind == "newest" else "old"))


class Marked:
    """Programs that carry a mark in their environment: ``env`` is what gives it to them."""

    def __init__(self):
        self.mark = uuid.uuid4().hex
        self.env = {MARK: self.mark}

    def pids(self):
        """Those that live."""
        found, wanted = [], ("%s=%s" % (MARK, self.mark)).encode()
        for pid in processes.every():
            try:
                with open("/proc/%d/environ" % pid, "rb") as file:
                    if wanted in file.read().split(b"\0") and processes.alive(processes.identity(pid)):
                        found.append(pid)
            except OSError:
                continue
        return found

    def wait(self, count):
        """Wait until so many of them live."""
        until(lambda: len(self.pids()) == count, "%d programs, there are %r" % (count, [
            processes.command_line(pid) for pid in self.pids()]))


@pytest.fixture
def marked():
    """A Marked; what is left of its programs is killed after the test."""
    marked = Marked()
    yield marked
    processes.end([processes.identity(pid) for pid in marked.pids()])


@pytest.fixture
def fds(local):
    """What the context ``local`` holds must be the same after the test."""
    before = until(lambda: local.call(far.descriptors), "the programs of other tests to end")
    yield
    until(lambda: local.call(far.descriptors) == before, "the descriptors of the context to be as before: %r" % before)
    assert not children_of(local.pid)


def children_of(pid):
    """The children of a process, zombies too, but for interpreters and the watchman."""
    found = [processes.command_line(child) for child in processes.every() if (processes.stat(child) or (0,))[0] == pid]
    return [command for command in found if sys.executable not in command and "contextree-watchman" not in command]
