"""``ssh(host, transport="paramiko")`` carried out: a child at the other end of an SSH connection of this process.

To its ``Branch`` it looks like any other child: the link is one end of a socketpair, its lines of stderr and its exit
status come through the loop, and its "process" is the connection, which a signal ends.

A thread of its own makes the connection (names, TCP, keys, login: all of that waits) and then ends; paramiko's thread,
see ``paramiko_wire``, is what remains. With jump hosts there is one connection for each of them, and its thread moves
what the next one sends. Everything that must be closed is known to the ``Connection``; ``end``, from any thread, shuts
all of it down, whereupon the threads end, and the last one tells the exit status. So the end of the child is the end of
its threads and descriptors.
"""

import _socket
import os
import select
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from contextree.connect import ssh
from contextree.connect.plan import command
from contextree.connect.ssh_config import ConfigError
from contextree.connect.ssh_paramiko import Access, Answers
from contextree.core import first_stage, process
from contextree.core.wire.errors import Closed, ConnectError, ContextreeError, UsageError
from contextree.parent import boot, child_state, ends, spawn

if TYPE_CHECKING:
    from contextree.connect.plan import Plan
    from contextree.master.engine import RootEngine
    from contextree.master.paramiko_login import Hop
    from contextree.parent.boot import Branch

STUCK = 1.0  # seconds that a thread may take to notice its end; one that looks up a name does not notice
STDERR_MAX = 1 << 18  # bytes of stderr on their way to the loop
ENDING = frozenset((1, 2, 3, 9, 13, 15))


def launch(engine: "RootEngine", plan: "Plan", options: dict[str, Any], wait: bool = True) -> "Branch":
    """As ``spawn.launch``, for a plan whose transport is paramiko. UsageError where there is none."""
    try:
        import paramiko  # noqa: F401  it takes 0.2 s, so not before it is wanted
    except ImportError as error:
        raise UsageError("transport='paramiko' wants the library: pip install 'contextree[paramiko]' (%s)"
                         % error) from None
    patched = sys.modules.get("gevent.monkey")
    if patched is not None and patched.is_module_patched("threading"):
        raise UsageError("transport='paramiko' needs threads, and gevent has replaced them in this program: leave "
                         "transport= out, the ssh program works here")
    number = engine.allocate()
    branch = boot.Branch(engine, number, boot.name_for(engine, plan, number), plan, plan.trusted)
    argv = command(plan, ["-c", first_stage.text(), "contextree:%d" % number])
    access: Access = plan.transport
    branch.command = ["paramiko:", access.host if access.user is None else "%s@%s" % (access.user, access.host), *argv]
    if plan.silence:
        spawn.watch_link(engine, plan, options)
    first = boot.opening(engine.bundle, boot.configuration(branch, options))
    ours, theirs = _socket.socketpair()
    fds = [ours.detach(), theirs.detach()]
    try:
        fds = [process.own(fd) for fd in fds]
        connection = Connection(engine, branch, access, argv[-1], fds[1])
        connection.handle = boot.reaper(engine).adopt_remote(0, "paramiko", connection.signal)
    except BaseException:
        for fd in fds:
            process.close(fd)
        raise

    def begin() -> None:
        branch.begin(fds[0], first)
        branch.warn()
        branch.watch_process(connection.handle)
        connection.start()

    engine.broker.call(begin)
    if wait:
        boot.wait_up(branch)
    return branch


class Connection:
    """The way to one child: threads, sockets, and what became of them."""

    handle: Any

    def __init__(self, engine: "RootEngine", branch: "Branch", access: Access, command: str, fd: int) -> None:
        self.engine = engine
        self.broker = engine.broker
        self.branch = branch
        self.access = access
        self.command = command
        self.fd = fd  # the link's other end, until the wire has it
        self.lock = threading.Lock()
        self.threads = 1
        self.wires: list[Any] = []
        self.closers: list[Callable[[], object]] = []
        self.channel: Any = None
        self.line: Any = None  # the last one, to the host itself
        self.killed = 0
        self.ended: str | None = None
        self.errors = 0  # bytes of stderr that the loop has not taken yet
        self.reported = False

    def start(self) -> None:
        """Begin to connect. Loop thread."""
        registry = connections(self.engine)
        registry.add(self)
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
            try:
                self.broker.defer_nowait(self.broker.timer, STUCK, self._report)
            except Closed:
                pass  # nobody waits for it

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
        from contextree.master.paramiko_login import Failure

        try:
            self._connect()
        except Failure as failure:
            self._fail(str(failure), failure.error, failure.phase)
        except ConfigError as error:
            self._fail("ssh_config: %s" % error, "ConnectError", "start")
        except Closed as error:
            self._fail("the connection ended: %s" % error, "ConnectError", "connect")
        except Exception as error:
            self._fail("ssh: %s: %s" % (type(error).__name__, error), "", "connect")
        finally:
            self._left()

    def _connect(self) -> None:
        from contextree.master.paramiko_login import Hop

        target = Hop(self.access, self.access.host, self.access.user, self.access.port, True)
        way = target.way()
        fd = self._dial(way[0])
        for hop in way:
            line = self._enter(hop, fd, way)
            if hop is not target:
                onward = way[way.index(hop) + 1]
                fd = self._jump(line, hop, onward)
        self._phase("boot")
        self._session(line, target)

    def _session(self, line: Any, target: "Hop") -> None:
        """Have the interpreter started, and its link carried."""
        import paramiko

        from contextree.master import paramiko_login as login

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
            line.execute(channel, self.command, fd, self._stderr)
        except (paramiko.SSHException, EOFError, OSError) as error:
            if line.is_active():
                raise login.Failure("the host %s: %s" % (what, error), "ConnectError", "boot") from None
            raise login.Failure(login.ended(line, target, error), "", "boot") from None

    def _watch(self, line: Any) -> None:
        """Notice from now on where the other end does not answer any more."""
        line.wire.keepalive_count = self.access.keepalive_count
        line.wire.keepalive = self.access.keepalive
    def _dial(self, hop: "Hop") -> int:
        """A TCP connection to the first host."""
        from contextree.master.paramiko_login import Failure

        proxy = hop.config.get("proxycommand")
        if proxy is not None and proxy.lower() != "none":
            raise ConfigError("%s: transport='paramiko' has no ProxyCommand; say jump=, or leave transport= out"
                              % hop.config.where["proxycommand"])
        family = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(
            (hop.config.get("addressfamily") or "any").lower(), socket.AF_UNSPEC)
        try:
            found = socket.getaddrinfo(hop.name, hop.port, family, socket.SOCK_STREAM)
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

    def _enter(self, hop: "Hop", fd: int, way: "list[Hop]") -> Any:
        """Speak SSH on ``fd``, see that it is the right host, log in."""
        import paramiko

        from contextree.master import paramiko_login as login
        from contextree.master.paramiko_wire import Line, Wire

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
        except BaseException:
            wire.finish()
            self._left()
            raise
        while not done.wait(0.5) and line.is_active():
            pass
        if not line.is_active():
            error = line.get_exception()
            raise self._at(hop, login.Failure(login.ended(line, hop, error)))
        try:
            hop.check(line.get_remote_server_key())
            if hop.target:
                self._phase("login")
            secret = hop.target
            answers = Answers(self.access.password if secret else None, self.access.otp if secret else None)
            login.log_in(line, hop, answers, self._note, self.keep)
        except login.Failure as failure:
            self._say(line)
            raise self._at(hop, failure) from None
        except paramiko.SSHException as error:
            raise self._at(hop, login.Failure(login.ended(line, hop, error))) from None
        return line

    def _jump(self, line: Any, hop: "Hop", onward: "Hop") -> int:
        """A connection from ``hop`` on to the next host; a descriptor for it."""
        import paramiko

        from contextree.master.paramiko_login import Failure

        try:
            channel = line.open_channel("direct-tcpip", (onward.name, onward.port), ("127.0.0.1", 65535),
                                        timeout=self.access.patience)
        except paramiko.ChannelException as error:
            raise self._at(hop, Failure("ssh: connect to host %s port %d: %s (the jump host says: %s)" % (
                onward.name, onward.port, "Connection refused" if "refused" in error.text.lower() else "No way there",
                error.text))) from None
        except paramiko.SSHException as error:
            raise self._at(hop, Failure("ssh: %s" % error)) from None
        ours, theirs = _socket.socketpair()
        fds = [process.own(ours.detach()), process.own(theirs.detach())]
        self._watch(line)
        line.carry(channel, fds[1])
        return fds[0]

    def _at(self, hop: "Hop", failure: Any) -> Any:
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
                self._note(text)

    def _check(self) -> None:
        if self.ended is not None:
            raise Closed(self.ended)

    # -- news for the loop

    def _later(self, function: Callable[..., object], *args: Any) -> None:
        try:
            self.broker.defer_nowait(function, *args)
        except Closed:
            pass  # nobody wants to know any more

    def _phase(self, phase: str) -> None:
        def move() -> None:
            if self.branch.state in ("connect", "login") and self.branch.state != phase:
                self.branch.move(phase)

        self._check()
        self._later(move)

    def _note(self, text: str) -> None:
        self._later(self.branch.line, text.encode("utf-8", "replace"))

    def _fail(self, text: str, error: str, phase: str) -> None:
        name, message, phase = classified(text, error, phase)
        self._note(text)

        def fail() -> None:
            if self.branch.state not in ("up", "dying", "dead"):
                self.branch.fail(ends.make_error(self.branch, name, message, phase))

        self._later(fail)
        self.end(text)

    def _stderr(self, data: bytes) -> bool:
        """Lines for the loop; False while it has enough of them. On the wire's thread."""
        if data:
            self.errors += len(data)
            self._later(self._take, data)
        return self.errors < STDERR_MAX

    def _take(self, data: bytes) -> None:
        self.branch.partial.feed(data)
        self.errors -= len(data)

    # -- the end

    def _left(self) -> None:
        """One thread less; the last one tells."""
        with self.lock:
            self.threads -= 1
            last = not self.threads
        if last:
            self._later(self._report)

    def _line_left(self, wire: Any) -> None:
        """A connection has ended; those before and behind it are of no use."""
        goodbye = wire.line.goodbye
        self.end(wire.reason or (goodbye and "the host ended the connection: " + goodbye) or "the connection was closed")
        self._left()

    def _report(self) -> None:
        """Tell the exit status. Loop thread; once."""
        if self.reported:
            return
        self.reported = True
        fd, self.fd = self.fd, -1
        if fd >= 0:
            process.close(fd)
        connections(self.engine).discard(self)
        if self in process.keep:
            process.keep.remove(self)
        self.branch.partial.end()
        state = self._state()
        if state.code == child_state.LOST and self.branch.state not in ("up", "dying", "dead"):
            self._fail(state.reason, "", self.branch.state)
        self.handle.report(state)

    def _state(self) -> "child_state.ChildState":
        channel = self.channel
        fields = [0, None, child_state.LOST, None, "paramiko", ""]
        if channel is not None and channel.exit_status >= 0:
            fields[2:4] = child_state.EXITED, channel.exit_status
        elif channel is not None and channel.exit_signal:
            import signal

            number = getattr(signal, "SIG" + channel.exit_signal, None)
            fields[2:4] = child_state.KILLED, int(number or 9)
        elif self.killed:
            fields[2:4] = child_state.KILLED, self.killed
        else:
            fields[5] = self.ended or "the connection was closed"
        return child_state.ChildState(*fields)


def classified(text: str, error: str, phase: str) -> "tuple[str, str, str]":
    """(error class name, message, phase) of a failure."""
    if error:
        return error, text, phase
    name, message, where = ssh.classify("ssh", None, text)
    known = not message.startswith("ssh ended")
    return name, message if known else text, where if known else phase


def connections(engine: "RootEngine") -> "set[Connection]":
    """All of one tree. When its loop ends before they do, they end."""
    found = engine.connections
    if found is None:
        found = engine.connections = set()

        def end() -> None:
            for connection in list(engine.connections):
                connection.end("the loop has ended")
                if connection in process.keep:
                    process.keep.remove(connection)

        engine.broker.on_end(end)
    return found


__all__ = ["Connection", "ConnectError", "launch"]
