"""trio, also as a guest of another loop, and anyio's trio backend."""

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

import trio

from contextree.core.wire.errors import CallCancelled

T = TypeVar("T")


class TrioWaiter:
    """One wait of one task, which any thread may end."""

    __slots__ = ("task", "token", "woken")

    def __init__(self) -> None:
        self.token = trio.lowlevel.current_trio_token()
        self.task: trio.lowlevel.Task | None = None
        self.woken = False

    def wake(self) -> bool:
        """End the wait; False when the run is over. Any thread."""
        try:
            self.token.run_sync_soon(self._wake)
        except trio.RunFinishedError:
            return False
        return True

    def _wake(self) -> None:
        self.woken = True
        task, self.task = self.task, None
        if task is not None:  # else it was cancelled, or does not wait yet
            trio.lowlevel.reschedule(task)

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until woken: True; or for ``timeout`` seconds: False."""
        if timeout is None:
            await self._sleep()
        else:
            with trio.move_on_after(timeout):
                await self._sleep()
        return self.woken

    async def _sleep(self) -> None:
        if self.woken:
            await trio.lowlevel.checkpoint()
            return
        self.task = trio.lowlevel.current_task()

        def abort(raise_cancel: Any) -> trio.lowlevel.Abort:
            self.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)


class Pending(Generic[T]):
    """A call that was submitted: ``await`` it for its result. ``cancel`` gives it up."""

    def __init__(self) -> None:
        self._scope = trio.CancelScope()
        self._done = trio.Event()
        self._value: T
        self._error: BaseException | None = None

    async def _run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> None:
        try:
            with self._scope:
                self._value = await function(*args)
            if self._scope.cancelled_caught:
                self._error = CallCancelled("the call was cancelled")
        except Exception as error:
            self._error = error
        except BaseException as error:
            self._error = CallCancelled("the run of trio ended")
            raise error
        finally:
            self._done.set()

    def cancel(self) -> None:
        """Give the call up: who awaits it gets CallCancelled, unless the answer is there already."""
        self._scope.cancel()

    def done(self) -> bool:
        """Whether ``await`` would not wait."""
        return self._done.is_set()

    async def wait(self) -> T:
        """The result, or the exception raised. Any number of tasks may wait; one that is cancelled cancels nothing."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value

    def __await__(self) -> Generator[Any, Any, T]:
        return self.wait().__await__()


class TrioLoop:
    """The run of trio in which the calling task runs."""

    name = "trio"
    turns = 1  # every await is a checkpoint, says trio
    waiter = TrioWaiter

    async def pause(self) -> None:
        """Let other tasks run, and be cancelled if that is due."""
        await trio.lowlevel.checkpoint()

    async def shielded(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """``await function(*args)`` to its end; a cancellation that came meanwhile is raised at the next checkpoint."""
        with trio.CancelScope(shield=True):
            value = await function(*args)
        await trio.lowlevel.checkpoint_if_cancelled()
        return value  # pyright: ignore[reportReturnType]  # a shield swallows no cancellation

    def start(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> "Pending[T]":
        """Run it as a task that belongs to the run and to no nursery: a call that is awaited elsewhere."""
        pending: Pending[T] = Pending()
        trio.lowlevel.spawn_system_task(pending._run, function, *args)
        return pending
