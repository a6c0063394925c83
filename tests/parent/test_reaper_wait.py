"""Waiting for children: acceptance rows RM-02 to RM-04, RM-06 to RM-09, RM-14 to RM-19. Each on pidfds and on timers
(R-04)."""

import faulthandler
import os
import resource
import signal
import subprocess
import sys
import threading

import pytest

from contextree import processes
from contextree.core import process
from contextree.core.wire.errors import CallTimeout, ProcessExited, UncleanExit, UsageError, WouldBlockLoop
from contextree.parent.child_state import (
    CONTINUED,
    DUMPED,
    EXITED,
    KILLED,
    STOPPED,
    TRAPPED,
    ChildState,
    from_status,
    lost,
)
from contextree.parent.watched import FINAL
from tests.parent.tools import LONG, Gate, alone, fork, gated, proc_state, script, strace, until

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork")


def in_threads(*functions):
    """Run them at the same time, each in a thread; their results or errors, in order."""
    results = [None] * len(functions)

    def run(number, function):
        try:
            results[number] = function()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LONG)
    return results


def test_rm_02_the_programs_own_children_are_left_alone(reaper):
    """15 of ours come and go (the row: 50); the program's three zombies stay and keep their codes."""
    own = [fork(os._exit, code) for code in (11, 12, 13)]
    for _ in range(15):
        reaper.monitor(fork(os._exit, 0)).wait(LONG)
    until(lambda: [proc_state(pid) for pid in own] == ["Z"] * 3)
    assert [os.WEXITSTATUS(os.waitpid(pid, 0)[1]) for pid in own] == [11, 12, 13]


@alone()
def test_rm_03_two_threads_fork_at_once(reaper):
    """2 x 150 forks (the row: 500): every handle reports its own code and nothing is lost."""

    def work(first):
        children = [(code % 251, reaper.monitor(fork(os._exit, code % 251))) for code in range(first, first + 150)]
        return [(code, child.wait(LONG).exit_status) for code, child in children]

    for result in in_threads(lambda: work(0), lambda: work(1000)):
        assert [code for code, _ in result] == [seen for _, seen in result]
    assert reaper.stats()["lost"] == reaper.stats()["recovered"] == 0


def test_rm_04_waiting_for_one_child_does_not_hold_another(reaper):
    with Gate() as gate:
        a, b = gated(reaper, gate), gated(reaper, gate)
        waiting = threading.Thread(target=a.wait)
        waiting.start()
        until(lambda: a._tickets)
        b.kill()
        assert b.wait(LONG).killed_with() == signal.SIGKILL
        assert waiting.is_alive()
        gate.open()
        waiting.join(LONG)
        a.wait(LONG)


def test_rm_04_signals_to_one_child_take_turns_with_its_reaping(reaper):
    """The lock of a handle that is being reaped holds a signal to it back, and no other."""
    with Gate() as gate:
        a, b = gated(reaper, gate), gated(reaper, gate)
        with a._lock, b._lock:  # b's too: it is not to be reaped before this test has seen it
            sender = threading.Thread(target=a.kill)
            sender.start()
            b.kill()
            assert siginfo(b.pid, os.WEXITED)[2] == KILLED
            assert sender.is_alive()
            assert a.state is None
        sender.join(LONG)
        assert [child.wait(LONG).killed_with() for child in (a, b)] == [signal.SIGKILL] * 2


def siginfo(pid, options):
    info = os.waitid(os.P_PID, pid, options | os.WNOWAIT)
    return info.si_pid, info.si_uid, info.si_code, info.si_status


def test_rm_06_exits_and_kills_are_what_the_kernel_says(reaper, tmp_path):
    def dump():
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        os.chdir(tmp_path)
        os.abort()

    for work, code, status in ((lambda: 3, EXITED, 3), (lambda: os.kill(os.getpid(), signal.SIGKILL), KILLED, 9),
                               (dump, DUMPED, signal.SIGABRT)):
        pid = fork(work)
        wanted = siginfo(pid, os.WEXITED)
        state = reaper.monitor(pid, "it").wait(LONG)
        assert (state.pid, state.uid, state.code, state.status) == wanted == (pid, os.getuid(), code, status)
        assert state.died()
        assert not state.clean()
        assert state.killed_with() == (None if code == EXITED else status)


def test_rm_06_stops_and_continues_are_what_the_kernel_says(reaper):
    with Gate() as gate, gated(reaper, gate) as child:
        for sent, option, code in ((signal.SIGSTOP, os.WSTOPPED, STOPPED), (signal.SIGCONT, os.WCONTINUED, CONTINUED)):
            child.kill(sent)
            wanted = siginfo(child.pid, option)
            state = child.wait(LONG, code)
            assert (state.pid, state.uid, state.code, state.status) == wanted
            assert (state.code, state.status) == (code, sent)
            assert not state.died()
            assert child.state is state


def test_rm_06_a_traced_child_is_trapped(reaper):
    def traced():
        import ctypes

        ctypes.CDLL(None).ptrace(0, 0, 0, 0)  # PTRACE_TRACEME
        os.kill(os.getpid(), signal.SIGUSR1)

    with reaper.monitor(fork(traced), "traced") as child:
        state = child.wait(LONG, (TRAPPED, STOPPED))
        assert (state.code, state.status) == (TRAPPED, signal.SIGUSR1)


def test_rm_06_texts():
    texts = {
        ChildState(1, 0, EXITED, 3, "", ""): "exited with status 3",
        ChildState(1, 0, KILLED, 9, "", ""): "killed by SIGKILL (9)",
        ChildState(1, 0, DUMPED, 6, "", ""): "killed, core dumped, by SIGABRT (6)",
        ChildState(1, 0, STOPPED, 19, "", ""): "stopped by SIGSTOP (19)",
        ChildState(1, 0, TRAPPED, 5, "", ""): "trapped by SIGTRAP (5)",
        ChildState(1, 0, KILLED, 40, "", ""): "killed by signal 40",
        ChildState(1, 0, CONTINUED, 18, "", ""): "continued",
        lost(1): "lost: its status was taken by other code in this process",
        from_status(1, 3 << 8): "exited with status 3",
        from_status(1, 0x80 | 6): "killed, core dumped, by SIGABRT (6)",
        from_status(1, 0x137F): "stopped by SIGSTOP (19)",
        from_status(1, 0xFFFF): "continued",
    }
    assert {state: str(state) for state in texts} == texts
    assert lost(1).died()
    assert not lost(1).clean()
    assert [lost(1).returncode, from_status(1, 9).returncode, from_status(1, 256).returncode] == [None, -9, 1]
    with pytest.raises(AttributeError):
        lost(1).code = EXITED


def test_rm_07_each_waiter_gets_what_it_waits_for(reaper):
    with Gate() as gate:
        child = gated(reaper, gate)
        stopped, exited = [], []
        threads = [threading.Thread(target=lambda: stopped.append(child.wait(LONG, STOPPED))),
                   threading.Thread(target=lambda: exited.append(child.wait(LONG)))]
        for thread in threads:
            thread.start()
        until(lambda: len(child._tickets) == 2)
        child.kill(signal.SIGSTOP)
        threads[0].join(LONG)
        assert not exited
        child.kill()
        threads[1].join(LONG)
        assert (stopped[0].code, exited[0].code) == (STOPPED, KILLED)


def test_rm_07_a_stop_that_nobody_waits_for_is_not_thrown_away(reaper):
    """The program, or a later waiter, can still have it; and who waits for a stop of a child that dies gets the
    death."""
    with Gate() as gate, gated(reaper, gate) as child:
        child.kill(signal.SIGSTOP)
        with pytest.raises(CallTimeout):
            child.wait(0.02)
        assert siginfo(child.pid, os.WSTOPPED)[2] == STOPPED
        assert child.wait(LONG, [STOPPED, CONTINUED]).code == STOPPED
        child.kill()
        assert child.wait(LONG, STOPPED).code == KILLED


def test_rm_07_options_are_checked(reaper):
    with Gate() as gate, gated(reaper, gate) as child:
        for wrong in (0, 99, (), ("STOPPED",)):
            with pytest.raises(UsageError, match="cannot wait for"):
                child.wait(0, wrong)


@pytest.mark.parametrize("arguments", ["", "open_pidfd=None"])
def test_rm_08_death_is_sticky_and_reaped_once(tmp_path, arguments):
    output, calls = strace("""
        broker = Broker(); broker.start()
        with Gate() as gate:
            child = gated(Reaper(broker, %s), gate, 4)
        first = child.wait(LONG)
        assert all(child.wait() is first for _ in range(10)) and child.state is first
        broker.stop()
        print(child.pid)
        """ % arguments, tmp_path, "wait4,waitid")
    reaps = [line for line in calls if "si_pid=%s" % output.strip() in line and "WNOWAIT" not in line]
    assert len(reaps) == 1, calls


def test_rm_09_check(reaper):
    assert processes.start(["true"], reaper=reaper).check(LONG).clean()
    child = processes.start(["false"], reaper=reaper)
    with pytest.raises(UncleanExit, match=r"process \d+ \(false\) exited with status 1") as caught:
        child.check(LONG)
    assert caught.value.state.exit_status == 1
    assert caught.value.command == "false"
    child = processes.start(["sh", "-c", "kill -9 $$"], reaper=reaper)
    with pytest.raises(UncleanExit, match=r"\(sh -c 'kill -9 \$\$'\) killed by SIGKILL"):
        child.check(LONG)


@alone()
def test_rm_14_an_exit_between_the_look_and_the_sleep_wakes(reaper):
    """200 loops (the row: 10 000). The child dies, and is reaped, when the waiter is about to sleep."""
    about_to_sleep = []

    class Waiter(process.Waiter):
        def wait(self, timeout=None):
            if about_to_sleep:
                about_to_sleep.pop()()
            return super().wait(timeout)

    process.waiter = Waiter
    for number in range(200 if reaper.backend == "pidfd" else 50):
        with Gate() as gate:
            child = gated(reaper, gate, number % 7)

            def die(child=child, gate=gate, number=number):
                gate.open()
                if number % 2:
                    until(lambda: child.phase in FINAL)

            about_to_sleep.append(die)
            assert child.wait(LONG).exit_status == number % 7


@alone()
def test_rm_15_exits_at_the_same_time_are_all_seen(reaper):
    with Gate() as gate:
        children = [gated(reaper, gate, number) for number in range(100)]
        gate.open()
    assert [child.wait(LONG).exit_status for child in children] == list(range(100))


def test_rm_16_the_exit_arrives_after_any_number_of_stops(reaper):
    with Gate() as gate:
        child = gated(reaper, gate)
        for _ in range(5):
            for sig in (signal.SIGSTOP, signal.SIGCONT, signal.SIGSTOP):
                child.kill(sig)
            assert child.wait(LONG, (STOPPED, CONTINUED)).code in (STOPPED, CONTINUED)
        child.kill()
        seen = [child.wait(LONG, (STOPPED, CONTINUED)) for _ in range(4)]
        assert seen[-1].killed_with() == signal.SIGKILL


def test_rm_17_two_children_one_after_the_other(reaper):
    """60 loops (the row: 500)."""
    for _ in range(60):
        children = [processes.start(["true"], reaper=reaper) for _ in range(2)]
        for child in children:
            assert child.check(LONG).clean()


@pytest.mark.parametrize("arguments", ["", "open_pidfd=None"])
def test_rm_18_no_signal_to_a_child_that_is_dead_but_unread(tmp_path, arguments):
    """The loop is held, so that nobody has read the status; the handle looks by itself before it signals."""
    _output, calls = strace("""
        broker = Broker(); broker.start()
        reaper = Reaper(broker, %s)
        with Gate() as gate:
            child = gated(reaper, gate, 4)
            broker.call(lambda: None)
            go = process.Waiter()
            broker.defer(go.wait, LONG)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        for use in (child.kill, child.terminate, child.killpg):
            try:
                use()
            except errors.ProcessExited:
                continue
            raise SystemExit("signalled")
        assert child.state is None
        go.wake()
        assert child.wait(LONG).exit_status == 4
        broker.stop()
        """ % arguments, tmp_path, "kill,tgkill,tkill,pidfd_send_signal")
    assert calls == []


def test_rm_19_many_waiters(reaper):
    """Five threads here; five tasks beside them in test_reaper_loops.py."""
    with Gate() as gate:
        child = gated(reaper, gate, 6)
        called = []
        child.on_exit(called.append)
        opener = threading.Timer(0, lambda: (until(lambda: len(child._tickets) == 5), gate.open()))
        opener.start()
        states = in_threads(*[lambda: child.wait(LONG)] * 5)
        opener.join()
    assert [state.exit_status for state in states] == [6] * 5
    assert len(set(map(id, states))) == 1
    reaper.broker.call(lambda: None)
    child.on_exit(called.append)
    reaper.broker.call(lambda: None)
    assert called == states[:2]
    assert reaper.stats()["reaped"] == 1


def test_a_waiter_that_leaves_keeps_the_stop_for_the_next(reaper):
    with Gate() as gate, gated(reaper, gate) as child:
        woken = process.Waiter()
        ticket = child.begin_wait(STOPPED, woken.wake)
        assert ticket.result() is None
        child.kill(signal.SIGSTOP)
        assert woken.wait(LONG)
        child.abandon(ticket)
        assert child.wait(LONG, STOPPED) is ticket.result()


def test_wait_on_the_loop_thread_is_refused(reaper):
    with Gate() as gate, gated(reaper, gate) as child, pytest.raises(WouldBlockLoop):
        reaper.broker.call(child.wait)


def test_monitor_twice_is_the_same_handle(reaper):
    with Gate() as gate, gated(reaper, gate) as child:
        assert reaper.monitor(child.pid) is child
        child.kill()
        child.wait(LONG)
        with pytest.raises(ProcessExited):
            child.kill()


def test_ctrl_c_ends_a_wait():
    """In a process of its own: SIGINT while it waits; the child lives on, and check() would have sent TERM."""
    script("""
        broker = Broker(); broker.start()
        with Gate() as gate, gated(Reaper(broker), gate) as child:
            for use in (child.wait, child.check):
                def interrupt():
                    until(lambda: child._tickets)
                    os.kill(os.getpid(), signal.SIGINT)

                threading.Thread(target=interrupt).start()
                try:
                    use()
                except KeyboardInterrupt:
                    assert not child._tickets
                else:
                    raise SystemExit("not interrupted")
                print(child.state)
            assert child.wait(LONG).killed_with() == signal.SIGTERM
        broker.stop()
        """)


def test_the_door(tmp_path):
    """start and monitor, on the default loop; pipes; a fork in between."""
    with processes.start(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdin.write(b"hello")
        child.stdin.close()
        assert child.stdout.read() == b"hello"
        assert child.check(LONG).clean()
    assert child.stdout.closed
    with pytest.raises(UsageError, match="preexec_fn"):
        processes.start(["true"], preexec_fn=print)
    with pytest.raises(FileNotFoundError):
        processes.start([str(tmp_path / "absent")])
    assert processes.monitor(fork(os._exit, 9)).wait(LONG).exit_status == 9

    def in_a_fork():
        return processes.start([sys.executable, "-c", "raise SystemExit(8)"]).wait(LONG).exit_status

    assert processes.monitor(fork(in_a_fork)).wait(LONG).exit_status == 8
    processes.default_reaper().broker.stop()
