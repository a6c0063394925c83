"""The rules of waiting, in every kind of event loop: rows A-01 to A-12, CT-01, CT-20, GI-08, GI-09, RM-10."""

import os
import random
import threading

import pytest

import contextree
from contextree import processes
from contextree.core.mailbox import Mailbox
from contextree.loops.waiting import take
from tests.loops import far


def produce(mailbox, total):
    """Put numbers, but not too many at once."""
    for number in range(total):
        mailbox.put(number)
        while not number % 50 and len(mailbox) > 200:
            os.sched_yield()


def test_a_01_cancellation_storm(world):
    """20,000 items from a thread, four consumers that are cancelled at random: none is lost, none comes twice."""
    total, mailbox, seen = 20000, Mailbox(), []
    chance = random.Random(1)

    async def consume():
        while True:
            try:
                item = await take(world.api.LOOP, mailbox, chance.choice((None, None, 0.001, 5)))
            except contextree.CallTimeout:
                continue
            seen.append(item)
            if item % 3 == 0:
                await world.rest()

    async def main():
        async with world.tasks() as tasks:
            running = [tasks.start(consume) for _ in range(4)]
            producer = threading.Thread(target=produce, args=(mailbox, total))
            producer.start()
            cancelled = 0
            while len(seen) < total or cancelled < 100:
                place = chance.randrange(4)
                running[place].cancel()
                await running[place].wait()
                cancelled += 1
                running[place] = tasks.start(consume)
                for _ in range(chance.randrange(3)):
                    await world.rest()
            producer.join()
            for task in running:
                task.cancel()
                await task.wait()

    world.run(main)
    assert sorted(seen) == list(range(total))
    assert not mailbox.items and not mailbox.waiters


def test_a_02_the_loop_goes_on_while_calls_wait(world, router, web):
    """Calls whose answers are held back do not hold the loop up."""

    async def main():
        here = world.api.wrap(web).with_options(threads=8)
        ticks = []

        async def tick():
            while True:
                ticks.append(1)
                await world.rest()

        async with world.tasks() as tasks:
            ticker = tasks.start(tick)
            name = f"a_02 {world.name}"
            waiting = [tasks.start(here.call, far.hold, name) for _ in range(4)]
            while not await here.call(far.held, name):
                pass
            before = len(ticks)
            while len(ticks) < before + 1000:
                await world.rest()
            assert not any(task.done() for task in waiting)
            await here.call(far.release, name)
            assert [await task.wait() for task in waiting] == [(name, None)] * 4
            for number in range(1000):
                before = len(ticks)
                assert await here.call(far.add, number) == number + 1
                assert len(ticks) > before
            ticker.cancel()
            await ticker.wait()

    world.run(main)


def test_a_03_cancelled_at_random_points_nothing_is_lost(world, web):
    """A stream and a channel whose reader is cancelled a thousand times give every item once, in order."""
    chance = random.Random(2)

    async def drain(tasks, source, total):
        seen = []

        async def read():
            async for item in source:
                seen.append(item)
                if len(seen) == total:
                    return

        while len(seen) < total:
            reader = tasks.start(read)
            for _ in range(chance.randrange(6)):
                await world.rest()
            reader.cancel()
            await reader.wait()
        assert seen == list(range(total))

    async def main():
        here = world.api.wrap(web)
        async with world.tasks() as tasks:
            async with here.stream(range, 5000) as stream:
                await drain(tasks, stream, 5000)
            async with here.channel() as channel:
                sending = here.submit(far.send_numbers, channel, 5000)
                await drain(tasks, channel, 5000)
                await sending

    world.run(main)


def test_a_03_cancelled_calls_leave_nothing(world, router, web):
    """Calls cancelled at random points: their slots are gone, the context was told, late answers are dropped."""
    chance = random.Random(3)

    async def main():
        here = world.api.wrap(web)
        before = router.stats()["router"]
        async with world.tasks() as tasks:
            for _ in range(300):
                calls = [tasks.start(here.call, far.add, number) for number in range(4)]
                for _ in range(chance.randrange(5)):
                    await world.rest()
                for number, call in enumerate(calls):
                    call.cancel()
                    assert await call.wait() in ((number + 1, None), (None, "cancelled"))
        assert await here.call(far.add, 1) == 2
        after = router.stats()["router"]
        assert after["channels"] == before["channels"]
        assert after["resets"] > before["resets"]

    world.run(main)


def test_a_04_a_loop_that_is_gone(world):
    """Waiters of a loop that has ended are passed over: the item goes to the next one."""
    mailbox = Mailbox()

    async def leave_a_waiter():
        mailbox.waiters.append(world.api.LOOP.waiter())

    async def taking():
        return await take(world.api.LOOP, mailbox, 20)

    async def main():
        async with world.tasks() as tasks:
            task = tasks.start(taking)
            while len(mailbox.waiters) < 3:
                await world.rest()
            threading.Thread(target=mailbox.put, args=("item",)).start()
            return await task.wait()

    world.run(leave_a_waiter)
    world.run(leave_a_waiter)
    assert world.run(main) == ("item", None)
    assert not mailbox.items and not mailbox.waiters


def test_a_12_no_busy_wake(world):
    """A thousand items before the consumer runs wake it once."""
    mailbox, wakes = Mailbox(), []

    async def main():
        got = []

        async def consume():
            while len(got) < 1000:
                got.append(await take(world.api.LOOP, mailbox))

        async with world.tasks() as tasks:
            task = tasks.start(consume)
            while not mailbox.waiters:
                await world.rest()
            waiter = mailbox.waiters[0]
            mailbox.waiters[0] = Counting(waiter, wakes)
            producer = threading.Thread(target=lambda: [mailbox.put(number) for number in range(1000)])
            producer.start()
            producer.join()
            await task.wait()
        assert got == list(range(1000))

    world.run(main)
    assert len(wakes) == 1


class Counting:
    """A waiter whose wakes are counted."""

    def __init__(self, waiter, wakes):
        self.waiter = waiter
        self.wakes = wakes

    def wake(self):
        self.wakes.append(1)
        return self.waiter.wake()


def test_a_08_two_loops_in_two_threads_share_a_router(world, router, web):
    """Handles made in one loop are used in another, at the same time."""
    here = world.api.wrap(web)
    results = []

    async def main(start):
        for number in range(start, start + 200):
            assert await here.call(far.add, number) == number + 1
        return [number async for number in here.stream(range, start)]

    def other():
        results.append(type(world)().run(main, 1000))

    threads = [threading.Thread(target=other) for _ in range(2)]
    for thread in threads:
        thread.start()
    if world.name != "guest":  # whose host takes the main thread's signals
        results.append(world.run(main, 1000))
    for thread in threads:
        thread.join()
    assert results == [list(range(1000))] * len(results) and len(results) >= 2


def test_rm_10_a_cancelled_check_ends_the_child(world, reaper, tmp_path):
    """check_child() cancelled: the child gets TERM, the cancellation goes on, no zombie stays."""
    marker = tmp_path / "marker"
    script = "trap 'echo term >%s; exit 9' TERM; echo ready; while :; do sleep 0.02; done" % marker

    async def main():
        child = processes.start(["sh", "-c", script], stdout=-1, reaper=reaper)
        assert child.stdout.readline() == b"ready\n"
        async with world.tasks() as tasks:
            task = tasks.start(world.api.check_child, child)
            while not child._tickets:
                await world.rest()
            task.cancel()
            assert await task.wait() == (None, "cancelled")
        state = await world.api.wait_child(child, 20)
        assert state.exit_status == 9 and marker.read_text() == "term\n"
        child.stdout.close()
        assert not child._tickets

    world.run(main)


def test_gi_08_09_waiting_for_a_child(world, reaper):
    """The loop goes on while a child is waited for; a wait that times out leaves it running."""
    child = processes.start(["cat"], stdin=-1, reaper=reaper)

    async def main():
        ticks = []

        async def tick():
            while True:
                ticks.append(1)
                await world.rest()

        async with world.tasks() as tasks:
            ticker = tasks.start(tick)
            with pytest.raises(contextree.CallTimeout):
                await world.api.wait_child(child, 0.05)
            waiting = tasks.start(world.api.check_child, child)
            before = len(ticks)
            while len(ticks) < before + 40:
                await world.rest()
            assert not waiting.done() and child.state is None
            child.stdin.close()
            assert (await waiting.wait())[0].clean()
            ticker.cancel()
            await ticker.wait()
        failed = processes.start(["sh", "-c", "exit 3"], reaper=reaper)
        with pytest.raises(contextree.UncleanExit):
            await world.api.check_child(failed)

    world.run(main)


def test_ct_01_the_task_that_calls_takes_part(world, web):
    """While the first task waits in calls, the others go on, and each of their calls is answered."""

    async def main():
        here = world.api.wrap(web)
        counts = [0] * 5

        async def work(number):
            while True:
                counts[number] = await here.call(far.add, counts[number])

        async with world.tasks() as tasks:
            workers = [tasks.start(work, number) for number in range(5)]
            for number in range(200):
                assert await here.call(far.add, number) == number + 1
            for worker in workers:
                worker.cancel()
                await worker.wait()
        assert min(counts) > 50, counts

    world.run(main)


def test_ct_20_one_of_many_fails(world, web):
    """Of five that wait together one fails and the rest are released: nothing is left that later items could go to."""
    boxes = [Mailbox() for _ in range(5)]

    async def main():
        async with world.tasks() as tasks:
            waiting = [tasks.start(take, world.api.LOOP, box) for box in boxes]
            while not all(box.waiters for box in boxes):
                await world.rest()
            boxes[2].close(contextree.ContextDied("gone"))
            assert isinstance((await waiting[2].wait())[1], contextree.ContextDied)
            for task in waiting:
                task.cancel()
                await task.wait()
            assert not any(box.waiters for box in boxes)
            boxes[0].put("later")
            assert await take(world.api.LOOP, boxes[0], 20) == "later"

    world.run(main)


def test_closed_mailboxes_are_drained_first(world):
    mailbox = Mailbox()
    mailbox.put(1)
    mailbox.close(contextree.ContextDied("over"))

    async def main():
        assert await take(world.api.LOOP, mailbox) == 1
        with pytest.raises(contextree.ContextDied, match="over"):
            await take(world.api.LOOP, mailbox, 5)

    world.run(main)


def test_a_select_that_leaves_passes_the_baton(world, web):
    """An item for which a cancelled select was woken goes to who receives."""

    async def main():
        here = world.api.wrap(web)
        async with world.tasks() as tasks, here.channel() as channel:
            echoing = here.submit(far.echo, channel)
            for number in range(100):
                looking = tasks.start(world.api.select, [channel])
                receiving = tasks.start(channel.receive)
                await world.rest()
                await channel.send(number)
                if number % 2:
                    await world.rest()
                looking.cancel()
                assert await receiving.wait() == (number, None)
                await looking.wait()
            await channel.send_eof()
            await echoing

    world.run(main)
