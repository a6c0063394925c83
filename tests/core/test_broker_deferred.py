"""What other threads hand to the loop: none lost, none in the way of descriptors, few wakes."""

import os
import random
import sys

import pytest

from contextree.core import process
from contextree.core.wire.errors import CallTimeout, Closed, Overflow
from contextree.parent.loop import Loop as Broker
from contextree.testing import VirtualClock

from .conftest import in_thread, run_script, until


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
from contextree.parent.loop import Loop as Broker
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
from contextree.parent.loop import Loop as Broker
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
from contextree.parent.loop import Loop as Broker
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


@pytest.mark.parametrize("options, said", [((), "5 True\n"), (("-O",), "5 False\n")], ids=["debug", "-O"])
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
    lock = {"acquire"}
    assert waits == {("process", "__init__"): lock, ("process", "wait"): lock, ("broker", "_poll"): {"poll"}}
