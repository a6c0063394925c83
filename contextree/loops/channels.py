"""Channels, awaited: natively, without a thread."""

from typing import Any

from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import CallTimeout, Closed
from contextree.loops.flows import Source
from contextree.parent.channel import Channel as SyncChannel


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

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        self.sync.__exit__(kind, error, traceback)


def unwrapped(value: Any) -> Any:
    """What the lower floors know ``value`` as."""
    return getattr(value, "sync", value) if isinstance(value, Channel) else value
