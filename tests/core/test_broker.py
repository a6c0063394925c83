"""The loop: nothing deferred is lost, nothing waits for ever, nothing of a former life fires."""

import os
import random
import resource
import selectors
import signal
import socket
import sys
import threading
import time

import pytest

from contextree.core import process
from contextree.core.broker import READ, WRITE, Broker
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import CallTimeout, Closed, Overflow, UsageError, WrongThread
from contextree.testing import FaultyPoller, VirtualClock, joined_pair

from .conftest import run_script, until


@pytest.fixture
def loop():
    """A loop that the test drives."""
    loop = Broker()
    yield loop
    loop.stop()


@pytest.fixture
def virtual():
    clock = VirtualClock()
    loop = Broker(clock=clock, poller=clock.poller())
    yield loop
    loop.stop()


@pytest.fixture
def pair():
    ends = joined_pair()
    yield ends
    for end in ends:
        end.close()


def in_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


def settle(loop):
    while loop.next_delay() == 0.0:
        loop.poll_once(0)


# -- who drives it


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
        drive(lambda: len(results) == i + 1)
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
            with pytest.raises(OSError):
                Broker()
            assert not process._own and not process.keep
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# -- time


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
    virtual.timer(1, lambda: later.cancel())
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


# -- deferred functions


def test_ct_11_defer_past_the_limit():
    loop = Broker(limit=10)
    for _ in range(10):
        loop.defer(int)
    with pytest.raises(Overflow):
        loop.defer(int)  # nobody drives it: waiting would be for ever
    loop.poll_once(0)
    for _ in range(10):
        loop.defer(int)
    failed, passed = [], []

    def foreign():
        with pytest.raises(Overflow):
            loop.defer(int, wait=False)
        failed.append(1)
        for _ in range(100):
            loop.defer(passed.append, 1)

    thread = in_thread(foreign)
    until(lambda: loop._room)
    assert failed and not passed and loop.stats()["depth"] == 10
    for _ in range(50):
        loop.defer(passed.append, 0)  # the loop's own thread never waits
    while len(passed) < 150:
        loop.poll_once()
        assert loop.stats()["depth"] <= 60
    thread.join()
    assert loop.stats()["overflows"] >= 2 and not loop._room
    loop.stop()


def test_ct_11_waiters_for_room_get_in_or_get_closed():
    loop = Broker(limit=100)
    loop.start()
    ran = []
    errors = []

    def flood():
        try:
            for _ in range(3000):
                loop.defer(ran.append, 1)
                accepted.append(1)
        except Closed:
            errors.append(1)

    accepted = []
    threads = [in_thread(flood) for _ in range(4)]
    for thread in threads:
        thread.join(30)
    loop.call(int)
    assert len(ran) == len(accepted) == 12000
    block = process.Waiter()
    loop.defer(block.wait)
    threads = [in_thread(flood) for _ in range(4)]
    until(lambda: len(loop._room) >= 4)
    loop.stop(wait=False)
    block.wake()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    loop.stop()
    assert len(ran) == len(accepted)


def test_ct_12_flood_is_cut_into_slices(loop, pair):
    """A ping is answered long before 200 000 functions have run."""
    near, far = pair
    done = []
    heard = []
    loop.limit = 10 ** 6
    loop.watch(near.fileno(), lambda: heard.append((near.recv(1), len(done))))
    for _ in range(200000):
        loop.defer(done.append, 1)
    far.send(b"x")
    loop.poll_once()
    assert heard and heard[0][1] < 100000 and heard[0][1] % 64 == 0
    turns = 1
    while len(done) < 200000:
        loop.poll_once(0)
        turns += 1
    assert loop.stats()["slices"] == turns - 1
    loop.forget(near.fileno())


def test_ct_13_one_look_at_the_clock_for_each_function():
    clock = VirtualClock()
    loop = Broker(clock=clock, poller=clock.poller())
    for _ in range(10000):
        loop.defer(int)
    reads = clock.reads
    loop.poll_once(0)
    assert loop.stats()["ran"] == 10000
    assert clock.reads - reads <= 10000 + 5
    loop.stop()


def test_ct_14_counters_tell(virtual):
    def slow():
        virtual.clock.advance(3)

    def look():
        seen.append(virtual.stats())

    seen = []
    for _ in range(64):
        virtual.defer(slow)
    for _ in range(10):
        virtual.defer(look)
    assert virtual.stats()["depth"] == 74
    virtual.poll_once(0)
    stats = virtual.stats()
    assert (stats["ran"], stats["slices"], stats["depth"], stats["high_water"]) == (64, 1, 10, 74)
    assert stats["slowest"] == (3.0, slow.__qualname__)
    assert stats["oldest"] == 192.0
    virtual.poll_once(0)
    assert seen[0]["oldest"] == 192.0 and seen[0]["ran"] == 65
    stats = virtual.stats()
    assert stats["oldest"] == 0.0 and stats["depth"] == 0 and stats["errors"] == 0 and stats["watched"] == 1
    virtual.timer(1, int)
    virtual.clock.advance(5)
    virtual.poll_once(0)
    assert virtual.stats()["late"] == 4.0


def test_ct_14_the_end_is_not_the_slowest_callback():
    loop = Broker()
    loop.on_end(int)
    loop.defer(int)
    loop.stop()
    assert loop.stats()["slowest"][0] < 5


class Rude(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError("v"), SystemExit(3), Rude()])
def test_ct_15_a_failing_function_is_told_once_and_the_loop_lives(broker, error, pair):
    told = []
    near, far = pair

    def fail():
        raise error

    def fail_reading():
        near.recv(1)
        raise error

    broker.on_error = lambda function: told.append((function, sys.exc_info()[1]))
    broker.defer(fail)
    assert broker.call(int, "5") == 5
    broker.call(broker.timer, 0, fail)
    broker.call(broker.watch, near.fileno(), fail_reading)
    far.send(b"x")
    until(lambda: len(told) == 3)
    assert broker.call(int, "6") == 6
    assert [what for what, _ in told].count(fail) == 2 and all(raised is error for _, raised in told)
    assert broker.stats()["errors"] == 3
    broker.call(broker.forget, near.fileno())


def test_ct_15_driven_by_the_program_ctrl_c_passes_through(loop):
    def interrupt():
        raise KeyboardInterrupt

    loop.defer(interrupt)
    ran = []
    loop.defer(ran.append, 1)
    with pytest.raises(KeyboardInterrupt):
        loop.poll_once(0)
    loop.poll_once(0)
    assert ran == [1]


def test_ct_15_hostile_reporter_and_hostile_name(broker):
    class Nameless:
        def __getattr__(self, name):
            raise RuntimeError(name)

        def __repr__(self):
            raise RuntimeError("repr")

        def __call__(self):
            raise ValueError

    def no_report(function):
        raise RuntimeError("the reporter is broken as well")

    broker.defer(Nameless())
    broker.on_error = no_report
    broker.defer(Nameless())
    assert broker.call(int, "1") == 1
    assert broker.stats()["errors"] == 2


def test_ct_15_default_report_goes_to_stderr_once():
    out = run_script("""
import os
err = os.dup(2)
r, w = os.pipe()
os.dup2(w, 2)
from contextree.core.broker import Broker
b = Broker(); b.start()
def boom(): raise ValueError("told")
b.defer(boom)
b.call(int)
b.stop()
os.dup2(err, 2); os.close(w)
text = os.read(r, 10000).decode()
print(text.count("Traceback"), "in boom" in text, "ValueError: told" in text)
""")
    assert out == "1 True True\n"


def test_ct_15_closed_stderr_is_not_written_to_whoever_has_its_number():
    run_script("""
import os, sys, subprocess
code = '''
import os, sys
f = os.open(sys.argv[1], os.O_RDWR)
while f < 2: f = os.open(sys.argv[1], os.O_RDWR)
assert f == 2
from contextree.core.broker import Broker
b = Broker(); b.start()
b.defer(lambda: 1 / 0)
b.call(int)
b.stop()
assert os.fstat(2).st_size == 0
'''
import tempfile
with tempfile.NamedTemporaryFile() as file:
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" "$2" <&- >&- 2>&-', sys.executable, code, file.name])
    assert done.returncode == 0, done
    assert not file.read()
""")


def test_ct_16_few_wakes_for_many_defers_none_lost(broker):
    ran = []

    def flood():
        for _ in range(5000):
            broker.defer(ran.append, 1)

    threads = [in_thread(flood) for _ in range(8)]
    for thread in threads:
        thread.join()
    broker.call(int)
    assert len(ran) == 40000
    assert broker.stats()["wakes"] < 10000


def test_ct_16_a_batch_to_a_sleeping_loop_is_one_wake(loop):
    loop.poll_once(0)
    wakes = loop.stats()["wakes"]
    for _ in range(1000):
        loop.defer(int)
    assert loop.stats()["wakes"] == wakes + 1


def test_ct_16_late_note_of_a_wake_silences_nobody(loop, monkeypatch):
    """A thread stops between its write and its note; meanwhile the loop has taken the byte and sleeps again."""
    write = os.write

    def slow_write(fd, data):
        done = write(fd, data)
        monkeypatch.undo()
        loop.poll_once(0)  # takes the byte; then sleeps anew
        return done

    loop.poll_once(0)
    monkeypatch.setattr(os, "write", slow_write)
    loop.wake()
    wakes = loop.stats()["wakes"]
    loop.defer(int)
    assert loop.stats()["wakes"] == wakes + 1


def test_ct_16_wake_between_look_and_sleep(loop):
    """Something is deferred after the loop looked at the queue and before it sleeps: the sleep is short."""

    class Racing:
        def __init__(self, poller):
            self.poller = poller

        def poll(self, timeout):
            if not ran:
                loop.defer(ran.append, 1)
            return self.poller.poll(20 if timeout is None else timeout)

    ran = []
    real = loop._poller
    loop._poller = Racing(real)
    loop.poll_once()
    loop.poll_once(0)
    loop._poller = real
    assert ran == [1]


def test_ct_16_wake_storm_with_ping_pong(broker):
    """Each of four threads sends one function and waits for it: a lost wake would hang."""
    rounds = 1500

    def ping():
        for i in range(rounds):
            assert broker.call(int, str(i), timeout=20) == i
            if random.random() < 0.1:
                broker.wake()

    threads = [in_thread(ping) for _ in range(4)]
    for thread in threads:
        thread.join()
    assert broker.stats()["ran"] == 4 * rounds


def test_ct_17_call_four_cases(broker):
    def fail():
        raise LookupError("there")

    assert broker.call(process.get_ident) == broker.thread != process.get_ident()
    with pytest.raises(LookupError, match="there"):
        broker.call(fail)
    assert broker.call(lambda: broker.call(process.get_ident)) == broker.thread
    block = process.Waiter()
    broker.defer(block.wait)
    with pytest.raises(CallTimeout):
        broker.call(int, timeout=0.001)
    block.wake()
    assert broker.call(int, "1", timeout=20) == 1


WRONG = """
from contextree.core.broker import Broker
from contextree.core.wire.errors import WrongThread
b = Broker(); b.start()
refused = []
for use in (lambda: b.watch(0, print), lambda: b.forget(0), lambda: b.timer(1, print), b.poll_once, b.check_thread):
    try:
        use()
    except WrongThread:
        refused.append(1)
print(len(refused), __debug__)
b.stop()
"""


@pytest.mark.parametrize("options, said", [((), "5 True\n"), (("-O",), "5 False\n")])
def test_ct_18_wrong_thread_is_refused(options, said):
    assert run_script(WRONG, *options) == said


def test_ct_22_waiting_happens_only_in_the_waiter():
    """No lock, select or sleep is waited on anywhere else; locks for a moment are taken by ``with``."""
    import ast
    import inspect

    from contextree.core import broker, mailbox

    waits = {}
    for module in (broker, mailbox, process):
        tree = ast.parse(inspect.getsource(module))
        for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
            for node in ast.walk(function):
                if isinstance(node, ast.Attribute) and node.attr in ("acquire", "poll", "sleep", "select", "join"):
                    waits.setdefault((module.__name__.rpartition(".")[2], function.name), set()).add(node.attr)
    assert waits == {("process", "__init__"): {"acquire"}, ("process", "wait"): {"acquire"}, ("broker", "_poll"): {"poll"}}


# -- descriptors


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
    with pytest.raises(OSError):
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


# -- the end


def test_p_08_everything_after_the_end_raises(broker):
    broker.stop()
    broker.stop()
    for use in (lambda: broker.defer(int), lambda: broker.call(int), lambda: broker.on_end(int), broker.check_thread,
                lambda: broker.timer(1, int), lambda: broker.watch(0, int)):
        with pytest.raises(Closed):
            use()
    broker.wake()


def test_p_08_what_was_accepted_runs_what_was_not_raises():
    """Threads defer and call while the loop ends: each function runs or its thread hears Closed; nobody hangs."""
    for _ in range(60):
        loop = Broker()
        loop.start()
        ran, accepted, refused = [], [], []
        ready = threading.Barrier(4)

        def use(deferring):
            ready.wait()
            try:
                while True:
                    if deferring:
                        loop.defer(ran.append, 1)
                    else:
                        loop.call(ran.append, 1)
                    accepted.append(1)
            except Closed:
                refused.append(1)

        threads = [in_thread(use, i % 2) for i in range(3)]
        ready.wait()
        loop.stop()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive(), "a call hangs after the end"
        assert len(refused) == 3 and len(ran) == len(accepted)


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
    loop.on_error = lambda function: told.append(function)
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
    loop.watch(near.fileno(), lambda: loop.stop())
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
    near, far = pair
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
