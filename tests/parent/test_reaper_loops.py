"""Beside other people's event loops: acceptance rows RM-10, RM-19 (tasks), RM-25 (asyncio owns SIGCHLD), R-06.

The adapters proper are in contextree/loops; here a few lines stand for them, to show that ``begin_wait`` is all they
need.
"""

import asyncio
import os
import signal
import subprocess

import pytest
import trio
import trio.testing

from contextree import processes
from contextree.parent.child_state import EXITED
from tests.parent.test_reaper_signals import tells_signals
from tests.parent.tools import LONG, Gate, gated, script

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork")


async def asyncio_check(child):
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    ticket = child.begin_wait(EXITED, lambda: loop.call_soon_threadsafe(ready.set))
    try:
        if ticket.result() is None:
            await ready.wait()
    except BaseException:
        child.abandon(ticket)
        child.cancelled()
        raise
    return ticket.result().check()


async def trio_check(child):
    ready = trio.Event()
    token = trio.lowlevel.current_trio_token()
    ticket = child.begin_wait(EXITED, lambda: token.run_sync_soon(ready.set))
    try:
        if ticket.result() is None:
            await ready.wait()
    except BaseException:
        child.abandon(ticket)
        child.cancelled()
        raise
    return ticket.result().check()


def ends_by_kill_after_term(child):
    """The child wrote its marker, nothing waits any more, and no zombie stays."""
    assert int(child.stdout.readline()) == signal.SIGTERM
    assert not child._tickets
    child.kill()
    assert child.wait(LONG).killed_with() == signal.SIGKILL
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)


def test_rm_10_asyncio(reaper):
    async def main(child):
        task = asyncio.ensure_future(asyncio_check(child))
        await asyncio.sleep(0)
        assert child._tickets
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with tells_signals(reaper) as child:
        asyncio.run(main(child))
        ends_by_kill_after_term(child)


def test_rm_10_trio(reaper):
    async def main(child):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio_check, child)
                await trio.testing.wait_all_tasks_blocked()
                assert child._tickets
                scope.cancel()
        assert scope.cancelled_caught

    with tells_signals(reaper) as child:
        trio.run(main, child)
        ends_by_kill_after_term(child)


def test_rm_10_a_signal_handler_that_raises(reaper):
    """check() on the main thread, cancelled by SystemExit from a handler: as a service manager's TERM ends a
    program."""

    def leave(*_):
        raise SystemExit(3)

    before = signal.signal(signal.SIGUSR1, leave)
    try:
        with tells_signals(reaper) as child:
            reaper.broker.call(reaper.broker.timer, 0.05, os.kill, os.getpid(), signal.SIGUSR1)
            with pytest.raises(SystemExit):
                child.check()
            ends_by_kill_after_term(child)
    finally:
        signal.signal(signal.SIGUSR1, before)


GEVENT = """
    from gevent import monkey
    monkey.patch_all()
    import gevent, gevent.event, gevent.subprocess
    from contextree import processes

    def gevent_check(child):
        hub = gevent.get_hub()
        watcher = hub.loop.async_()
        ready = gevent.event.Event()
        watcher.start(ready.set)
        ticket = child.begin_wait(EXITED, watcher.send)
        try:
            if ticket.result() is None:
                ready.wait()
        except BaseException:
            child.abandon(ticket)
            child.cancelled()
            raise
        finally:
            watcher.stop()
            watcher.close()
        return ticket.result()
"""


def test_rm_10_gevent():
    script(GEVENT + """
    child = processes.start(["sh", "-c", "trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.01; done"],
                            stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\\n"
    waiting = gevent.spawn(gevent_check, child)
    gevent.sleep(0)
    assert child._tickets
    waiting.kill()
    assert child.stdout.readline() == b"term\\n"
    assert not child._tickets
    state = gevent_check(child)
    assert state.exit_status == 9, state
    child.stdout.close()
    """)


def test_rm_19_tasks_and_threads_wait_for_the_same_child(reaper):
    async def main():
        with Gate() as gate:
            child = gated(reaper, gate)
            tasks = [asyncio.ensure_future(asyncio_check(child)) for _ in range(5)]
            threads = [asyncio.ensure_future(asyncio.to_thread(child.check, LONG)) for _ in range(5)]
            while len(child._tickets) < 10:
                await asyncio.sleep(0.001)  # sleeps: until polls, but asyncio must go on meanwhile
            gate.open()
            return await asyncio.wait_for(asyncio.gather(*tasks, *threads), LONG)

    states = asyncio.run(main())
    assert len(states) == 10
    assert len(set(map(id, states))) == 1
    assert reaper.stats()["reaped"] == 1


def test_rm_25_asyncio_owns_its_children_and_we_ours(reaper):
    """asyncio's child watcher is at work while ours come and go."""

    async def main():
        theirs = [await asyncio.create_subprocess_exec("sh", "-c", "exit %d" % code) for code in range(5)]
        ours = [processes.start(["sh", "-c", "exit %d" % code], reaper=reaper) for code in range(5)]
        assert [await process.wait() for process in theirs] == list(range(5))
        assert [(await asyncio.to_thread(child.wait, LONG)).exit_status for child in ours] == list(range(5))

    before = signal.getsignal(signal.SIGCHLD)
    asyncio.run(main())
    assert signal.getsignal(signal.SIGCHLD) == before


@pytest.mark.parametrize("arguments", ["", "exit_status=None", "open_pidfd=None"])
def test_r_06_gevent_reaps_everybodys_children(arguments):
    """libev's waitpid(-1) is active all the time; 50 of ours end with their status, or LOST where the kernel keeps
    none. gevent's own children keep theirs, but for those whose status nobody but gevent can have."""
    output = script(GEVENT + """
    broker = Broker(); broker.start()
    reaper = Reaper(broker, %s)
    stop = []

    def busy():
        while not stop:
            assert gevent.subprocess.call(["sh", "-c", "exit 3"]) == 3

    greenlets = [gevent.spawn(busy) for _ in range(3)]
    for round in range(5):
        gate = Gate()
        children = [gated(reaper, gate, code) for code in range(10)]
        gate.open()
        for code, child in enumerate(children):
            state = gevent_check(child)
            assert state.exit_status == code or state.code == LOST, state
            assert "taken by other code" in str(state) or state.code != LOST, state
    stop.append(1)
    gevent.joinall(greenlets, raise_error=True)
    broker.stop()
    print("lost", reaper.stats()["lost"])
    """ % arguments)
    if not arguments:
        assert output == "lost 0\n"


def test_r_06_start_in_a_patched_program():
    """start() takes the real Popen there; plain wait() holds the hub but ends."""
    script(GEVENT + """
    assert gevent.subprocess.call(["true"]) == 0
    assert processes.start(["sh", "-c", "exit 4"]).wait(LONG).exit_status == 4
    with processes.start(["cat"], stdin=subprocess.PIPE) as child:
        pass
    assert child.state.killed_with() == 9
    """)
    assert subprocess.Popen.__module__ == "subprocess"
