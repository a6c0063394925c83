"""What the adapters want of an event loop, and the waiting that is built on it, written once for all of them.

The rule is the mailbox's (contextree.core.mailbox): a wake carries no data. A task that waits leaves a waiter where the
answer will come; contextree's own thread calls its ``wake``, which does no more than have the task scheduled in its
loop, safely from any thread. The task looks when it runs. So a task that is cancelled after it was woken has taken
nothing: it passes the baton to the next one. A loop that is gone says so by ``wake() == False``.

Waiters belong to the loop in which the task that waits runs, and are made anew for each wait. Nothing here remembers a
loop: handles may be used from several loops of one kind, in several threads.
"""

from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Protocol, TypeVar

from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import CallTimeout
from contextree.parent.calls import Reply

T = TypeVar("T")


class Waiter(Protocol):
    """One wait of one task."""

    def wake(self) -> bool:
        """End the wait, now or when it begins; False when its loop is gone. Any thread, never blocks."""
        ...

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until woken: True; or for ``timeout`` seconds: False. Once. Cancellation of the task ends it too."""
        ...


class EventLoop(Protocol):
    """One kind of event loop. All but ``name`` is called in a task of it."""

    name: str
    turns: int  # after so many items that were there already others get their turn

    def waiter(self) -> Waiter:
        """A waiter for the running task."""
        ...

    async def pause(self) -> None:
        """Let other tasks run, and be cancelled if that is due."""

    async def shielded(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """``await function(*args)``, whose work a cancellation of this task does not stop; it is raised afterwards."""
        ...

    def start(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        """Run it as a task; what this returns can be awaited for the result, and has ``cancel()``."""


class Answer(Reply):
    """One answer that a task waits for: ``calls.Reply`` with a waiter of its loop."""

    __slots__ = ()

    def __init__(self, waiter: Any) -> None:
        self.waiter = waiter
        self.data = self.error = None


async def take(loop: EventLoop, mailbox: Mailbox, timeout: float | None = None) -> Any:
    """``mailbox.get(timeout)``, waiting by ``loop``: an item is taken by this task or left for others, whatever
    cancels it when."""
    end = None if timeout is None else monotonic() + timeout
    while True:
        waiter = loop.waiter()
        try:
            with mailbox.lock:
                empty = not mailbox.items and mailbox.closed is None
                if empty:
                    mailbox.waiters.append(waiter)
            left = None if end is None else end - monotonic()
            if empty and (left is None or left > 0):
                await waiter.wait(left)
                with mailbox.lock:
                    mailbox._remove(waiter)  # it is there still when the time is up
            try:
                return mailbox.get(0)
            except CallTimeout:  # another one was quicker
                if end is not None and monotonic() >= end:
                    raise CallTimeout(f"nothing came within {timeout} s") from None
        except BaseException:
            mailbox.abandon(waiter)
            raise
