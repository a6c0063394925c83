"""Forks of programs with event loops: row A-07, and GI-02 to GI-05 for asyncio, uvloop and trio.

In the child the loop is fresh, tasks and timers of the parent never run, no ``finally`` of theirs does; the parent's
loop goes on and is woken from threads. Where a reset is needed, a test shows what happens without it.
"""

import sys

import pytest

from tests.fork.tools import program

PRELUDE = """
import os, sys, threading
import contextree
from tests.loops import far_loops
reader, writer = os.pipe()
os.set_blocking(reader, False)
pid = os.getpid()

def said():
    try:
        return os.read(reader, 65536).decode()
    except BlockingIOError:
        return ""

def tell(word):
    os.write(writer, (word if os.getpid() == pid else word.upper()).encode())
"""

ASYNCIO = PRELUDE + """
import asyncio
loops = contextree.aio
fresh = far_loops.use_asyncio, far_loops.use_trio

async def tick():
    try:
        while True:
            tell("t")
            await asyncio.sleep(0.005)
    finally:
        tell("f")

async def wait_for_a_thread():
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    threading.Timer(0.01, loop.call_soon_threadsafe, (event.set,)).start()
    await asyncio.wait_for(event.wait(), 20)

async def main():
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, lambda: (tell("l"), over.set()))
    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    await body()
    await wait_for_a_thread()
    await over.wait()
    ticker.cancel()
    await asyncio.wait([ticker])
    process = await asyncio.create_subprocess_exec("false")
    assert await process.wait() == 1
"""


TRIO = PRELUDE + """
import trio
loops = contextree.trio
fresh = far_loops.use_trio, far_loops.use_asyncio

async def tick():
    try:
        while True:
            tell("t")
            await trio.sleep(0.005)
    finally:
        tell("f")

async def later():
    await trio.sleep(0.05)
    tell("l")
    over.set()

async def wait_for_a_thread():
    event = trio.Event()
    token = trio.lowlevel.current_trio_token()
    threading.Timer(0.01, token.run_sync_soon, (event.set,)).start()
    with trio.fail_after(20):
        await event.wait()

async def main():
    global over
    over = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        nursery.start_soon(later)
        await trio.sleep(0)
        await body()
        await wait_for_a_thread()
        await over.wait()
        nursery.cancel_scope.cancel()
    process = await trio.run_process(["false"], check=False)
    assert process.returncode == 1
"""

AWAITED = """
async def body():
    async with loops.Router() as router:
        for direct in (True, False):
            child = await router.fork(direct)
            for function in fresh:
                assert await child.call(function) in (43, 44)
                assert await child.call(function) in (43, 44)
            assert await child.call(far_loops.which) is None
            assert await child.call(far_loops.nap, 0.1) == 0.1
            grandchild = await child.fork()
            assert await grandchild.call(far_loops.nap, 0) == 0
            await child.shutdown()
"""

# as programs do that block their loop for the moment of a fork
BLOCKING = """
async def body():
    import asyncio
    with contextree.Router(allow_blocking=True) as router:
        children = [router.fork(direct) for direct in (True, False, True)]
        for child in children:
            for function in fresh:
                assert child.call(function) in (43, 44)
                assert child.call(function) in (43, 44)
            assert child.call(far_loops.which) is None
            assert child.call(far_loops.nap, 0.1) == 0.1
            child.shutdown()
"""

END = """
{run}
text = said()
assert text.islower() and text.count("f") == 1 and text.count("l") == 1, text
print("good")
"""
RUNS = {"asyncio": (ASYNCIO, "asyncio.run(main())"), "trio": (TRIO, "trio.run(main)"),
        "uvloop": (ASYNCIO, "import uvloop; uvloop.run(main())")}


@pytest.mark.parametrize("body", [AWAITED, BLOCKING], ids=["awaited", "blocking"])
@pytest.mark.parametrize("kind", RUNS)
def test_a_07_fork_inside_a_task(kind, body):
    """Both kinds of fork, by the adapter and by the synchronous API: the child runs loops of its own, and nothing of
    the parent's; the parent's tasks, timers and wake-ups go on."""
    pytest.importorskip(kind)
    text, run = RUNS[kind]
    assert program(text + body + END.format(run=run), "-W", "error") == "good\n"


OLD_LOOP = PRELUDE + """
import asyncio
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.call_later(0.05, tell, "timer ")

async def send():
    await asyncio.sleep(0.05)
    tell("task ")

task = loop.create_task(send())
loop.run_until_complete(asyncio.sleep(0))
with contextree.Router() as router:
    child = router.fork(direct=True)
    child.call(far_loops.use_whatever_loop_is_there, 0.1)
loop.run_until_complete(task)
loop.close()
print(*sorted(said().split()))
"""


def test_gi_03_no_duplicate_sends():
    """A program with a loop that is set, tasks and timers pending, forks; code in the child that takes the loop it
    finds does not run them."""
    assert program(OLD_LOOP) == "task timer\n"


WITHOUT = """
from contextree.parent import fork
fork.forget_loops = lambda: None
"""


def test_without_the_reset_of_asyncio_it_sends_twice():
    """Since Python 3.12 asyncio forgets that loop by itself."""
    twice = "TASK TIMER " if sys.version_info < (3, 12) else ""
    assert program(WITHOUT + OLD_LOOP) == twice + "task timer\n"


def test_without_the_reset_of_trio_no_run_can_begin():
    text = WITHOUT + TRIO + """
async def body():
    with contextree.Router(allow_blocking=True) as router:
        child = router.fork(direct=True)
        try:
            child.call(far_loops.use_trio)
        except RuntimeError as error:
            print(error)
trio.run(main)
"""
    assert program(text) == "Attempted to call run() from inside a run()\n"


def test_an_inherited_tree_is_refused():
    """In a forked child the parent's router, contexts and streams say ForkedError, and their ends are silent."""
    text = PRELUDE + """
import asyncio

def use():
    async def inner():
        wrong = [web.call(int), web.ping(), web.wait(), stream.__anext__(), router.fork(), web.shutdown()]
        results = await asyncio.gather(*wrong, return_exceptions=True)
        await stream.aclose()
        async with router:
            pass
        return [type(result).__name__ for result in results]

    return asyncio.run(inner())

async def main():
    global router, web, stream
    async with contextree.aio.Router() as router:
        web = await router.local()
        stream = web.stream(range, 100)
        assert await stream.__anext__() == 0
        child = await router.fork(direct=True)
        print(set(await child.call(use)))
        assert [number async for number in stream] == list(range(1, 100))

asyncio.run(main())
"""
    assert program(text, "-W", "error") == "{'ForkedError'}\n"
