"""The queue between those who deliver (mostly the loop thread) and those who wait.

One rule makes it right for threads and for every event loop: a wake carries no data. An item stays in the mailbox until
a waiter that really runs takes it; a waiter that was woken but leaves without an item (timeout, cancellation, Ctrl-C)
passes the baton to the next one. So nothing is lost and nothing is delivered twice, whoever is cancelled when.

``put`` never blocks; who may put how much is decided by credit, before an item is on its way (wire/flow.py).

The lock is reentrant: a signal handler or a finaliser may run in the middle of any locked section, on the same thread,
and close this very mailbox. And KeyboardInterrupt may be raised there, after any call (before 3.10: after most
instructions). Hence the order below: wake before append, look before delete; ``del x[0]`` is no call, so it cannot be
torn from the assignment before it, as ``item = x.popleft()`` can. Python 3.10 and older may still drop a returned value
on its way to the caller's variable.
"""

from collections import deque
from time import monotonic

from contextree.core import process
from contextree.core.wire.errors import CallTimeout, Closed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Deque


class Mailbox:
    """Items in order, any number of producers and waiters, each item to exactly one. Safe from every thread.

    A waiter has ``wake()``: called under the lock, must not block; False when it needs no wake or its loop is gone."""

    __slots__ = ("items", "waiters", "lock", "closed", "on_take")

    def __init__(self, on_take: "Callable[[Any], object] | None" = None) -> None:
        self.items = deque()  # type: Deque[Any]
        self.waiters = deque()  # type: Deque[Any]
        self.lock = process.allocate_rlock()
        self.closed = None  # type: BaseException | None  # the exception that waiters get once the items are gone
        self.on_take = on_take  # called with each item that was taken, without the lock; if it raises, the item stays

    def put(self, item: "Any") -> None:
        """Append ``item`` and wake one waiter. Raises ``Closed`` after ``close``."""
        with self.lock:
            if self.closed is not None:
                raise Closed("this mailbox is closed: %s" % self.closed)
            if self.waiters:
                self._wake_one()
            self.items.append(item)

    def close(self, error: "BaseException | None" = None) -> None:
        """No more items. Waiters take what is there, then all of them get ``error`` (or ``Closed``). Idempotent."""
        with self.lock:
            if self.closed is None:
                self.closed = error or Closed("closed")
            while self.waiters:
                self._wake_one()

    def get(self, timeout: "float | None" = None) -> "Any":
        """The next item; waits up to ``timeout`` seconds (0: not at all; None: for ever), then raises ``CallTimeout``.

        After ``close`` the remaining items come first, then its error is raised, to each caller a copy of its own."""
        end = None if timeout is None else monotonic() + timeout
        waiter = None
        taken = False
        items = self.items
        try:
            while True:
                with self.lock:
                    if waiter is not None:
                        self._remove(waiter)
                    if items:
                        item = items[0]
                        taken = True
                        del items[0]
                        break
                    error = self.closed
                    left = None if end is None else end - monotonic()
                    if error is None and (left is None or left > 0):
                        waiter = waiter or process.waiter()
                        self.waiters.append(waiter)
                        if items or self.closed is not None:
                            continue  # a signal handler was here before the waiter was in the row
                if error is not None:
                    raise _fresh(error)
                if left is not None and left <= 0:
                    raise CallTimeout("nothing came within %s s" % timeout)
                waiter.wait(left)  # type: ignore[union-attr]  # made above, as there was no error
            if self.on_take is not None:
                self.on_take(item)
            return item
        except BaseException:
            if taken:
                with self.lock:
                    items.appendleft(item)
            if taken or waiter is not None:
                self.abandon(waiter)
            raise

    def get_nowait(self) -> "Any":
        """The next item, or ``CallTimeout`` at once."""
        return self.get(0)

    def abandon(self, waiter: "Any") -> bool:
        """``waiter`` leaves. True: it had been woken, so an item may be there; the baton has been passed on."""
        with self.lock:
            if self._remove(waiter):
                return False
            if self.items:
                self._wake_one()
            return True

    def __len__(self) -> int:
        return len(self.items)

    def _remove(self, waiter: "Any") -> bool:
        try:
            self.waiters.remove(waiter)
        except ValueError:
            return False
        return True

    def _wake_one(self) -> None:
        waiters = self.waiters
        woken = False
        while waiters and not woken:
            waiter = waiters[0]
            try:
                woken = waiter.wake()
            except Exception:
                pass  # its event loop is broken: the next one
            if waiters and waiters[0] is waiter:
                del waiters[0]


def _fresh(error: BaseException) -> "BaseException":
    """A copy to raise: one object raised in many threads would collect all their tracebacks and keep their frames."""
    try:
        new = type(error).__new__(type(error), *error.args)
    except Exception:
        return error.with_traceback(None)
    new.args = error.args  # those that are OSError too set them in __init__
    new.__dict__.update(error.__dict__)
    if error.__cause__ is not None:
        new.__cause__ = error.__cause__
    return new
