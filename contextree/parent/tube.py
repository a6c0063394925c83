"""Bytes between a descriptor and another context, over a channel; and a child of this context whose link comes so.

``Tube``: what is read from the descriptor goes into the channel, and what comes out of the channel is written. Neither
is read while the other has no room, so no more is held than a few messages. Messages that are no bytes are words of
the two ends to each other: a tuple, its first part a name. ``("eof",)`` is the end of what the descriptor gives.

``launch``: a child that an ancestor reaches for us by means of its own (paramiko in the master). This context is its
parent as of any other: it makes the Branch, whose link is one end of a socketpair, and a Tube has the other. What the
ancestor knows of the connection comes as words: phases, lines, the end. ``dial``: a TCP connection from here, for an
ancestor that speaks to somebody through it.

Threads: all of a Tube is the loop's, but for ``say``, which may be called from anywhere.
"""

import _socket  # the plain one: gevent's would wait for its hub
import os
import socket

from contextree.connect.plan import command
from contextree.core import calls as core_calls
from contextree.core import first_stage, process
from contextree.core.wire.errors import CallTimeout, Closed, ContextreeError
from contextree.parent import boot, child_state, ends, spawn
from contextree.parent.engine import engine_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Tuple

    from contextree.connect.plan import Plan
    from contextree.parent.boot import Branch
    from contextree.parent.channel import Channel
    from contextree.parent.child_state import ChildState
    from contextree.parent.engine import Engine

READ = 65536


class Tube:
    """``fd``, a socket that is ours now, at one end and ``channel`` at the other. ``on_word(*word)`` is told the words
    that come; ``on_over()``, once, that it has been closed. It closes when both directions have ended, or, if it
    ``stays``, after ``leave`` here or there: there may be words after the last byte."""

    def __init__(self, engine: "Engine", channel: "Channel", fd: int,
                 on_word: "Callable[..., object]" = lambda *word: None,
                 on_over: "Callable[[], object]" = lambda: None, stays: bool = False) -> None:
        self.engine = engine
        self.broker = engine.broker
        self.channel = channel
        self.fd = fd
        self.on_word = on_word
        self.on_over = on_over
        self.stays = stays
        self.rest = b""  # type: Any  # what the descriptor has no room for
        self.reading = self.waiting = False
        self.gave_all = self.got_all = self.over = self.leaving = False
        os.set_blocking(fd, False)

    def start(self) -> None:
        """Begin. Loop thread."""
        self.engine.tubes.add(self)
        self.read(True)
        self.drain()

    def say(self, *word: "Any") -> bool:
        """Send a word; False: the other end has enough for the moment. Any thread; nothing happens after the end."""
        try:
            return self.channel.send_nowait(word)
        except ContextreeError:
            return True  # nobody hears it

    # -- from the channel

    def wake(self) -> bool:
        """The mailbox says that something came. Any thread."""
        self.waiting = False
        self.broker.defer_nowait(self.drain)
        return True

    def drain(self) -> None:
        """Take what came, while the descriptor has room."""
        box = self.channel.mailbox
        while not self.over and not self.rest:
            try:
                value = self.channel.take(box.get(0))
            except CallTimeout:
                with box.lock:
                    if not box.items and box.closed is None:
                        if not self.waiting:
                            self.waiting = True
                            box.waiters.append(self)
                        return
                continue
            except ContextreeError:
                return self.close()
            if type(value) is bytes:
                self.rest = value
                self.write()
            elif type(value) is tuple and value and value[0] == "eof":
                self.got_all = True
                self.shut(_socket.SHUT_WR)
                self.settle()
            elif type(value) is tuple and value:
                self.on_word(*value)

    def write(self) -> None:
        """Write what there is, as far as it goes."""
        try:
            count = os.write(self.fd, self.rest)
        except BlockingIOError:
            count = 0
        except OSError:
            count = len(self.rest)  # nobody reads it any more
        self.rest = self.rest[count:] if count < len(self.rest) else b""
        self.watch()

    def writable(self) -> None:
        """There is room again."""
        self.write()
        if not self.rest:
            self.drain()

    # -- to the channel

    def read(self, wanted: bool) -> None:
        """Read from the descriptor, or do not."""
        self.reading = wanted and not self.gave_all
        self.watch()

    def watch(self) -> None:
        """Have the loop watch for what is wanted."""
        if not self.over:
            self.broker.watch(self.fd, self.readable if self.reading else None, self.writable if self.rest else None)

    def readable(self) -> None:
        """Send what is there, while the channel has room."""
        if self.channel.full:
            self.read(False)
            return self.channel.on_room(self.room)
        try:
            data = os.read(self.fd, READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.gave_all = True
            self.say("eof")
            self.read(False)
            self.settle()
        else:
            try:
                self.channel.send_nowait(data)
            except ContextreeError:
                self.close()

    def room(self) -> None:
        """The channel has room again."""
        self.broker.defer_nowait(self.read, True)

    # -- the end

    def settle(self) -> None:
        """Close it once all has been said."""
        if self.gave_all and (self.leaving or (self.got_all and not self.stays)):
            self.close()

    def leave(self) -> None:
        """Close it when the descriptor has given all. Loop thread."""
        self.leaving = True
        self.settle()

    def shut(self, how: int) -> None:
        """Shut the socket down."""
        sock = _socket.socket(fileno=self.fd)
        try:
            sock.shutdown(how)
        except OSError:
            pass  # its other end is closed
        finally:
            sock.detach()

    def close(self) -> None:
        """Close both ends, at once. Loop thread, idempotent."""
        if not self.over:
            self.over = True
            self.engine.tubes.discard(self)
            self.broker.forget(self.fd)
            process.close(self.fd)
            try:
                self.channel.close()
            except ContextreeError:
                pass  # the loop ends
            self.on_over()


def dial(channel: "Channel", host: str, port: int, family: int, source: "str | None", timeout: float
         ) -> "Tuple[str, str]":
    """For an ancestor: connect ``channel`` with a TCP connection from here. ("", "") or what failed, and why."""
    channel.connect()
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return "resolve", str(getattr(error, "strerror", None) or error)
    why = "no address"
    for family, kind, protocol, _name, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            if source is not None:
                sock.bind((source, 0))
            sock.settimeout(timeout)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except socket.timeout:
            why = "Connection timed out"
        except OSError as error:
            why = error.strerror or str(error)
        else:
            engine = engine_of(core_calls.here.router)
            engine.broker.call(Tube(engine, channel, process.own(sock.detach())).start)
            return "", ""
        sock.close()
    return "connect", why


class Far:
    """A ``Plan.transport``: the link comes over ``channel``, from the ancestor who made the plan."""

    name = "channel"

    def __init__(self, channel: "Channel") -> None:
        self.channel = channel


def launch(engine: "Engine", plan: "Plan", options: "dict[str, Any]", wait: bool = True) -> "Branch":
    """As ``spawn.launch``, for a plan whose transport is ``Far``."""
    channel = plan.transport.channel.connect()
    number = engine.allocate()
    branch = boot.Branch(engine, number, boot.name_for(engine, plan, number), plan, plan.trusted)
    branch.command = command(plan, ["-c", first_stage.text(), "contextree:%d" % number])
    if plan.silence:
        spawn.watch_link(engine, plan, options)
    first = boot.opening(engine.bundle, boot.configuration(branch, options))
    ours, theirs = _socket.socketpair()
    fds = [process.own(ours.detach()), process.own(theirs.detach())]
    told = Told(engine, branch)

    def begin() -> None:
        tube = Tube(engine, channel, fds[1], told.word, told.alone, True)
        handle = told.handle = boot.reaper(engine).adopt_remote(0, plan.method, told.signalled(tube))
        branch.begin(fds[0], first)
        branch.warn()
        branch.watch_process(handle)
        tube.say("start", branch.command[-1])
        tube.start()

    try:
        engine.broker.call(begin)
    except BaseException:
        for fd in fds:
            process.close(fd)
        raise
    if wait:
        boot.wait_up(branch)
    return branch


class Told:
    """What becomes of a connection, told to the Branch whose link it carries. Loop thread."""

    handle = None  # type: Any

    def __init__(self, engine: "Engine", branch: "Branch") -> None:
        self.engine = engine
        self.branch = branch
        self.over = False

    def word(self, name: str, *rest: "Any") -> None:
        """A word of whoever has the connection."""
        function = {"phase": self.phase, "note": self.branch.line, "stderr": self.branch.partial.feed,
                    "failed": self.failed, "ended": self.ended}.get(name)  # type: Any
        if function is not None:
            function(*rest)

    def signalled(self, tube: "Tube") -> "Callable[[int], object]":
        """What sends a signal to it."""
        return lambda number: tube.say("signal", number)

    def phase(self, phase: str) -> None:
        """It has come so far."""
        if self.branch.state in ("connect", "login") and self.branch.state != phase:
            self.branch.move(phase)

    def failed(self, error: str, message: str, phase: str) -> None:
        """There is no way."""
        if self.branch.took is None and self.branch.state != "dead":
            self.branch.fail(ends.make_error(self.branch, error, message, phase))

    def ended(self, code: int, status: "int | None", reason: str) -> None:
        """It is over: as ``child_state.ChildState`` has it."""
        self.report(child_state.ChildState(0, None, code, status, self.branch.plan.method, reason))

    def report(self, state: "ChildState") -> None:
        """Tell the status, once; of one that was lost before HELLO, that it was."""
        if self.over:
            return
        self.over = True
        self.branch.partial.end()
        if state.code == child_state.LOST and self.branch.error is None:
            self.failed("ConnectError", "the connection was lost before the interpreter said hello: " + state.reason,
                        "boot")
        try:
            self.handle.report(state)
        except Closed:
            pass  # the loop has ended

    def alone(self) -> None:
        """Nobody is there any more who could tell."""
        self.report(child_state.lost(0, self.branch.plan.method, "the context that has its connection has left"))
