"""A connection of paramiko that carries the link of a context, with no thread but paramiko's own.

paramiko has one thread for each connection, which reads packets and hands them out. Usually others wait for it: a
thread of the program for each direction, with a lock and a wake-up between them for each piece. Here its socket is a
``Wire``: where paramiko's thread would wait for the network, it waits for the descriptors of the link as well, and
moves what is there between them and the SSH channel. So

* a connection costs one thread and one hand-over less, whatever number of them there is;
* who does not read holds up nobody else, not even for a moment: a write that the network does not take blocks the
  thread of that connection alone, and it goes on to read meanwhile;
* memory is bounded: what the link does not take stays in the channel, whose window of 2 MB is then not opened again,
  and what the channel has no window for is not read from the link.

The thread sleeps until something happens (paramiko alone wakes ten times a second), or until a keepalive is due: where
nothing was heard for ``keepalive`` seconds it asks, and after ``keepalive_count`` questions without an answer the
connection is dead.

While keys are exchanged anew nothing is moved: paramiko's own functions would wait for the exchange then, on the very
thread that has to do it.

Descriptors are closed by that thread at its end, and by nobody else: ``close``, from any thread, only shuts them down.

Of paramiko's own, not public, names we use those which have been there since its version 3.4 at least: a Transport's
``_send_user_message``, ``_send_message``, ``_parse_disconnect``, ``_handler_table`` and ``_channel_handler_table``, a
Channel's ``_event_pending``, ``_wait_for_event`` and ``_handle_request``, and ``AgentSSH._connect``.
"""
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# stubs of paramiko have what is public alone

import _socket
import logging
import os
import select
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import paramiko
from paramiko.common import MSG_CHANNEL_REQUEST, cMSG_CHANNEL_REQUEST, cMSG_GLOBAL_REQUEST
from paramiko.message import Message
from paramiko.packet import Packetizer

from contextree.core import process

READ = 65536
HELD = 1 << 22  # bytes read while a write waits: more than the windows of our channels together
PAUSE = 0.02  # seconds until lines of stderr that nobody takes are looked at again
REKEY = 0.05
FLUSH = 5.0  # seconds that the last bytes may take
LOG = "contextree.paramiko"

logger = logging.getLogger(LOG)
if logger.level == logging.NOTSET:  # what it has to say is in our errors; who wants all of it sets the level to DEBUG
    logger.setLevel(logging.CRITICAL)

POLLIN, POLLOUT = select.POLLIN, select.POLLOUT


def shut(fd: int, how: int = _socket.SHUT_RDWR) -> None:
    """Shut a socket down; whoever waits for it wakes up."""
    sock = _socket.socket(fileno=fd)
    try:
        sock.shutdown(how)
    except OSError:
        pass  # not connected any more
    finally:
        sock.detach()


class Carried:
    """An SSH channel and a descriptor, a connected socket, between which bytes are moved. On the wire's thread."""

    def __init__(self, line: "Line", channel: Any, fd: int,
                 on_stderr: "Callable[[bytes], bool] | None" = None) -> None:
        self.line = line
        self.channel = channel
        self.fd = fd
        self.on_stderr = on_stderr  # False: it has enough for the moment
        self.inward: bytes | memoryview = b""
        self.outward: bytes | memoryview = b""
        self.readable = self.writable = True  # as far as is known
        self.paused = self.read_all = self.told = False
        channel.settimeout(0.0)

    def wanted(self) -> int:
        """What to wait for at the descriptor."""
        mask = 0 if self.readable or self.read_all else POLLIN
        return mask if self.writable else mask | POLLOUT

    def ready(self, mask: int) -> None:
        """The descriptor is ready."""
        if mask & ~POLLOUT:
            self.readable = True
        if mask & ~POLLIN:
            self.writable = True

    def move(self) -> bool:
        """Move what can be moved; False once the channel has ended and all of it has been handed on."""
        self._inward()
        self.paused = self._errors()
        if not self.channel.closed:
            self._outward()
            return True
        return bool(self.inward or self.paused or self.channel.recv_ready())

    def _inward(self) -> None:
        channel = self.channel
        while self.writable:
            if not self.inward:
                if not channel.recv_ready():
                    break
                self.inward = channel.recv(READ)
            try:
                count = os.write(self.fd, self.inward)
            except BlockingIOError:
                self.writable = False
            except OSError:
                self.inward = b""  # nobody reads it any more
            else:
                self.inward = memoryview(self.inward)[count:] if count < len(self.inward) else b""
        if channel.eof_received and not self.told and not self.inward and not channel.recv_ready():
            self.told = True
            shut(self.fd, _socket.SHUT_WR)

    def _errors(self) -> bool:
        while self.on_stderr is not None and self.channel.recv_stderr_ready():
            if not self.on_stderr(b""):
                return True
            self.on_stderr(self.channel.recv_stderr(READ))
        return False

    def _outward(self) -> None:
        channel = self.channel
        while channel.send_ready() and self.line.may_send():
            if not self.outward:
                if not self.readable or self.read_all:
                    return
                try:
                    self.outward = os.read(self.fd, READ)
                except BlockingIOError:
                    self.readable = False
                    return
                except OSError:
                    self.outward = b""
                if not self.outward:
                    self.read_all = True
                    channel.shutdown_write()
                    return
            count = channel.send(self.outward)
            self.outward = memoryview(self.outward)[count:] if 0 < count < len(self.outward) else b""

    def flush(self) -> None:
        """The connection has ended: hand on what had come before that, for a bounded time, and the end of it."""
        end = monotonic() + FLUSH
        while self.move() and monotonic() < end:
            if self.writable and not self.paused:
                break
            poller = select.poll()
            poller.register(self.fd, POLLOUT)
            poller.poll(PAUSE * 1000 if self.paused else 1000)
            self.writable = True
        if not self.told:
            self.told = True
            shut(self.fd, _socket.SHUT_WR)


class Wire:
    """The socket of a ``Line``, in the words that paramiko uses of one."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.line: Any = None
        self.carried: list[Carried] = []
        self.buffer: bytes = b""
        self.at = 0
        self._closed = self.finished = False  # paramiko's Transport asks for the first
        self.over = False
        self.heard = self.asked_at = monotonic()
        self.asked = 0
        self.keepalive = self.keepalive_count = 0
        self.reason: str | None = None
        self.generation = process.generation
        self.poller = select.poll()
        self.masks: dict[int, int] = {}
        self.gate = threading.Lock()  # held by another thread while it begins to carry
        self.lock = threading.Lock()  # of the descriptor, whose number may be another's once it is closed
        os.set_blocking(fd, False)
        self._watch(fd, POLLIN)

    def settimeout(self, timeout: float | None) -> None:
        """It waits as long as it has to."""

    def send(self, data: bytes) -> int:
        """Write some of it. On any thread."""
        with self.lock:
            if self._closed or self.generation != process.generation:
                raise EOFError
            try:
                return os.write(self.fd, data)
            except BlockingIOError:
                pass
        mine = self.line is not None and threading.get_ident() == self.line.ident
        poller = select.poll()
        poller.register(self.fd, POLLOUT | (POLLIN if mine and len(self.buffer) - self.at < HELD else 0))
        for _fd, mask in poller.poll(500):
            if mine and mask & POLLIN:
                self._read()  # else both ends could wait for each other
        if mine and self.keepalive and monotonic() - self.heard > self.keepalive * (self.keepalive_count + 1):
            self._give_up()  # no question can be asked: what is written stands in its way
        raise TimeoutError

    def recv(self, size: int) -> bytes:
        """Read some bytes, and move what is there for the link while there are none. On the line's thread."""
        while self.at >= len(self.buffer):
            if self._closed or self.over or self.generation != process.generation:
                return b""
            self._turn()
        data = self.buffer[self.at:self.at + size]
        self.at += len(data)
        return data

    def close(self) -> None:
        """Shut it down. Any thread, idempotent; the descriptor is closed by ``finish``."""
        with self.lock:
            if not self._closed and self.generation == process.generation:
                shut(self.fd)
            self._closed = True

    def finish(self) -> None:
        """Close everything. On the line's thread, at its end, or where there has never been one."""
        with self.gate, self.lock:
            self._closed = self.finished = True
        for carried in self.carried:
            carried.flush()
            process.close(carried.fd)
        process.close(self.fd)
        self.fd = -1
        self.buffer = b""

    def carry(self, carried: Carried) -> None:
        """Take it on; EOFError where the connection has ended already, and its descriptor is closed then. Holding the
        gate."""
        if self.finished:
            process.close(carried.fd)
            raise EOFError
        self.carried = [carried]

    # -- inside

    def _watch(self, fd: int, mask: int) -> None:
        if self.masks.get(fd) != mask:
            if mask:
                self.poller.register(fd, mask)
            elif fd in self.masks:
                self.poller.unregister(fd)  # with no events it would still tell of a hang-up, again and again
            self.masks[fd] = mask

    def _turn(self) -> None:
        """Move what can be moved, then wait for something to happen."""
        with self.gate:
            wait = self._move() if self.carried else 60.0
        if self.over:
            return
        if self.keepalive:
            wait = min(wait, self._alive())
        heard = False
        for fd, mask in self.poller.poll(max(1, int(wait * 1000) + 1)):
            heard = heard or fd == self.fd
            for carried in self.carried:
                if carried.fd == fd:
                    carried.ready(mask)
        if heard:
            self._read()
        elif wait == REKEY:
            raise TimeoutError  # paramiko looks whether keys are to be exchanged anew

    def _move(self) -> float:
        """Move, and say what to wait for: seconds, beside what is watched."""
        line, wait = self.line, 60.0
        if line.may_send():
            for carried in self.carried:
                if not carried.move():
                    self.over = True
                if carried.paused:
                    wait = PAUSE
        free = line.may_send()  # it may have sent so much that it is time for new keys
        for carried in self.carried:
            self._watch(carried.fd, carried.wanted() if free else 0)
        return wait if free or line.in_kex else REKEY

    def _read(self) -> None:
        try:
            data = os.read(self.fd, READ)
        except BlockingIOError:
            return
        except OSError as error:
            self.reason = self.reason or "the connection was closed: %s" % error.strerror
            data = b""
        if not data:
            self._closed = True
            return
        self.heard = monotonic()
        self.asked = 0
        self.buffer = self.buffer[self.at:] + data if self.at < len(self.buffer) else data
        self.at = 0

    def _alive(self) -> float:
        """Ask the other end where it has been silent; give up where it does not answer. Seconds until the next look."""
        if not self.keepalive:
            return 60.0
        now = monotonic()
        due = (self.asked_at if self.asked else self.heard) + self.keepalive
        if now >= due and self.asked >= self.keepalive_count:
            self._give_up()
        elif now >= due:  # by questions, not by the clock alone: this process may have been stopped
            self.asked += 1
            self.asked_at, due = now, now + self.keepalive
            if self.line.may_send():
                self.line.ask()
        return max(0.01, due - now)

    def _give_up(self) -> None:
        self.reason = "the host stopped answering: nothing came for %.0f s" % (monotonic() - self.heard)
        self.close()


class Quiet(Packetizer):  # type: ignore[misc]  # paramiko has no types
    """paramiko's, without the thread that it starts to limit the key exchange: our phases do that."""

    def start_handshake(self, timeout: float) -> None:
        """Nothing to do."""


def _request(channel: Any, message: Any) -> None:
    """A request that came on a channel: the signal that killed a program is not known to paramiko."""
    if message.get_text() == "exit-signal":
        message.get_boolean()
        channel.exit_signal = message.get_text()
    message.rewind()
    message.get_int()  # the channel's number, which was read already
    channel._handle_request(message)


class Line(paramiko.Transport):  # type: ignore[misc]  # paramiko has no types
    """One SSH connection: paramiko's, on a ``Wire``. ``on_end()`` is called at the end of its thread."""

    _channel_handler_table = {**paramiko.Transport._channel_handler_table, MSG_CHANNEL_REQUEST: _request}

    def __init__(self, wire: Wire, on_end: Callable[[], object], **options: Any) -> None:
        super().__init__(wire, packetizer_class=Quiet, **options)
        self.set_log_channel(LOG)
        self.wire = wire
        self.on_end = on_end
        self.goodbye = ""  # what the other end said when it ended the connection
        self.banner_timeout = self.auth_timeout = 3600  # our phases have their limits
        wire.line = self

    def run(self) -> None:
        """The thread."""
        try:
            super().run()
        finally:
            self.wire.finish()
            self.on_end()

    def may_send(self) -> bool:
        """May this thread send without waiting for new keys?"""
        return self.clear_to_send.is_set() and not self.packetizer.need_rekey()

    def ask(self) -> None:
        """Have the other end say something."""
        message = Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        self._send_user_message(message)

    def carry(self, channel: Any, fd: int) -> None:
        """Move bytes between ``channel`` and ``fd``, which is closed at the end, from now on. Any thread, once."""
        os.set_blocking(fd, False)
        with self.wire.gate:
            self.wire.carry(Carried(self, channel, fd))
        self.ask()  # the answer wakes our thread

    def execute(self, channel: Any, command: str, fd: int, on_stderr: "Callable[[bytes], bool]") -> None:
        """Run ``command`` there and carry its stdin and stdout; returns when the host has said that it runs. Once.

        What ``fd`` has to say at once goes behind the command without waiting for the answer, which saves a round
        trip. The answer wakes our thread, which then goes on."""
        os.set_blocking(fd, False)
        message = Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string("exec")
        message.add_boolean(True)
        message.add_string(command)
        channel._event_pending()
        with self.wire.gate:
            carried = Carried(self, channel, fd, on_stderr)
            self.wire.carry(carried)
            self._send_user_message(message)
            carried.move()
        channel._wait_for_event()

    def _parse_disconnect(self, message: Any) -> None:
        code, text = message.get_int(), message.get_text()
        message.rewind()
        self.goodbye = "%d: %s" % (code, text)
        super()._parse_disconnect(message)
