"""The reaper's own checks as a program: standard library only, any Python from 3.6 on.

    reaper_suite.py [--sigchld blocked|handled|ignored] [--pidfd none|ENOSYS|EPERM|EMFILE] [--seccomp] [check ...]

Prints the name of each check that held and ends with "all held"; the first that fails ends it with a traceback.
Run by test_reaper_pythons.py under every Python here, under strace, and with SIGCHLD in other hands.
"""

# ruff: noqa: PT017, E402  (no pytest here: it runs on Pythons that have none; the package is made before its modules)
import argparse
import errno
import os
import signal
import struct
import subprocess
import sys
import threading

# A bare package, as in a child: the door itself needs a newer Python than the reaper does.
door = sys.modules["contextree"] = type(sys)("contextree")
door.__path__ = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "contextree")]

from contextree.core import process
from contextree.core.wire import errors
from contextree.parent.child_state import CONTINUED, EXITED, KILLED, LOST, STOPPED
from contextree.parent.loop import Loop as Broker
from contextree.parent.reaper import Reaper

LONG = 30  # seconds: only a hang gets there


def fork(work):
    """A child that does ``work()`` and exits with what it returns."""
    pid = os.fork()
    if pid:
        return pid
    try:
        code = work()
    except BaseException:
        code = 99
    os._exit(code or 0)


class Gate:
    """Children block in ``pass_through`` until ``open``."""

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def pass_through(self):
        os.close(self.writer)
        os.read(self.reader, 1)

    def open(self):
        for fd in (self.reader, self.writer):
            os.close(fd)


def gated(reaper, code, gate, **options):
    def work():
        gate.pass_through()
        return code

    return reaper.monitor(fork(work), "gated", **options)


def check_exit_and_kill(reaper):
    for code in (0, 1, 3, 250):
        child = reaper.monitor(fork(lambda code=code: code), "exit")
        state = child.wait(LONG)
        assert (state.code, state.status, state.pid) == (EXITED, code, child.pid), state
        assert state.clean() == (code == 0)
        assert child.wait(0) is state
    gate = Gate()
    child = gated(reaper, 0, gate)
    child.kill()
    state = child.wait(LONG)
    assert (state.code, state.killed_with()) == (KILLED, signal.SIGKILL), state
    gate.open()
    try:
        child.kill()
    except errors.ProcessExited as error:
        assert error.state is state
    else:
        raise AssertionError("a dead child was signalled")
    try:
        child.check()
    except errors.UncleanExit as error:
        assert "SIGKILL (9)" in str(error) and error.command == "gated"
    else:
        raise AssertionError("check() took a kill for clean")


def check_stop_and_continue(reaper):
    gate = Gate()
    with gated(reaper, 0, gate) as child:
        child.kill(signal.SIGSTOP)
        assert child.wait(LONG, STOPPED).status == signal.SIGSTOP
        child.kill(signal.SIGCONT)
        assert child.wait(LONG, CONTINUED).code == CONTINUED
        child.kill(signal.SIGSTOP)
        child.wait(LONG, STOPPED)
        child.end(grace=0, patience=LONG)
        assert child.wait(LONG).killed_with() == signal.SIGTERM
    gate.open()


def check_many_waiters(reaper):
    gate = Gate()
    child = gated(reaper, 7, gate)
    states, called = [], []
    child.on_exit(called.append)
    threads = [threading.Thread(target=lambda: states.append(child.wait(LONG))) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join()
    assert len(states) == 8 and len(set(map(id, states))) == 1 and states[0].status == 7
    flush(reaper.broker)
    assert called == [states[0]]


def check_timeout(reaper):
    gate = Gate()
    with gated(reaper, 0, gate) as child:
        for timeout in (0, 0.001):
            try:
                child.wait(timeout)
            except errors.CallTimeout:
                continue
            raise AssertionError("no timeout")
        assert not child._tickets
    gate.open()


def check_not_our_child(reaper):
    for pid in (1, os.getpid(), 0, -1):
        try:
            reaper.monitor(pid)
        except errors.NotOurChild:
            continue
        raise AssertionError("monitor(%d) was not refused" % pid)
    assert reaper.alive == 0


def check_stolen(reaper):
    """Taken by waitpid in this process. The loop is held meanwhile, so that the thief surely comes first."""
    for expect_code in (0, 5):
        gate, go = Gate(), process.Waiter()
        child = gated(reaper, expect_code, gate, spawned=True)
        flush(reaper.broker)
        polled = reaper.stats()["polling"]
        reaper.broker.defer(go.wait, LONG)
        gate.open()
        assert os.WEXITSTATUS(os.waitpid(child.pid, 0)[1]) == expect_code
        try:
            child.kill(0)
        except errors.ProcessExited:
            pass
        go.wake()
        state = child.wait(LONG)
        if polled or reaper.exit_status is None or kernel() < (6, 15):
            assert state.code == LOST and "taken" in str(state) and not state.clean(), state
        else:
            assert (state.code, state.status) == (EXITED, expect_code), state


def check_stolen_before_monitor(reaper):
    pid = fork(lambda: 0)
    os.waitpid(pid, 0)
    assert reaper.monitor(pid, "gone", spawned=True).wait(LONG).code == LOST


def check_popen_of_the_program(reaper):
    gate = Gate()
    ours = [gated(reaper, number, gate) for number in range(5)]
    theirs = [subprocess.Popen(["sh", "-c", "exit %d" % number]) for number in range(5)]
    gate.open()
    assert [child.wait(LONG).status for child in ours] == list(range(5))
    wanted = [0] * 5 if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN else list(range(5))
    assert [popen.wait() for popen in theirs] == wanted


def check_forked(reaper):
    gate = Gate()
    with gated(reaper, 0, gate) as child:
        def inherited():
            if not hasattr(os, "register_at_fork"):
                process.forked()
            for use in (child.wait, child.kill, child.check, child.hint, lambda: reaper.monitor(child.pid)):
                try:
                    use()
                except errors.ForkedError:
                    continue
                return 1
            return 0

        assert reaper.monitor(fork(inherited)).wait(LONG).status == 0
    gate.open()


def check_all_at_once(reaper):
    gate = Gate()
    children = [gated(reaper, number % 251, gate) for number in range(60)]
    gate.open()
    assert [child.wait(LONG).status for child in children] == list(range(60))


def check_nothing_left(reaper):
    assert reaper.alive == 0 and not reaper._polled, reaper.stats()
    try:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        raise AssertionError("left: %d" % pid)
    except ChildProcessError:
        pass


def flush(broker):
    """Everything deferred so far has run."""
    for _ in range(2):
        broker.call(lambda: None)


def kernel():
    return tuple(int(part) for part in os.uname().release.split(".")[:2])


def seccomp_forbids_pidfd_open():
    """A real filter: pidfd_open answers ENOSYS, as an old container runtime's does."""
    import ctypes

    program = b"".join(struct.pack("HBBI", *line) for line in (
        (0x20, 0, 0, 0),  # load the number of the call
        (0x15, 0, 1, 434), (0x06, 0, 0, 0x00050000 | errno.ENOSYS), (0x06, 0, 0, 0x7FFF0000)))
    buffer = ctypes.create_string_buffer(program)

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
    assert libc.prctl(22, 2, ctypes.byref(Filter(4, ctypes.addressof(buffer))), 0, 0) == 0, ctypes.get_errno()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sigchld")
    parser.add_argument("--pidfd")
    parser.add_argument("--seccomp", action="store_true")
    parser.add_argument("checks", nargs="*")
    options = parser.parse_args()
    if options.sigchld == "blocked":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    elif options.sigchld:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN if options.sigchld == "ignored" else lambda *_: None)
    if options.seccomp:
        seccomp_forbids_pidfd_open()
    arguments = {}
    if options.pidfd == "none":
        arguments = {"open_pidfd": None, "exit_status": None}
    elif options.pidfd:
        def refuse(pid):
            raise OSError(getattr(errno, options.pidfd), "no pidfd today")

        arguments = {"open_pidfd": refuse}
    before = signals()
    broker = Broker()
    broker.start()
    reaper = Reaper(broker, **arguments)
    names = options.checks or [name for name in globals() if name.startswith("check_")]
    for name in names:
        globals()[name](reaper)
        print(name, flush=True)
    assert signals() == before
    assert broker.count["errors"] == 0
    polled = reaper.stats()["polled"]
    broker.stop()
    # check_stolen_before_monitor has one that is polled by nature: there is nothing to open
    print("all held; Python %d.%d, %s" % (sys.version_info[:2] + ("polled" if polled > 1 else "pidfds",)))


def signals():
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return signal.getsignal(signal.SIGCHLD), signal.pthread_sigmask(signal.SIG_BLOCK, []), wakeup


if __name__ == "__main__":
    main()
