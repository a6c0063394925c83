"""The mailbox: whatever is cancelled, interrupted or closed when, each item comes out exactly once.

Why this file is long: one small class, and every way to be torn in the middle of it: threads, signals, cancellation.
"""

import dis
import gc
import itertools
import random
import signal
import sys
import threading
import weakref
from time import monotonic

import pytest

from contextree.core import mailbox, process
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import CallTimeout, Closed, ContextDied, RemoteError

from .conftest import in_thread, run_script, until


class Recorder:
    """A waiter that only counts its wakes."""

    def __init__(self, answer=True):
        self.wakes = 0
        self.answer = answer

    def wake(self):
        self.wakes += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_items_in_order():
    box = Mailbox()
    for i in range(5):
        box.put(i)
    assert len(box) == 5
    assert [box.get() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(box) == 0


def storm(consumers, items, leave, close=True):
    """Producers put ``items``, consumers take them and leave by ``leave(box)`` at random; what came out, sorted."""
    box = Mailbox()
    out = [[] for _ in range(consumers)]

    def consume(mine):
        try:
            while True:
                try:
                    mine.append(leave(box))
                except (CallTimeout, Cancelled):
                    pass
        except Closed:
            pass

    def produce(start):
        for i in range(start, items, 2):
            box.put(i)

    workers = [in_thread(consume, mine) for mine in out]
    makers = [in_thread(produce, start) for start in (0, 1)]
    for maker in makers:
        maker.join()
    box.close()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive(), "a wake was lost"
    assert not box.waiters
    return sorted(itertools.chain.from_iterable(out))


class Cancelled(BaseException):
    pass


def test_a_01_timeout_storm():
    assert storm(4, 20000, lambda box: box.get(random.choice((None, 0, 1e-6, 1e-5, 1e-4)))) == list(range(20000))


def test_a_01_cancellation_storm(monkeypatch):
    class Shaky(process.Waiter):
        """A waiter that is cancelled while it sleeps, before or after its wake."""

        def wait(self, timeout=None):
            if random.random() < 0.3:
                super().wait(random.choice((0, 1e-5)))
                raise Cancelled
            return super().wait(timeout)

    monkeypatch.setattr(process, "waiter", Shaky)
    assert storm(4, 20000, lambda box: box.get()) == list(range(20000))


def test_a_01_failing_on_take_leaves_the_item():
    box = Mailbox(on_take=lambda item: 1 / (item - 1))
    box.put(1)
    with pytest.raises(ZeroDivisionError):
        box.get()
    box.on_take = None
    assert box.get(0) == 1


def test_a_12_no_busy_wake():
    box = Mailbox()
    waiter = Recorder()
    box.waiters.append(waiter)
    for i in range(1000):
        box.put(i)
    assert waiter.wakes == 1


def test_woken_and_cancelled_passes_the_baton():
    box = Mailbox()
    first, second = Recorder(), Recorder()
    box.waiters.extend([first, second])
    box.put(1)
    assert (first.wakes, second.wakes) == (1, 0)
    assert box.abandon(first) is True
    assert second.wakes == 1


def test_cancelled_before_its_wake_just_leaves():
    box = Mailbox()
    first, second = Recorder(), Recorder()
    box.waiters.extend([first, second])
    assert box.abandon(first) is False
    box.put(1)
    assert (first.wakes, second.wakes) == (0, 1)


@pytest.mark.parametrize("answer", [False, RuntimeError("Event loop is closed")])
def test_a_04_waiter_of_a_dead_loop_is_passed_over(answer):
    box = Mailbox()
    dead, alive = Recorder(answer), Recorder()
    box.waiters.extend([dead, alive])
    box.put(1)
    assert (dead.wakes, alive.wakes) == (1, 1)
    assert not box.waiters


def test_ct_08_timeout_only_without_an_item(monkeypatch):
    """The item arrives just after the waiter's time ran out: it is taken, not refused."""
    box = Mailbox()

    class Late(process.Waiter):
        def wait(self, timeout=None):
            assert super().wait(0) is False
            box.put("late")
            return False

    monkeypatch.setattr(process, "waiter", Late)
    assert box.get(1e-9 + 0.001) == "late"
    assert not box.waiters


def test_ct_08_stolen_item_is_a_timeout(monkeypatch):
    box = Mailbox()

    class Robbed(process.Waiter):
        def wait(self, timeout=None):
            box.put("item")
            box.items.clear()  # someone else was quicker
            while self.end > monotonic():
                pass
            return True

        end = monotonic() + 0.01

    monkeypatch.setattr(process, "waiter", Robbed)
    with pytest.raises(CallTimeout):
        box.get(0.001)
    assert not box.waiters


def test_ct_09_item_and_timeout_race():
    box = Mailbox()
    rounds = 20000
    got = []
    go = process.Waiter()

    def produce():
        for i in range(rounds):
            go.wait()
            box.put(i)

    maker = in_thread(produce)
    timeouts = 0
    for _ in range(rounds):
        go.wake()
        while True:
            try:
                got.append(box.get(random.choice((0, 1e-6, 2e-5))))
                break
            except CallTimeout:
                timeouts += 1
    maker.join()
    assert got == list(range(rounds))
    assert not box.waiters and not box.items


def test_ct_19_two_waiters_one_item_wakes_one():
    box = Mailbox()
    got = []
    waiters = [in_thread(lambda: got.append(box.get())) for _ in range(2)]
    until(lambda: len(box.waiters) == 2)
    box.put("a")
    until(lambda: got == ["a"])
    assert len(box.waiters) == 1
    box.put("b")
    for waiter in waiters:
        waiter.join()
    assert got == ["a", "b"]


def test_ct_21_closed_drains_then_raises_and_put_raises():
    box = Mailbox()
    box.put(1)
    box.put(2)
    box.close()
    box.close(ContextDied("later errors are not heard"))
    with pytest.raises(Closed):
        box.put(3)
    assert [box.get(), box.get_nowait()] == [1, 2]
    for _ in range(3):
        with pytest.raises(Closed):
            box.get()


def test_p_10_close_wakes_all_waiting_threads():
    box = Mailbox()
    errors = []

    def wait():
        with pytest.raises(ContextDied) as caught:
            box.get()
        errors.append(caught.value)

    workers = [in_thread(wait) for _ in range(20)]
    until(lambda: len(box.waiters) == 20)
    box.close(ContextDied("gone", reason="killed", status=9))
    for worker in workers:
        worker.join(20)
    assert len({id(error) for error in errors}) == 20, "each has an error of its own"
    assert {(str(error), error.reason, error.status) for error in errors} == {("gone", "killed", 9)}


@pytest.mark.parametrize("error", [
    RemoteError("boom", traceback="Traceback ...", type_name="X"), OSError(5, "Input/output error"), KeyError("k")])
def test_closing_error_is_copied_whole(error):
    error.__cause__ = cause = ValueError("first")
    box = Mailbox()
    box.close(error)
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            box.get()
        assert caught.value is not error
        assert str(caught.value) == str(error) and caught.value.args == error.args
        assert caught.value.__cause__ is cause
    assert error.__traceback__ is None


def test_closing_error_keeps_no_frame_alive():
    class Thing:
        pass

    box = Mailbox()
    box.close()

    def use():
        thing = Thing()
        with pytest.raises(Closed):
            box.get()
        return weakref.ref(thing)

    ref = use()
    gc.collect()
    assert ref() is None


def test_p_12_zero_timeout_and_nowait_differ_from_block():
    box = Mailbox()
    for get in (box.get_nowait, lambda: box.get(0), lambda: box.get(-1)):
        with pytest.raises(CallTimeout):
            get()
    assert not box.waiters
    box.put(1)
    assert box.get(0) == 1
    got = []
    blocked = in_thread(lambda: got.append(box.get()))
    until(lambda: box.waiters)
    assert not got
    box.put(2)
    blocked.join()
    assert got == [2]


def test_get_zero_makes_no_waiter(monkeypatch):
    monkeypatch.setattr(process, "waiter", None)
    with pytest.raises(CallTimeout):
        Mailbox().get(0)


def test_rm_14_no_lost_wakeup_between_look_and_sleep(monkeypatch):
    """The item comes after the look at the queue and before the sleep."""
    box = Mailbox()
    rounds = [0]

    class Hooked(process.Waiter):
        def wait(self, timeout=None):
            rounds[0] += 1
            box.put(rounds[0])
            assert super().wait(20), "the wake was lost"
            return True

    monkeypatch.setattr(process, "waiter", Hooked)
    assert [box.get() for _ in range(2000)] == list(range(1, 2001))


def test_finaliser_may_close_the_mailbox_inside_put():
    """A collection may run anywhere, also under the lock: what it finalises may use this very mailbox."""
    box = Mailbox()

    class Closing(Recorder):
        def wake(self):
            box.close()
            return super().wake()

    box.waiters.append(Closing())
    box.put(1)
    assert box.get() == 1
    with pytest.raises(Closed):
        box.get()


def test_handler_may_close_the_mailbox_while_a_waiter_queues(monkeypatch):
    box = Mailbox()

    class Made(process.Waiter):
        def __init__(self):
            box.close()
            super().__init__()

    monkeypatch.setattr(process, "waiter", Made)
    with pytest.raises(Closed):
        box.get()


@pytest.fixture
def ctrl_c():
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    signal.signal(signal.SIGINT, old)


def test_ct_06_p_75_ctrl_c_while_main_waits(ctrl_c):
    box = Mailbox()

    def interrupt():
        until(lambda: box.waiters)
        ctrl_c()

    thread = in_thread(interrupt)
    with pytest.raises(KeyboardInterrupt):
        box.get(20)
    thread.join()
    assert not box.waiters
    box.put("still works")
    assert box.get() == "still works"


def test_ct_07_interrupt_races_with_delivery(ctrl_c):
    box = Mailbox()
    rounds = 5000
    go, stop = process.Waiter(), []
    got, interrupts = [], 0

    def deliver():
        for i in range(rounds):
            go.wait()
            for _ in range(random.randrange(200)):
                pass
            if i & 1:
                ctrl_c()
                box.put(i)
            else:
                box.put(i)
                ctrl_c()
        stop.append(True)

    thread = in_thread(deliver)
    expected = 0
    while not stop or len(box) or (len(got) < rounds and thread.is_alive()):
        try:
            if expected < rounds and len(got) == expected:
                expected += 1
                go.wake()
            while len(got) < expected:
                got.append(box.get(20))
        except KeyboardInterrupt:
            interrupts += 1
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts > rounds / 2
    assert not box.waiters
    assert len(set(got)) == len(got), "an item came twice"
    assert got == list(range(rounds)), "an item was lost"


def interrupt_everywhere(prepare, run, check):
    """Run ``run(*prepare())``, interrupted at its first, second, ... point where the interpreter looks for signals.

    Those are the entry of a function, the end of a call and the jump back of a loop, in mailbox.py and process.py."""
    for at in itertools.count(1):
        things = prepare()
        trace = Interrupter(at)
        old = sys.gettrace()
        sys.settrace(trace)
        try:
            run(*things)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(old)
        if trace.seen < at:
            assert at > 1, "nothing was interrupted"
            return
        check(*things)


class Interrupter:
    """A trace function that raises KeyboardInterrupt at the ``at``-th look for signals."""

    files = (mailbox.__file__, process.__file__)

    def __init__(self, at):
        self.at = at
        self.seen = 0
        self.last = {}

    def __call__(self, frame, event, arg):
        if frame.f_code.co_filename not in self.files:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        before = self.last.pop(frame, "")  # a call that raised is followed by "exception": no look for signals there
        if event == "opcode":
            self.last[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        if event == "call" or (event == "opcode" and before.startswith(("CALL", "JUMP_BACKWARD"))):
            self.seen += 1
            if self.seen == self.at:
                raise KeyboardInterrupt
        return self


def box_with(*waiters):
    box = Mailbox()
    box.waiters.extend(waiters)
    return (box, *waiters)


def test_ct_07_put_interrupted_anywhere():
    def check(box, first, second):
        assert not box.items or first.wakes, "an item beside a waiter that sleeps on"
        assert first.wakes or first in box.waiters
        assert second in box.waiters

    interrupt_everywhere(lambda: box_with(Recorder(), Recorder()), lambda box, *_: box.put(1), check)


def test_ct_07_get_interrupted_anywhere_keeps_the_item():
    def prepare():
        box = Mailbox(on_take=lambda item: None)
        box.put("item")
        other = Recorder()
        box.waiters.append(other)
        return box, other

    def check(box, other):
        assert list(box.items) == ["item"]

    interrupt_everywhere(prepare, lambda box, _: box.get(), check)


def test_ct_07_waiting_get_interrupted_anywhere_passes_the_baton(monkeypatch):
    class Delivering(process.Waiter):
        def wait(self, timeout=None):
            super().wait(0)
            for box in boxes:
                box.put("item")
                box.waiters.append(Recorder())
                delivered.append(box)
            return super().wait(20)

    boxes, delivered = [], []

    def prepare():
        boxes[:] = [Mailbox()]
        delivered.clear()
        return boxes

    def check(box):
        assert not any(isinstance(waiter, Delivering) for waiter in box.waiters)
        if delivered:
            assert list(box.items) == ["item"]
            assert all(waiter.wakes for waiter in box.waiters), "an item beside a waiter that sleeps on"

    monkeypatch.setattr(process, "waiter", Delivering)
    interrupt_everywhere(prepare, lambda box: box.get(), check)


def test_ct_07_close_interrupted_anywhere_can_be_repeated():
    def check(box, *waiters):
        box.close()
        assert all(waiter.wakes for waiter in waiters)

    interrupt_everywhere(lambda: box_with(Recorder(), Recorder(), Recorder()), lambda box, *_: box.close(), check)


def test_p_75_default_sigint_ends_a_waiting_program():
    out = run_script("""
import os, signal, threading
from contextree.core.mailbox import Mailbox
box = Mailbox()
def interrupt():
    while not box.waiters:
        pass
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    box.get()
except KeyboardInterrupt:
    print("interrupted")
""")
    assert out == "interrupted\n"
