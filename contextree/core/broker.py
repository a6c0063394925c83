"""The loop: readiness of descriptors, timers, and functions deferred to it by other threads.

One thread runs it (``start``), or the program itself drives it (``poll_once``); either way everything below happens on that
one thread, so nothing here is locked but the hand-over queue. It runs no user code and nothing that can block.

Order in one turn: a slice of deferred functions, poll, callbacks of ready descriptors, timers that are due. A slice is cut
by the clock every 64 functions, so that a flood of deferred work cannot keep descriptors waiting. Events of a descriptor
that was forgotten or watched anew during the same turn are dropped: they are about its former life.

A wake is one byte in a pipe, written only when the loop may be asleep and nobody has written before.
"""

import os
from collections import deque
from heapq import heappop, heappush
from time import monotonic

from contextree.core import process
from contextree.core.wire.errors import Closed, ForkedError, Overflow, UsageError, WrongThread

READ, WRITE, TROUBLE = 1, 4, 24  # EPOLLIN, EPOLLOUT, EPOLLERR | EPOLLHUP; poll's values are the same
SLICE = 0.002  # seconds of deferred work before descriptors are looked at again
SLOW = 0.05  # a callback that takes longer is named in ``stats``
BUFFER = 1 << 18  # bytes read at once, into one buffer that all links of the loop share


class Timer:
    """One call in the future; ``cancel`` may be called from the loop thread, any number of times."""

    __slots__ = ("function", "args", "when")

    def __init__(self, when, function, args):
        self.when = when
        self.function = function
        self.args = args

    def cancel(self) -> None:
        """It will not fire."""
        self.function = self.args = None


class _Entry:
    __slots__ = ("read", "write", "turn", "mask")


class Broker:
    """The loop of one process. ``clock`` returns seconds and never goes back; ``poller`` looks like ``select.poll()``."""

    def __init__(self, clock=monotonic, poller=None, limit: int = 100000, name: str = "contextree") -> None:
        self.clock = clock
        self.generation = process.generation
        self.name = name
        self.limit = limit
        self.unit = 1
        if poller is None:
            poller = _epoll()
        if poller is None:
            poller = process.unpatched("select", "poll")()
            self.unit = 1000
        self._poller = poller
        self._entries = {}
        self._timers = []
        self._serial = 0
        self._turn = 0
        self._deferred = deque()
        self._room = deque()  # waiters for room in _deferred
        self._asleep = self._woken = False
        self._inside = False
        self.thread = None  # identity of the thread that drives the loop
        self.running = False
        self.closed = None  # None, or the exception that later users get
        self._done = process.Waiter()
        self._listeners = []
        self.buffer = None
        self.on_error = self._print_error
        self.count = {"turns": 0, "wakes": 0, "ran": 0, "slices": 0, "overflows": 0, "errors": 0, "high_water": 0, "late": 0.0}
        self.slowest = (0.0, "")
        self._wake_r, self._wake_w = process.pipe()
        self.watch(self._wake_r, self._drain)

    # -- any thread

    def defer(self, function, *args, wait: bool = True) -> None:
        """Have ``function(*args)`` called on the loop thread, in order. Any thread; on the loop thread it never blocks.

        With more than ``limit`` waiting a foreign thread waits for room, or gets ``Overflow`` with ``wait=False``.
        Raises ``Closed`` after the end, ``ForkedError`` in a forked child."""
        if self.closed or self.generation != process.generation:
            self._refuse()
        queue = self._deferred
        if len(queue) >= self.limit and process.get_ident() != self.thread:
            self._wait_for_room(wait)
        queue.append((function, args))
        if self._asleep and not self._woken:
            self.wake()

    def wake(self) -> None:
        """End the present sleep of the loop. Any thread."""
        self._woken = True
        self.count["wakes"] += 1
        try:
            os.write(self._wake_w, b"\0")
        except (BlockingIOError, OSError):
            pass  # full: it wakes anyway; closed: it has ended

    def call(self, function, *args, timeout: "float | None" = None):
        """Run ``function(*args)`` on the loop thread and return its result or raise its error here.

        Direct when this is the loop thread. Raises TimeoutError after ``timeout`` seconds (it may still run)."""
        if process.get_ident() == self.thread:
            return function(*args)
        box = []
        waiter = process.Waiter()

        def run():
            try:
                box.append((True, function(*args)))
            except BaseException as error:
                box.append((False, error))
            waiter.wake()

        self._listeners.append(waiter.wake)  # before the deferral: the loop may end between the two
        try:
            self.defer(run)
            if not waiter.wait(timeout):
                raise TimeoutError("the loop did not run %s within %s s" % (_name(function), timeout))
        finally:
            self._listeners.remove(waiter.wake)
        if not box:
            self._refuse()
        good, value = box[0]
        if good:
            return value
        raise value

    def start(self) -> None:
        """Run the loop on a thread of its own until ``stop``."""
        if self.running:
            raise UsageError("the loop is running already")
        self.running = True
        started = process.Waiter()
        process.start_thread(self._run, (started,))
        started.wait()

    def stop(self, wait: bool = True) -> None:
        """End the loop: listeners are told, waiters wake with ``Closed``. Idempotent; from any thread."""
        if self.closed or self.generation != process.generation:
            return
        if not self.running:
            return self._finish(Closed("the loop of %s was closed" % self.name))
        self.running = False
        self.wake()
        if wait and process.get_ident() != self.thread:
            self._done.wait()
            self._done.wake()

    def on_end(self, listener) -> None:
        """Have ``listener()`` called when the loop ends, by ``stop`` or by a fault; each once, in order."""
        self._listeners.append(listener)

    # -- the loop thread

    def watch(self, fd: int, read=None, write=None) -> None:
        """Call ``read()`` / ``write()`` when ``fd`` is ready (or broken). Replaces what was watched; both None: ``forget``."""
        self.check_thread()
        mask = (READ if read else 0) | (WRITE if write else 0)
        if not mask:
            return self.forget(fd)
        entry = self._entries.get(fd)
        if entry is None:
            entry = self._entries[fd] = _Entry()
            entry.turn = self._turn
            self._poller.register(fd, mask)
        elif entry.mask != mask:
            self._poller.modify(fd, mask)
        entry.mask = mask
        entry.read = read
        entry.write = write

    def forget(self, fd: int) -> None:
        """Stop watching; harmless when nothing is watched. Always before the descriptor is closed."""
        self.check_thread()
        if self._entries.pop(fd, None):
            try:
                self._poller.unregister(fd)
            except (OSError, KeyError, ValueError):
                pass  # closed under us by its former owner

    def timer(self, delay: float, function, *args) -> Timer:
        """``function(*args)`` once, ``delay`` seconds from now."""
        self.check_thread()
        timer = Timer(self.clock() + delay, function, args)
        self._serial += 1
        heappush(self._timers, (timer.when, self._serial, timer))
        return timer

    def check_thread(self) -> None:
        """Raise ``WrongThread`` unless the calling thread drives the loop (or nobody does yet)."""
        if self.thread is not None and process.get_ident() != self.thread:
            raise WrongThread("only the loop thread may do this; use defer() or call()")
        if self.generation != process.generation:
            self._refuse()

    def poll_once(self, timeout: "float | None" = None) -> None:
        """One turn: at most ``timeout`` seconds (None: until something happens). Refused while a turn is under way."""
        if self.closed or self.generation != process.generation:
            self._refuse()
        if self._inside:
            raise UsageError("poll_once() was called from inside the loop")
        if self.thread is None:
            self.thread = process.get_ident()
        else:
            self.check_thread()
        self._inside = True
        try:
            self._poll(timeout)
        finally:
            self._inside = False

    def next_delay(self) -> "float | None":
        """Seconds until the next turn is due without any descriptor being ready; None: no need."""
        if self._deferred:
            return 0.0
        while self._timers and self._timers[0][2].function is None:
            heappop(self._timers)
        return max(0.0, self._timers[0][0] - self.clock()) if self._timers else None

    def fileno(self) -> int:
        """A descriptor that is readable when a turn is due (epoll only), for a foreign loop to watch."""
        return self._poller.fileno()

    def _poll(self, timeout):
        self._turn += 1
        self.count["turns"] += 1
        if self._deferred:
            self._run_deferred()
        delay = self.next_delay()
        if delay is not None and (timeout is None or delay < timeout):
            timeout = delay
        self._asleep = True
        if self._deferred:
            timeout = 0
        # a little above: poll() counts whole milliseconds and would return just before the timer
        events = self._poller.poll(None if timeout is None else timeout * self.unit + (timeout > 0 and self.unit / 2000))
        self._asleep = False
        entries = self._entries
        turn = self._turn
        start = self.clock()
        for fd, mask in events:
            entry = entries.get(fd)
            if entry is None or entry.turn >= turn:
                continue
            if entry.read and mask & ~WRITE:
                start = self._call(start, entry.read)
            if entry.write and mask & (WRITE | TROUBLE) and entries.get(fd) is entry:
                start = self._call(start, entry.write)
        timers = self._timers
        while timers and timers[0][0] <= start:
            timer = heappop(timers)[2]
            if timer.function is not None:
                self.count["late"] = max(self.count["late"], start - timer.when)
                function, args = timer.function, timer.args
                timer.cancel()
                start = self._call(start, function, *args)

    def _run_deferred(self):
        queue = self._deferred
        count = self.count
        depth = len(queue)
        if depth > count["high_water"]:
            count["high_water"] = depth
        start = self.clock()
        end = start + SLICE
        for number in range(1, depth + 1):
            function, args = queue.popleft()
            count["ran"] += 1
            start = self._call(start, function, *args)
            if not number & 63 and start >= end:
                count["slices"] += 1
                break
        while self._room and len(queue) < self.limit:
            self._room.popleft().wake()

    def _call(self, start, function, *args):
        try:
            function(*args)
        except Exception:
            self.count["errors"] += 1
            self.on_error(function)
        now = self.clock()
        if now - start > self.slowest[0]:
            self.slowest = now - start, _name(function)
        return now

    def _drain(self):
        self._woken = False
        try:
            os.read(self._wake_r, 4096)
        except BlockingIOError:
            pass  # spurious readiness is no error

    def _run(self, started):
        self.thread = process.get_ident()
        started.wake()
        error = None
        try:
            while self.running:
                self.poll_once()
        except BaseException as caught:  # the poller broke: everyone who waits is told so
            error = caught
        self.running = False
        self._finish(error or Closed("the loop of %s was closed" % self.name))

    def _finish(self, error):
        if self.generation != process.generation:
            return
        self.thread = process.get_ident()
        self.closed = error
        while self._deferred:
            function, args = self._deferred.popleft()
            self._call(0.0, function, *args)
        while self._room:
            self._room.popleft().wake()
        for listener in list(self._listeners):
            self._call(0.0, listener)
        for fd in list(self._entries):
            self.forget(fd)
        for fd in (self._wake_r, self._wake_w):
            process.close(fd)
        if hasattr(self._poller, "close") and self._poller in process.keep:
            process.keep.remove(self._poller)
            process.disown(self._poller.fileno())
            self._poller.close()
        self._done.wake()

    # -- helpers

    def _wait_for_room(self, wait):
        self.count["overflows"] += 1
        if not wait:
            raise Overflow("%d functions wait for the loop of %s already" % (len(self._deferred), self.name))
        while len(self._deferred) >= self.limit and not self.closed:
            waiter = process.Waiter()
            self._room.append(waiter)
            self.wake()
            waiter.wait(0.1)
        if self.closed:
            self._refuse()

    def _refuse(self):
        if self.generation != process.generation:
            raise ForkedError("the loop of %s belongs to the process that this one was forked from" % self.name)
        raise Closed(str(self.closed)) from (None if isinstance(self.closed, Closed) else self.closed)

    def _print_error(self, function):
        import traceback

        try:
            os.write(2, ("contextree: error in %s\n%s" % (_name(function), traceback.format_exc())).encode("utf-8", "replace"))
        except OSError:
            pass  # nobody listens there

    def stats(self) -> dict:
        """Counters, cheap: depth and high-water mark of the queue, turns, wakes, the longest callback and its name."""
        return dict(self.count, depth=len(self._deferred), watched=len(self._entries), timers=len(self._timers),
                    slowest=self.slowest)


def _epoll():
    try:
        poller = process.unpatched("select", "epoll")()
    except (AttributeError, ImportError):
        return None
    if poller.fileno() < 3:
        low = poller
        poller = type(low).fromfd(process.high(os.dup(low.fileno())))
        low.close()
    process.own(poller.fileno())
    process.keep.append(poller)
    return poller


def _name(function):
    return getattr(function, "__qualname__", None) or repr(function)
