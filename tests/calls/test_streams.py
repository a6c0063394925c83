"""Generators there as iterators here: order, ends, pace, memory."""

import gc
import os
import sys

import pytest

import contextree
from tests.calls import functions as f
from tests.lab.poll import until

MIB = 1 << 20


def test_order_and_end(place):
    assert list(place.stream(f.count, 3000)) == list(range(3000))
    assert list(place.stream(f.count, 0)) == []
    assert list(place.stream(iter, "abc")) == ["a", "b", "c"], "any iterable will do"
    stream = place.stream(f.count, 1)
    assert next(stream) == 0
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(stream)


def test_order_of_large_and_small_items(place):
    sizes = [1, 70_000, 2, 300_000, 3, 20_000, 4, 5] * 20
    got = [len(item) for item in place.stream(f.of_sizes, sizes)]
    assert got == sizes


def test_exceptions_come_in_their_turn(place):
    stream = place.stream(f.count, 10, 3)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(LookupError, match="at 3"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)
    with pytest.raises(TypeError, match="not iterable"):
        next(place.stream(f.add, 1))
    assert place.call(f.add, 1) == 2


def test_items_that_cannot_be_sent_end_the_stream(local, stranger):
    for place in (local, stranger):
        stream = place.stream(f.unpicklable)
        assert next(stream) == 1
        with pytest.raises(contextree.NotSendable, match="lock"):
            next(stream)
        assert place.call(f.add, 1) == 2


def closed(place):
    return place.call(f.get_progress)["closed"]


def test_close_closes_the_generator_there(place):
    with place.stream(f.produce, "item") as stream:
        assert [next(stream) for _ in range(5)] == ["item"] * 5
    until(lambda: closed(place) == 1, "the generator to be closed")
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)


def test_a_stream_that_nobody_has_is_cancelled(local):
    stream = local.stream(f.produce, "item")
    next(stream)
    del stream
    gc.collect()
    until(lambda: closed(local) == 1, "the generator to be closed")


def test_the_generator_waits_for_the_reader_and_calls_pass_it(place):
    stream = place.stream(f.produce, b"x" * 1000)
    next(stream)

    def made():
        return place.call(f.get_progress)["made"]

    last = [0]

    def settled():
        last.append(made())
        return last[-1] == last[-2]

    until(settled, "the generator to wait")
    assert 1 < last[-1] < 5000, "at most 4 MiB ahead"
    assert place.call(f.add, 1) == 2
    for _ in range(last[-1]):
        next(stream)
    until(lambda: made() > last[-1], "it to go on")
    stream.close()


def test_threaded_streams_run_side_by_side(local):
    threaded = local.with_options(threads=4)
    streams = [threaded.stream(f.count, 2000) for _ in range(4)]
    for number in range(2000):
        assert [next(stream) for stream in streams] == [number] * 4
    for stream in streams:
        with pytest.raises(StopIteration):
            next(stream)


def test_threaded_streams_keep_their_order_through_every_pause(local):
    """Room may come at the very moment in which the generator is about to wait for it."""
    threaded = local.with_options(threads=4)
    sizes = [20_000, 100_000, 17_000] * 150
    streams = [threaded.stream(f.of_sizes, sizes) for _ in range(4)]
    assert [[len(item) for item in stream] for stream in streams] == [sizes] * 4


def test_death_ends_a_stream(router):
    place = router.local()
    stream = place.stream(f.produce, "item")
    next(stream)
    with pytest.raises(contextree.ContextDied):
        place.call(os._exit, 3)
    with pytest.raises(contextree.ContextDied, match="exited with status 3"):
        list(stream)


def test_b_05_a_large_stream_takes_little_memory(router):
    """200 MiB with a reader that dawdles: neither end ever holds much of it."""
    place = router.local()
    list(place.stream(f.produce, bytes(MIB), 8))
    there, here = place.call(f.peak), f.peak()
    total = 0
    for number, item in enumerate(place.stream(f.produce, bytes(MIB), 200)):
        total += len(item)
        if number % 10 == 0:
            place.call(f.add, 1)
    assert total == 200 * MIB
    assert place.call(f.peak) - there < 64
    assert f.peak() - here < 64


def test_p_11_what_was_sent_before_the_end_comes_first(place):
    """The generator there has ended, or failed, or its context has, before anything is taken here."""
    for stop, fail_at, count in ((3, None, 3), (9, 4, 4), (0, None, 0)):
        stream = place.stream(f.count, stop, fail_at)
        items = stream.mailbox.items
        until(lambda items=items: items and items[-1][1], "the end")
        got, error = [], None
        try:
            got.extend(stream)
        except LookupError as caught:
            error = caught
        assert got == list(range(count)) and (error is None) == (fail_at is None)
        assert list(stream) == [], "it has ended, and stays so"


def test_p_11_what_was_sent_before_the_death_comes_first(router):
    place = router.local()
    stream = place.stream(f.count_and_stay, 5)
    until(lambda: len(stream.mailbox) == 5, "the items")
    place.kill()
    for number in range(5):
        assert next(stream) == number
    with pytest.raises(contextree.ContextDied):
        next(stream)
    assert list(stream) == []


def test_closing_races_with_what_comes(router):
    """A reader that closes while items come: what comes too late is dropped, and the context lives on."""
    child = router.fork()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(100):
            stream = child.stream(f.count, 10**9)
            assert next(stream) == 0
            stream.close()
    finally:
        sys.setswitchinterval(before)
    assert child.call(f.add, 1) == 2
