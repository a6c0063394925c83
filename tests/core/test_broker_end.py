"""The end of the loop, wanted or not: what was accepted runs, the rest hears of it, nobody waits for ever."""

import os
import signal
import threading

import pytest

from contextree.core import process
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import Closed
from contextree.parent.loop import Loop as Broker
from contextree.testing import FaultyPoller

from .conftest import in_thread, settle, until


def test_p_08_everything_after_the_end_raises(broker):
    broker.stop()
    broker.stop()
    for use in (lambda: broker.defer(int), lambda: broker.call(int), lambda: broker.on_end(int), broker.check_thread,
                lambda: broker.timer(1, int), lambda: broker.watch(0, int)):
        with pytest.raises(Closed):
            use()
    broker.wake()


def end_under_fire():
    loop = Broker()
    loop.start()
    ran, accepted, refused = [], [], []
    ready = threading.Barrier(4)

    def use(hand_over):
        ready.wait()
        try:
            while True:
                hand_over(ran.append, 1)
                accepted.append(1)
        except Closed:
            refused.append(1)

    threads = [in_thread(use, hand_over) for hand_over in (loop.defer, loop.call, loop.defer)]
    ready.wait()
    loop.stop()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a call hangs after the end"
    assert len(refused) == 3 and len(ran) == len(accepted)


def test_p_08_what_was_accepted_runs_what_was_not_raises():
    """Threads defer and call while the loop ends: each function runs or its thread hears Closed; nobody hangs."""
    for _ in range(25):
        end_under_fire()


def test_p_08_defer_that_races_with_the_end_is_taken_back(loop, monkeypatch):
    class Queue(type(loop._deferred)):
        def append(self, entry):
            loop.stop()  # between the first look and the append
            super().append(entry)

    loop._deferred = Queue()
    with pytest.raises(Closed):
        loop.defer(int)
    assert not loop._deferred


def test_p_08_listener_that_races_with_the_end_is_called_or_refused(loop):
    class Listeners(list):
        def append(self, listener):
            loop.stop()
            super().append(listener)

    loop._listeners = Listeners()
    with pytest.raises(Closed):
        loop.on_end(int)
    assert not loop._listeners


def test_a_late_wake_does_not_write_to_a_stranger(loop, monkeypatch):
    """A thread stops just before its write; the loop ends; the pipe's number must not become another's meanwhile."""
    write = os.write
    opened = []

    def late_write(fd, data):
        loop.stop()
        while not opened or opened[-1] < fd:
            opened.append(os.open("/dev/null", os.O_RDONLY))
        assert fd not in opened
        return write(fd, data)

    monkeypatch.setattr(os, "write", late_write)
    loop.wake()
    for fd in opened:
        os.close(fd)


def test_mt_19_end_in_order_each_once_in_spite_of_errors():
    loop = Broker()
    told = []
    loop.on_error = told.append
    order = []

    def failing():
        order.append("failing")
        raise ValueError

    loop.on_end(lambda: order.append("shutdown"))
    loop.on_end(failing)
    loop.on_end(lambda: order.append("disconnect"))
    loop.on_end(lambda: order.append("exit"))
    loop.start()
    loop.defer(order.append, "deferred")
    loop.defer(loop.stop)
    loop.stop()
    loop.stop()
    assert order == ["deferred", "shutdown", "failing", "disconnect", "exit"]
    assert told == [failing]


def test_stop_from_a_callback_of_a_driven_loop(loop, pair):
    near, far = pair
    ended, late = [], []
    loop.on_end(lambda: ended.append(loop.thread == process.get_ident()))
    for _ in range(100):
        loop.defer(late.append, 1)
    loop.defer(loop.stop)
    for _ in range(100):
        loop.defer(late.append, 1)
    loop.watch(near.fileno(), loop.stop)
    loop.timer(0, int)
    far.send(b"x")
    loop.poll_once(0)
    assert ended == [True] and len(late) == 200
    with pytest.raises(Closed):
        loop.poll_once()


def test_stop_from_a_stranger_ends_a_driven_loop_on_its_own_thread(loop):
    ended = []
    loop.on_end(lambda: ended.append(process.get_ident()))
    loop.poll_once(0)
    in_thread(loop.stop).join()
    assert not ended and loop.next_delay() == 0.0
    loop.poll_once(0)
    assert ended == [process.get_ident()]


def test_listeners_may_use_the_loop_while_it_ends(pair):
    near, _ = pair
    loop = Broker()
    done = []
    loop.start()
    loop.call(loop.watch, near.fileno(), int)

    def close():
        loop.forget(near.fileno())
        done.append(loop.call(int, "4"))
        with pytest.raises(Closed):
            loop.defer(int)
        done.append("refused")

    loop.on_end(close)
    loop.stop()
    assert done == [4, "refused"]


def test_many_threads_stop_it_at_once():
    loop = Broker()
    ended = []
    loop.on_end(lambda: ended.append(1))
    loop.start()
    threads = [in_thread(lambda: (loop.stop(), ended.append(loop.running))) for _ in range(8)]
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert ended == [1] + [False] * 8


def crash_by_injection(loop, poller):
    poller.fail(OSError(9, "planned"))
    loop.wake()
    return OSError


def crash_by_closing(loop, poller):
    loop.defer(poller.close)
    return ValueError


@pytest.mark.parametrize("crash", [crash_by_injection, crash_by_closing])
def test_p_07_rm_30_a_poller_fault_wakes_every_waiter_with_that_error(crash):
    poller = FaultyPoller()
    loop = Broker(poller=poller)
    boxes = [Mailbox() for _ in range(20)]
    for box in boxes:
        loop.on_end(lambda box=box: box.close(loop.closed))
    loop.start()
    errors = []

    def wait(box):
        with pytest.raises((OSError, ValueError)) as caught:
            box.get(20)
        errors.append(caught.value)

    threads = [in_thread(wait, box) for box in boxes]
    until(lambda: all(box.waiters for box in boxes))
    kind = crash(loop, poller)
    for thread in threads:
        thread.join(20)
    assert [type(error) for error in errors] == [kind] * 20
    until(lambda: not loop.running)
    with pytest.raises(Closed) as caught:
        loop.defer(int)
    assert isinstance(caught.value.__cause__, kind)
    loop.stop()
    poller.close()


def test_p_07_fault_of_a_driven_loop_is_raised_and_told():
    poller = FaultyPoller()
    loop = Broker(poller=poller)
    ended = []
    loop.on_end(lambda: ended.append(loop.closed))
    error = OSError(9, "planned")
    poller.fail(error)
    with pytest.raises(OSError, match="planned"):
        loop.poll_once()
    assert ended == [error]
    poller.close()


def test_ct_06_driven_loop_lives_on_after_ctrl_c(loop):
    class Interrupting:
        def __init__(self, poller):
            self.poller = poller

        def poll(self, timeout):
            loop._poller = self.poller
            signal.raise_signal(signal.SIGINT)

    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    loop._poller = Interrupting(loop._poller)
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.poll_once()
    finally:
        signal.signal(signal.SIGINT, old)
    in_thread(loop.defer, int).join()
    loop.poll_once(20)
    settle(loop)
    assert loop.stats()["ran"] == 1


def test_without_epoll(monkeypatch, pair):
    monkeypatch.setattr("contextree.core.broker._epoll", lambda: None)
    near, far = pair
    heard = Mailbox()
    loop = Broker()
    with pytest.raises(ImportError):
        loop.fileno()
    loop.start()
    loop.call(loop.watch, near.fileno(), lambda: heard.put(near.recv(1)))
    far.send(b"x")
    assert heard.get(20) == b"x"
    loop.call(loop.timer, 0.001, heard.put, "timer")
    assert heard.get(20) == "timer"
    loop.call(loop.forget, near.fileno())
    loop.call(loop.forget, near.fileno())
    loop.stop()
