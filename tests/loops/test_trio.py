"""What is trio's own: scopes, nurseries, checkpoints, pending calls; and trio as a guest."""

import pytest

import contextree
from tests.loops import far

trio = pytest.importorskip("trio")
pytest.importorskip("trio.testing")


@pytest.fixture
def web(router):
    """The context, for trio."""
    return contextree.trio.wrap(router.local(name="web"))


def test_scopes_cancel_calls(router, web):
    """The function is told, its answer is dropped, and nothing is left of the call."""

    async def main():
        with trio.move_on_after(0.02) as scope:
            await web.call(far.nap, 0.1)
        assert scope.cancelled_caught
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.02):
            await web.call(far.nap, 0.1)
        assert await web.call(far.add, 1) == 2
        assert router.stats()["router"]["channels"] == 0
        with pytest.raises(contextree.CallTimeout):
            await web.with_options(timeout=0.02).call(far.nap, 0.1)

    trio.run(main)


def test_a_nursery_cancels_its_calls(web):
    async def main():
        threads = web.with_options(threads=2)
        with pytest.raises(Exception, match="Exceptions from Trio nursery") as caught:  # noqa: PT012  a nursery is one
            async with trio.open_nursery() as nursery:
                nursery.start_soon(threads.call, far.nap, 30)
                nursery.start_soon(threads.call, far.fail, "one")
        assert [str(error) for error in caught.value.exceptions] == ["one"]

    trio.run(main)


def test_every_call_is_a_checkpoint(web):
    """Others run, and a cancellation that is due is heard, also where nothing has to be waited for."""

    async def main():
        async with web.channel() as channel:
            echoing = web.submit(far.echo, channel)
            for number in range(5):
                await channel.send(number)
            while len(channel.sync.mailbox) < 5:
                await trio.sleep(0)
            with trio.testing.assert_checkpoints():
                assert await channel.receive() == 0
            with trio.testing.assert_checkpoints():
                assert await contextree.trio.select([channel]) == [channel]
            with trio.testing.assert_checkpoints():
                await channel.send(5)
            with trio.CancelScope() as scope:
                scope.cancel()
                await channel.receive()
            assert scope.cancelled_caught
            await channel.send_eof()
            assert [number async for number in channel] == [1, 2, 3, 4, 5]
            await echoing
        stream = web.stream(range, 3)
        with trio.testing.assert_checkpoints():
            assert await stream.__anext__() == 0
        while not stream._stream.mailbox.items:
            await trio.sleep(0)
        with trio.testing.assert_checkpoints():
            assert await stream.__anext__() == 1

    trio.run(main)


def test_pending_calls(web):
    """What submit gives: awaited by many, cancelled, its error raised; one who is cancelled while waiting cancels
    nothing."""

    async def main():
        pending = web.submit(far.add, 1)
        results = []

        async def wait():
            results.append(await pending)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait)
        assert results == [2, 2, 2] and pending.done()
        failing = web.submit(far.fail, "so")
        for _ in range(2):
            with pytest.raises(ValueError, match="so"):
                await failing
        sleeping = web.with_options(threads=2).submit(far.nap, 30)
        with trio.move_on_after(0.02):
            await sleeping
        assert not sleeping.done()
        sleeping.cancel()
        with pytest.raises(contextree.CallCancelled):
            await sleeping.wait()
        web.with_options(threads=2).submit(far.nap, 30)  # nobody waits for it: it ends with the run

    trio.run(main)


def test_a_wake_that_comes_too_late(web):
    """A run that has ended is told nothing: its waiters say so. A task that was cancelled is not woken."""
    left = []

    async def main():
        waiter = contextree.trio.LOOP.waiter()
        with trio.move_on_after(0):
            await waiter.wait()
        assert waiter.wake()  # ``run_sync_soon``, and then there is nobody to reschedule
        await trio.testing.wait_all_tasks_blocked()
        assert waiter.woken
        early = contextree.trio.LOOP.waiter()
        early.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert await early.wait()
        assert not await contextree.trio.LOOP.waiter().wait(0.01)
        left.append(contextree.trio.LOOP.waiter())

    trio.run(main)
    assert left[0].wake() is False


def test_strict_exception_groups_off(web):
    """Old programs run trio without them."""

    async def main():
        assert await web.call(far.add, 1) == 2

    with pytest.warns(trio.TrioDeprecationWarning):
        trio.run(main, strict_exception_groups=False)
