"""CT-10: those who are ready take turns: functions of the loop, waiters of a mailbox, links of a router."""

import itertools
import os

import contextree
from contextree.core.mailbox import Mailbox
from contextree.parent.loop import Loop

from .conftest import in_thread, until


def test_ct_10_functions_that_come_again_take_turns():
    """Whoever defers itself anew (the loop's ``yield``) stands behind all others: after any turn nobody is ahead."""
    loop = Loop()
    turns = [0] * 5

    def again(number):
        turns[number] += 1
        assert max(turns) - min(turns) <= 1
        loop.defer(again, number)

    for number in range(5):
        loop.defer(again, number)
    while min(turns) < 1000:
        loop.poll_once(0)
        assert max(turns) - min(turns) <= 1
    loop.stop()
    assert loop.count["errors"] == 0


def test_ct_10_readiness_and_timers_are_not_starved_by_functions_that_come_again():
    loop = Loop()
    reader, writer = os.pipe()
    seen = {"timer": 0, "fd": 0}

    def again():
        loop.defer(again)

    def tick():
        seen["timer"] += 1
        loop.timer(0, tick)

    def readable():
        seen["fd"] += 1

    os.write(writer, b"x")  # and nobody reads it: ready for ever
    loop.watch(reader, readable)
    loop.timer(0, tick)
    for _ in range(100):
        loop.defer(again)
    for _ in range(50):
        loop.poll_once(0)
    loop.forget(reader)
    loop.stop()
    os.close(reader)
    os.close(writer)
    assert min(seen.values()) >= 40 and loop.count["errors"] == 0, seen


def test_ct_10_waiters_of_a_mailbox_are_served_in_the_order_in_which_they_came():
    box, got = Mailbox(), []

    def take(number):
        got.append((number, box.get()))

    threads = []
    for number in range(8):
        threads.append(in_thread(take, number))
        until(lambda: len(box.waiters) == len(threads))
    for item in range(8):
        box.put(item)
        until(lambda: len(got) == item + 1)
    for thread in threads:
        thread.join()
    assert got == [(number, number) for number in range(8)]


def test_ct_10_links_under_equal_load_get_equal_shares():
    """Eight children with one endless stream each, all read as fast as they come: none waits while others are served.

    How the system deals out processors is not ours: so a child counts as served less only far below the rest."""
    with contextree.Router(grace=0.5) as router:
        children = [router.fork() for _ in range(8)]
        streams = [child.stream(itertools.repeat, bytes(1000)) for child in children]
        for stream in streams:
            next(stream)
        links = [router.engine.children[child.id].link for child in children]
        stop, counts = [], [0] * len(streams)

        def read(number):
            for _ in streams[number]:
                counts[number] += 1
                if stop:
                    break

        start = [link.bytes_in for link in links]
        threads = [in_thread(read, number) for number in range(len(streams))]
        until(lambda: max(counts) >= 5000)
        shares = [link.bytes_in - begin for link, begin in zip(links, start, strict=True)]
        taken = list(counts)
        stop.append(True)
        for thread in threads:
            thread.join()
        for stream in streams:
            stream.close()
    assert min(shares) > max(shares) / 10, shares
    assert min(taken) > max(taken) / 10, taken
