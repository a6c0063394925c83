"""asyncio, and whatever runs asyncio's tasks: uvloop, anyio's asyncio backend."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class AsyncioWaiter:
    """One wait of one task: a future that any thread may have set."""

    __slots__ = ("future", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[bool] = self.loop.create_future()

    def wake(self) -> bool:
        """End the wait; False when the loop is closed. Any thread."""
        try:
            self.loop.call_soon_threadsafe(self._set)
        except RuntimeError:
            return False
        return True

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until woken: True; or for ``timeout`` seconds: False."""
        if timeout is None:
            return await self.future
        timer = self.loop.call_later(timeout, self._set, False)
        try:
            return await self.future
        finally:
            timer.cancel()

    def _set(self, woken: bool = True) -> None:
        if not self.future.done():
            self.future.set_result(woken)


class AsyncioLoop:
    """The asyncio loop in which the calling task runs."""

    name = "asyncio"
    turns = 64
    waiter = AsyncioWaiter

    async def pause(self) -> None:
        """Let other tasks run."""
        await asyncio.sleep(0)

    async def shielded(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """``await function(*args)`` to its end; a cancellation that came meanwhile is raised then."""
        task = asyncio.ensure_future(function(*args))
        cancelled = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            if not task.cancelled():
                task.exception()  # not "never retrieved": the cancellation is what must be heard
            raise cancelled
        return task.result()

    def start(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> "asyncio.Task[T]":
        """Run it as a task."""
        return asyncio.ensure_future(function(*args))
