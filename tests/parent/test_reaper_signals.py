"""Signals, refusals, and other people's processes: acceptance rows RM-05, RM-11 to RM-13, RM-20 to RM-22, RM-28."""

import os
import signal
import subprocess
import sys

import pytest

from contextree import processes
from contextree.core.wire.errors import Closed, NotOurChild, ProcessExited, UsageError
from contextree.parent.child_state import KILLED, LOST, lost
from tests.parent.tools import LONG, Gate, fork, gated, proc_state, script, strace, until

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork")

NEW_PID_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
TELLS_SIGNALS = """
import os, signal
for number in (1, 2, 10, 12, 15):
    signal.signal(number, lambda number, frame: os.write(1, b"%d\\n" % number))
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""


def tells_signals(reaper, **options):
    """A child that writes the number of each signal, and ends by KILL only. It is ready on return."""
    options.setdefault("stdin", subprocess.PIPE)
    options["stdout"] = subprocess.PIPE
    child = processes.start([sys.executable, "-S", "-E", "-c", TELLS_SIGNALS], reaper=reaper, **options)
    assert child.stdout.readline() == b"ready\n"
    return child


@pytest.mark.parametrize("arguments", ["", "open_pidfd=None"])
@pytest.mark.parametrize("stolen", [False, True])
def test_rm_05_a_reused_pid_is_never_signalled(arguments, stolen):
    """In a PID namespace of its own, where the next pid can be chosen. ``stolen``: somebody else reaped it, the
    handle does not know yet, and the pid belongs to another child of ours, the worst case."""
    script("""
        broker = Broker()
        reaper = Reaper(broker, %s)
        gate = Gate()
        child = gated(reaper, gate)
        broker.poll_once(0)
        innocents = Gate()
        if %s:
            os.kill(child.pid, 9)
            os.waitpid(child.pid, 0)
        else:
            child.kill()
            child.wait(LONG)
        ticks = os.times().elapsed  # a polled child is told from a later one of its pid by the tick that it was born in
        until(lambda: os.times().elapsed > ticks + 0.02)
        for attempt in range(3):
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(child.pid - 1))
            innocent = gated(reaper, innocents, 5)
            if innocent.pid == child.pid:
                break
        assert innocent.pid == child.pid
        for use in (child.kill, child.terminate, child.killpg):
            try:
                use()
            except errors.ProcessExited:
                continue
            raise SystemExit("signalled")
        state = child.wait(LONG)
        assert state.killed_with() == 9 or state.code == LOST, state
        innocents.open()
        assert innocent.wait(LONG).exit_status == 5
        """ % (arguments, stolen), before=NEW_PID_NAMESPACE)


def test_rm_11_the_signal_is_the_one_asked_for(reaper):
    with tells_signals(reaper) as child:
        for sig in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
            child.kill(sig)
            assert int(child.stdout.readline()) == sig
        child.terminate()
        assert int(child.stdout.readline()) == signal.SIGTERM
        child.kill(0)
        with pytest.raises(OSError, match="Invalid argument"):
            child.kill(200)
        child.kill()
        assert child.wait(LONG).killed_with() == signal.SIGKILL


def test_rm_12_killpg_reaches_the_group_of_a_leader(reaper):
    command = ["sh", "-c", "sleep 1000 & echo $!; sleep 1000 & echo $!; wait"]
    child = processes.start(command, reaper=reaper, stdout=subprocess.PIPE, start_new_session=True)
    with child:
        grandchildren = [int(child.stdout.readline()) for _ in range(2)]
        child.killpg(signal.SIGTERM)
        assert child.wait(LONG).killed_with() == signal.SIGTERM
        until(lambda: [proc_state(pid) in ("", "Z") for pid in grandchildren] == [True] * 2)


def test_rm_12_killpg_of_a_non_leader_touches_nobody(reaper):
    """Neither the child nor our own group, of which this very process is a member."""
    with tells_signals(reaper) as child:
        with pytest.raises(UsageError, match="leads no process group"):
            child.killpg(signal.SIGTERM)
        child.kill(signal.SIGUSR1)
        assert int(child.stdout.readline()) == signal.SIGUSR1


def test_rm_13_the_context_manager_kills_and_reaps(reaper):
    with Gate() as gate:
        with pytest.raises(ZeroDivisionError), gated(reaper, gate) as child:
            _ = 1 / 0
        assert child.state.killed_with() == signal.SIGKILL
        assert proc_state(child.pid) == ""


@pytest.mark.parametrize("arguments", ["", "open_pidfd=None"])
def test_rm_13_a_dead_child_is_not_killed_again(tmp_path, arguments):
    _output, calls = strace("""
        broker = Broker(); broker.start()
        reaper = Reaper(broker, %s)
        with Gate() as gate, gated(reaper, gate, 1) as child:
            gate.open()
            child.wait(LONG)
        with reaper.monitor(fork(os._exit, 1)) as child:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT) if not child.state else None
        assert child.state.exit_status == 1
        broker.stop()
        """.replace("os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT) if not child.state else None",
                    "child.wait(LONG)") % arguments, tmp_path, "kill,tgkill,tkill,pidfd_send_signal")
    assert calls == []


def test_rm_20_a_grandchild_whose_parent_is_killed(tmp_path):
    """The half that needs no contexts: B ends by EOF when A is killed; as its subreaper we get its state, and a
    handle of what A reaped is told LOST once the way to A is gone."""
    script("""
        assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
        broker = Broker(); broker.start()
        reaper = Reaper(broker)
        a = subprocess.Popen([sys.executable, "-c", '''if 1:
            import subprocess
            b = subprocess.Popen(["sh", "-c", "read x; exit 4"], stdin=subprocess.PIPE)
            print(b.pid, flush=True)
            b.wait()'''], stdout=subprocess.PIPE, text=True)
        pid = int(a.stdout.readline())
        try:
            reaper.monitor(pid)
        except errors.NotOurChild:
            pass
        else:
            raise SystemExit("a grandchild was taken for a child")
        remote = reaper.adopt_remote(pid, "b", lambda sig: None)
        a.kill()
        a.wait()
        remote.report(lost(pid, "b", "its parent was killed"))
        assert str(remote.wait(LONG)) == "lost: its parent was killed"
        assert reaper.monitor(pid).wait(LONG).exit_status == 4
        broker.stop()
        """)


def test_rm_21_a_process_that_is_not_our_child_is_refused(reaper):
    for pid in (1, os.getpid(), os.getppid(), 2**22 - 1, 0, -1, -5):
        with pytest.raises(NotOurChild):
            reaper.monitor(pid)
    read, write = os.pipe()

    def parent():
        with Gate() as gate:
            os.write(write, b"%d\n" % fork(gate.wait))
            signal.pause()

    with os.fdopen(read) as pids, reaper.monitor(fork(parent)):
        os.close(write)
        with pytest.raises(NotOurChild):
            reaper.monitor(int(pids.readline()))


@pytest.mark.parametrize("arguments", ["", "open_pidfd=None"])
def test_rm_22_as_pid_1_orphans_of_others_are_not_touched(arguments):
    script("""
        assert os.getpid() == 1
        broker = Broker(); broker.start()
        reaper = Reaper(broker, %s)
        read, write = os.pipe()
        gate = Gate()
        parent = fork(lambda: os.write(write, str(fork(gate.wait, 7)).encode()) and 0)
        assert os.waitpid(parent, 0)[1] == 0
        orphan = int(os.read(read, 10))
        gate.open()
        assert [reaper.monitor(fork(os._exit, code)).wait(LONG).exit_status for code in range(10)] == list(range(10))
        assert os.WEXITSTATUS(os.waitpid(orphan, 0)[1]) == 7
        broker.stop()
        """ % arguments, before=NEW_PID_NAMESPACE)


@pytest.mark.parametrize("arguments", ["", "open_pidfd=None"])
def test_rm_28_the_end_of_a_pid_namespace(arguments):
    """Our first child after unshare is the namespace's init; when it is killed the kernel kills the others."""
    script("""
        broker = Broker()
        reaper = Reaper(broker, %s)
        assert ctypes.CDLL(None).unshare(0x20000000) == 0  # CLONE_NEWPID; before there are threads
        gate = Gate()
        init, *others = [reaper.monitor(fork(gate.wait)) for _ in range(4)]  # no loop thread: none can start any more
        init.kill()
        for child in [init] + others:
            state = child.wait(LONG)
            assert state.killed_with() == 9 or state.code == LOST, state
        broker.stop()
        """ % arguments)


def test_remote_children(reaper):
    """Reaped elsewhere: signals go through the caller's function, states come by report()."""
    sent = []
    child = reaper.adopt_remote(4711, "worker", sent.append)
    child.terminate()
    child.kill()
    assert sent == [signal.SIGTERM, signal.SIGKILL]
    with pytest.raises(UsageError):
        child.killpg()
    with pytest.raises(NotOurChild):
        reaper.monitor(2**22 - 2)
    state = lost(4711, "worker")._replace(code=KILLED, status=9, reason="")
    child.report(state)
    child.report(lost(4711))
    assert child.wait(LONG) is state
    with pytest.raises(ProcessExited):
        child.kill()
    assert len(sent) == 2


def test_release(reaper):
    """The process runs on; who waits is told; its status is the program's again."""
    with Gate() as gate:
        child = gated(reaper, gate, 2)
        child.release()
        child.release()
        with pytest.raises(Closed, match="released"):
            child.wait()
        with pytest.raises(Closed):
            child.kill()
        gate.open()
        assert os.WEXITSTATUS(os.waitpid(child.pid, 0)[1]) == 2
    assert LOST not in (child.phase, child.state)
