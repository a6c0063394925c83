"""Every fault of the table happens, and everyone who waits gets what the table says."""

import contextlib
import importlib
import os
import select
import signal
import sys
import threading
import types

import pytest

import contextree
from tests.ending import far, faults
from tests.lab import processes
from tests.lab.poll import until
from tests.lab.pythons import ROOT

STALLED = "contextree_test_stalled"


class Stall:
    """A finder of the master that keeps everybody waiting who asks for one module."""

    def __init__(self):
        self.asked, self.release = threading.Event(), threading.Event()

    def find_spec(self, name, path=None, target=None):
        """Nothing, after a long time."""
        if name == STALLED:
            self.asked.set()
            self.release.wait(30)


@pytest.fixture
def stall():
    finder = Stall()
    sys.meta_path.insert(0, finder)
    yield finder
    finder.release.set()
    sys.meta_path.remove(finder)


class Wait(threading.Thread):
    """A wait on a thread of its own; ``got`` is ``Class: text``, ``returns``, or None as long as it goes on."""

    def __init__(self, function):
        super().__init__()
        self.function, self.got, self.error = function, None, None
        self.start()

    def run(self):
        try:
            self.function()
            self.got = "returns"
        except Exception as error:
            self.error = error
            self.got = "%s: %s" % (type(error).__name__, error)


def start(tree):
    """The waits that begin before the fault."""
    pool = tree.target.with_options(threads=9)
    stream = pool.stream(far.one_then_wait)
    assert next(stream) == 1
    never = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    waits = {
        "call": lambda: tree.target.call(select.select, [], [], []),
        "submit": pool.submit(select.select, [], [], []).result,
        "stream": lambda: next(stream),
        "grow": lambda: tree.target.local(python=never),
    }
    running = {name: Wait(function) for name, function in waits.items()}
    until(lambda: len(processes.descendants(tree.target.pid)) == 1, "the child that never speaks")
    running["import"] = Wait(lambda: pool.call(importlib.import_module, STALLED))
    assert tree.stall.asked.wait(20)
    return running


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_fault(fault, stall, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with contextree.Router(share=[STALLED], grace=0.5) as router, contextlib.ExitStack() as stack:
        tree = types.SimpleNamespace(router=router, stall=stall)
        tree.mid = router.local(name="mid", heartbeat=2 if fault.beats == "mid" else None)
        if fault.kind == "job":
            token = tree.mid.local(name="before").detach(keep=True)
            tree.target = tree.mid.attach(token, force=True, name="target")
            tree.take = lambda: stack.enter_context(router.attach(token, force=True))
        else:
            tree.target = getattr(tree.mid, fault.kind)(name="target",
                                                        heartbeat=2 if fault.beats == "target" else None)
        tree.template = processes.stat(tree.target.pid)[0]
        running = start(tree)
        orphans = processes.descendants(tree.mid.pid) if tree.mid.name in fault.cell else []
        fault.break_it(tree)
        if fault.cell != "goes on":
            until(lambda: all(wait.got for wait in running.values()), "everybody to be told: %r" % {
                name: wait.got for name, wait in running.items()}, 12)
        running["ping"] = Wait(lambda: tree.target.ping(5))
        running["ping"].join()
        seen = {name: wait.got or "goes on" for name, wait in running.items()}
        running["shutdown"] = Wait(lambda: tree.target.shutdown(0.2))
        running["shutdown"].join()
        seen["shutdown"] = running["shutdown"].got
        stall.release.set()
        for wait in running.values():
            wait.join(20)
        wrong = {name: text for name, text in seen.items() if not text.startswith(fault.expected(name))}
        assert not wrong
        for name, wait in running.items():
            if isinstance(wait.error, contextree.ContextDied):
                assert wait.error.context == "mid.target", name
    processes.end(orphans)  # they would give their calls two seconds


def test_frozen_there_is_a_timeout_for_each_wait_and_kill_ends_it():
    with contextree.Router() as router:
        mid = router.local(name="mid")
        target = mid.local(name="target")
        os.kill(target.pid, signal.SIGSTOP)
        hasty = target.with_options(timeout=0.3)
        for wait in (lambda: hasty.call(os.getpid), lambda: target.submit(os.getpid).result(0.3),
                     lambda: next(hasty.stream(far.one_then_wait)), lambda: target.ping(0.3), lambda: target.dump(0.3)):
            with pytest.raises(TimeoutError):
                wait()
        growing = Wait(target.fork)
        assert mid.call(sum, [1, 1]) == 2
        target.kill()
        growing.join(20)
        assert "mid.target ended: its process (local) killed by SIG" in growing.got
        assert mid.call(sum, [1, 2]) == 3


def test_the_page_in_docs_says_what_the_tests_say():
    """``python -m tests.ending.faults > docs/faults.md`` writes it."""
    assert (ROOT / "docs" / "faults.md").read_text() == faults.table()
