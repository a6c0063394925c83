"""The loop: who drives it, its timers, its descriptors."""

import os
import resource
import selectors
import socket
import time

import pytest

from contextree.core import process
from contextree.core.broker import READ, WRITE
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import CallTimeout, Closed, UsageError
from contextree.parent.loop import Loop as Broker
from contextree.testing import FaultyPoller, joined_pair

from .conftest import in_thread


def test_ct_02_a_foreign_loop_drives_it(loop, pair):
    """Twenty lines of selectors, no thread of ours; another thread defers and is heard."""
    near, far = pair
    tasks = len(os.listdir("/proc/self/task"))
    results = []

    def echo():
        results.append(near.recv(100))

    def drive(done):
        with selectors.DefaultSelector() as selector:
            selector.register(loop.fileno(), selectors.EVENT_READ)
            while not done():
                delay = loop.next_delay()
                ready = selector.select(20 if delay is None else delay)
                assert ready or delay is not None, "not woken"
                loop.poll_once(0)

    loop.watch(near.fileno(), echo)
    for i in range(100):
        far.send(b"%d" % i)
        drive(lambda wanted=i + 1: len(results) == wanted)
    assert len(os.listdir("/proc/self/task")) == tasks
    fired = []
    loop.timer(0.001, fired.append, 1)
    drive(lambda: fired)
    called, finished = [], []

    def use_it():
        called.extend(loop.call(int, str(i)) for i in range(100))
        loop.defer(finished.append, True)

    stranger = in_thread(use_it)
    drive(lambda: finished)
    stranger.join()
    assert called == list(range(100))
    loop.forget(near.fileno())


def test_ct_02_first_defer_before_the_first_turn_wakes_a_foreign_loop(loop):
    in_thread(loop.defer, int).join()
    with selectors.DefaultSelector() as selector:
        selector.register(loop.fileno(), selectors.EVENT_READ)
        assert selector.select(0)


def test_ct_03_nested_turns_are_refused(loop, broker):
    errors = []

    def nest(which):
        with pytest.raises(UsageError):
            which.poll_once(0)
        errors.append(which)

    loop.defer(nest, loop)
    loop.poll_once(0)
    broker.call(nest, broker)
    assert errors == [loop, broker]


def test_ct_04_idle_turns_change_nothing(loop):
    before = loop.stats()
    for _ in range(100):
        loop.poll_once(0)
    after = loop.stats()
    changed = {key for key in before if before[key] != after[key]}
    assert changed <= {"turns"} and after["turns"] == before["turns"] + 100
    assert loop.next_delay() is None


def test_ct_04_idle_loop_does_not_spin(broker):
    broker.call(int)
    turns = broker.call(lambda: broker.count["turns"])
    with pytest.raises(CallTimeout):
        Mailbox().get(0.1)
    assert broker.count["turns"] <= turns + 1


def test_start_twice_and_after_the_end(broker):
    with pytest.raises(UsageError):
        broker.start()
    broker.stop()
    for use in (broker.start, broker.poll_once, broker.fileno):
        with pytest.raises(Closed):
            use()


def test_failed_start_can_be_repeated(loop, monkeypatch):
    def no_thread(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(process, "start_thread", no_thread)
    with pytest.raises(RuntimeError):
        loop.start()
    monkeypatch.undo()
    loop.start()
    assert loop.call(int, "3") == 3


def test_no_descriptor_is_left_when_it_cannot_be_made(monkeypatch):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    try:
        for spare in range(3):
            resource.setrlimit(resource.RLIMIT_NOFILE, (probe + spare, limits[1]))
            with pytest.raises(OSError, match="Too many open files"):
                Broker()
            assert not process._own and not process.keep
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_ct_05_timers_do_not_mind_the_wall_clock(broker, monkeypatch):
    fired = Mailbox()
    broker.call(broker.timer, 0.02, fired.put, "on time")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert fired.get(20) == "on time"


def test_hours_in_no_time(virtual):
    ticks = []

    def tick():
        ticks.append(virtual.clock.now)
        if len(ticks) < 1000:
            virtual.timer(3600, tick)

    virtual.timer(3600, tick)
    while len(ticks) < 1000:
        virtual.poll_once()
    assert ticks == [1000.0 + 3600 * (i + 1) for i in range(1000)]


def test_p_74_cancelled_timers_do_not_fire_and_equal_ones_keep_order(virtual):
    class Payload:  # cannot be compared
        __lt__ = __gt__ = None

    fired = []
    timers = [virtual.timer(1, lambda p, i=i: fired.append(i), Payload()) for i in range(10)]
    timers[3].cancel()
    timers[3].cancel()
    virtual.timer(0.5, timers[7].cancel)
    virtual.poll_once()
    virtual.poll_once()
    assert fired == [0, 1, 2, 4, 5, 6, 8, 9]
    assert virtual.next_delay() is None
    timers[0].cancel()


def test_p_74_a_timer_may_cancel_one_due_with_it(virtual):
    fired = []
    virtual.timer(1, lambda: later.cancel())  # noqa: PLW0108  ``later`` comes later
    later = virtual.timer(1, fired.append, "cancelled")
    virtual.poll_once()
    assert not fired


def test_p_74_cancelled_timers_do_not_pile_up(virtual):
    kept = virtual.timer(60, int)
    for _ in range(20000):
        virtual.timer(60, int).cancel()
    assert virtual.stats()["timers"] < 3000
    assert kept.function is int
    fired = []
    for i in range(3000):
        virtual.timer(3000 - i, fired.append, 3000 - i)
    while virtual.next_delay() is not None:
        virtual.poll_once()
    assert fired == list(range(1, 3001))


def test_timer_that_rearms_itself_lets_descriptors_in(virtual, pair):
    near, far = pair
    fired, heard = [], []

    def again():
        fired.append(1)
        virtual.timer(-1, again)

    virtual.watch(near.fileno(), lambda: heard.append(near.recv(1)))
    virtual.timer(0, again)
    far.send(b"x")
    for _ in range(3):
        virtual.poll_once(0)
    assert heard == [b"x"] and 2 <= len(fired) <= 3
    virtual.forget(near.fileno())


@pytest.mark.parametrize("delay", [1e9, float("inf")])
def test_far_timer_does_not_break_the_poller(broker, delay):
    timer = broker.call(broker.timer, delay, int)
    assert broker.call(int, "1") == 1
    broker.call(timer.cancel)


def test_negative_and_huge_timeouts_of_a_turn(loop):
    loop.poll_once(-1)
    loop.defer(int)
    loop.poll_once(1e12)
    loop.defer(loop.wake)
    loop.poll_once(1e12)


def test_p_49_same_number_anew_gets_no_stale_event(loop):
    """Two descriptors are ready; the callback of the first closes the second and opens another with its number."""
    pairs = [joined_pair(), joined_pair()]
    fired, fresh = [], []

    def reopen(me, other):
        fired.append(me)
        number = pairs[other][0].fileno()
        loop.forget(number)
        pairs[other][0].close()
        near, far = joined_pair()
        if near.fileno() != number:
            os.dup2(near.fileno(), number)
            near.close()
            near = socket.socket(fileno=number)
            process.own(number)
        fresh.extend([near, far])
        loop.watch(number, lambda: fresh.append("stale event"), lambda: fired.append("writable"))
        loop.forget(pairs[me][0].fileno())

    for me in (0, 1):
        loop.watch(pairs[me][0].fileno(), lambda me=me: reopen(me, 1 - me))
        pairs[me][1].send(b"x")
    loop.poll_once(0)
    assert len(fired) == 1 and len(fresh) == 2
    loop.poll_once(0)
    assert fired[1:] == ["writable"], "the new one is heard in the next turn"
    loop.forget(fresh[0].fileno())
    process.disown(fresh[0].fileno())
    for end in [end for ends in pairs for end in ends] + fresh:
        end.close()


def test_watched_between_turns_or_deferred_fires_in_the_next_turn(loop, pair):
    near, far = pair
    heard = []
    far.send(b"xx")
    loop.watch(near.fileno(), lambda: heard.append(near.recv(1)))
    loop.poll_once(0)
    assert heard == [b"x"]
    loop.forget(near.fileno())
    loop.defer(loop.watch, near.fileno(), lambda: heard.append(near.recv(1)))
    loop.poll_once(0)
    assert heard == [b"x", b"x"]
    loop.forget(near.fileno())


def test_watch_modifies_and_forgets(loop, pair):
    near, far = pair
    seen = []
    loop.watch(near.fileno(), None, lambda: seen.append("write"))
    loop.poll_once(0)
    loop.watch(near.fileno(), lambda: seen.append(near.recv(9)), None)
    loop.poll_once(0)
    far.send(b"read")
    loop.poll_once(0)
    assert seen == ["write", b"read"]
    loop.watch(near.fileno())
    far.send(b"unheard")
    loop.poll_once(0)
    assert len(seen) == 2


def test_write_callback_hears_of_trouble(loop, pair):
    near, far = pair
    seen = []
    while True:
        try:
            near.send(b"x" * 65536)
        except BlockingIOError:
            break
    loop.watch(near.fileno(), None, lambda: seen.append("broken") or loop.forget(near.fileno()))
    loop.poll_once(0)
    assert not seen
    far.close()
    loop.poll_once(0)
    assert seen == ["broken"]


def test_read_callback_that_forgets_stops_the_write_callback(loop, pair):
    near, far = pair
    seen = []
    far.send(b"x")
    loop.watch(near.fileno(), lambda: loop.forget(near.fileno()), lambda: seen.append("write"))
    loop.poll_once(0)
    assert not seen


def test_failed_watch_leaves_nothing(loop, tmp_path):
    fd = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    with pytest.raises(PermissionError):
        loop.watch(fd, int)  # epoll does not take regular files
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.watch(fd, int)
    assert loop.stats()["watched"] == 1
    loop.forget(fd)


def test_p_50_double_forget_is_harmless(loop, pair):
    near, _ = pair
    loop.watch(near.fileno(), int)
    loop.forget(near.fileno())
    loop.forget(near.fileno())
    loop.watch(near.fileno(), int)
    number = near.fileno()
    near.close()
    loop.forget(number)
    loop.forget(number)
    loop.stop()
    loop.forget(number)


def test_mt_18_spurious_readiness_is_no_error():
    with_faults = FaultyPoller()
    loop = Broker(poller=with_faults)
    with_faults.inject(loop._wake_r, READ)
    with_faults.inject(99999, READ | WRITE)
    loop.poll_once()
    assert loop.stats()["errors"] == 0
    loop.stop()
    with_faults.close()
