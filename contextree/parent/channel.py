"""Channels for programs: two-way, paced, and handed from context to context.

How it works. A channel is named by a secret token and by the context where its far end is, the acceptor. A handle is
no more than those two, so it can be passed to any context. The acceptor makes its end when it first sees the handle
(``claim``); whoever else uses a handle first opens one channel of the wire (``connect``) with the token as its first
message, and is the other end from then on; a second one is refused. What arrives before the acceptor has seen the
handle is kept by the router (``core.early``).

Who may open: an ancestor of the acceptor; a context that was granted access to it; one below the acceptor, if its token
is awaited there: nobody guesses 16 random bytes.

The state is that of an End (``channel_end``), so that a handle that nobody has any more closes its end. Its ``mailbox``
holds (data, fin, cost) of the messages that were not taken. The last message of a direction is empty (end of file) or
``CLOSED``: that sender does not read any more, either.

Values travel as those of calls do: pickles downward, plain data upward, pickles upward from trusted contexts.
"""

import os
from _weakref import ref

from contextree.core import calls as core_calls
from contextree.core import process
from contextree.core.mailbox import Mailbox
from contextree.core.wire import values
from contextree.core.wire.errors import (
    CallTimeout,
    Closed,
    ContextreeError,
    ForkedError,
    NotSendable,
    ProtocolError,
    Refused,
    UsageError,
    WouldBlockLoop,
)
from contextree.parent import waits
from contextree.parent.channel_end import End, life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable

    from contextree.core.router import Router as Core

TOKEN = 16
turn = 0  # of select
handles = {}  # type: dict[bytes, Any]  # token -> weak reference to the handle of this process
making = process.allocate_lock()


def _forked() -> None:
    global making
    making = process.allocate_lock()  # another thread of the parent may have held it
    handles.clear()


process.after_fork.append(_forked)


class Channel:
    """One end of a two-way channel between two contexts; see ``Context.channel`` and ``Router.channel``.

    Both ends can ``send`` and ``receive`` any time. A handle can be passed to calls and comes back as the same object;
    whoever uses it first is the other end. As a context manager it is connected at once and closed at the end. Safe
    from every thread; each message goes to one receiver.

    >>> def double(channel):
    ...     for number in channel:
    ...         channel.send(2 * number)
    >>> with web.channel() as channel:
    ...     future = web.submit(double, channel)
    ...     channel.send(21)
    ...     channel.receive(timeout=10)
    42
    """

    def __init__(self, end: End, timeout: "float | None" = None) -> None:
        self.end = end
        self.timeout = timeout
        self._left = False

    def __repr__(self) -> str:
        end = self.end
        state = "closed" if end.eof else "open" if end.channel is not None else "not connected"
        return "<Channel to context %d, %s>" % (end.channel.peer if end.channel is not None else end.acceptor, state)

    def __reduce__(self) -> "tuple[Any, ...]":
        return restore, (self.end.acceptor, self.end.token, self.end.protocol)

    def connect(self) -> "Channel":
        """Be the other end from now on, as the first ``send`` or ``receive`` would; the handle itself. Never blocks.

        At the acceptor it does nothing. Closed after ``close``; ContextDied when the acceptor has ended."""
        self._ready()
        return self

    # -- sending

    def send(self, value: "Any", timeout: "float | None" = None) -> None:
        """Send ``value``; waits while the other end has not taken what was sent before, up to ``timeout`` seconds, then
        raises CallTimeout and nothing was sent.

        Closed after ``send_eof`` or when the other end was closed; ContextDied when its context has ended; NotSendable
        when it cannot be encoded."""
        end = self._ready()
        waits.check(end.core.engine)
        if end.full():
            self._wait_for_room(timeout)
        end.send(self.encode(value))

    @property
    def full(self) -> bool:
        """Whether who sends should wait, for ``on_room``: much is on its way already, or nobody is there yet."""
        return self._ready().full()

    def send_nowait(self, value: "Any") -> bool:
        """Send ``value`` without waiting, even where ``full``. False: it was sent, but now the sender should wait.

        Raises as ``send``; Closed also while nobody is at the other end yet."""
        end = self._ready()
        end.send(self.encode(value))
        return not end.full()

    def on_room(self, callback: "Callable[[], object]") -> None:
        """Have ``callback()`` called once, when there is room to send: on the loop thread, or here at once."""
        self._ready().on_room(callback)

    def send_eof(self) -> None:
        """No more will be sent from here; the other end's iteration ends. Receiving goes on. Idempotent."""
        self._ready().send_eof()

    def encode(self, value: "Any") -> "Any":
        """``value`` as a message for the other end; raises NotSendable."""
        end = self.end
        if end.channel is None:
            raise Closed("nobody is at the other end of the channel yet")
        if type(value) is bytes:
            return memoryview(value) if len(value) > 4096 else b"\2" + value
        if end.below:
            return end.core.engine.context(end.channel.peer).pack_value(value)
        try:
            return core_calls.pack(value, end.pickles)
        except NotSendable:
            raise
        except Exception as error:
            raise NotSendable("%r cannot be sent: %s" % (type(value), error)) from error

    def _ready(self) -> "End":
        """The End, connected if that is for us to do."""
        end = self.end
        if end.core.generation != process.generation:
            raise ForkedError("this channel belongs to the process that this one was forked from")
        if end.channel is None:
            if self._left:
                raise Closed("the channel was closed")
            end.connect()
        return end

    def _wait_for_room(self, timeout: "float | None") -> None:
        end = self.end
        if waits.inside(end.core.broker):
            raise WouldBlockLoop("send() on the loop thread would wait for itself; use send_nowait()")
        if timeout is None:
            timeout = self.timeout
        waiter = waits.waiter(end.core.engine)
        end.on_room(waiter.wake)
        if not waiter.wait(timeout):
            raise CallTimeout("the other end of the channel took nothing within %s s" % timeout)

    # -- receiving

    @property
    def mailbox(self) -> Mailbox:
        """What came and was not taken yet: (data, fin, cost), for ``take``. For adapters to other kinds of waiting."""
        return self._ready().mailbox

    def receive(self, timeout: "float | None" = None) -> "Any":
        """The next value; waits up to ``timeout`` seconds, then raises CallTimeout (and nothing is lost).

        When the other end has sent its last: Closed. When its context has ended: ContextDied, after all that came."""
        end = self._ready()
        if timeout is None:
            timeout = self.timeout
        if timeout != 0:
            waits.check(end.core.engine)
        if not end.mailbox.items and waits.inside(end.core.broker):
            raise WouldBlockLoop("receive() on the loop thread would wait for itself")
        return self.take(end.mailbox.get(timeout))

    def receive_nowait(self) -> "Any":
        """The next value if one is here, else CallTimeout; otherwise as ``receive``."""
        return self.receive(0)

    def take(self, item: "tuple[Any, ...]") -> "Any":
        """The value of an item of ``mailbox``; its sender gets credit for more."""
        end = self.end
        data, _, cost = item
        try:
            return decode(end, data)
        finally:
            end.channel.taken(cost)

    def __iter__(self) -> "Channel":
        return self

    def __next__(self) -> "Any":
        try:
            return self.receive()
        except Closed:
            raise StopIteration from None

    # -- ending

    def close(self) -> None:
        """Send no more and take no more; what was sent still arrives. The other end is told. Idempotent; any thread.
        In a forked process it does nothing."""
        if not self._left:
            self._left = True
            if self.end.core.generation == process.generation:
                self.end.close()

    def abort(self) -> None:
        """Close at once: what has not arrived is dropped, and the other end gets CallCancelled. Idempotent."""
        channel = self.end.channel
        if channel is not None and not self._left and self.end.core.generation == process.generation:
            self.end.eof = True
            channel.cancel()
        self.close()

    def __enter__(self) -> "Channel":
        return self.connect()

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        end = self.end
        core = end.core
        if not self._left and core.generation == process.generation and not core.broker.closed:
            self._left = True
            try:
                core.broker.defer(end.close)
            except ContextreeError:
                pass  # the tree has ended meanwhile


def decode(end: "End", data: "Any") -> "Any":
    """The value of a message."""
    if type(data) is memoryview:
        return data.obj
    engine = end.core.engine
    if engine is None and data[0] == core_calls.VALUE:  # of a context beside this one that does not know our pickles
        from contextree.parent.engine import engine_of

        engine = engine_of(end.core)
    if engine is not None:
        from contextree.parent.calls import unpack

        return unpack(engine, end.trusted, data, end.channel.peer)
    if not end.trusted or data[0] not in (core_calls.PICKLED, core_calls.RAW, core_calls.BUFFERS):
        raise ProtocolError("a message of form %d, which the other end may not send" % data[0])
    here = core_calls.here
    before = getattr(here, "router", None)
    here.router = end.core
    try:
        return core_calls.unpack(data)
    finally:
        here.router = before


def make(core: "Core", acceptor: int, protocol: int, token: "bytes | None" = None,
         timeout: "float | None" = None) -> Channel:
    """A handle; the same one for the same token. At the acceptor it is ready for the other end."""
    with making:
        found = token and token in handles and handles[token]()
        if found and found.end.core is core:
            return found  # type: ignore[no-any-return]
        end = End(core, acceptor, token or os.urandom(TOKEN), protocol)
        channel = Channel(end, timeout)
        handles[end.token] = ref(channel, lambda _: forget(end.token))
    if acceptor == core.id:
        end.claim()
    return channel


def forget(token: bytes) -> None:
    """A handle is gone; maybe a new one is there already."""
    found = handles.get(token)
    if found is not None and found() is None:
        handles.pop(token, None)


def restore(acceptor: int, token: bytes, protocol: int) -> Channel:
    """The handle that was passed in a message: the same object as before, where this process had it."""
    core = getattr(core_calls.here, "router", None) or (life() and life().router)
    if core is None:
        raise UsageError("a channel means nothing here: it is unpickled where it is an argument or a result of a call")
    return make(core, acceptor, protocol, token)


def from_plain(plain: "Any") -> Channel:
    """``restore`` for what came as plain data, which may be a lie: whoever knows the token had the handle, and others
    may speak of what is below them alone."""
    acceptor, token, protocol = plain
    core = core_calls.here.router
    sender = getattr(core_calls.here, "sender", None)
    if (type(token) is not bytes or len(token) != TOKEN or protocol not in (4, 5)
            or (token not in handles and (sender is None or not core.engine.is_below(acceptor, sender)))):
        raise Refused("a channel that is not its sender's to give")
    return restore(acceptor, token, protocol)


values.register(Channel, "contextree.Channel", lambda channel: list(channel.__reduce__()[1]), from_plain)


def select(sources: "Iterable[Any]", timeout: "float | None" = None) -> "list[Any]":
    """Those of ``sources`` (channels and streams) from which something can be taken now, or that have ended; waits up
    to ``timeout`` seconds for the first one, then returns an empty list.

    Each call begins with another one, so that whoever takes from the first alone starves nobody. Any thread but the
    loop's.

    >>> channels = [web.channel(), web.channel()]
    >>> contextree.select(channels, timeout=0)
    []
    """
    global turn
    sources = list(sources)
    boxes = [source.mailbox for source in sources]
    if not sources:
        return []
    waiter = waits.waiter(getattr(sources[0], "engine", None) or sources[0].end.core.engine)
    for box in boxes:
        with box.lock:
            box.waiters.append(waiter)
            if box.items or box.closed is not None:
                waiter.wake()
    try:
        waiter.wait(timeout)
    finally:
        for box in boxes:
            box.abandon(waiter)
    turn = start = (turn + 1) % len(sources)
    order = list(range(start, len(sources))) + list(range(start))
    return [sources[at] for at in order if boxes[at].items or boxes[at].closed is not None]


