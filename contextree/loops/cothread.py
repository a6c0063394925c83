"""cothread: the synchronous API lets other cothreads run while it waits.

``install`` puts ``waiter`` in the place of ``process.waiter``, for the whole process: what waits on cothread's own
thread suspends its cothread there; other threads sleep as before.

How a cothread is woken from the loop thread: as in ``loops.gevent``, a wake releases a lock, which makes it once and
for all, and then has the event signalled that the cothread waits for. That goes through a callback queue of our own:
cothread's common one has a single cothread for all callbacks, so one that called us would wait for itself.

cothread counts time by the system's clock. Who sets that back makes its waits longer; a wait that ends early is begun
again.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any

import cothread
from cothread import cothread as scheduler

from contextree.core import process

LONGEST = 1e6  # seconds for one wait
_before: Callable[[], Any] | None = None
_queue: Any = None  # how other threads have something done on cothread's
_generation = -1


class CothreadWaiter:
    """As ``process.Waiter``: ``wait`` suspends the present cothread; ``wake`` from any thread."""

    __slots__ = ("lock", "event", "queue")

    def __init__(self, queue: Callable[..., object]) -> None:
        self.queue = queue
        self.lock = process.allocate_lock()
        self.lock.acquire()  # at once: nobody else knows it
        self.event: Any = None

    def wait(self, timeout: float | None = None) -> bool:
        """Until woken: True; or for ``timeout`` seconds: False. Ctrl-C in the main cothread ends it too."""
        end = monotonic() + (process.FOREVER if timeout is None else timeout)
        try:
            while True:
                self.event = event = cothread.Event()
                if self.lock.acquire(False):
                    return True
                left = end - monotonic()
                if left <= 0:
                    return False
                try:
                    event.Wait(None if left == process.FOREVER else min(left, LONGEST))
                except cothread.Timedout:
                    pass  # the lock and our own clock say what that means
        finally:
            self.event = None

    def wake(self) -> bool:
        """Wake it; False when it had been woken before. From any thread; never blocks."""
        try:
            self.lock.release()
        except RuntimeError:
            return False
        event = self.event
        if event is not None:
            self.queue(event.Signal)
        return True


def waiter() -> Any:
    """In the place of ``process.waiter``."""
    global _queue, _generation
    if scheduler.scheduler_thread_id != process.get_ident():
        return (_before or process.Waiter)()
    if _generation != process.generation:  # the first one, or the first in a forked child
        _generation = process.generation
        _queue = type(cothread.Callback)()
    return CothreadWaiter(_queue)


def install() -> None:
    """From now on whoever waits for contextree on cothread's thread lets other cothreads run. Idempotent; stays for the
    life of the process."""
    global _before
    if _before is None:
        _before = process.waiter
        process.waiter = waiter  # type: ignore[assignment]  # it makes what the class would
