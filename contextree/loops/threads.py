"""What a thread does for a task.

What sets up or ends contexts, runs programs and moves files is synchronous code of the lower floors. It runs in a
thread that lives as long as it does. What such a thread waits with (``process.waiter``) ends when its task is
cancelled, by an exception that goes the way of Ctrl-C; so the cancellation is real, whatever the thread does. It comes
once, so that the thread may wait again in order to clean up.
"""

import contextvars
import threading
import weakref
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from contextree.core import process
from contextree.loops.waiting import EventLoop

P = ParamSpec("P")
T = TypeVar("T")
threads: "weakref.WeakKeyDictionary[Any, set[threading.Thread]]" = weakref.WeakKeyDictionary()  # of each engine


class Interrupted(BaseException):
    """Raised in a thread whose task was cancelled, out of what it waits for."""


class Interrupt:
    """Ends, once, what one thread waits for."""

    def __init__(self) -> None:
        self.due = False
        self.waiter: ThreadWaiter | None = None

    def cancel(self) -> None:
        """End the present wait of the thread, or the next. Any thread."""
        self.due = True
        waiter = self.waiter
        if waiter is not None:
            waiter.wake()

    def check(self) -> None:
        """Raise Interrupted if that is due; it is no more, then: the thread may have to wait in order to clean up."""
        if self.due:
            self.due = False
            raise Interrupted("the task that waits for this was cancelled")


class ThreadWaiter(process.Waiter):
    """What threads of ``in_thread`` wait with."""

    __slots__ = ("interrupt",)

    def __init__(self, interrupt: Interrupt) -> None:
        super().__init__()
        self.interrupt = interrupt

    def wait(self, timeout: float | None = None) -> bool:
        """``process.Waiter.wait``; raises Interrupted."""
        interrupt = self.interrupt
        interrupt.waiter = self  # announced, then looked at; ``cancel`` the other way round
        try:
            interrupt.check()
            woken = super().wait(timeout)
            interrupt.check()
            return woken
        finally:
            interrupt.waiter = None


def interrupted_by(interrupt: Interrupt, function: Callable[..., T], args: Any, kwargs: Any) -> T:
    """``function(*args, **kwargs)``, whose waits on this thread end by ``interrupt``."""
    _here.interrupt = interrupt
    try:
        return function(*args, **kwargs)
    finally:
        _here.interrupt = None


def _waiter() -> Any:
    """In the place of ``process.waiter``."""
    interrupt = getattr(_here, "interrupt", None)
    return _before() if interrupt is None else ThreadWaiter(interrupt)


_here = threading.local()
_before: Callable[[], Any] = process.waiter
process.waiter = _waiter  # type: ignore[assignment]  # a factory
process.after_fork.append(lambda: vars(_here).clear())  # a direct fork comes out of such a thread


async def in_thread(loop: EventLoop, engine: Any, function: Callable[P, T], /, *args: P.args,
                    **kwargs: P.kwargs) -> T:
    """``function(*args, **kwargs)`` in a thread of its own, with the context variables of this task.

    When the task is cancelled, what the thread waits for in the tree ends too, and the function with it; nobody waits
    for that but the end of the tree, ``engine``."""
    interrupt = Interrupt()
    try:
        return await left_alone(loop, engine, interrupted_by, interrupt, function, args, kwargs)
    except BaseException:
        interrupt.cancel()
        raise


async def left_alone(loop: EventLoop, engine: Any, function: Callable[P, T], /, *args: P.args,
                     **kwargs: P.kwargs) -> T:
    """As ``in_thread``, but what the function does goes on when the task is cancelled."""
    waiter = loop.waiter()
    box: list[tuple[Any, BaseException | None]] = []
    running = threads.setdefault(engine, set()) if engine is not None else set()

    def run() -> None:
        try:
            box.append((function(*args, **kwargs), None))
        except BaseException as error:
            box.append((None, error))
        finally:
            running.discard(thread)
            waiter.wake()

    name = f"contextree {getattr(function, '__name__', '')}"
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name=name)
    running.add(thread)
    thread.start()
    while not box:
        await waiter.wait()
    value, error = box.pop()
    if error is None:
        return value  # type: ignore[no-any-return]  # a T
    try:
        raise error
    finally:
        del error  # else it and this frame would keep each other alive


def join(engine: Any) -> None:
    """Wait until the threads of a tree that has ended are through: there is nothing left that they could wait for."""
    for thread in list(threads.get(engine, ())):
        if thread is not threading.current_thread():
            thread.join()
