"""Bulk that passes through a context on its way up and down."""

import itertools
import logging
import os
import signal
from pathlib import Path

import contextree
from contextree.core import process
from tests.lab import processes
from tests.lab.poll import until


def test_what_a_dead_grandchild_had_on_the_way_is_no_attack(caplog):
    """The news that it has ended are control and overtake its bulk: those frames were taken for forged ones."""
    with contextree.Router() as router, caplog.at_level(logging.INFO):
        middle = router.local(name="middle").with_options(timeout=20)
        below = middle.local(name="below")
        gate = process.Waiter()
        router.broker.defer(gate.wait)  # the root reads nothing, so the way up fills
        try:
            futures = [below.submit(bytes, 1 << 20) for _ in range(200)]
            until(lambda: waits(below.pid), "it to have sent all that it may")
            os.kill(below.pid, signal.SIGKILL)
            until(lambda: not processes.stat(below.pid), "its parent to reap it")
        finally:
            gate.wake()
        for future in futures:
            assert isinstance(future.exception(20), contextree.ContextDied)
        assert middle.call(abs, -1) == 1
        police = router.stats()["police"]
        assert (police["spoofed"], police["refused"], police["violations"]) == (0, 0, 0)
    assert [record for record in caplog.records if record.name == "contextree.security"] == []


def waits(pid):
    """Whether all threads of a process sleep, twice in a row."""

    def used():
        return [stat.read_text().split()[13:15] for stat in sorted(Path("/proc/%d/task" % pid).glob("*/stat"))]

    return processes.stat(pid)[1] == "S" and used() == used()


def test_bulk_of_a_grandchild_reaches_the_root(caplog):
    """A frame of bulk that was forwarded upward met a link without the count of what waits, and was lost."""
    with contextree.Router() as router, caplog.at_level(logging.INFO):
        below = router.local().with_options(timeout=20).local(name="below").with_options(timeout=20)
        assert len(below.call(bytes, 3 << 20)) == 3 << 20
        with below.stream(itertools.count) as numbers:
            assert list(itertools.islice(numbers, 5000)) == list(range(5000))
    assert caplog.messages == []
