"""The whole loop: what a root or a parent wants of it besides what every child has (``contextree.core.broker``).

Bounded deferring for foreign threads, calls onto the loop, driving it from outside, and its figures. The loop of a
child that gets children of its own becomes one of these in place (``Loop.upgrade``): it runs already and cannot be
exchanged.
"""

from collections import deque
from time import monotonic

from contextree.core import process
from contextree.core.broker import Broker, _name
from contextree.core.wire.errors import CallTimeout, Overflow, UnsupportedPlatform, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

LIMIT = 100000


class Loop(Broker):
    """The loop of one process. ``limit``: so many deferred functions may wait before foreign threads have to."""

    limit = LIMIT

    def __init__(self, clock: "Callable[[], float]" = monotonic, poller: "Any" = None, limit: int = LIMIT,
                 name: str = "contextree") -> None:
        self.limit = limit
        self._room = deque()  # waiters for room in _deferred
        Broker.__init__(self, clock, poller, name)

    @classmethod
    def upgrade(cls, broker: Broker) -> "Loop":
        """Make a loop that runs already into a whole one; it is the same object. Any thread."""
        if type(broker) is Broker:
            broker._room = deque()  # a Loop has it
            broker.__class__ = cls
        return broker  # type: ignore[return-value]  # it is one now

    # -- any thread

    def defer(self, function: "Callable[..., Any]", *args: "Any", wait: bool = True) -> None:
        """Have ``function(*args)`` called on the loop thread, in order. Any thread; on the loop thread it never blocks.

        With more than ``limit`` waiting a foreign thread waits for room, or gets ``Overflow`` with ``wait=False`` or
        while nobody drives the loop. Raises ``Closed`` after the end, ``ForkedError`` in a forked child; what was
        accepted runs."""
        if len(self._deferred) >= self.limit and process.get_ident() != self.thread and not self.closed:
            self._wait_for_room(wait)
        self.defer_nowait(function, *args)

    def call(self, function: "Callable[..., Any]", *args: "Any", timeout: "float | None" = None) -> "Any":
        """Run ``function(*args)`` on the loop thread and return its result or raise its error here.

        Direct when this is the loop thread. Raises ``CallTimeout`` after ``timeout`` seconds (it may still run), and
        what ``defer`` raises."""
        if process.get_ident() == self.thread and self.generation == process.generation:
            return function(*args)
        box = []  # type: list[tuple[Any, ...]]
        waiter = process.Waiter()  # the plain one: see parent.waits

        def run() -> None:
            try:
                box.append((function(*args), None))
            except BaseException as error:
                box.append((None, error))
            waiter.wake()

        self.defer(run)
        waiter.wait(timeout)
        if not box:
            raise CallTimeout("the loop did not run %s within %s s" % (_name(function), timeout))
        value, error = box.pop()
        if error is None:
            return value
        try:
            raise error
        finally:
            del error  # else it and this frame would keep each other alive

    def fileno(self) -> int:
        """A descriptor that is readable when a turn is due (epoll only), for a foreign loop to watch."""
        if self.closed or self.generation != process.generation:
            self._refuse()
        try:
            return self._poller.fileno()  # type: ignore[no-any-return]  # select's
        except AttributeError:
            raise UnsupportedPlatform("no epoll here: drive the loop by poll_once() alone") from None

    def stats(self) -> "dict[str, Any]":
        """Counters, cheap, from any thread: depth and high-water mark of the queue, turns, wakes, the longest callback
        and its name; ``oldest``: so many seconds at least has the oldest waiting function waited."""
        oldest = self.clock() - self._marked if self._deferred and self.count["ran"] < self._mark else 0.0
        return dict(self.count, depth=len(self._deferred), watched=len(self._entries), timers=len(self._timers),
                    slowest=self.slowest, oldest=oldest)

    # -- the loop thread

    def poll_once(self, timeout: "float | None" = None) -> None:
        """One turn: at most ``timeout`` seconds (None: until something happens). Refused while a turn is under way.

        A fault of the poller ends the loop and is raised here. KeyboardInterrupt passes through, the loop lives on."""
        if self.closed or self.generation != process.generation:
            self._refuse()
        here = process.get_ident()
        if here != self.thread:
            self.check_thread()
            self.thread = here
        if self._inside:
            raise UsageError("poll_once() inside the loop")
        self._inside = True
        try:
            self._poll(timeout)
        except Exception as error:
            self._ending = self._ending or error
            raise
        finally:
            self._inside = False
            self._turn += 1 + (self._turn & 1)  # odd and new: asleep until the next turn
            if self._ending:
                self._finish()

    def make_room(self) -> None:
        """Wake those who wait for room, when there is some or when the end has come."""
        while self._room and (self.closed or len(self._deferred) < self.limit):
            self._room.popleft().wake()

    def _wait_for_room(self, wait: bool) -> None:
        self.count["overflows"] += 1
        if not wait or (self.thread is None and not self.running):
            raise Overflow("%d functions wait for the loop of %s already" % (len(self._deferred), self.name))
        waiter = process.Waiter()
        while len(self._deferred) >= self.limit and not self.closed:
            self._room.append(waiter)  # see __init__
            self.wake()
            if len(self._deferred) < self.limit or self.closed:
                break
            waiter.wait()
        if self.closed:
            self._refuse()
