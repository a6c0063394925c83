"""What the reaper must not do to the process it lives in: rows RM-01, RM-23 to RM-27, RM-29, RM-30, R-12, R-14."""

import gc
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

from contextree import processes
from contextree.core import process
from contextree.core.wire.errors import Closed, ForkedError
from contextree.parent.loop import Loop as Broker
from contextree.parent.reaper import Reaper
from tests.parent.tools import LONG, ROOT, SUITE, Gate, alone, descriptors, fork, gated, proc_state, until

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork")


@pytest.mark.parametrize("arguments", [(), ("--pidfd", "none")])
def test_rm_01_every_wait_is_for_one_child(tmp_path, arguments):
    """The whole suite under strace, but the check that asks for -1 itself to see that nothing is left."""
    log = tmp_path / "strace"
    checks = [name for name in re.findall(r"def (check_\w+)", SUITE.read_text()) if name != "check_nothing_left"]
    strace = ["strace", "-f", "-qq", "-e", "trace=wait4,waitid", "-o", log]
    subprocess.run([*strace, sys.executable, SUITE, *arguments, *checks], check=True, stdout=subprocess.DEVNULL,
                   timeout=5 * LONG)
    calls = re.findall(r"(?:wait4|waitid)\(.*", log.read_text())
    assert len(calls) > 50
    for call in calls:
        assert re.match(r"wait4\([1-9]|waitid\((P_PID|P_PIDFD), \d", call), call
    assert ("P_PIDFD" in str(calls)) == (not arguments)


def test_rm_01_no_such_wait_in_the_source():
    for path in (ROOT / "contextree").rglob("*.py"):
        code = re.sub(r'"""(?:.|\n)*?"""|#.*', "", path.read_text())
        found = re.findall(r"os\.wait3?\(|waitpid\(\s*(?:-1|0)|wait4\(\s*(?:-1|0)|P_ALL|P_PGID", code)
        assert not found, path


def test_rm_23_no_poller_of_the_parent_in_a_forked_child(pidfd_reaper):
    """Of every epoll that a child has, the watched descriptors are its own; no pidfd and no signalfd is inherited."""
    with Gate() as gate, gated(pidfd_reaper, gate):
        assert "anon_inode:[eventpoll]" in descriptors().values()
        read, write = os.pipe()

        def show():
            os.write(write, "\n".join(map(str, descriptors().values())).encode())

        assert pidfd_reaper.monitor(fork(show)).wait(LONG).clean()
        os.close(write)
        with os.fdopen(read) as file:
            shown = file.read()
        assert "pipe:" in shown
        assert not re.search(r"eventpoll|pidfd|signalfd", shown), shown


def test_rm_24_an_inherited_handle_or_loop_is_refused(reaper):
    with Gate() as gate, gated(reaper, gate) as child:
        uses = (child.wait, child.check, child.kill, child.terminate, child.killpg, child.end, child.hint,
                child.release, child.__enter__, lambda: child.on_exit(print), lambda: child.state,
                lambda: reaper.monitor(child.pid),
                lambda: reaper.broker.poll_once(0), lambda: reaper.adopt_remote(1, "", print))

        def inherited():
            child.__exit__()
            for number, use in enumerate(uses):
                try:
                    use()
                except ForkedError:
                    continue
                return number + 1
            return 0

        assert reaper.monitor(fork(inherited)).wait(LONG).exit_status == 0
        child.kill(0)


def test_rm_24_a_fork_may_start_its_own(reaper):
    def own():
        with Gate() as gate:
            broker = Broker()
            broker.start()
            child = gated(Reaper(broker), gate, 3)
            gate.open()
            return child.wait(LONG).exit_status

    with Gate() as gate, gated(reaper, gate):
        assert reaper.monitor(fork(own)).wait(LONG).exit_status == 3


def signal_state():
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    return handlers, signal.pthread_sigmask(signal.SIG_BLOCK, []), wakeup


def test_rm_25_no_signal_state_is_touched(reaper):
    """And with SIGCHLD blocked, handled, or owned by asyncio all checks hold too: test_reaper_pythons.py,
    ..._loops.py."""
    before = signal_state()
    for _ in range(20):
        reaper.monitor(fork(os._exit, 0)).wait(LONG)
    assert signal_state() == before


@alone("pidfd")
def test_rm_26_waiting_for_200_children_costs_no_turn(reaper):
    """A 10 ms ticker on the loop: the waited-for children add not one turn to its own, and no time to the ticks that
    could be told apart from the machine's; then all end at once and the ticker goes on."""
    broker = reaper.broker
    done = threading.Event()
    seen = {}

    def tick(left):
        if left:
            broker.timer(0.01, tick, left - 1)
        else:
            seen["turns"] = broker.count["turns"] - seen["start"]
            done.set()

    with Gate() as gate:
        children = [gated(reaper, gate, number % 100) for number in range(200)]
        tickets = [child.begin_wait(1, lambda: None) for child in children]
        broker.call(lambda: None)
        broker.call(lambda: (seen.update(start=broker.count["turns"]), tick(20)))
        assert done.wait(LONG)
        assert seen["turns"] <= 21
        done.clear()
        gate.open()
        broker.call(tick, 5)
        assert done.wait(LONG)
    assert [child.wait(LONG).exit_status for child in children] == [number % 100 for number in range(200)]
    assert [ticket.result().exit_status for ticket in tickets] == [number % 100 for number in range(200)]


@alone()
def test_rm_27_r_12_nothing_grows(reaper):
    """300 children after 100 to warm up (the rows: 1 000 and 5 000): no descriptor, timer, handle, zombie, nor
    memory."""

    def cycle(count):
        for number in range(count):
            child = reaper.monitor(fork(os._exit, number % 5))
            child.end(grace=1)
            child.wait(LONG)
        reaper.broker.call(lambda: None)
        gc.collect()

    cycle(100)
    before = descriptors(), sys.getallocatedblocks(), reaper.broker.stats()["watched"]
    cycle(300)
    after = descriptors(), sys.getallocatedblocks(), reaper.broker.stats()["watched"]
    assert after[0] == before[0]
    assert after[2] == before[2]
    assert after[1] - before[1] < 300 * 5  # a kept handle is 20 blocks and more
    children = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and parent(pid) == os.getpid()]
    assert [pid for pid in children if proc_state(pid) == "Z"] == []


def parent(pid):
    try:
        with open("/proc/%s/stat" % pid) as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def test_rm_29_without_children_nothing_is_paid():
    before = descriptors()
    broker = Broker()
    broker.start()
    broker.call(lambda: None)
    idle, stats = descriptors(), broker.stats()
    reaper = Reaper(broker)
    assert descriptors() == idle
    assert (broker.stats()["watched"], broker.stats()["timers"]) == (stats["watched"], stats["timers"]) == (1, 0)
    with Gate() as gate:
        gate_descriptors = set(descriptors()) - set(idle)
        with gated(reaper, gate):
            broker.call(lambda: None)
            added = [descriptors()[fd] for fd in set(descriptors()) - set(idle) - gate_descriptors]
            assert len(added) == 1
            assert "pidfd" in added[0]
            assert broker.stats()["timers"] == 0
    broker.stop()
    assert descriptors() == before


class Breakable:
    """A poller that fails when it is told to, as one does whose descriptor somebody closed."""

    def __init__(self):
        self.inner = select.epoll()
        self.broken = False
        self.register, self.modify, self.unregister = self.inner.register, self.inner.modify, self.inner.unregister

    def poll(self, timeout):
        events = self.inner.poll(timeout)
        if self.broken:
            raise OSError(5, "the poller is broken")
        return events


@pytest.mark.parametrize("crash", [False, True])
def test_rm_30_the_end_of_the_loop_wakes_everybody(crash):
    poller = Breakable()
    broker = Broker(poller=poller)
    broker.start()
    reaper = Reaper(broker)
    with Gate() as gate:
        children = [gated(reaper, gate) for _ in range(4)]
        raised = []

        def wait(child):
            try:
                child.wait()
            except Closed as error:
                raised.append(error)

        threads = [threading.Thread(target=wait, args=[child]) for child in children for _ in range(5)]
        for thread in threads:
            thread.start()
        until(lambda: sum(len(child._tickets) for child in children) == 20)
        if crash:
            poller.broken = True
            broker.wake()
        else:
            broker.stop()
        for thread in threads:
            thread.join(LONG)
        assert len(raised) == 20
        assert all(("broken" in str(error)) == crash for error in raised)
        with pytest.raises(Closed):
            children[0].wait(0)
        pid = fork(os._exit, 0)
        with pytest.raises(Closed):
            reaper.monitor(pid)
        os.waitpid(pid, 0)
    for child in children:
        assert os.waitpid(child.pid, 0)[0] == child.pid
    poller.inner.close()


def test_r_14_popen_of_the_program_keeps_its_codes(reaper):
    with Gate() as gate:
        ours = [gated(reaper, gate, number) for number in range(20)]
        theirs = [subprocess.Popen(["sh", "-c", "exit %d" % number]) for number in range(20)]
        gate.open()
        assert [popen.wait() for popen in theirs] == list(range(20))
        assert [child.wait(LONG).exit_status for child in ours] == list(range(20))


def test_a_loop_driven_by_the_program():
    """Without a loop thread wait() drives the loop itself."""
    broker = Broker()
    reaper = Reaper(broker)
    called = []
    with Gate() as gate:
        child = gated(reaper, gate, 3)
        child.on_exit(called.append)
        gate.open()
        assert child.wait(LONG).exit_status == 3
    broker.poll_once(0)
    assert called == [child.state]
    with Gate() as gate, gated(reaper, gate) as child:
        child.end(grace=0, patience=0)
        assert child.wait(LONG).died()
    assert threading.active_count() == 1 or process.get_ident() == broker.thread
    broker.stop()


def test_a_signal_handler_may_use_the_handle_it_interrupts(reaper):
    """The lock is reentrant: a handler that signals while the main thread is inside the same handle does not hang."""
    before = signal.signal(signal.SIGALRM, lambda *_: child.kill(0))
    try:
        with processes.start(["cat"], reaper=reaper, stdin=subprocess.PIPE) as child:
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                child.kill(0)
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
