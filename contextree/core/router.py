"""Channels, and the router that delivers frames to them.

A channel is a two-way flow of messages between two contexts. Sending never blocks: what has no credit waits in the
channel's own ``out`` (the sender looks at ``full`` or asks for ``on_room`` before it produces more). Sending state is
guarded by the link's lock; receiving state belongs to the loop thread. ``on_message(channel, data, fin, cost)`` runs on
the loop thread and must only hand over; whoever uses the message up calls ``taken(cost)``, from any thread, and so the
other end gets credit back.

This router knows one link, the one to the parent, and trusts what comes on it. Frames for other contexts and frames
from children are the business of ``engine`` (contextree.parent), which is only there in contexts that have children.

Why this file is long: a channel and its router change each other's tables, and each module costs 100 bytes on the wire.
"""

from _io import BytesIO
from _struct import Struct
from itertools import count

from contextree.core import process
from contextree.core.process import loads
from contextree.core.wire.errors import (
    CallCancelled, CallTimeout, Closed, ContextDied, ContextreeError, NotSendable, PeerError, ProtocolError, Refused,
)
from contextree.core.wire.flow import BUDGET, CREDIT_START, Receiving, growing
from contextree.core.wire.frames import (
    BROKEN, BULK, CALLS, CANCEL, CHANNEL, CONTROL, CREDIT, DATA, DIED, FIN, GOAWAY, HEADER, IDS, LOG, LOGS, MAX_PAYLOAD,
    MORE, NO_CHANNEL, NO_CONTEXT, NUMBER, OPEN, OPEN_HEAD, OPENER, PING, PONG, RAW, REFUSED, RESET, ROUTE_DEL,
    SIZE, TIMEOUT, TOO_BIG, VERSION, frame,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from contextree.core.broker import Broker
    from contextree.core.streams import Link

CHUNK = MAX_PAYLOAD
IDS_PAIR = Struct("!II")
SMALL = 16384  # a message up to this travels in the class of calls, a larger one as bulk
AHEAD = 1 << 18  # bytes that wait on a link for one context before who produces more for it waits too
MAX_MESSAGE = 1 << 30
EARLY = 10000  # channels for programs that wait for somebody here to ask for them
ERRORS = {CANCEL: CallCancelled, NO_CHANNEL: PeerError, NO_CONTEXT: ContextDied, REFUSED: Refused, TOO_BIG: NotSendable,
          DIED: ContextDied, BROKEN: ProtocolError, TIMEOUT: CallTimeout}


class Channel:
    """One end of a channel; made by ``Router.open`` and by the router for what others open."""

    __slots__ = ("router", "peer", "number", "mine", "link", "credit", "out", "ringed", "first", "flow", "parts",
                 "size", "held", "waiting", "window", "on_message", "on_end", "on_room", "sent_fin", "got_fin", "ended",
                 "pickles", "broken", "tag")
    if TYPE_CHECKING:
        on_message: Callable[..., Any]
        on_end: Any
        on_room: Any
        ended: Any
        tag: Any

    def __init__(self, router: "Router", peer: int, number: int, mine: int, link: "Link", credit: int,
                 window: int = CREDIT_START) -> None:
        self.router = router
        self.peer = peer
        self.number = number
        self.mine = mine  # OPENER, or 0
        self.link = link
        self.credit = credit
        self.out = []  # type: list[list[Any]]  # [view, flags of its last frame], oldest first
        self.ringed = self.sent_fin = self.got_fin = False
        self.first = DATA  # the kind of the next frame
        self.window = window
        self.flow = None  # type: Receiving | None  # a Receiving, once more than one frame comes in
        # a BytesIO while a message of several frames comes in: it grows in place
        self.parts = None  # type: BytesIO | None
        self.size = self.held = self.waiting = 0
        self.on_message = self.on_end = self.on_room = self.ended = self.tag = None  # type: ignore[assignment]
        self.broken = False  # the other end sent more than it had credit for
        self.pickles = False  # may what comes be unpickled?

    # -- sending, any thread

    def send(self, data: "Any", fin: bool = False, flush: bool = True) -> None:
        """Send one message: bytes, or a list of buffers that make it up, or a memoryview of bytes that are to arrive as
        such. ``fin``: the last one in this direction.

        Never blocks. Raises the channel's error when it has ended."""
        link = self.link
        flags = (FIN if fin else 0) | self.mine
        kind = type(data)
        if kind is memoryview:
            flags |= RAW
        with link.lock:
            if self.ended or self.sent_fin:
                raise self.ended or Closed("this end of the channel is closed")
            self.sent_fin = fin
            if kind is not list:
                size = len(data)
                if size <= SMALL and size + SIZE <= self.credit and not self.out:
                    self.credit -= size + SIZE
                    kind, self.first = self.first, DATA  # type: ignore[assignment]  # from now on of the frame
                    link.send_locked(CALLS, HEADER.pack(VERSION | kind, flags, CALLS, 0, self.number, self.peer,
                                                        self.router.id, size) + data, flush)
                    data = None
                else:
                    data = [data]
            if data:
                out = [[memoryview(part).cast("B"), self.mine | MORE] for part in data]  # type: list[list[Any]]
                out[-1][1] = flags
                self.out += out
                self.unsent(sum(len(view) for view, _ in out))
                if not self.ringed:
                    self.ringed = True
                    link.ring(self)
        if fin and self.over:
            self.router.forget(self)

    @property
    def over(self) -> bool:
        """Both ends have sent all they had."""
        return self.sent_fin and self.got_fin and not self.out

    def pull(self) -> "tuple[bytes, memoryview] | None":
        """The next bulk frame as (header, payload), or None: no more, or no credit. The link asks, holding its lock."""
        if self.ended or not self.out or self.credit <= SIZE:
            self.ringed = False
            return None
        view, flags = entry = self.out[0]
        count = min(len(view), CHUNK, self.credit - SIZE)
        if count < len(view):
            entry[0] = view[count:]
            flags = self.mine | MORE
        else:
            del self.out[0]
            if self.over:
                self.router.forget(self)
            elif not self.out and self.on_room:
                self.router.broker.defer_nowait(self.on_room)
        self.credit -= count + SIZE
        self.unsent(-count)
        kind, self.first = self.first, DATA
        return HEADER.pack(VERSION | kind, flags, BULK, 0, self.number, self.peer, self.router.id, count), view[:count]

    @property
    def full(self) -> bool:
        """So much waits for credit or room that it is wise to produce no more. A few items more than none: the loop
        writes them at once, where a producer that stopped after each would be woken for each."""
        return len(self.out) > 8 or (bool(self.out) and self.link.unsent.get(self.peer, 0) >= AHEAD)

    def cancel(self, code: int = CANCEL, text: str = "cancelled") -> None:
        """Reset the channel: the other end is told, this end ends with the error of ``code``. Any thread;
        idempotent."""
        if self.ended or self.over:
            return
        with self.link.lock:
            unsent = self.first == OPEN
            self.drop()
        if not unsent:
            self.router.reset(self.link, self, code, text)
        self.fail(ERRORS[code](text))

    def drop(self) -> None:
        """What is not sent yet will not be. Holding the link's lock."""
        self.unsent(-sum(len(view) for view, _ in self.out))
        self.out = []

    def unsent(self, count: int) -> None:
        """Note that so many bytes more wait to be sent."""
        self.link.unsent[self.peer] = self.link.unsent.get(self.peer, 0) + count

    def taken(self, cost: int) -> None:
        """The application has used up ``cost`` bytes of messages. Any thread."""
        with self.link.lock:
            self.waiting -= 1
            starved = not self.waiting
            if starved and self.held:
                cost += self.held
                self.held = 0
            flow = self.flow
            if self.got_fin or self.ended or not flow:
                return
            grown = self.router.grown
            window = flow.window
            grant = flow.taken(cost, starved
                               and (self in grown or len(grown) < growing(BUDGET, len(self.router.channels))))
            if flow.window > window:
                grown.add(self)
            if grant:
                self.link.send_locked(CONTROL, frame(CREDIT, self.mine, CONTROL, self.number, self.peer, self.router.id,
                                                     NUMBER.pack(grant)))

    # -- receiving, loop thread

    def receive(self, flags: int, view: "Any") -> "Any":
        """One DATA frame came: hand it on, or keep it until its message is whole. Loop thread."""
        size = len(view)
        if self.flow is None:
            if flags & (MORE | FIN) == FIN and self.sent_fin and not self.out and not self.ended:
                # an answer in one frame
                self.got_fin = True
                self.router.forget(self)
                data = bytes(view)
                return self.on_message(self, memoryview(data) if flags & RAW else data, True, size)
            self.flow = Receiving(self.window)
        if self.got_fin or not self.flow.arrived(size):
            self.broken = True
            return self.cancel(BROKEN, "more data than there was credit for")
        self.size += size
        if self.size > self.router.max_message:
            return self.cancel(TOO_BIG, "the message is larger than the limit of %d bytes" % self.router.max_message)
        if flags & MORE:
            if self.parts is None:
                self.parts = BytesIO()
            self.parts.write(view)
            if self.waiting:  # earlier messages are still unread, so this one need not hurry
                with self.link.lock:
                    self.held += size + SIZE
            else:
                self.waiting += 1
                self.taken(size + SIZE)
            return None
        if self.parts is None:
            view = bytes(view)
        else:
            self.parts.write(view)
            view = self.parts.getvalue()  # the buffer itself, not a copy
            self.parts = None
        if flags & RAW:
            view = memoryview(view)
        self.size = 0
        fin = bool(flags & FIN)
        with self.link.lock:
            self.waiting += 1
            self.got_fin = fin
        if self.over:
            self.router.forget(self)
        self.on_message(self, view, fin, size + SIZE)

    def fail(self, error: "ContextreeError") -> None:
        """End the channel with ``error``; whoever waits on it gets it. Once; any thread."""
        with self.link.lock:
            if self.ended:
                return
            self.ended = error
            self.drop()
            self.parts = None
        self.router.forget(self)
        if self.on_end:
            self.on_end(self, error)


class Router:
    """Delivers frames of this context. ``openers[kind](channel, options, threads, deadline, data, fin)`` serve
    OPENs."""

    def __init__(self, broker: "Broker", number: int, name: str) -> None:
        self.broker = broker
        self.id = number
        self.name = name
        self.names = {number: name}
        self.generation = process.generation
        self.upstream = None  # type: Any
        self.engine = None  # type: Any  # contextree.parent's half, once there are children
        self.channels = {}  # type: dict[tuple[int, int, int], Channel]
        self.grown = set()  # type: set[Channel]  # those with a larger window than the first
        self.openers = {CHANNEL: self.arrived}  # type: dict[int, Callable[..., object]]
        # token -> what is called with the other end of a channel for programs (parent.channel)
        self.ends = {}  # type: dict[bytes, Callable[[list[Any]], object]]
        # token -> [core's channel, options, message...] of those that nobody here has asked for yet
        self.early = {}  # type: dict[bytes, list[Any]]
        self.numbers = count(1)
        self.max_message = MAX_MESSAGE
        self.on_goaway = None  # type: Any
        self.pings = {}  # type: dict[tuple[int, int], Callable[[], object]]
        self.closed = None  # type: ContextreeError | None
        self.count = {"late": 0, "unknown": 0, "violations": 0, "opened": 0, "resets": 0}

    # -- any thread

    def link_to(self, peer: int) -> "Any":
        """The link on which frames for ``peer`` leave, or None."""
        if self.engine:
            return self.engine.link_to(peer)
        return self.upstream

    def open(self, peer: int, kind: int, data: "bytes | list[Any]" = b"", options: int = 0, threads: int = 0,
             deadline: int = 0, fin: bool = False, window: int = CREDIT_START,
             on_message: "Callable[..., Any] | None" = None, on_end: "Callable[..., Any] | None" = None,
             flush: bool = True, pickles: bool = False) -> Channel:
        """Open a channel to ``peer`` with a first message (bytes or a list of buffers). Never blocks.

        ``on_message`` and ``on_end`` are called on the loop thread. Raises ContextDied when there is no way to
        ``peer``."""
        link = self.link_to(peer)
        error = self.closed or ((not link or link.closed) and self.no_way(peer))
        if error:
            raise error
        number = next(self.numbers) & 0xffffffff
        channel = Channel(self, peer, number, OPENER, link, CREDIT_START, window)
        channel.first = OPEN
        channel.on_message = on_message  # type: ignore[assignment]  # who opens sets it, or gives it
        channel.on_end = on_end
        channel.pickles = pickles
        self.channels[peer, number, OPENER] = channel
        self.count["opened"] += 1
        head = OPEN_HEAD.pack(kind, options, threads, window, deadline)
        channel.send([head] + data if type(data) is list else head + data, fin, flush)  # type: ignore[operator]
        error = link.closed and self.no_way(peer)
        if error:  # it was lost while we came: its channels may have been failed before this one was there
            channel.fail(error)
        return channel

    def no_way(self, peer: int) -> "ContextreeError | None":
        """The error for a context that cannot be reached (any more). None: it is about to be told to all who wait."""
        if self.engine:
            return self.engine.no_way(peer)  # type: ignore[no-any-return]  # the engine is of a higher floor
        return ContextDied("there is no way to context %d" % peer)

    def forget(self, channel: "Channel") -> None:
        """Drop a finished channel from the table."""
        self.grown.discard(channel)
        if self.channels.pop((channel.peer, channel.number, channel.mine), None) and self.engine and not channel.mine:
            channel.link.open_count -= 1

    def reset(self, link: "Link", channel: "Channel", code: int, text: str) -> None:
        """Tell the other end of ``channel`` that it is over; not before what was sent, so that a call is not found
        cancelled before it is there."""
        self.count["resets"] += 1
        link.send(CALLS, frame(RESET, channel.mine, CALLS, channel.number, channel.peer, self.id,
                                 bytes([code]) + text.encode("utf-8", "replace")[:4096]))

    def log(self, payload: bytes) -> None:
        """Send one log record towards the master; dropped when the link cannot keep up."""
        if self.upstream:
            self.upstream.send(LOGS, frame(LOG, 0, LOGS, 0, 0, self.id, payload))

    # -- loop thread

    def receive(self, link: "Link", kind: int, flags: int, cls: int, number: int, dst: int, src: int, view: memoryview,
                raw: memoryview) -> "Any":
        """Every frame of every link comes here."""
        if link is not self.upstream or dst != self.id:
            if self.engine:
                return self.engine.receive(link, kind, flags, cls, number, dst, src, view, raw)
            if kind in (DATA, OPEN, CREDIT):
                self.refuse(link, src, number, flags, NO_CONTEXT, "%s has no context %d" % (self.name, dst), dst)
            return None
        return self.deliver(link, kind, flags, number, src, view)

    def deliver(self, link: "Link", kind: int, flags: int, number: int, src: int, view: memoryview) -> "Any":
        """A frame for this context whose sender has been checked."""
        if kind == OPEN:
            return self.opened(link, flags, number, src, view)
        if kind <= RESET:
            channel = self.channels.get((src, number, (flags & OPENER) ^ OPENER))
            if channel is None:
                return self._stray(link, kind, flags, number, src)
            if kind == DATA:
                return channel.receive(flags, view)
            if kind == CREDIT and len(view) == 4:
                return self._credit(channel, NUMBER.unpack(view)[0])
            if kind == RESET and len(view):
                code = view[0] if view[0] in ERRORS else BROKEN
                return channel.fail(ERRORS[code](bytes(view[1:]).decode("utf-8", "replace")))
        elif kind == PING:
            return link.send(CONTROL, frame(PONG, 0, CONTROL, number, src, self.id))
        elif kind == PONG:
            waiting = self.pings.pop((src, number), None)
            return waiting and waiting()
        elif link is self.upstream:
            if kind == GOAWAY:
                return self.on_goaway(bytes(view).decode("utf-8", "replace"))
            if kind == ROUTE_DEL:  # of contexts that this one was granted to
                numbers, reason = loads(view)  # from above
                return self.lost(set(numbers), ContextDied("context %s ended: %s" % (numbers, reason)))
            if kind == IDS and self.engine:
                return self.engine.ids_came(*IDS_PAIR.unpack(view))
        self.count["unknown"] += 1
        return None

    def opened(self, link: "Link", flags: int, number: int, src: int, view: memoryview) -> "Any":
        """Someone who may do so opens a channel to us."""
        if len(view) < OPEN_HEAD.size or (src, number, 0) in self.channels:
            return self.refuse(link, src, number, flags, BROKEN, "a bad OPEN")
        kind, options, threads, window, deadline = OPEN_HEAD.unpack_from(view)
        opener = self.openers.get(kind)
        if opener is None:
            return self.refuse(link, src, number, flags, REFUSED,
                               "%s does not serve channels of kind %d" % (self.name, kind))
        channel = Channel(self, src, number, 0, link, min(window, 1 << 30))
        self.channels[src, number, 0] = channel
        if self.engine:
            link.open_count += 1
        if flags & (MORE | FIN) == FIN:
            channel.got_fin = True
            return opener(channel, options, threads, deadline, bytes(view[OPEN_HEAD.size:]), True)

        def first(channel: "Channel", data: "Any", fin: bool, cost: int) -> None:
            opener(channel, options, threads, deadline, data, fin)
            if not fin:
                channel.taken(cost)

        channel.on_message = first
        return channel.receive(flags, view[OPEN_HEAD.size:])

    def arrived(self, channel: "Channel", options: int, threads: int, deadline: int, token: bytes, fin: bool) -> None:
        """A channel for programs. What comes is kept, as far as its credit goes, until one here asks for it."""
        early = [channel, options]  # type: list[Any]
        channel.on_message = lambda *message: early.append(message)
        if token in self.ends:
            self.ends[token](early)
        elif token in self.early or len(self.early) > EARLY:
            channel.cancel(REFUSED, "nobody here asks for it")
        else:
            self.early[token] = early

    def refuse(self, link: "Link", dst: int, number: int, flags: int, code: int, text: str,
               src: "int | None" = None) -> None:
        """Answer a frame that cannot be delivered, so that its sender does not wait for ever."""
        link.send(CONTROL, frame(RESET, (flags & OPENER) ^ OPENER, CONTROL, number, dst,
                                 self.id if src is None else src,
                                 bytes([code]) + text.encode("utf-8", "replace")[:4096]))

    def _stray(self, link: "Link", kind: int, flags: int, number: int, src: int) -> None:
        if kind == DATA and flags & OPENER:
            self.count["unknown"] += 1
            self.refuse(link, src, number, flags, NO_CHANNEL, "%s has no channel %d open with context %d"
                        % (self.name, number, src))
        else:
            self.count["late"] += 1  # for a call that was cancelled or timed out

    def _credit(self, channel: "Channel", grant: int) -> None:
        with channel.link.lock:
            channel.credit += grant
            if channel.credit <= 1 << 31:
                if channel.out and not channel.ringed:
                    channel.ringed = True
                    channel.link.ring(channel)
                return
        self.count["violations"] += 1
        channel.cancel(BROKEN, "credit overflow")

    def lost(self, peers: "set[int] | None", error: "ContextreeError") -> None:
        """The contexts ``peers`` (a set of ids, or None for all) are gone: fail what waits for them."""
        for channel in list(self.channels.values()):
            if peers is None or channel.peer in peers:
                channel.fail(error)
        for peer, number in list(self.pings):
            if peers is None or peer in peers:
                self.pings.pop((peer, number))()

    def close(self, error: ContextreeError) -> None:
        """No new channels; the open ones end with ``error``."""
        self.closed = error
        self.lost(None, error)
