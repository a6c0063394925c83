"""MT-08 to MT-11: children that do not want to end, and what others notice of it: nothing; on a busy machine too."""

import os
import statistics
import subprocess
import sys
import threading
import time

import pytest

import contextree
from tests.ending import far
from tests.lab import processes
from tests.lab.poll import until


@pytest.fixture(params=["quiet", "busy"])
def machine(request):
    """The machine as it is, and with four processes per processor that do nothing but compute."""
    count = 4 * len(os.sched_getaffinity(0)) if request.param == "busy" else 0
    busy = [subprocess.Popen([sys.executable, "-ISc", "while 1: pass"]) for _ in range(count)]
    yield request.param
    for process in busy:
        process.kill()
    for process in busy:
        process.wait()


def pings(context, enough):
    """The seconds of one ping after another, until ``enough(seconds so far)``."""
    found = []
    while not enough(found):
        found.append(context.ping(30))
    return found


@pytest.mark.parametrize("machine, kind", [("quiet", "local"), ("quiet", "below"), ("busy", "fork")],
                         indirect=["machine"])
def test_mt_10_mt_11_others_notice_nothing_of_an_escalation(machine, kind):
    """The child ignores HUP and TERM, its link is closed, it does not leave by itself: only KILL ends it."""
    with contextree.Router() as router:
        other = router.local(name="other")
        parent = router.local(name="parent") if kind == "below" else router
        stubborn = (parent.fork if kind == "fork" else parent.local)(name="stubborn")
        pinged = parent if kind == "below" else other  # a process that must not wait for the child
        who = processes.identity(stubborn.pid)
        idle = pings(pinged, lambda found: len(found) == 200)
        start = time.monotonic()
        stubborn.submit(far.be_stubborn)
        during = pings(pinged, lambda found: len(found) >= 200 and not processes.alive(who))
        took = time.monotonic() - start
        assert "its process has not ended yet" in str(stubborn.wait(20)), "who waited was told before KILL"
        assert other.call(sum, [1, 2]) == pinged.call(sum, [3]) == 3
        until(lambda: processes.stat(who[0]) is None, "the child to be reaped")
    # A loop that waited for the child would keep one ping for the whole of the escalation, and a poll of the child in
    # a tight loop would show in all of them.
    assert max(during) < took / 4, (max(during), took)
    assert statistics.median(during) < 10 * max(statistics.median(idle), 1e-4)


def test_mt_08_mt_11_shutdown_of_one_while_others_work(machine):
    with contextree.Router() as router:
        first, second = router.local(name="first"), router.local(name="second")
        below = first.fork(name="below")
        ended = [processes.identity(each.pid) for each in (first, below)]
        stop, sums = threading.Event(), []

        def work():
            while not stop.is_set():
                sums.append(second.call(sum, [1, 2]))

        worker = threading.Thread(target=work)
        worker.start()
        pending = below.submit(far.read_gate, "/dev/zero")
        first.shutdown(timeout=0.5)
        stop.set()
        worker.join()
        assert type(pending.exception(1)) is contextree.ContextDied
        assert set(sums) == {3} and not any(processes.alive(who) for who in ended)
        assert router.contexts == [second]


def test_mt_09_mt_11_no_zombies_however_busy_the_machine(machine):
    """Twenty at a time come and go (the row's 500 are in the tests of many)."""
    with contextree.Router() as router:
        for grow in (router.fork, router.local):
            found = [grow() for _ in range(10)]
            pids = [context.pid for context in found]
            for context in found[::2]:
                context.kill()
            for context in found[1::2]:
                context.shutdown()
            assert [pid for pid in pids if processes.stat(pid)] == []
