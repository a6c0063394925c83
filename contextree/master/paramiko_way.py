"""The way to one child by paramiko: from the name of a host to an interpreter whose link is carried.

A thread of its own makes the connection (names, TCP, keys, login: all of that waits) and then ends; paramiko's thread,
see ``paramiko_wire``, is what remains. With jump hosts there is one connection for each of them, and its thread moves
what the next one sends. Everything that must be closed is known to the ``Connection``; ``end``, from any thread, shuts
all of it down, whereupon the threads end, and the last one tells the exit status. So the end of the child is the end of
its threads and descriptors.
"""

import _socket
import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import paramiko

from contextree.connect import ssh_errors
from contextree.connect.ssh_config import ConfigError
from contextree.connect.ssh_paramiko import Access, Answers
from contextree.core import process
from contextree.core.wire.errors import Closed
from contextree.master import paramiko_login as login
from contextree.master.paramiko_host import Failure, Hop
from contextree.master.paramiko_wire import Line, Wire
from contextree.parent import child_state

STUCK = 1.0  # seconds that a thread may take to notice its end; one that looks up a name does not notice
ENDING = frozenset((1, 2, 3, 9, 13, 15))


class Owner:
    """Who is told what becomes of a Connection. All of it may be called from any thread, and never waits."""

    def phase(self, phase: str) -> None:
        """It has come so far: login, boot."""

    def note(self, text: str) -> None:
        """A line that its user may want to see."""

    def stderr(self, data: bytes) -> bool:
        """What came on stderr there, or nothing; False: more than this cannot be taken for the moment."""
        return True

    def failed(self, error: str, message: str, phase: str) -> None:
        """There is no way: the name of an error's class, its text, the phase."""

    def ended(self, state: "child_state.ChildState") -> None:
        """It is over, and nothing is left of it. Called last, once."""

    def soon(self, seconds: float, function: Callable[[], object]) -> None:
        """Have ``function`` called in so many seconds, unless the loop ends before that."""


class Connection:
    """The way to one child: threads, sockets, and what became of them. ``fd`` is the other end of the child's link."""

    def __init__(self, owner: Owner, access: Access, command: str, fd: int,
                 dial: Callable[[Hop], int] | None = None) -> None:
        self.owner = owner
        self.access = access
        self.command = command
        self.fd = fd  # the link's other end, until the wire has it
        self.dial = dial or self._dial  # a descriptor of a connection to the first host
        self.lock = threading.Lock()
        self.threads = 1
        self.wires: list[Any] = []
        self.closers: list[Callable[[], object]] = []
        self.channel: Any = None
        self.line: Any = None  # the last one, to the host itself
        self.killed = 0
        self.ended: str | None = None
        self.told = False

    def start(self) -> None:
        """Begin to connect. Any thread."""
        process.keep.append(self)  # in a forked child nothing of it may be collected: paramiko would write
        threading.Thread(target=self._run, name="contextree connects %s" % self.access.host, daemon=True).start()

    # -- from any thread

    def signal(self, number: int) -> None:
        """What a signal would do to an ssh program: those that end it end the connection."""
        if number in ENDING:
            self.killed = self.killed or number
            self.end("it was ended by a signal")

    def end(self, reason: str) -> None:
        """Shut everything down. Never waits; idempotent."""
        with self.lock:
            first, self.ended = self.ended is None, self.ended or reason
            closers, self.closers = self.closers, []
            wires = list(self.wires)
        for close in closers:
            close()
        for wire in wires:
            wire.close()
        if first:
            self.owner.soon(STUCK, self._tell)

    def keep(self, sock: "socket.socket") -> None:
        """Have ``sock`` shut down at the end, should it come while a thread waits for it."""
        def close() -> None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # closed, or not connected

        with self.lock:
            if self.ended is None:
                self.closers.append(close)
                return
        close()

    # -- the thread that connects

    def _run(self) -> None:
        try:
            self._connect()
        except Failure as failure:
            self._fail(str(failure), failure.error, failure.phase)
        except ConfigError as error:
            self._fail(str(error), "ConnectError", "start")
        except Closed as error:
            self._fail("the connection ended: %s" % error, "ConnectError", "connect")
        except Exception as error:
            self._fail("ssh: %s: %s" % (type(error).__name__, error), "", "connect")
        finally:
            self._left()

    def _connect(self) -> None:
        target = Hop(self.access, self.access.host, self.access.user, self.access.port, True)
        way = target.way()
        fd = self.dial(way[0])
        for hop in way:
            line = self._enter(hop, fd)
            if hop is not target:
                onward = way[way.index(hop) + 1]
                fd = self._jump(line, hop, onward)
        self._phase("boot")
        self._session(line, target)

    def _session(self, line: Any, target: Hop) -> None:
        """Have the interpreter started, and its link carried."""
        what = "opened no session"
        try:
            self.channel = channel = line.open_session(timeout=self.access.patience)
            channel.exit_signal = None
            for name, value in target.environment():
                channel.set_environment_variable(name, value)
            self._watch(line)
            what = "does not run the command"
            with self.lock:
                fd, self.fd = self.fd, -1
            line.execute(channel, self.command, fd, self.owner.stderr)
        except (paramiko.SSHException, EOFError, OSError) as error:
            if line.is_active():
                raise Failure("the host %s: %s" % (what, error), "ConnectError", "boot") from None
            raise Failure(login.ended(line, target, error), "", "boot") from None

    def _watch(self, line: Any) -> None:
        """Notice from now on where the other end does not answer any more."""
        line.wire.keepalive_count = self.access.keepalive_count
        line.wire.keepalive = self.access.keepalive

    def _dial(self, hop: Hop) -> int:
        """A TCP connection to the first host."""
        proxy = hop.config.get("proxycommand")
        if proxy is not None and proxy.lower() != "none":
            raise ConfigError("%s: transport='paramiko' has no ProxyCommand; say jump=, or leave transport= out"
                              % hop.config.where["proxycommand"])
        try:
            found = socket.getaddrinfo(hop.name, hop.port, hop.family(), socket.SOCK_STREAM)
        except OSError as error:
            raise Failure("ssh: Could not resolve hostname %s: %s" % (hop.name, error.strerror or error)) from None
        except UnicodeError:
            raise Failure("ssh: Could not resolve hostname %s: it is no name" % hop.name) from None
        why: OSError | None = None
        for family, kind, protocol, _name, address in found:
            try:
                return self._dial_one(family, kind, protocol, address, hop.config.get("bindaddress"))
            except OSError as error:
                why = error
        raise Failure("ssh: connect to host %s port %d: %s" % (hop.name, hop.port, why.strerror if why else "?"))

    def _dial_one(self, family: int, kind: int, protocol: int, address: Any, source: str | None) -> int:
        sock = socket.socket(family, kind, protocol)
        try:
            if source is not None:
                sock.bind((source, 0))
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            poller = select.poll()
            poller.register(sock, select.POLLOUT)
            error = sock.connect_ex(address)
            if error == 115:  # EINPROGRESS
                while not poller.poll(100):
                    self._check()
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            return process.own(sock.detach())
        finally:
            sock.close()

    def _enter(self, hop: Hop, fd: int) -> Any:
        """Speak SSH on ``fd``, see that it is the right host, log in."""
        wire = Wire(fd)
        with self.lock:
            self.wires.append(wire)
            self.threads += 1
        try:
            self._check()
            line = Line(wire, lambda: self._line_left(wire))
            if hop.target:
                self.line = line
            hop.prepare(line)
            line.start_client(event=(done := threading.Event()))
        except BaseException as error:
            wire.finish()
            self._left()
            raise (self._at(hop, error) if isinstance(error, Failure) else error) from None
        while not done.wait(0.5) and line.is_active():
            pass
        if not line.is_active():
            raise self._at(hop, Failure(login.ended(line, hop, line.get_exception())))
        try:
            hop.check(line.get_remote_server_key())
            if hop.target:
                self._phase("login")
            mine = hop.target  # no secret is for a jump host
            answers = Answers(self.access.password if mine else None, self.access.otp if mine else None)
            login.log_in(line, hop, answers, self.owner.note, self.keep)
        except Failure as failure:
            self._say(line)
            raise self._at(hop, failure) from None
        except paramiko.SSHException as error:
            raise self._at(hop, Failure(login.ended(line, hop, error))) from None
        return line

    def _jump(self, line: Any, hop: Hop, onward: Hop) -> int:
        """A connection from ``hop`` on to the next host; a descriptor for it."""
        try:
            channel = line.open_channel("direct-tcpip", (onward.name, onward.port), ("127.0.0.1", 65535),
                                        timeout=self.access.patience)
        except paramiko.ChannelException as error:
            raise Failure("the jump host %s cannot connect to %s port %d: %s" % (
                hop.alias, onward.name, onward.port, error.text), "ConnectError") from None
        except paramiko.SSHException as error:
            raise self._at(hop, Failure("ssh: %s" % error)) from None
        ours, theirs = _socket.socketpair()
        fds = [process.own(ours.detach()), process.own(theirs.detach())]
        self._watch(line)
        line.carry(channel, fds[1])
        return fds[0]

    def _at(self, hop: Hop, failure: Any) -> Any:
        """The failure, with the jump host's name where it was one."""
        if hop.target:
            return failure
        name, message, _phase = classified(str(failure), failure.error, failure.phase)
        return type(failure)("at the jump host %s: %s" % (hop.alias, message), name, "connect")

    def _say(self, line: Any) -> None:
        """What the host said before the login: it may tell why there is none."""
        banner = line.get_banner()
        for text in (banner or b"")[:2000].decode("utf-8", "replace").splitlines()[:10]:
            if text.strip():
                self.owner.note(text)

    def _check(self) -> None:
        if self.ended is not None:
            raise Closed(self.ended)

    # -- news for the owner

    def _phase(self, phase: str) -> None:
        self._check()
        self.owner.phase(phase)

    def _fail(self, text: str, error: str, phase: str) -> None:
        name, message, phase = classified(text, error, phase)
        self.owner.note(text)
        self.owner.failed(name, message, phase)
        self.end(text)

    # -- the end

    def _left(self) -> None:
        """One thread less; the last one tells."""
        with self.lock:
            self.threads -= 1
            last = not self.threads
            fd = self.fd if last else -1
        if last:
            if fd >= 0:
                process.close(fd)  # nobody carries it
            self._tell()

    def _line_left(self, wire: Any) -> None:
        """A connection has ended; those before and behind it are of no use."""
        bye = wire.line.goodbye
        self.end(wire.reason or (bye and "the host ended the connection: " + bye) or "the connection was closed")
        self._left()

    def _tell(self) -> None:
        """Tell how it ended; once."""
        with self.lock:
            first, self.told = not self.told, True
        if first:
            if self in process.keep:
                process.keep.remove(self)
            self.owner.ended(self._state())

    def _state(self) -> "child_state.ChildState":
        channel = self.channel
        code, status, reason = child_state.LOST, None, ""
        if channel is not None and channel.exit_status >= 0:
            code, status = child_state.EXITED, channel.exit_status
        elif channel is not None and channel.exit_signal:
            number = getattr(signal, "SIG" + channel.exit_signal, None)
            code, status = child_state.KILLED, int(number or 9)
        elif self.killed:
            code, status = child_state.KILLED, self.killed
        else:
            reason = self.ended or "the connection was closed"
        return child_state.ChildState(0, None, code, status, "paramiko", reason)


def classified(text: str, error: str, phase: str) -> tuple[str, str, str]:
    """(error class name, message, phase) of a failure."""
    if error:
        return error, text, phase
    name, message, where = ssh_errors.classify("ssh", None, text)
    known = not message.startswith("ssh ended")
    return name, message if known else text, where if known else phase
