"""The chain that ends a child: acceptance rows R-01, R-02, R-09, R-10, R-13. The clock is the test's own where time
matters."""

import os
import signal
import subprocess
import sys

import pytest

from contextree import processes
from contextree.parent.loop import Loop as Broker
from contextree.parent.reaper import Reaper
from tests.parent.test_reaper_signals import tells_signals
from tests.parent.tools import LONG, Gate, fork, gated, proc_state, script, until

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["pidfd", "polled"])
def hand(clock, request):
    """A reaper on a loop that the test drives, with the test's clock."""
    broker = Broker(clock=clock)
    reaper = Reaper(broker, **({} if request.param == "pidfd" else {"open_pidfd": None}))
    yield reaper
    broker.stop()
    assert broker.count["errors"] == 0


def at(reaper, second):
    """The loop's turn when the clock shows ``second`` after the start."""
    reaper.broker.clock.now = 1000.0 + second
    for _ in range(3):  # what was deferred, the timers that it made, and theirs
        reaper.broker.poll_once(0)


def reap(reaper, child):
    """Drive the loop, whose clock stands, until the child is reaped; a hint makes the polled one be looked at."""
    until(lambda: (child.hint(), reaper.broker.poll_once(0), child.state)[2])
    return child.state


def test_r_01_each_step_comes_at_its_time(hand):
    """SHUTDOWN now, stdin closed at half the grace, hang-up and TERM after it, KILL when patience is over; the child
    ignores everything else. The loop's turns do not wait for anything (poll_once(0) returned), so a ping is not held
    up."""
    child = tells_signals(hand)
    steps = []
    at(hand, 0)
    gentle = [lambda: steps.append("shutdown"), lambda: steps.append("stdin")]
    child.end(gentle, lambda: steps.append("hang up"), grace=3)
    at(hand, 0)
    assert steps == ["shutdown"]
    at(hand, 1.49)
    assert steps == ["shutdown"]
    at(hand, 1.51)
    assert steps == ["shutdown", "stdin"]
    at(hand, 2.99)
    assert steps == ["shutdown", "stdin"]
    at(hand, 3.01)
    assert steps == ["shutdown", "stdin", "hang up"]
    assert int(child.stdout.readline()) == signal.SIGTERM
    at(hand, 4.99)
    assert proc_state(child.pid) not in ("Z", "")
    at(hand, 5.01)
    assert reap(hand, child).killed_with() == signal.SIGKILL
    child.__exit__()
    at(hand, 100)
    assert hand.broker.next_delay() is None


def test_r_01_who_ends_in_time_is_not_signalled(hand):
    with Gate() as gate:
        child = gated(hand, gate, 6)
        at(hand, 0)
        child.end([gate.open], lambda: pytest.fail("hung up"))
        at(hand, 0)
        assert reap(hand, child).exit_status == 6
        at(hand, 100)


def test_r_01_a_second_end_replaces_the_first(hand):
    with Gate() as gate:
        child = gated(hand, gate)
        child.end([], grace=1000)
        at(hand, 1)
        child.end([], grace=0)
        at(hand, 1)
        assert reap(hand, child).killed_with() == signal.SIGTERM


def test_r_01_a_step_that_fails_does_not_stop_the_chain(clock):
    broker = Broker(clock=clock)
    errors = []
    broker.on_error = errors.append
    hand = Reaper(broker)

    def fails():
        raise BrokenPipeError("nobody reads")

    with Gate() as gate:
        child = gated(hand, gate)
        child.end([fails], fails, grace=1)
        at(hand, 0)
        at(hand, 1.01)
        assert reap(hand, child).killed_with() == signal.SIGTERM
    assert errors == [fails, fails]
    broker.stop()


def test_r_01_kill_goes_to_the_group(reaper):
    """A leader that ignores TERM, and its child that does: both are gone."""
    command = ["sh", "-c", "trap '' TERM; sleep 1000 & echo $!; wait"]
    with processes.start(command, reaper=reaper, stdout=subprocess.PIPE, start_new_session=True) as child:
        grandchild = int(child.stdout.readline())
        child.end(grace=0, patience=0.01)
        assert child.wait(LONG).killed_with() == signal.SIGKILL
        until(lambda: proc_state(grandchild) in ("", "Z"))


def test_r_01_term_goes_to_the_group(reaper):
    """A leader that dies of TERM, and its child that would live on."""
    command = ["sh", "-c", "sleep 1000 & echo $!; wait"]
    with processes.start(command, reaper=reaper, stdout=subprocess.PIPE, start_new_session=True) as child:
        grandchild = int(child.stdout.readline())
        child.end(grace=0, patience=LONG)
        assert child.wait(LONG).killed_with() == signal.SIGTERM
        until(lambda: proc_state(grandchild) in ("", "Z"))


def test_r_02_a_stopped_child_ends(reaper):
    """TERM is pending while it is stopped; CONT lets it arrive."""
    with Gate() as gate:
        child = gated(reaper, gate)
        child.kill(signal.SIGSTOP)
        until(lambda: proc_state(child.pid) == "T")
        child.end(grace=0, patience=LONG)
        assert child.wait(LONG).killed_with() == signal.SIGTERM


@pytest.mark.parametrize("arguments", ["", "open_pidfd=None"])
def test_r_09_a_child_of_another_user_ends_by_eof(arguments):
    """What sudo makes: our child, with another uid, deaf to TERM and HUP. We may not signal it, but may wait for it."""
    script("""
        assert os.getuid() == 0, "needs root, to make a child that may not be signalled"
        with Gate() as gate:
            def sudo():
                for number in (signal.SIGHUP, signal.SIGTERM):
                    signal.signal(number, signal.SIG_IGN)
                return gate.wait(5)

            pid = fork(sudo)
            os.setresuid(65534, 65534, 65534)
            broker = Broker(); broker.start()
            child = Reaper(broker, %s).monitor(pid, "sudo")
            for use in (child.kill, child.terminate):
                try:
                    use()
                except PermissionError as error:
                    assert "another user" in str(error)
                else:
                    raise SystemExit("could signal it")
            assert child.privileged
            forced = process.Waiter()
            child.end([], forced.wake, grace=0, patience=0)
            assert forced.wait(LONG)
            broker.call(lambda: None)
            assert child.state is None
            child.end([gate.open])
            assert child.wait(LONG).exit_status == 5
            broker.stop()
            assert broker.count["errors"] == 0
        """ % arguments)


WRITES_A_LOT = """
import os
left = 1 << 20
while left:
    left -= os.write(1, b'x' * min(left, 4096))
"""


def on_a_terminal(reaper):
    master, slave = os.openpty()
    child = processes.start([sys.executable, "-S", "-E", "-c", WRITES_A_LOT], reaper=reaper, stdin=slave, stdout=slave,
                            stderr=slave, start_new_session=True)
    os.close(slave)
    return child, master


def test_r_10_unread_output_on_a_terminal_is_all_there(reaper):
    """1 MB: drained to EIO, then the child has ended."""
    child, master = on_a_terminal(reaper)
    count = 0
    while True:
        try:
            count += len(os.read(master, 65536))
        except OSError:
            break
    os.close(master)
    assert count == 1 << 20
    assert child.wait(LONG).clean()


def test_r_10_a_child_stuck_on_unread_output_is_ended_by_the_hang_up(reaper):
    child, master = on_a_terminal(reaper)
    child.end([], lambda: os.close(master), grace=0.02, patience=LONG)
    assert child.wait(LONG).died()


def test_r_13_the_parent_dies_in_the_middle_of_the_chain(reaper):
    """Nobody is left to send KILL; the child ends because its stdin closed with its parent."""
    read, write = os.pipe()

    def parent():
        broker = Broker()
        with processes.start(["cat"], reaper=Reaper(broker), stdin=subprocess.PIPE) as child:
            child.end(grace=1000)
            broker.poll_once(0)
            os.write(write, b"%d\n" % child.pid)
            while True:
                broker.poll_once(LONG)

    with os.fdopen(read) as pids, reaper.monitor(fork(parent)) as child:
        os.close(write)
        pid = int(pids.readline())
        assert proc_state(pid)
        child.kill()
    until(lambda: proc_state(pid) in ("", "Z"))
