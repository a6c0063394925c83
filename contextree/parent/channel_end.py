"""The ends of channels for programs, as the loop thread knows them; ``channel`` tells how all of it works.

``message``, ``ended``, ``attach`` and ``wake`` run on the loop thread, the others on any. Nothing here refers to the
handle, so that one that nobody has any more is collected, and closes its end.
"""

from collections import deque

from contextree.core import calls as core_calls
from contextree.core import process
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import Closed, ContextreeError
from contextree.core.wire.frames import CANCEL, CHANNEL, PICKLE, PICKLE5, REFUSED
from contextree.parent.calls import copied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from contextree.core.router import Channel
    from contextree.core.router import Router as Core
    from contextree.parent.reports import Info

CLOSED = b"\6"  # in the place of a value's form
BURIED = 1000  # channels that have ended here, and are remembered
graves = deque()  # type: deque[tuple[dict[bytes, Any], bytes]]  # (the router's ``ends``, token), oldest first


class End:
    """One end of a channel, connected or not yet. ``core``: the router of its context."""

    def __init__(self, core: "Core", acceptor: int, token: bytes, protocol: int) -> None:
        self.core = core
        self.acceptor = acceptor
        self.token = token
        self.protocol = protocol  # of pickles that the acceptor reads
        self.mailbox = Mailbox()
        self.channel = None  # type: Any  # core's, once connected
        self.lock = process.allocate_lock()
        self.callbacks = []  # type: list[Callable[[], object]]  # of those who wait for room
        self.below = False  # is the other end below this context? then it gets what its calls get, modules too
        self.pickles = 0  # the protocol of pickles that the other end reads from us otherwise; 0: plain data only
        self.trusted = False  # may we unpickle what comes?
        self.eof = False  # we have sent our last
        self.deaf = False  # and then we closed: nobody is told yet that we do not read

    # -- becoming connected

    def claim(self) -> None:
        """Await the other end here, at the acceptor. Any thread."""
        self.core.ends[self.token] = self.attach
        self.core.broker.defer(self._early)  # the loop may have looked into ``ends`` just before

    def _early(self) -> None:
        """Take what came before we were here. Loop thread."""
        early = self.core.early.pop(self.token, None)
        if early is not None:
            self.attach(early)

    def attach(self, early: "list[Any]") -> None:
        """The other end is there: ``early`` is core's channel, its options, and the messages that came. Loop
        thread."""
        channel = early[0]  # type: Channel
        options = early[1]  # type: int
        if self.channel is not None:
            return channel.cancel(REFUSED, "the channel has its two ends already")
        info = self.info(channel.peer)
        self.below = info is not None
        # what comes from above is from an ancestor, or from a context that was granted access
        self.trusted = channel.link is self.core.upstream or (info is not None and info.trusted)
        self.pickles = options & PICKLE and (core_calls.PROTOCOL if options & PICKLE5 else 4)
        channel.on_message = self.message
        channel.on_end = self.ended
        self.channel = channel
        for message in early[2:]:
            self.message(*message)
        if channel.ended:
            self.ended(channel, channel.ended)
        return self.wake()

    def connect(self) -> None:
        """Be the other end of the acceptor, which is elsewhere. Any thread; idempotent; never blocks."""
        core = self.core
        with self.lock:
            if self.channel is not None or self.acceptor == core.id:
                return
            info = self.info(self.acceptor)
            above = self.above()
            self.below = info is not None
            self.trusted = self.acceptor in above or (info is not None and info.trusted)
            if self.acceptor not in above or process_trusted():
                self.pickles = min(core_calls.PROTOCOL, self.protocol)
            options = (PICKLE | (PICKLE5 if core_calls.PROTOCOL == 5 else 0)) if self.trusted else 0
            self.channel = core.open(self.acceptor, CHANNEL, self.token, options, on_message=self.message,
                                     on_end=self.ended)

    def info(self, number: int) -> "Info | None":
        """What is known of a context below this one."""
        engine = self.core.engine
        return engine.infos.get(number) if engine else None

    def above(self) -> "Any":
        """The ids of our ancestors."""
        engine = self.core.engine
        if engine:
            return engine.above
        return life().config["above"]

    # -- loop thread

    def message(self, channel: "Channel", data: "Any", fin: bool, cost: int) -> None:
        """Something came."""
        if fin:
            self.mailbox.close(Closed("the other end of the channel was closed"))
            if data:  # it does not read, either
                self.eof = True
                channel.cancel(CANCEL, "closed")
            channel.taken(cost)
        else:
            try:
                self.mailbox.put((data, fin, cost))
            except Closed:  # we do not read any more
                channel.taken(cost)
                if self.deaf and not channel.out:  # what we said before the end has gone
                    channel.cancel(CANCEL, "closed")

    def ended(self, channel: "Channel", error: BaseException) -> None:
        """No more will come, and none will be taken."""
        self.mailbox.close(error)
        self.wake()

    def wake(self) -> None:
        """There is room, or there will never be."""
        with self.lock:
            callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()

    # -- any thread

    def full(self) -> bool:
        """Whether who sends should wait now."""
        channel = self.channel
        if channel is None:
            return not self.mailbox.closed
        return channel.full and not channel.ended

    def on_room(self, callback: "Callable[[], object]") -> None:
        """Have ``callback()`` called once, when sending goes on: on the loop thread, or here and now."""
        with self.lock:
            self.callbacks.append(callback)
        if self.channel is not None:
            self.channel.on_room = self.wake
        if not self.full():
            self.wake()

    def send(self, data: "Any", fin: bool = False) -> None:
        """Send an encoded message; never blocks."""
        channel = self.channel
        if channel is None:
            raise Closed("nobody is at the other end of the channel yet")
        try:
            channel.send(data, fin)
        except ContextreeError as error:
            error.__traceback__ = None  # the channel keeps it, and it would keep our frames, and so the handle
            if self.eof:
                raise Closed("the other end of the channel was closed") from None
            raise copied(error) from None

    def send_eof(self) -> None:
        """No more from us."""
        if not self.eof:
            self.eof = True
            self.send(b"", True)

    def bury(self) -> None:
        """At the acceptor: nobody can be the other end any more, and who wants to is told so."""
        ends = self.core.ends
        if self.channel is None:  # nobody was: a later handle may wait again
            ends.pop(self.token, None)
        elif self.token in ends:
            ends[self.token] = refuse
            graves.append((ends, self.token))
            while len(graves) > BURIED:
                ends, token = graves.popleft()
                if ends.get(token) is refuse:
                    ends.pop(token, None)

    def close(self) -> None:
        """No more from us, and nothing more to us; what was sent still arrives. Idempotent."""
        channel = self.channel
        self.bury()
        self.mailbox.close(Closed("the channel was closed here"))
        if channel is None:
            return
        eof, self.eof = self.eof, True
        while self.mailbox.items:  # closed, so no more come
            try:
                channel.taken(self.mailbox.get(0)[2])
            except ContextreeError:
                break
        try:
            if not eof:
                channel.send(CLOSED, True)
            self.deaf = eof  # what was sent before that may still be on its way; who sends to us is told when it does
        except ContextreeError:
            pass  # it has ended


def refuse(early: "list[Any]") -> None:
    """Somebody wants to be the other end of a channel that has ended. Loop thread."""
    early[0].cancel(REFUSED, "this channel has had its two ends, and has ended")


def life() -> "Any":
    """The Child that this process is."""
    from contextree.core import main

    return main.child


def process_trusted() -> bool:
    """Whether what this context sends upward may be pickles."""
    return life() is not None and life().config["trusted"]
