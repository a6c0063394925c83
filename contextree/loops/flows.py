"""Streams and channels, awaited: natively, without a thread."""

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from contextree.core.calls import STREAM
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import CallTimeout, Closed, ContextreeError
from contextree.loops.calling import prepare
from contextree.loops.waiting import EventLoop, take
from contextree.parent import calls
from contextree.parent.channel import Channel as SyncChannel

T = TypeVar("T")
turn = 0  # where the next ``select`` begins


class Source:
    """Where items come from, one by one: a stream or a channel."""

    loop: EventLoop
    _taken = 0

    async def _box(self) -> Mailbox:
        """The mailbox of the items; the other end is asked for them from now on."""
        raise NotImplementedError

    async def _item(self, timeout: float | None) -> Any:
        box = await self._box()
        if box.items:  # nothing to wait for: now and then others must have their turn all the same
            self._taken += 1
            if self._taken % self.loop.turns == 0:
                await self.loop.pause()
        return await take(self.loop, box, timeout)


class Stream(Source, Generic[T]):
    """What a generator yields in another context, to be iterated over with ``async for``; made by ``Context.stream``.

    It begins with the first item that is asked for, or with ``async with``. The generator waits while nobody takes;
    ``aclose``, the end of the block, and the end of the last reference close it."""

    def __init__(self, home: Any, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.loop = home.loop
        self._home = home
        self._call: tuple[Any, ...] = (function, args, kwargs)
        self._stream: calls.Stream[Any] | None = None
        self._closed = False

    async def _open(self) -> calls.Stream[Any]:
        if self._stream is None:
            if self._closed:
                raise Closed("the stream was closed")
            context = self._home.sync
            function, args, kwargs = self._call
            packed = await prepare(self.loop, context, STREAM, function, args, kwargs, context.options)
            if self._stream is None:  # else another task was quicker
                self._stream = calls.Stream(context, function, args, kwargs, context.options, packed)
                self._call = ()
                if self._closed:
                    self._stream.close()
        return self._stream

    async def _box(self) -> Mailbox:
        return (await self._open()).mailbox

    def __aiter__(self) -> "Stream[T]":
        return self

    async def __anext__(self) -> T:
        if self._closed:
            raise StopAsyncIteration
        stream = await self._open()
        if stream.done:
            raise StopAsyncIteration
        stream.engine.check_fork()
        try:
            item = await self._item(stream.timeout)
        except CallTimeout:
            raise
        except ContextreeError as error:
            if stream.done:  # closed by another task
                raise StopAsyncIteration from None
            stream.done = True
            raise calls.copied(error) from None
        try:
            return self._home.wrapped(stream.take(item))  # type: ignore[no-any-return]
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Take no more; the generator there is closed. Idempotent; waits for nothing."""
        self._closed = True
        if self._stream is not None:
            self._stream.close()

    async def __aenter__(self) -> "Stream[T]":
        await self._open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


class Channel(Source):
    """One end of a two-way channel, to be awaited; made by ``Context.channel``. ``sync`` is the same for threads.

    Any number of tasks may send and receive; each message goes to one. A task that is cancelled takes nothing."""

    def __init__(self, home: Any, channel: SyncChannel) -> None:
        self.loop = home.loop
        self.sync = channel
        self._home = home

    def __repr__(self) -> str:
        return f"<{self.loop.name} {self.sync!r}>"

    def __reduce__(self) -> Any:
        return self.sync.__reduce__()

    async def _box(self) -> Mailbox:
        return self.sync.mailbox

    async def send(self, value: Any, timeout: float | None = None) -> None:
        """Send ``value``; waits while the other end has not taken what was sent before, up to ``timeout`` seconds.

        Cancelled, or CallTimeout: nothing was sent. Closed after ``send_eof`` or when the other end was closed;
        ContextDied when its context has ended; NotSendable when it cannot be encoded."""
        self._taken += 1
        if self._taken % self.loop.turns == 0:
            await self.loop.pause()
        channel = self.sync
        timeout = channel.timeout if timeout is None else timeout
        while channel.full:
            waiter = self.loop.waiter()
            channel.on_room(waiter.wake)
            if not await waiter.wait(timeout) and channel.full:
                raise CallTimeout(f"the other end of the channel took nothing within {timeout} s")
        channel.send_nowait(unwrapped(value))

    def send_nowait(self, value: Any) -> bool:
        """Send ``value`` without waiting. False: it was sent, but now the sender should wait."""
        return self.sync.send_nowait(unwrapped(value))

    async def receive(self, timeout: float | None = None) -> Any:
        """The next value; waits up to ``timeout`` seconds, then raises CallTimeout (and nothing is lost).

        When the other end has sent its last: Closed. When its context has ended: ContextDied, after all that came."""
        item = await self._item(self.sync.timeout if timeout is None else timeout)
        return self._home.wrapped(self.sync.take(item))

    def receive_nowait(self) -> Any:
        """The next value if one is here, else CallTimeout."""
        return self._home.wrapped(self.sync.receive_nowait())

    def __aiter__(self) -> "Channel":
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except Closed:
            raise StopAsyncIteration from None

    async def send_eof(self) -> None:
        """No more will be sent from here; receiving goes on. Idempotent; waits for nothing."""
        self.sync.send_eof()

    async def aclose(self) -> None:
        """Send no more and take no more; what was sent still arrives. Idempotent; waits for nothing."""
        self.sync.close()

    def abort(self) -> None:
        """Close at once: what has not arrived is dropped, and the other end gets CallCancelled. Idempotent."""
        self.sync.abort()

    async def __aenter__(self) -> "Channel":
        self.sync.__enter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self.sync.__exit__(*exc_info)


def unwrapped(value: Any) -> Any:
    """What the lower floors know ``value`` as."""
    return getattr(value, "sync", value) if isinstance(value, Channel) else value


async def select(sources: Iterable[Source], timeout: float | None = None) -> list[Any]:
    """Those of ``sources`` (channels and streams) from which something can be taken now, or that have ended; waits up
    to ``timeout`` seconds for the first one, then returns an empty list. Each call begins with another one."""
    global turn
    sources = list(sources)
    if not sources:
        return []
    loop = sources[0].loop
    boxes = [await source._box() for source in sources]
    waiter = loop.waiter()
    if any(box.items or box.closed for box in boxes):
        await loop.pause()
    else:
        try:
            for box in boxes:
                with box.lock:
                    box.waiters.append(waiter)
                    if box.items or box.closed:
                        waiter.wake()
            await waiter.wait(timeout)
        finally:
            for box in boxes:
                box.abandon(waiter)
    turn = start = (turn + 1) % len(sources)
    order = [*range(start, len(sources)), *range(start)]
    return [sources[at] for at in order if boxes[at].items or boxes[at].closed]
