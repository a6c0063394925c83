"""Statuses that others take, tracers, old kernels, crowds: acceptance rows R-03 to R-05, R-07, R-08, R-11."""

import errno
import os
import signal
import subprocess
import threading

import pytest

from contextree import processes
from contextree.core.wire.errors import InternalError, ProcessExited, UncleanExit
from contextree.parent import pidfd
from contextree.parent.child_state import EXITED, LOST
from contextree.parent.loop import Loop as Broker
from contextree.parent.reaper import Reaper
from contextree.parent.watched import FINAL, MOVES, Phase
from tests.parent.tools import LONG, Gate, alone, fork, gated, proc_state, script, until

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork")


def tracer_of(pid):
    with open("/proc/%d/status" % pid) as file:
        return int(file.read().partition("TracerPid:")[2].split()[0])


def test_r_03_a_child_frozen_by_its_tracer(reaper, tmp_path):
    """Its strace is stopped, then the child killed: on its way out it stops for the tracer, and there is no status
    until that is gone. The loop does not spin
    meanwhile: its turns are those of the backoff, and it reaps when the tracer has died."""
    with Gate() as gate:
        child = gated(reaper, gate)
        tracer = subprocess.Popen(["strace", "-qq", "-o", tmp_path / "log", "-p", str(child.pid)])
        until(lambda: tracer_of(child.pid) == tracer.pid)
        tracer.send_signal(signal.SIGSTOP)
        until(lambda: proc_state(tracer.pid) == "T")
        child.kill()
        until(lambda: proc_state(child.pid) in "tZ")
        turns = reaper.broker.count["turns"]
        done = threading.Event()
        reaper.broker.call(lambda: reaper.broker.timer(0.5, done.set))
        assert done.wait(LONG)
        assert reaper.broker.count["turns"] - turns < 20
        assert child.state is None
        tracer.kill()
        tracer.wait()
        assert child.wait(LONG).killed_with() == signal.SIGKILL


def test_r_03_a_pidfd_that_is_ready_without_a_status(pidfd_reaper, monkeypatch):
    """As kernels other than this one show a traced child: asked again by timer, the descriptor out of the poller."""
    real, asked = pidfd.wait, []

    def nothing_yet(idtype, ident, flags, *more):
        if flags == pidfd.WEXITED and len(asked) < 6:
            asked.append(child._fd in pidfd_reaper.broker._entries)
            return None
        return real(idtype, ident, flags, *more)

    with Gate() as gate:
        child = gated(pidfd_reaper, gate, 3)
        pidfd_reaper.broker.call(lambda: None)
        monkeypatch.setattr(pidfd, "wait", nothing_yet)
        gate.open()
        assert child.wait(LONG).exit_status == 3
    assert len(asked) == 6
    assert child._delay == 0.001 * 2**6


def refuse(number):
    def open_pidfd(pid):
        raise OSError(number, os.strerror(number))

    return open_pidfd


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EMFILE])
def test_r_04_without_pidfd_open(broker, number):
    """That all rows hold there is shown by the fixture ``reaper``, which runs every test on timers too."""
    reaper = Reaper(broker, open_pidfd=refuse(number))
    with Gate() as gate:
        child = gated(reaper, gate, 4)
        gate.open()
        assert child.wait(LONG).exit_status == 4
    assert reaper.stats()["polled"] == 1
    assert (reaper._open is None) == (number != errno.EMFILE)


def test_r_04_no_descriptor_left():
    """Really none: the limit is reached when the child is monitored, and lifted later."""
    script("""
        import resource
        broker = Broker(); broker.start()
        reaper = Reaper(broker)
        with Gate() as gate:
            pid = fork(gate.wait, 4)
            kept = os.open("/", os.O_RDONLY)
            resource.setrlimit(resource.RLIMIT_NOFILE, (kept + 1, 4096))
            child = reaper.monitor(pid)
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
            assert reaper.monitor(pid) is child
        assert child.wait(LONG).exit_status == 4
        broker.call(lambda: None)
        assert reaper.stats()["polled"] == 1, reaper.stats()
        broker.stop()
        """)


def test_r_04_an_exit_that_nobody_waits_for_is_seen_by_the_sweep(broker):
    reaper = Reaper(broker, open_pidfd=None)
    called = threading.Event()
    with Gate() as gate:
        gated(reaper, gate).on_exit(lambda state: called.set())
    assert called.wait(LONG)


def test_r_04_linux_5_3_has_pidfds_but_no_wait_by_them(broker, monkeypatch):
    real = pidfd.wait

    def old(idtype, *rest):
        if idtype == pidfd.P_PIDFD:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(idtype, *rest)

    monkeypatch.setattr(pidfd, "wait", old)
    reaper = Reaper(broker)
    with Gate() as gate:
        child = gated(reaper, gate, 4)
        gate.open()
        assert child.wait(LONG).exit_status == 4
    assert not reaper.by_pidfd


@pytest.mark.parametrize("keep", ["kernel remembers", "Linux before 6.15", "no pidfd"])
def test_r_05_a_thief_thread(keep):
    """A thread in waitpid(-1): the status is right or the state is LOST, for each of 60 children; nothing hangs."""
    arguments = {"kernel remembers": "", "Linux before 6.15": "exit_status=None", "no pidfd": "open_pidfd=None"}[keep]
    output = script("""
        broker = Broker(); broker.start()
        reaper = Reaper(broker, %s)
        stolen, stop = [], []

        def thief():
            while not stop:
                try:
                    stolen.append(os.waitpid(-1, 0)[0])
                except ChildProcessError:
                    pass

        thread = threading.Thread(target=thief)
        thread.start()
        for round in range(12):
            gate = Gate()
            children = [reaper.monitor(fork(gate.wait, code), spawned=True) for code in range(5)]
            gate.open()
            for code, child in enumerate(children):
                state = child.wait(LONG)
                if state.code == LOST:
                    assert "taken by other code" in str(state) and not state.clean()
                    assert child.pid in stolen or thread.is_alive()
                else:
                    assert state.exit_status == code, (code, state)
        stop.append(1)
        thread.join(LONG)
        broker.stop()
        print(reaper.stats())
        """ % arguments)
    stats = dict(item.split(": ") for item in output.strip("{}\n").replace("'", "").split(", "))
    assert int(stats["lost"]) + int(stats["reaped"]) == 60
    assert int(stats["lost"]) + int(stats["recovered"]) > 0
    if keep == "kernel remembers":
        assert stats["lost"] == "0"


def test_r_05_a_lost_status_is_no_success(broker):
    reaper = Reaper(broker, exit_status=None)
    pid = fork(os._exit, 0)
    os.waitpid(pid, 0)
    child = reaper.monitor(pid, "job", spawned=True)
    with pytest.raises(UncleanExit, match=r"\(job\) lost: its status was taken by other code in this process"):
        child.check(LONG)
    assert child.state.code == LOST
    assert child.phase == Phase.LOST


def test_r_05_a_kernel_that_is_late_with_the_code_is_asked_again(broker):
    """The thief may still be inside the kernel when waitid says ECHILD."""
    answers = [None, None, None]
    reaper = Reaper(broker, exit_status=lambda fd: answers.pop() if answers else pidfd.exit_status(fd))
    never = Reaper(broker, exit_status=lambda fd: None)
    for each, code in ((reaper, EXITED), (never, LOST)):
        with Gate() as gate:
            child = gated(each, gate, 4)
            broker.call(lambda: None)
            with child._lock:
                gate.open()
                os.waitpid(child.pid, 0)
            assert child.wait(LONG).code == code


@pytest.mark.parametrize("arguments", ["", "exit_status=None", "open_pidfd=None"])
def test_r_07_sigchld_ignored(arguments):
    """The standard library says 0 here; we say what it was, or that it is lost and why."""
    script("""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        broker = Broker(); broker.start()
        reaper = Reaper(broker, %s)
        gate = Gate()
        children = [gated(reaper, gate, code) for code in (0, 1, 5)]
        gate.open()
        for code, child in zip((0, 1, 5), children):
            state = child.wait(LONG)
            if reaper.exit_status is None or reaper.stats()["polled"]:
                reason = "SIGCHLD is ignored in this process, so the kernel throws statuses away"
                assert str(state) == "lost: " + reason, state
            else:
                assert state.exit_status == code, state
        with Gate() as gate, gated(reaper, gate) as child:
            child.kill()
            state = child.wait(LONG)
            assert state.killed_with() == 9 or state.code == LOST
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
        broker.stop()
        """ % arguments)


@alone()
def test_r_08_200_children_at_once(reaper):
    """All statuses are right, each look is one short callback, and a timer of the loop goes on beside them."""
    ticks = []
    broker = reaper.broker

    def tick():
        ticks.append(reaper.stats()["reaped"])
        if reaper.alive:
            broker.timer(0.0005, tick)

    with Gate() as gate:
        children = [gated(reaper, gate, number % 200) for number in range(200)]
        broker.call(tick)
        gate.open()
        for child in children:
            child.hint()
        assert [child.wait(LONG).exit_status for child in children] == list(range(200))
    broker.call(lambda: None)
    assert len(ticks) > 1
    assert ticks[0] == 0


@alone()
def test_r_11_kill_during_reap(reaper):
    """300 races (the row: 10 000): a kill either meets the child or says that it has exited; never anything else."""
    outcomes = set()
    for _ in range(300):
        child = reaper.monitor(fork(os._exit, 0))
        try:
            child.kill()
            outcomes.add("sent")
        except ProcessExited:
            outcomes.add("exited")
        state = child.wait(LONG)
        assert state.clean() or state.killed_with() == signal.SIGKILL
        with pytest.raises(ProcessExited):
            child.kill()
    assert outcomes


def test_the_table_of_states(broker):
    """Every move that is not in the table is an error that names both states; the final ones have none."""
    assert all(not MOVES[phase] for phase in FINAL)
    child = Reaper(broker).adopt_remote(1, "it", print)
    for phase in MOVES:
        for target in MOVES:
            child.phase = phase
            if target in MOVES[phase] or target == phase:
                child._move(target)
                assert child.phase == target
            else:
                with pytest.raises(InternalError, match="cannot go from %s to %s" % (phase, target)):
                    child._move(target)
    child.phase = Phase.RUNNING
    child.release()


def test_hints(reaper):
    """A wrong hint does no harm; a right one is looked at soon."""
    with Gate() as gate:
        child = gated(reaper, gate, 2)
        child.hint()
        reaper.broker.call(lambda: None)
        assert child.phase == Phase.EXIT_HINT
        gate.open()
        child.hint()
        assert child.wait(LONG).exit_status == 2
        child.hint()


def test_the_door_keeps_popen_from_waiting(reaper):
    """The Popen behind start() is dropped and forgets the pid: nothing of subprocess polls for it later."""
    with processes.start(["cat"], reaper=reaper, stdin=subprocess.PIPE) as child:
        assert child.pid not in [popen.pid for popen in subprocess._active]


def test_a_loop_that_never_ran_can_be_stopped():
    broker = Broker()
    reaper = Reaper(broker)
    with Gate() as gate:
        child = gated(reaper, gate)
        broker.stop()
        assert child.phase == Phase.RELEASED
        gate.open()
        os.waitpid(child.pid, 0)
