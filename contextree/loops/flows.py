"""Where items come from, awaited: streams, and what they have in common with channels."""

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import CallTimeout, Closed, ContextreeError
from contextree.core.wire.frames import STREAM
from contextree.loops.calling import prepare
from contextree.loops.waiting import EventLoop, take
from contextree.parent import calls

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
        self._call: Any = (function, args, kwargs)
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
                self._call = None
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
            return self._home.wrapped(stream.take(item))  # type: ignore[no-any-return]  # a T
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
