"""The way of a transfer's messages: a call that both ends keep talking on.

The near end opens it as any call of a function (on a service thread, so that the main thread there stays free), but
does not end its own direction with that. The function there takes the channel of its own call over (``FarPipe``), says
so, and then messages go both ways until it returns, which is the last message, as an exception is. So what fails there
arrives here in order, as itself, and who waits for room to send more is woken by it.

Data is sent as it was read, without a copy. Values go upward in the strict codec alone, whoever trusts whom.

The sender reads and hashes the next part while the one before leaves; beside one part it holds no more than what
``AHEAD`` of the router allows.
"""

from time import monotonic

from contextree.core import calls as core_calls
from contextree.core import process
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import (
    CallCancelled,
    CallTimeout,
    Closed,
    ContextDied,
    ContextreeError,
    ProtocolError,
    WouldBlockLoop,
)
from contextree.core.wire.frames import CALL, SERVICE
from contextree.parent import calls, waits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from contextree.core.router import Channel
    from contextree.parent.context import Context

THREADS = 1000  # transfers that may run in one context at once
READY = "ready"  # the first message from there


class Pipe:
    """What both ends share: messages out, with a wait for room, and messages in. One thread sends and receives."""

    channel = None  # type: Any

    def __init__(self, timeout: "float | None" = None) -> None:
        self.inbox = Mailbox()
        self.deadline = None if timeout is None else monotonic() + timeout
        self.timeout = timeout
        self.over = False  # no answer will be needed any more: it is here, or there is none
        self.waiter = None  # type: Any

    def left(self) -> "float | None":
        """Seconds until the deadline; CallTimeout when it is over."""
        if self.deadline is None:
            return None
        left = self.deadline - monotonic()
        if left <= 0:
            raise calls.told(CallTimeout("the transfer was not done within %s s" % round(self.timeout or 0, 3)))
        return left

    def message(self, channel: "Channel", data: "Any", fin: bool, cost: int) -> None:
        """A message came. Loop thread."""
        try:
            self.inbox.put((data, fin, cost))
        except Closed:
            pass  # by its reader, maybe this very moment
        if fin:
            self.end(channel, None)

    def end(self, channel: "Channel", error: "BaseException | None") -> None:
        """Nothing more will come. Loop thread."""
        self.over = True
        self.inbox.close(error)
        self.wake()
        if self.on_over is not None:
            self.on_over()

    on_over = None  # type: Any  # called when nothing more will come, on the loop thread

    def stop(self) -> None:
        """Who receives here gets Closed, once there is nothing left. Any thread."""
        self.inbox.close()

    def wake(self) -> None:
        """There is room, or no need of any. Loop thread."""
        waiter = self.waiter
        if waiter is not None:
            waiter.wake()

    def send(self, message: "Any", fin: bool = False, stall: "float | None" = None) -> bool:
        """Send one message when there is room. False, and it was dropped, if the other end wants no more: ``receive``
        tells why.

        CallTimeout if there was no room for ``stall`` seconds, or until the deadline."""
        channel = self.channel
        while channel.full and not self.over:
            self.waiter = waiter = process.waiter()
            channel.on_room = self.wake
            try:
                if channel.full and not self.over:
                    left = self.left()
                    if not waiter.wait(left if stall is None else min(stall, left or stall)):
                        self.left()
                        raise CallTimeout("%s took nothing for %s s" % (self.name(), stall))
            finally:
                channel.on_room = self.waiter = None
        if self.over:
            return False
        try:
            # many small files are for the loop to put together
            channel.send(core_calls.pack(message, self.pickles), fin, fin or type(message) is not dict)
        except ContextreeError:
            if not channel.ended:
                raise
            return False
        return True

    def receive(self, stall: "float | None" = None) -> "Any":
        """The next message. Raises what the other end raised, and whatever ended the pipe; CallTimeout if nothing came
        for ``stall`` seconds, or until the deadline."""
        left = self.left()
        data, fin, cost = self.inbox.get(left if stall is None else min(stall, left or stall))
        if not fin:
            self.channel.taken(cost)
        return self.unpack(data)

    pickles = 0

    def name(self) -> str:
        """The other end, for messages."""
        return str(self.channel.router.names.get(self.channel.peer, "context %d" % self.channel.peer))

    def unpack(self, data: "Any") -> "Any":
        """The value of a message."""
        raise NotImplementedError


class NearPipe(Pipe):
    """The end that calls: ``function(*args)`` runs in ``context`` and is the other end. Values go down as pickles."""

    pickles = 4

    def __init__(self, context: "Context", function: "Callable[..., Any]", *args: "Any", fin: bool = False) -> None:
        timeout = calls.time_limit(context.options)
        Pipe.__init__(self, timeout)
        self.engine = context.engine
        if waits.inside(context.engine.broker):
            raise WouldBlockLoop("a transfer on the loop thread would wait for itself")
        waits.check(context.engine)
        context.engine.share_package(context, start=function.__module__)
        calls.wait_for_room(context, timeout)
        self.channel = context.open_call(CALL, function, args, {}, {"threads": THREADS}, self.message,
                                         self.end, service=SERVICE, fin=fin)

    def unpack(self, data: "Any") -> "Any":
        """The value of a message from there, checked; or its exception."""
        return calls.unpack(self.engine, self.channel.pickles, data, self.channel.peer)

    def ready(self, stall: "float | None" = None) -> "Any":
        """Wait until the function there listens; what it said with that."""
        first = self.receive(stall)
        if type(first) not in (list, tuple) or len(first) != 2 or first[0] != READY:
            raise ProtocolError("%s is not ready but says %.80r" % (self.name(), first))
        return first[1]

    def tell(self, on_over: "Any") -> None:
        """Call ``on_over`` when nothing more will come: on the loop thread, or here at once."""
        self.on_over = on_over
        if self.over:
            on_over()

    def cancel(self) -> None:
        """Have the function there stop, unless it has ended. Idempotent."""
        self.channel.cancel()

    def __enter__(self) -> "NearPipe":
        return self

    def __exit__(self, *exc_info: "Any") -> None:
        self.cancel()


running = set()  # type: set[FarPipe]  # far ends in this process


def stop_all() -> None:
    """This process ends: so do the transfers here. Loop thread."""
    for pipe in list(running):
        pipe.end(pipe.channel, ContextDied("%s was shut down" % pipe.channel.router.name))


process.after_fork.append(running.clear)


class FarPipe(Pipe):
    """The other end, made by the function that runs there, from its own call; to be used in a ``with`` block."""

    def __init__(self) -> None:
        Pipe.__init__(self)
        running.add(self)
        self.call = call = core_calls.here.call
        self.channel = channel = call.channel
        channel.on_message = self.message
        channel.on_end = self.ended
        if channel.ended or call.cancelled:
            self.ended(channel, channel.ended or CallCancelled("cancelled"))

    def ended(self, channel: "Channel", error: "BaseException") -> None:
        """The caller has gone, or does not want it any more. Loop thread."""
        self.call.ended(channel, error)
        self.end(channel, error)

    def message(self, channel: "Channel", data: "Any", fin: bool, cost: int) -> None:
        """A message came. Loop thread."""
        try:
            self.inbox.put((data, fin, cost))
        except Closed:
            pass  # by its reader, maybe this very moment

    def check(self) -> None:
        """Raise CallCancelled if the caller has gone, whatever of its messages is still here."""
        if self.channel.ended:
            raise CallCancelled("cancelled")

    def ready(self, value: "Any" = None) -> None:
        """Say that we listen."""
        self.give([READY, value])

    def give(self, message: "Any") -> None:
        """``send``, or CallCancelled if the caller has gone."""
        if not self.send(message):
            raise CallCancelled("cancelled")

    def __enter__(self) -> "FarPipe":
        return self

    def __exit__(self, *exc_info: "Any") -> None:
        running.discard(self)

    def unpack(self, data: "Any") -> "Any":
        """The value of a message from above."""
        return data.obj if type(data) is memoryview else core_calls.unpack(data)


