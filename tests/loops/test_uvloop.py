"""What is uvloop's own. The shared tests run in it too; row A-10 is the wake-up from contextree's thread."""

import asyncio
import threading

import pytest

import contextree
from tests.loops import far

uvloop = pytest.importorskip("uvloop")


def test_a_10_wake(router):
    """Every answer wakes a loop that sleeps with nothing else to do; a closed loop says that it is gone."""
    web = contextree.aio.wrap(router.local())
    waiters = []

    async def main():
        assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
        for number in range(500):
            assert await web.call(far.add, number) == number + 1
        waiter = contextree.aio.LOOP.waiter()
        thread = threading.Thread(target=waiter.wake)
        thread.start()
        assert await waiter.wait(20)
        thread.join()
        assert not await contextree.aio.LOOP.waiter().wait(0.01)
        waiters.append(contextree.aio.LOOP.waiter())

    uvloop.run(main())
    assert waiters[0].wake() is False


def test_a_router_in_uvloop(tmp_path):
    """From the start of the router to its end, with processes and files."""

    async def main():
        async with contextree.aio.Router() as router:
            web = await router.local()
            assert (await web.run(["echo", "hello"], text=True)).stdout == "hello\n"
            await web.put(b"content", tmp_path / "file")
            assert await web.read_bytes(str(tmp_path / "file")) == b"content"

    uvloop.run(main())
