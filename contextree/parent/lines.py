"""What the calls of a service go through: ``Lines``, where they wait; ``Partial``, a channel whose request is coming in
several frames; and ``Loopback``, in place of a channel for those from the same context."""

from collections import deque

from contextree.core import process
from contextree.core.mailbox import Mailbox
from contextree.core.router import ERRORS, Channel
from contextree.core.wire.errors import Closed
from contextree.core.wire.frames import CANCEL, MORE, TOO_BIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from contextree.parent.engine import Engine
    from contextree.parent.serving import ServiceCall

PARTIAL = 1 << 26  # bytes of requests that have not come whole; and of those that wait


class Lines:
    """Calls that wait, a line for each caller, served in turn. To ``Call`` it looks like a Mailbox."""

    def __init__(self) -> None:
        self.mailbox = Mailbox()  # one item for each call; which call it is for is decided when it is taken
        self.items = self.mailbox.items
        self.lines = {}  # type: dict[int, deque[ServiceCall]]  # by caller
        self.turns = deque()  # type: deque[int]  # callers whose line is not empty
        self.bytes = {}  # type: dict[Any, int]  # holder -> size of its requests that wait, where they are large
        self.lock = process.allocate_lock()

    def put(self, call: "ServiceCall") -> None:
        """Append ``call`` to the line of its caller. Raises Closed after the end. Never blocks."""
        peer = call.channel.peer
        with self.lock:
            self.mailbox.put(None)
            line = self.lines.get(peer)
            if line is None:
                line = self.lines[peer] = deque()
                self.turns.append(peer)
            line.append(call)
            if call.weight:
                self.bytes[call.holder] = self.bytes.get(call.holder, 0) + call.weight

    def get(self) -> "ServiceCall":
        """The next call of the caller whose turn it is, now active; waits. Raises Closed at the end."""
        self.mailbox.get()
        with self.lock:
            if not self.turns:
                raise Closed("closed")
            peer = self.turns.popleft()
            line = self.lines[peer]
            call = line.popleft()
            if line:
                self.turns.append(peer)
            else:
                del self.lines[peer]
            if call.weight:
                left = self.bytes.pop(call.holder) - call.weight
                call.weight = 0
                if left:
                    self.bytes[call.holder] = left
            call.active += 1
            return call

    def waiting(self, peer: int) -> int:
        """How many calls of one caller wait."""
        return len(self.lines.get(peer, ()))

    @property
    def closed(self) -> "BaseException | None":
        """Why no more are taken, or None."""
        return self.mailbox.closed

    def close(self) -> None:
        """Take no more, and give out none of those that wait."""
        with self.lock:
            self.mailbox.close()
            self.items.clear()
            self.lines.clear()
            self.turns.clear()


def holder(engine: "Engine", channel: "Any") -> "Any":
    """On whose account is what this channel makes us hold."""
    return channel.peer if channel.link is engine.core.upstream else channel.link


class Partial(Channel):
    """A channel on which a request comes in several frames: it is counted what of it lies here. Loop thread."""

    __slots__ = ()

    def receive(self, flags: int, view: memoryview) -> None:
        """One more frame; too much of one request, or of all together, ends it."""
        services = self.router.engine.services
        limit, held = services.requests[self]
        held += len(view)
        account = holder(services.engine, self)
        total = services.partial.get(account, 0) + len(view)
        if held > limit or total > PARTIAL:
            self.cancel(TOO_BIG, "the request is larger than the service takes" if held > limit else
                        "too much of other requests has come and not ended")
            return
        services.requests[self] = limit, held
        services.partial[account] = total
        if not flags & MORE:
            services.whole(self)
            self.__class__ = Channel  # type: ignore[assignment]  # the same slots
        Channel.receive(self, flags, view)


class Loopback:
    """The channel of a call within one context: messages go from hand to hand. Any thread."""

    pickles = True

    def __init__(self, peer: int, on_message: "Callable[..., object]",
                 on_caller_end: "Callable[..., object]") -> None:
        self.peer = peer
        self.on_message = on_message
        self.on_caller_end = on_caller_end
        self.on_end = None  # type: Any
        self.on_room = None  # type: Any
        self.ended = None  # type: Any
        self.sent_fin = False
        self.waiting = 0  # messages that the caller has not used up
        self.link = None

    @property
    def full(self) -> bool:
        """The caller has enough."""
        return self.waiting > 8

    def send(self, data: "Any", fin: bool = False, flush: bool = True) -> None:
        """Give one message to the caller."""
        if self.ended is not None:
            raise self.ended
        if self.sent_fin:
            raise Closed("this end of the channel is closed")
        self.sent_fin = fin
        self.waiting += 1
        self.on_message(self, b"".join(data) if type(data) is list else data, fin, 1)

    def taken(self, cost: int) -> None:
        """The caller has used one message up."""
        self.waiting -= 1
        room = self.on_room
        if room and not self.full:
            room()

    @property
    def over(self) -> bool:
        """It was answered."""
        return self.sent_fin

    def cancel(self, code: int = CANCEL, text: str = "cancelled") -> None:
        """The caller does not want the answer any more."""
        if self.ended is None and not self.sent_fin:
            self.ended = ERRORS[code](text)
            self.on_end(self, self.ended)
            self.on_caller_end(self, self.ended)
