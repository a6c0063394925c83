"""P-28: what failed once fails in the same way every time, and what has nothing to do with it goes on."""

import os
import signal

import pytest

import contextree
from tests.calls import far_ends as ends
from tests.calls import functions as f


def failures(times, function, *args):
    """The texts of the ContextDied that each of so many tries ends with."""
    texts = []
    for _ in range(times):
        with pytest.raises(contextree.ContextDied) as info:
            function(*args)
        texts.append(str(info.value))
    return texts


def test_p_28_a_channel_whose_other_end_has_died(router):
    first, second = router.local(name="first"), router.local(name="second")
    dead, alive = first.channel(), second.channel()
    busy = first.submit(ends.echo_then_wait, dead)
    second.submit(ends.double_all, alive)
    dead.send("a")
    assert dead.receive(timeout=10) == "a"
    os.kill(first.pid, signal.SIGSEGV)
    texts = failures(3, dead.receive) + failures(3, dead.send, "b") + failures(2, dead.receive)
    texts += failures(1, busy.result)
    assert len(set(texts)) == 1 and "SIGSEGV" in texts[0] and "first" in texts[0]
    alive.send(21)
    assert alive.receive(timeout=10) == 42
    alive.close()


def test_p_28_calls_streams_and_channels_of_the_dead_say_the_same(router):
    place = router.local(name="place")
    other = router.fork()
    stream = place.stream(f.count_and_stay, 2)
    assert [next(stream), next(stream)] == [0, 1]
    futures = [place.submit(f.add, 1) for _ in range(20)]
    os.kill(place.pid, signal.SIGKILL)
    texts = failures(1, next, stream) + [str(future.exception(10)) for future in futures if future.exception(10)]
    texts += failures(2, place.call, f.add, 1) + failures(2, place.submit, f.add, 1) + failures(1, place.ping)
    texts += failures(1, place.channel().connect)
    assert len(set(texts)) == 1 and "SIGKILL" in texts[0]
    assert list(stream) == [] and other.call(f.add, 1) == 2
