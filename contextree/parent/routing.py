"""What a context needs once it has children: each frame that comes from below, or for somebody there, goes its way.

Everything that comes from a child is hostile. Its authority is that of the link it came in on: its source must be a
context whose route is that link; it may answer channels that were opened to it, log, report its own subtree, ask its
direct parent for modules and ids, open channels to contexts for which a grant says so, and be the other end of a
program's channel whose token it knows. All else is counted, dropped, and answered only where a sender would wait for
ever. Who keeps breaking the rules is disconnected.

Frames are forwarded as they come, never reassembled. What is forwarded waits in the queue of the outgoing link; up to
``RELAY`` bytes of it are acknowledged to the incoming link at once, so that a child that does not read holds up nobody
but itself, and beyond that only when they have left, so that memory stays bounded.

Who is where, and what becomes of those who break the rules, is in ``reports``. All of this is the loop thread's.
"""

from collections import deque

from contextree.core.wire.flow import CONTROL_LIMIT
from contextree.core.wire.frames import (
    BROKEN, BULK, CALLS, CHANNEL, CONTROL, CREDIT, DATA, GOAWAY, IDS, LOG, LOGS, MODULES, MORE, NO_CONTEXT, OPEN,
    OPEN_HEAD, OPENER, PING, PONG, REFUSED, RESET, RESOURCE, ROUTE_ADD, ROUTE_DEL, SIZE,
)
from contextree.parent.reports import Subtree
from contextree.parent.values import decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Deque, Iterable

    from contextree.core.router import Channel, Router as Core
    from contextree.parent.boot import Branch, ChildLink
    from contextree.parent.engine import Engine

RELAY = 1 << 22
RELAY_DOWN = 1 << 26  # what comes from above is for many: one child that does not read must not hold up the others
QUEUE = 1 << 20  # small frames that wait for one link before they are treated as bulk
OPEN_LIMIT = 1000  # channels that one child may have open to this context
UPWARD = frozenset((MODULES, RESOURCE))  # what any child may open to its direct parent
USE, USE_STREAM = 16, 17  # further kinds of channels: a call of a service, whose number is where calls have threads
USES = frozenset((USE, USE_STREAM))
REPORTS = frozenset((LOG, ROUTE_ADD, ROUTE_DEL, IDS))  # what a client, which is no more than a leaf, has none of
MAX_CONTROL = SIZE + 4200  # bytes of a control frame that is forwarded; a RESET has a text of up to 4096
REQUEST = 30.0  # seconds that a request of several frames may take to come ...
REQUESTS = 16  # ... and how many of them may be under way


def use_of(kind: int, view: memoryview) -> int:
    """The number of the service that a frame opens a channel to, or 0."""
    if kind == OPEN and len(view) >= OPEN_HEAD.size and view[0] in USES:
        return int(view[2]) << 8 | view[3]
    return 0


class Relay:
    """Bulk frames of one forwarded channel that wait for the outgoing link: a source of its ring."""

    __slots__ = ("frames", "engine", "key", "out")

    def __init__(self, engine: "Routing", key: "tuple[Any, ...]", out: "ChildLink") -> None:
        # (bytes, the link whose window they still take up, or None)
        self.frames = deque()  # type: Deque[tuple[bytes, ChildLink | None]]
        self.engine = engine
        self.key = key
        self.out = out

    def drop(self) -> None:
        """Nobody wants what waits. Holding the link's lock."""
        while self.frames:
            self.pull()

    def pull(self) -> "tuple[bytes, bytes] | None":
        """The next frame. The link asks, holding its lock."""
        if not self.frames:
            self.engine.relays.pop(self.key, None)
            return None
        data, origin = self.frames.popleft()
        self.out.relayed -= len(data)
        if origin is not None:
            origin.released(len(data))
        return data, b""


class Routing(Subtree):
    """The parent's half of the router ``core``."""

    def __init__(self, core: "Core", ids: "Iterable[tuple[int, int]]", bundle: bytes,
                 decode: "Callable[..., Any]" = decode, trusted: bool = True) -> None:
        Subtree.__init__(self, core, ids, decode)
        self.bundle = bundle
        self.trusted = trusted  # does the root trust this context?
        if core.upstream is not None:
            core.upstream.relayed = 0  # as links to children have it: what is forwarded upward is counted too
        self.links = {}  # type: dict[Any, int]  # link -> id of the direct child
        self.relays = {}  # type: dict[tuple[Any, ...], Relay]
        self.children = {}  # type: dict[int, Any]  # id of direct child -> Branch; of a client: Guest
        self.jobs = set()  # type: set[Any]  # programs that run here: see program
        self.afters = set()  # type: set[Any]  # what is done when a child is gone: see steps
        self.watchman = None  # type: Any  # who ends them if this process is killed
        self.ending = False

    # -- frames, loop thread

    def receive(  # noqa: C901  a table of cases, in order
            self, link: "ChildLink", kind: int, flags: int, cls: int, number: int, dst: int, src: int, view: memoryview,
            raw: memoryview) -> None:
        """A frame from a child, or one from above for somebody else."""
        core = self.core
        if kind == DATA and dst == core.id:
            channel = core.channels.get((src, number, (flags & OPENER) ^ OPENER))
            if channel is not None and channel.link is link:  # so ``src`` is behind this link
                channel.receive(flags, view)
                if channel.broken and link is not core.upstream:
                    self.strike(link, "credit or window exceeded")
                return None
        if link is core.upstream:
            info = self.infos.get(dst)
            if info is not None:
                return self.forward(info.link, cls, kind, flags, number, dst, src, raw, link)
            if kind in (DATA, OPEN, CREDIT):
                core.refuse(link, src, number, flags, NO_CONTEXT, str(self.no_way(dst)), dst)
            return None
        info = self.infos.get(src)
        if info is None or info.link is not link:
            return self.late(link, kind, src, view, raw) if info is None else self.spoofed(link, src)
        if link.rights is not None and kind in REPORTS:
            return self.strike(link, "a client sent a frame of kind %d" % kind)
        if kind == LOG:
            return self.log(link, info, view, raw)
        if kind in (ROUTE_ADD, ROUTE_DEL, IDS):
            if src != link.peer:
                return self.spoofed(link, src)
            return self.report(link, kind, view)
        if kind == GOAWAY:
            return self.strike(link, "a child may not end others")
        if dst == core.id:
            return self.inward(link, kind, flags, number, src, view)
        info = self.infos.get(dst)
        if info is not None:
            if info.link is link or not self.granted(kind, src, dst, use_of(kind, view)):
                return self.refuse(link, kind, flags, number, dst, src)
            if link.rights is not None:
                link.partners.add(dst)
            out = info.link
        else:
            out = core.upstream
        if out is None:
            if kind in (DATA, OPEN, CREDIT):
                core.refuse(link, src, number, flags, NO_CONTEXT, str(self.no_way(dst)), dst)
            return None
        # the class says which queue a frame goes through and what bounds that, so it is not the sender's to choose
        if not (cls in (CALLS, BULK) if kind in (DATA, OPEN) else
                cls <= CALLS and kind in (CREDIT, RESET, PING, PONG) and len(raw) <= MAX_CONTROL):
            return self.strike(link, "a frame of kind %d and %d bytes in class %d" % (kind, len(raw), cls))
        if cls == CONTROL and out.out.control_bytes > CONTROL_LIMIT >> 1:  # at the limit ``out`` would be closed
            self.count["dropped"] += 1
            return self.noise(link)
        return self.forward(out, cls, kind, flags, number, dst, src, raw, link)

    def inward(self, link: "ChildLink", kind: int, flags: int, number: int, src: int, view: memoryview) -> None:
        """A frame from below for this very context."""
        core = self.core
        what = 0
        if kind == OPEN:
            what = view[0] if len(view) >= OPEN_HEAD.size else 0
            known = what == CHANNEL and bytes(view[OPEN_HEAD.size:]) in core.ends
            if not known and not (what in UPWARD and src == link.peer and link.rights is None):
                if not self.granted(kind, src, core.id, use_of(kind, view)):
                    return self.refuse(link, kind, flags, number, core.id, src)
                if what in USES:  # an honest caller may be fast: it waits for the pool, and is told when that is full
                    if link.open_count >= OPEN_LIMIT:
                        return core.refuse(link, src, number, flags, REFUSED, "%s: %d calls at once are too many"
                                           % (core.name, OPEN_LIMIT))
                    return core.deliver(link, kind, flags, number, src, view)  # type: ignore[no-any-return]
            if not link.opens.take(self.broker.clock(), 1 + (len(view) >> 7)):
                return self.strike(link, "too many requests", number, flags, src)
            if link.open_count >= OPEN_LIMIT:
                return self.strike(link, "too many open channels", number, flags, src)
            if flags & MORE and link.requests >= REQUESTS:
                return self.strike(link, "too many requests that do not end", number, flags, src)
        elif kind == PING and not link.opens.take(self.broker.clock()):
            return self.strike(link, "too many pings")
        elif kind not in (DATA, CREDIT, RESET, PING, PONG) or len(view) < (0, 0, 0, 4, 1)[kind if kind <= RESET else 0]:
            return self.strike(link, "a frame of kind %d with %d bytes" % (kind, len(view)))
        before = core.count["violations"]
        core.deliver(link, kind, flags, number, src, view)
        if core.count["violations"] != before:
            self.strike(link, "credit or window exceeded")
        if what in UPWARD and flags & MORE:
            channel = core.channels.get((src, number, 0))
            if channel is not None:
                channel.waiting += 1  # so it gets no credit for parts: a request is no longer than the first window
                link.requests += 1
                self.broker.timer(REQUEST, self.request_over, link, channel)
        return None

    def request_over(self, link: "ChildLink", channel: "Channel") -> None:
        """The time for a request of several frames is up."""
        link.requests -= 1
        if not channel.got_fin:
            channel.cancel(BROKEN, "the request did not end")

    def forward(self, out: "ChildLink", cls: int, kind: int, flags: int, number: int, dst: int, src: int,
                raw: memoryview, origin: "ChildLink") -> None:
        """Pass one frame on. Small ones go through the queue of calls while that is short, and unless earlier ones of
        their channel wait in a Relay."""
        self.count["forwarded"] += 1
        data = bytes(raw)
        key = out, dst, src, number, flags & OPENER
        if kind == RESET and self.relays:
            self.drop(key)
            self.drop((origin, src, dst, number, (flags & OPENER) ^ OPENER))
        with out.lock:
            if out.closed:
                return
            relay = self.relays.get(key)
            if cls in (CONTROL, LOGS) or (cls == CALLS and relay is None and out.out.queued < QUEUE):
                out.send_locked(cls, data)
                return
            held = None
            out.relayed += len(data)
            if out.relayed > (RELAY_DOWN if origin is self.core.upstream else RELAY):
                held = origin
                origin.held += len(data)
            if relay is None:
                relay = self.relays[key] = Relay(self, key, out)
            relay.frames.append((data, held))
            if len(relay.frames) == 1:
                out.ring(relay)

    def drop(self, key: "tuple[Any, ...]") -> None:
        """Drop what waits in one Relay."""
        with key[0].lock:
            relay = self.relays.get(key)
            if relay is not None:
                relay.drop()

    def link_lost(self, link: "ChildLink") -> None:
        """Drop what waits for a link that has closed, so that those who sent it get their window back."""
        for key in list(self.relays):
            if key[0] is link:
                self.drop(key)
                self.relays.pop(key, None)
