"""Forks of programs with event loops, and forks where every warning is an error."""

import importlib.util

import pytest

from tests.fork import far
from tests.fork.tools import program
from tests.lab import pythons as lab

FORKERS = [python for python in lab.one_each().values() if python.minor != "2.7" and python.origin != "chroot"]


@pytest.mark.parametrize("python", FORKERS, ids=[python.minor for python in FORKERS])
def test_warnings_are_errors(router, python):
    """A context of each Python with -W error, its loop thread running, forks itself and a template: no warning.

    From 3.12 on ``os.fork`` warns of threads."""
    child = router.local(python=" ".join(python.argv) + " -W error").with_options(timeout=40)
    ids = child.call(far.grow, "direct", "fork") + child.call(far.grow, "fork", "direct")
    for number in ids:
        context = router.context_by_id(number).with_options(timeout=40)
        assert context.call(far.add, 1) == 1
        assert context.name == context.call(far.name)
    assert child.call(far.signals)["SigBlk"] == set()


def test_asyncio_from_a_task_and_from_a_thread():
    """The loop of the root goes on and is woken from threads; in the child a loop of its own can be run."""
    text = """
import asyncio, concurrent.futures
import contextree
from tests.fork import far
async def main(router):
    loop = asyncio.get_running_loop()
    ticks = []
    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.005)
    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0.02)
    here = [router.fork(direct=True), router.fork()]
    there = await asyncio.gather(*[asyncio.to_thread(router.fork, direct) for direct in (True, False)])
    for child in here + there:
        assert await asyncio.wrap_future(child.submit(far.use_asyncio)) == ("no loop", 43)
        assert await asyncio.wrap_future(child.submit(far.use_asyncio)) == ("no loop", 43)
    before = len(ticks)
    woken = asyncio.Event()
    await asyncio.to_thread(loop.call_soon_threadsafe, woken.set)
    await asyncio.wait_for(woken.wait(), 20)
    await asyncio.to_thread(here[0].shutdown)
    await asyncio.to_thread(loop.call_soon_threadsafe, ticks.append, 1)
    while len(ticks) < before + 5:
        await asyncio.sleep(0)
    ticker.cancel()
    process = await asyncio.create_subprocess_exec("false")
    assert await process.wait() == 1
with contextree.Router(allow_blocking=True) as router:
    asyncio.run(main(router))
print("good")
"""
    assert program(text, "-W", "error") == "good\n"


def test_asyncio_the_inherited_loop_is_not_closed():
    """A loop that is set but does not run: dropped in the child, never closed, so the root's still wakes."""
    text = """
import asyncio, threading
import contextree
from tests.fork import far
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
with contextree.Router() as router:
    child = router.fork(direct=True)
    assert child.call(far.use_asyncio) == ("no loop", 43)
    assert child.call(far.collect) == 0
    child.shutdown()
    timer = threading.Timer(0.05, loop.call_soon_threadsafe, (loop.stop,))
    timer.start()
    loop.run_forever()
loop.close()
print("good")
"""
    assert program(text, "-W", "error") == "good\n"


@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed")
def test_gevent_patched_program():
    """A monkey-patched program forks both ways; its greenlets go on, and run nowhere else."""
    text = """
from gevent import monkey
monkey.patch_all()
import os
import gevent
import contextree
from tests.fork import far
pid = os.getpid()
elsewhere = []
ticks = []
reader, writer = os.pipe()
def tick():
    while True:
        ticks.append(1)
        if os.getpid() != pid:
            os.write(writer, b"x")
        gevent.sleep(0.002)
ticker = gevent.spawn(tick)
gevent.sleep(0.01)
with contextree.Router() as router:
    children = [router.fork(), router.fork(direct=True), router.local(), router.fork(direct=True)]
    for child in children:
        assert child.call(far.add, 1) == 1
        assert child.call(far.me) == child.pid
    try:
        children[3].call(os._exit, 7)
    except contextree.ContextDied as error:
        assert error.status is not None
    before = len(ticks)
    gevent.sleep(0.05)
    assert len(ticks) > before
    import subprocess
    assert subprocess.call(["false"]) == 1
    assert children[1].call(far.add, 5) == 5
os.set_blocking(reader, False)
try:
    assert not os.read(reader, 1)
except BlockingIOError:
    pass
ticker.kill()
print("good")
"""
    done = program(text, check=False)
    assert (done.returncode, done.stdout) == (0, "good\n"), done.stderr
    assert "rror" not in done.stderr


def test_fork_with_threading_hooks_and_tracing():
    """Trace and profile functions and thread hooks of the program do not trouble the child's start."""
    text = """
import sys, threading
import contextree
from tests.fork import far
threading.setprofile(lambda *args: None)
sys.setprofile(lambda *args: None)
with contextree.Router() as router:
    print([router.fork(direct=direct).call(far.add, 1) for direct in (True, False)])
"""
    assert program(text) == "[1, 1]\n"
