"""The workers' lines to the multiplexer: who is let in, what comes back, and what happens when either end goes away."""

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

import contextree
from ansible_plugin.controller import desk, line
from contextree.parent import place
from tests.lab.poll import until


class Service:
    """What is served."""

    def __init__(self):
        self.begun, self.cancelled = threading.Event(), threading.Event()

    @contextree.expose
    def echo(self, value):
        return value

    @contextree.expose
    def fail(self, how):
        raise how

    @contextree.expose
    def odd(self):
        return lambda: None  # no plain value

    @contextree.expose
    def hang(self):
        desk.caller().on_cancel(self.cancelled.set)
        self.begun.set()
        assert self.cancelled.wait(30)

    def hidden(self):
        raise AssertionError


@pytest.fixture
def served():
    """A service and the path of the token for it, in a process of its own; and that."""
    near, far = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(near)
            with desk.Desk(Service()) as there:
                os.write(far, there.token.encode())
                signal.sigwait([signal.SIGTERM])
        finally:
            os._exit(0)
    os.close(far)
    token = os.read(near, 1000).decode()
    os.close(near)
    yield token, pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    place.sweep(os.path.dirname(token))


@pytest.fixture(autouse=True)
def _blocked():
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, old)


@pytest.fixture
def here():
    """A line, and the service, which is in this process."""
    service = Service()
    there = desk.Desk(service)
    made = line.Line(there.token)
    yield made, service
    made.close()
    until(lambda: not there.callers, "the line to end")
    there.close()


def died(call):
    """Ask, and be told that there is nobody."""
    with pytest.raises(contextree.ContextDied):
        call()


def test_what_comes_back(served):
    made = line.Line(served[0])
    try:
        for value in None, ("done", 1, b"x" * (5 << 20)), {"a": [1]}:
            assert made.call.echo(value) == value
        with pytest.raises(contextree.ConnectError, match="no way") as caught:
            made.call.fail(contextree.ConnectError("no way", phase="login", output="x"))
        assert (caught.value.phase, caught.value.output) == ("login", "x")
        with pytest.raises(FileNotFoundError):
            made.call.fail(FileNotFoundError(2, "gone", "/x"))
        with pytest.raises(contextree.RemoteError, match="KeyError") as remote:
            made.call.fail(KeyError("k"))
        assert "test_line" in remote.value.traceback
        with pytest.raises(contextree.RemoteError):
            made.call.odd()
        for name in "hidden", "begun", "no_such":
            with pytest.raises(contextree.UsageError, match=name):
                getattr(made.call, name)()
        assert made.is_open()
    finally:
        made.close()


def test_who_is_not_let_in(served, tmp_path):
    folder = os.path.dirname(served[0])
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(os.path.join(folder, line.SOCKET))
        sock.sendall(b"x" * line.SIZE)
        assert sock.recv(1) == b""
    os.chmod(served[0], 0o644)
    with pytest.raises(contextree.UsageError, match="0600"):
        line.Line(served[0])
    os.chmod(served[0], 0o600)
    os.chmod(folder, 0o755)
    with pytest.raises(contextree.UsageError, match="0700"):
        line.Line(served[0])
    os.chmod(folder, 0o700)
    with pytest.raises(contextree.UsageError):
        line.Line(str(tmp_path / "none" / "token"))


def test_who_goes_away_has_cancelled(here):
    made, service = here
    asking = threading.Thread(target=died, args=(made.call.hang,))
    asking.start()
    assert service.begun.wait(30)
    end = socket.socket(fileno=os.dup(made.fd))
    end.shutdown(socket.SHUT_RDWR)
    end.close()
    assert service.cancelled.wait(30)
    asking.join(30)
    assert not asking.is_alive()


def test_a_signal_tears_out_of_waiting(here):
    made, service = here

    class Late(BaseException):
        pass

    def late(number, frame):
        raise Late

    old = signal.signal(signal.SIGUSR1, late)
    sender = threading.Thread(target=lambda: service.begun.wait(30) and os.kill(os.getpid(), signal.SIGUSR1))
    sender.start()
    try:
        with pytest.raises(Late):
            made.call.hang()
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, old)
    assert service.cancelled.wait(30)
    assert not made.is_open()
    with pytest.raises(contextree.ContextDied):
        made.call.echo(1)


def test_the_multiplexer_is_killed(served):
    token, pid = served
    made = line.Line(token)
    asking = threading.Thread(target=died, args=(made.call.hang,))
    asking.start()
    until(lambda: made.fd is not None and len(os.listdir("/proc/%d/task" % pid)) > 2, "the question to arrive")
    os.kill(pid, signal.SIGKILL)
    asking.join(30)
    assert not asking.is_alive()
    assert not made.is_open()
    until(lambda: not Path(token).parent.exists(), "what it had to be removed")


def test_nobody_waits_for_what_is_submitted(here):
    made, service = here
    assert made.submit.hang() is None
    assert made.call.echo(1) == 1
    assert service.begun.wait(30)
    service.cancelled.set()
