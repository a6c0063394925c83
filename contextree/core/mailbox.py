"""The queue between those who deliver (mostly the loop thread) and those who wait.

One rule makes it right for threads and for every event loop: a wake carries no data. An item stays in the mailbox until a
waiter that really runs takes it; a waiter that was woken but leaves without an item (timeout, cancellation, Ctrl-C) passes
the baton to the next one. So nothing is lost and nothing is delivered twice, whoever is cancelled when.

``put`` never blocks; who may put how much is decided by credit, before an item is on its way (wire/flow.py).
"""

from collections import deque
from time import monotonic

from contextree.core import process
from contextree.core.wire.errors import CallTimeout, Closed


class Mailbox:
    """Items in order, any number of producers and waiters, each item to exactly one. Safe from every thread."""

    __slots__ = ("items", "waiters", "lock", "closed", "on_take")

    def __init__(self, on_take=None) -> None:
        self.items = deque()
        self.waiters = deque()
        self.lock = process.allocate_lock()
        self.closed = None  # the exception that waiters get once the items are gone
        self.on_take = on_take  # called with each item after it was taken, without the lock

    def put(self, item) -> None:
        """Append ``item`` and wake one waiter. Raises ``Closed`` after ``close``."""
        with self.lock:
            if self.closed is not None:
                raise Closed("this mailbox is closed: %s" % self.closed)
            self.items.append(item)
            self._pass_on()

    def close(self, error=None) -> None:
        """No more items. Waiters take what is there; then all of them get ``error`` (default ``Closed``). Idempotent."""
        with self.lock:
            if self.closed is None:
                self.closed = error or Closed("closed")
                while self.waiters:
                    self.waiters.popleft().wake()

    def get(self, timeout: "float | None" = None):
        """The next item; waits up to ``timeout`` seconds (0: not at all; None: for ever), then raises ``CallTimeout``.

        After ``close`` the remaining items come first, then its error is raised."""
        end = None if timeout is None else monotonic() + timeout
        while True:
            with self.lock:
                if self.items:
                    item = self.items.popleft()
                    break
                if self.closed is not None:
                    raise self.closed
                waiter = process.Waiter()
                self.waiters.append(waiter)
            try:
                woken = waiter.wait(None if end is None else max(0.0, end - monotonic()))
            except BaseException:
                self.abandon(waiter)
                raise
            if not woken and not self.abandon(waiter):
                raise CallTimeout("nothing came within %s s" % timeout)
        if self.on_take:
            self.on_take(item)
        return item

    def get_nowait(self):
        """The next item, or ``CallTimeout`` at once."""
        return self.get(0)

    def abandon(self, waiter) -> bool:
        """``waiter`` leaves. True: it had been woken, so an item may be there; the baton has been passed on."""
        with self.lock:
            try:
                self.waiters.remove(waiter)
                return False
            except ValueError:
                self._pass_on()
                return True

    def __len__(self) -> int:
        return len(self.items)

    def _pass_on(self):
        if self.items:
            while self.waiters and not self.waiters.popleft().wake():
                pass
