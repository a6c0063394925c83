"""A link: the pair of descriptors to a neighbour in the tree, its write queue and its read loop.

Any thread may send. When nothing waits, the sender's own thread writes its one small frame to the descriptor, so that a
call costs no wake-up on the way out; all else is queued and written by the loop thread. ``lock`` guards the outbox and
the write side, and the sending state of every channel on this link; nothing that blocks happens under it. Ctrl-C can
hit the main thread anywhere: it finds no batch there that it could lose, and where it hits the one write, the link is
closed rather than left with a hole in what it carries.

Reading happens on the loop thread alone, into one large buffer shared by all links of the loop; frames are handed on as
views of it. What is incomplete stays in ``tail``. Reading never waits for writing.

The link window: ``received`` counts what the other end wrote and we have dealt with; half a window of it is
acknowledged at a time. While bytes keep coming, a PROBE measures the round trip, and how much arrived during it; when
that fills most of the window the window doubles (the bandwidth-delay estimate that gRPC uses,
https://grpc.io/blog/grpc-go-perf-improvements/). A link that is a socket or pipe of this machine starts with the
largest window: there the kernel's buffer is all that lies below us.

Closed exactly once, on the loop thread, by ``close``; then ``on_lost(link, reason)``.
"""

import os

from contextree.core import process
from contextree.core.broker import BUFFER
from contextree.core.wire.errors import ProtocolError
from contextree.core.wire.flow import WINDOW_MAX, WINDOW_START, Outbox
from contextree.core.wire.frames import (
    ACK, CONTROL, ECHO, HEADER, LOGS, MAX_PAYLOAD, NUMBER, PROBE, SIZE, VERSION, frame,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from contextree.core.broker import Broker

BATCH = 1 << 18  # bytes for one writev
FIRST = 1 << 16  # bytes for one read, until one was full: a child that idles need not have more
TURN = 1 << 20  # bytes read from one link before the others get their turn, or a thousand frames


def larger(broker: "Broker", room: int) -> memoryview:
    """Give the loop a buffer for reads of ``room`` bytes behind an incomplete frame."""
    broker.buffer = buffer = memoryview(bytearray(room + MAX_PAYLOAD + SIZE))
    return buffer


class Link:
    """One neighbour. ``receive(link, kind, flags, cls, channel, dst, src, view, raw)`` gets every frame, on the loop
    thread."""

    if TYPE_CHECKING:
        rfd: int
        wfd: int

    def __init__(self, broker: "Broker", rfd: int, wfd: int, receive: "Callable[..., Any]",
                 on_lost: "Callable[[Any, str], object]", own_id: int = 0, window: int = WINDOW_START) -> None:
        self.broker = broker
        self.rfd = rfd
        self.wfd = wfd
        self.receive = receive
        self.on_lost = on_lost
        self.own_id = own_id
        self.peer = None  # type: Any  # id of the neighbour
        self.lock = process.allocate_lock()
        self.out = Outbox(window)
        self.pending = []  # type: list[Any]  # buffers of which a part may be written already
        self.blocked = False  # the descriptor had no room; the loop watches it
        self.due = False  # a flush has been deferred to the loop
        self.closed = None  # type: str | None
        self.tail = b""
        self.scan = None  # until the handshake: gets raw bytes, returns what follows it, or None
        self.window = window
        self.received = self.probed = 0  # not yet acknowledged; since the last probe
        self.held = 0  # received, but to be acknowledged only when it has left this process
        self.probe_sent = None  # type: float | None
        self.rtt = None  # type: float | None
        self.last_read = broker.clock()
        # context -> bytes that channels to it have not sent yet for want of room or credit
        self.unsent = {}  # type: dict[int, int]
        self.gulp = BUFFER  # bytes to read at once
        self.bytes_in = self.bytes_out = self.frames_in = self.open_count = 0
        os.set_blocking(rfd, False)
        os.set_blocking(wfd, False)

    def start(self) -> None:
        """Begin to read. Loop thread."""
        self.broker.watch(self.rfd, self.on_readable)

    # -- writing

    def send(self, cls: int, data: bytes, flush: bool = True) -> bool:
        """Send or queue one frame that is already packed. ``flush=False`` leaves it to the loop, which coalesces.

        False when the link is closed. Any thread; never blocks."""
        with self.lock:
            return self.send_locked(cls, data, flush)

    def send_locked(self, cls: int, data: bytes, flush: bool = True) -> bool:
        """``send`` for a caller that holds the lock."""
        if self.closed:
            return False
        out = self.out
        if flush and not self.pending and not self.blocked and not out and (cls == CONTROL or out.window > 0):
            if cls:
                out.window -= len(data)
            out.sent[cls] += len(data)
            whole = False
            try:
                self._write([data], len(data))
                whole = True
            finally:
                if not whole:
                    self._fail("an interrupt came while it was written to: what has been sent is not known")
            return True
        if not out.push(cls, data):
            self._fail("it does not read: too many control frames wait for it")
        self.flush_soon()
        return True

    def ring(self, source: "Any") -> None:
        """Have ``source.pull()`` asked for bulk frames until it returns None. Holding the lock.

        It queues behind the small frames that wait, which may be of the same channel."""
        out = self.out
        (out.calls or out.ring).append(source)
        self.flush_soon()

    def flush_soon(self) -> None:
        """Have the loop write what is queued. Holding the lock."""
        if not self.due and not self.blocked:
            self.broker.defer_nowait(self.flush)
            self.due = True  # in this order: an interrupt between the two costs a flush too many, not one too few

    def flush(self) -> None:
        """Write what is queued. Loop thread."""
        with self.lock:
            self.due = False
            if not self.closed:
                self._flush()

    def _flush(self) -> None:
        while not self.blocked and not self.closed:
            if self.pending:
                buffers, size = self.pending, sum(map(len, self.pending))
                self.pending = []
            else:
                buffers, size = self.out.batch(BATCH)
            if not buffers:
                return
            self._write(buffers, size)

    def _write(self, buffers: "list[Any]", size: int) -> None:
        try:
            if len(buffers) == 1:
                done = os.write(self.wfd, buffers[0])
            else:
                done = os.writev(self.wfd, buffers[:1000])
        except BlockingIOError:
            done = 0
        except OSError as error:
            return self._fail("writing failed: %s" % error.strerror)
        self.bytes_out += done
        if done == size:
            return
        for index, item in enumerate(buffers):
            if done < len(item):
                self.pending = [memoryview(item)[done:]] + buffers[index + 1:]
                break
            done -= len(item)
        self.blocked = True
        self.broker.defer_nowait(self._watch)

    def _fail(self, reason: str) -> None:
        self.closed = self.closed or reason
        self.broker.defer_nowait(self.close, self.closed)

    def _watch(self) -> None:
        if self.blocked and self.wfd is not None:
            if self.wfd == self.rfd:
                self.broker.watch(self.rfd, self.on_readable, self.on_writable)
            else:
                self.broker.watch(self.wfd, None, self.on_writable)

    def on_writable(self) -> None:
        """The descriptor has room again. Loop thread."""
        with self.lock:
            self.blocked = False
            if not self.closed:
                self._flush()
            if self.blocked:
                return
        if self.wfd == self.rfd and self.rfd is not None:
            self.broker.watch(self.rfd, self.on_readable)
        elif self.wfd is not None:
            self.broker.forget(self.wfd)

    # -- reading

    def on_readable(self) -> None:
        """Read and hand on what is there, up to ``TURN`` bytes. Loop thread."""
        broker = self.broker
        buffer = broker.buffer or larger(broker, FIRST)
        budget = TURN
        while budget > 0 and self.rfd is not None:
            room = min(self.gulp, len(buffer) - MAX_PAYLOAD - SIZE)
            tail = self.tail
            have = len(tail)
            buffer[:have] = tail
            try:
                count = os.readv(self.rfd, [buffer[have:have + room]])
            except BlockingIOError:
                return
            except OSError as error:
                return self.close("reading failed: %s" % error.strerror)
            if not count:
                return self.close("end of file")
            before = self.frames_in
            self.last_read = broker.clock()
            self.bytes_in += count
            data = buffer[:have + count]
            self.tail = b""
            if self.scan:
                data = self.scan(data)
                if data is None:
                    budget -= count
                    continue
                self.scan = None
                data = memoryview(bytes(data))
            try:
                self._frames(data)
            except Exception as error:  # the rest of the bytes is lost, so the link is
                if not isinstance(error, ProtocolError):
                    broker.on_error(self.receive)
                return self.close("it broke the protocol: %s" % error)
            before = self.frames_in - before
            budget -= count + (before << 10)  # a frame costs its time, however small it is
            self.gulp = BUFFER if count >= before << 8 else BUFFER >> 3
            if count < room:
                return
            if len(buffer) < BUFFER:
                buffer = larger(broker, BUFFER)

    def _frames(self, data: memoryview) -> None:
        pos = 0
        end = len(data)
        receive = self.receive
        start = self.held
        while end - pos >= SIZE:
            kind, flags, cls, hops, channel, dst, src, length = HEADER.unpack_from(data, pos)
            if kind & 0xf0 != VERSION or length > MAX_PAYLOAD or cls > LOGS:
                raise ProtocolError("a frame with kind %#x, class %d, length %d" % (kind, cls, length))
            stop = pos + SIZE + length
            if stop > end:
                break
            self.frames_in += 1
            kind &= 15
            if kind >= ACK:
                self._own_frame(kind, data[pos + SIZE:stop])
            else:
                receive(self, kind, flags, cls, channel, dst, src, data[pos + SIZE:stop], data[pos:stop])
            if cls:
                self.received += stop - pos
            pos = stop
            if self.rfd is None:
                return
        if pos < end:
            self.tail = bytes(data[pos:end])
        self.received -= self.held - start
        if self.received >= self.window >> 1:
            self.acknowledge()

    def acknowledge(self) -> None:
        """Give the window back for what has been dealt with, and measure while it flows. Loop thread."""
        count, self.received = self.received, 0
        self.probed += count
        if self.probe_sent is None and self.window < WINDOW_MAX:
            self.probe_sent = self.broker.clock()
            self.probed = 0
            self.send(CONTROL, frame(PROBE, 0, CONTROL, 0, 0, self.own_id))
        self.send(CONTROL, frame(ACK, 0, CONTROL, 0, 0, self.own_id, NUMBER.pack(count)))

    def released(self, count: int) -> None:
        """``count`` bytes that were held have left this process. Any thread; holding no link's lock."""
        self.broker.defer_nowait(self._released, count)

    def _released(self, count: int) -> None:
        self.held -= count
        self.received += count
        if self.received >= self.window >> 1 and not self.closed:
            self.acknowledge()

    def _own_frame(self, kind: int, view: memoryview) -> None:
        if kind == ACK and len(view) == 4:
            with self.lock:
                self.out.window += NUMBER.unpack(view)[0]
                if self.out.window > 2 * WINDOW_MAX:
                    raise ProtocolError("it acknowledged more than was sent")
                self._flush()
        elif kind == PROBE:
            self.send(CONTROL, frame(ECHO, 0, CONTROL, 0, 0, self.own_id))
        elif kind == ECHO and self.probe_sent is not None:
            self.rtt = self.broker.clock() - self.probe_sent
            self.probe_sent = None
            if self.probed * 3 >= self.window * 2 and self.window < WINDOW_MAX:
                self.received += self.window
                self.window *= 2
                self.acknowledge()

    # -- the end

    def close(self, reason: str) -> None:
        """Close both descriptors and report ``reason`` once. Loop thread."""
        with self.lock:
            self.closed = self.closed or reason
            rfd, wfd = self.rfd, self.wfd
            self.rfd = self.wfd = None  # type: ignore[assignment]  # nobody reads or writes any more
            self.pending = []
        if rfd is None:
            return
        for fd in {rfd, wfd}:
            self.broker.forget(fd)
            process.close(fd)
        self.on_lost(self, self.closed)

    def stats(self) -> "dict[str, Any]":
        """Counters of this link."""
        out = self.out
        return {"bytes_in": self.bytes_in, "bytes_out": self.bytes_out, "frames_in": self.frames_in,
                "queued": out.queued + out.log_bytes + out.control_bytes + sum(list(self.unsent.values())),
                "dropped_logs": out.dropped, "window": self.window, "send_window": out.window, "rtt": self.rtt,
                "sent": tuple(out.sent)}
