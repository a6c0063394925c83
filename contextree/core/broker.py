"""The loop: readiness of descriptors, timers, and functions deferred to it by other threads.

One thread runs it (``start``), or the program itself drives it (``Loop.poll_once``); either way everything below
happens on that one thread, so nothing here is locked but the hand-over queue. It runs no user code and nothing that can
block.

Order in one turn: a slice of deferred functions, poll, callbacks of ready descriptors, timers that are due. A slice is
cut by the clock every 64 functions, so that a flood of deferred work cannot keep descriptors waiting. Events of a
descriptor that was forgotten or watched anew during the same turn are dropped: they are about its former life.

A wake is one byte in a pipe, written only when the loop may be asleep and nobody has written since it lay down.
``_turn`` says which: odd while the loop sleeps (also between two turns of a loop that the program drives: it may sit in
a foreign select() then), even while it works, never the same twice but for -1, the end. A writer notes in ``_woken``
the sleep that it ended, so a late note is about a former sleep and silences nobody. The writer appends, then looks at
``_turn``; the loop steps ``_turn``, then looks at the queue: one of the two sees the other.

The end comes at the end of a turn, on the loop thread: the last deferred functions run, then the listeners. A function
that another thread defers at that moment either still runs or is taken back, and that thread gets ``Closed``.

Why this file is long: a third of it is words; waking, turning and ending share ``_turn`` and ``_woken``, and must be
read together to be believed.
"""

import os
import sys
from _heapq import heapify, heappop, heappush
from collections import deque
from time import monotonic

from contextree.core import process
from contextree.core.wire.errors import Closed, ForkedError, UsageError, WrongThread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Callable, Deque

    from contextree.core.process import Waiter

READ, WRITE, TROUBLE = 1, 4, 56  # EPOLLIN, EPOLLOUT, EPOLLERR | EPOLLHUP; poll's values are the same, and its POLLNVAL
SLICE = 0.002  # seconds of deferred work before descriptors are looked at again
BUFFER = 1 << 18  # bytes read at once, into one buffer that all links of the loop share
NAP = 1e6  # longest sleep in seconds: the kernel counts milliseconds in 31 bits


class Timer:
    """One call in the future; ``cancel`` may be called from the loop thread, any number of times."""

    __slots__ = ("function", "args", "when")
    if TYPE_CHECKING:
        function: Any
        args: Any

    def __init__(self, when: float, function: "Callable[..., Any]", args: "tuple[Any, ...]") -> None:
        self.when = when
        self.function = function
        self.args = args

    def cancel(self) -> None:
        """It will not fire."""
        self.function = self.args = None


class _WriteEnd:
    """The wake pipe's end for writing. Who writes holds a reference meanwhile, so its number stays its own."""

    __slots__ = ("fd", "generation")

    def __init__(self) -> None:
        self.fd = -1
        self.generation = process.generation

    def __del__(self, process: "ModuleType" = process) -> None:
        if self.generation == process.generation:
            process.close(self.fd)


class _Entry:
    __slots__ = ("read", "write", "turn", "mask")


class Broker:
    """The loop of one process. ``clock`` returns seconds, never goes back; ``poller`` looks like ``select.epoll()``.

    This is what a context without children needs; ``contextree.parent.loop.Loop`` is the whole."""

    _room = ()  # type: Any  # see Loop
    if TYPE_CHECKING:
        count: dict[str, Any]
        make_room: Callable[[], None]

    def __init__(self, clock: "Callable[[], float]" = monotonic, poller: "Any" = None,
                 name: str = "contextree") -> None:
        self.clock = clock
        self.generation = process.generation
        self.name = name
        self._entries = {}  # type: dict[int, Any]
        self._timers = []  # type: list[tuple[float, int, Timer]]
        self._serial = 0
        self._sweep = 1000  # so many timers: time to throw out the cancelled ones
        self._deferred = deque()  # type: Deque[tuple[Callable[..., Any], tuple[Any, ...]]]
        self._turn = 1
        self._woken = 0
        self._inside = False
        self.thread = None  # type: int | None  # identity of the thread that drives the loop
        self.running = False  # on a thread of its own
        self._ending = None  # type: BaseException | None
        self.closed = None  # type: BaseException | None  # the exception that later users get
        self._done = process.Waiter()
        self._listeners = []  # type: list[Callable[[], object]]
        self.buffer = None  # type: memoryview | None
        self.on_error = self._print_error
        self.count = dict.fromkeys(("turns", "wakes", "ran", "slices", "overflows", "errors", "high_water", "late"), 0)
        self.slowest = (0.0, "")
        self._mark = 0  # when so many functions have run, those are done that were waiting ...
        self._marked = clock()  # ... at this time
        self._wake = _WriteEnd()  # type: _WriteEnd | None
        self._wake_r, self._wake.fd = process.pipe()
        self.unit = 1
        self._poller = poller
        try:
            if poller is None:
                self._poller = _epoll()
            if self._poller is None:
                self._poller = process.unpatched("select", "poll")()
                self.unit = 1000
            self.watch(self._wake_r, self._drain)
        except BaseException:
            self._wake = None
            process.close(self._wake_r)
            self._close_poller()
            raise

    # -- any thread

    def defer_nowait(self, function: "Callable[..., Any]", *args: "Any") -> None:
        """Have ``function(*args)`` called on the loop thread, in order. Any thread; never waits, so also for those who
        hold a lock that the loop may want. Raises ``Closed`` after the end, ``ForkedError`` in a forked child."""
        if self.closed or self.generation != process.generation:
            self._refuse()
        queue = self._deferred
        entry = function, args
        queue.append(entry)
        turn = self._turn
        if turn & 1 and turn != self._woken:
            self.wake()
            if self.closed:
                self._take_back(queue, entry)

    defer = defer_nowait

    def wake(self) -> None:
        """End the present sleep of the loop. Any thread."""
        turn = self._turn
        end = self._wake
        if end is None:
            return
        try:
            os.write(end.fd, b"\0")
        except OSError:
            pass  # full: it wakes anyway
        self._woken = turn
        self.count["wakes"] += 1

    def start(self) -> None:
        """Run the loop on a thread of its own until ``stop``. ``UsageError`` when it runs, ``Closed`` after its end."""
        if self.closed or self.generation != process.generation:
            self._refuse()
        if self.running or self._inside:
            raise UsageError("the loop is running already")
        self.running = True
        started = process.Waiter()
        try:
            process.start_thread(self._run, (started,))
        except BaseException:
            self.running = False
            raise
        started.wait()

    def stop(self, wait: bool = True) -> None:
        """End the loop at the end of its turn: what was deferred runs, then the listeners. Idempotent; from any thread.

        With ``wait`` it has ended on return, except on the loop thread itself, and from a foreign thread when the
        program drives the loop: then its driver ends it with its next turn. In a forked child it does nothing."""
        if self.generation != process.generation:
            return
        if self._ending is None:
            self._ending = Closed("the loop of %s was closed" % self.name)
        here = process.get_ident()
        if self.running:
            self.wake()
            if wait and here != self.thread:
                self._done.wait()
                self._done.wake()
        elif self._inside or self.thread not in (None, here):
            self.wake()
        else:
            self._finish()

    def on_end(self, listener: "Callable[[], object]") -> None:
        """Have ``listener()`` called on the loop thread at its end, by ``stop`` or by a fault; each once, in order.

        Raises ``Closed`` when it has ended."""
        if self.closed or self.generation != process.generation:
            self._refuse()
        self._listeners.append(listener)
        if self.closed:
            self._take_back(self._listeners, listener)

    # -- the loop thread

    def watch(self, fd: int, read: "Callable[[], object] | None" = None,
              write: "Callable[[], object] | None" = None) -> None:
        """Call ``read()`` / ``write()`` when ``fd`` is ready or broken, no others; both None: ``forget``."""
        self.check_thread()
        if self.closed:
            self._refuse()
        mask = (READ if read else 0) | (WRITE if write else 0)
        if not mask:
            return self.forget(fd)
        entry = self._entries.get(fd)
        if entry is None:
            self._poller.register(fd, mask)
            entry = self._entries[fd] = _Entry()
            entry.turn = self._turn  # type: ignore[attr-defined]  # one of __slots__
        elif entry.mask != mask:
            self._poller.modify(fd, mask)
        entry.mask = mask  # type: ignore[union-attr]  # one of __slots__
        entry.read = read  # type: ignore[union-attr]  # one of __slots__
        entry.write = write  # type: ignore[union-attr]  # one of __slots__

    def forget(self, fd: int) -> None:
        """Stop watching; harmless when nothing is watched. Always before the descriptor is closed."""
        if not self._entries:
            return  # after the end
        self.check_thread()
        if self._entries.pop(fd, None):
            try:
                self._poller.unregister(fd)
            except (OSError, KeyError, ValueError):
                pass  # closed under us by its former owner

    def timer(self, delay: float, function: "Callable[..., Any]", *args: "Any") -> Timer:
        """``function(*args)`` once, in a turn ``delay`` seconds from now; those due together fire in order of birth."""
        self.check_thread()
        timers = self._timers
        if len(timers) >= self._sweep:
            timers[:] = [entry for entry in timers if entry[2].function is not None]
            heapify(timers)
            self._sweep = max(1000, 2 * len(timers))
        timer = Timer(self.clock() + max(0.0, delay), function, args)
        self._serial += 1
        heappush(timers, (timer.when, self._serial, timer))
        return timer

    def check_thread(self) -> None:
        """Raise ``WrongThread`` unless the calling thread drives the loop (or nobody does yet)."""
        if self.generation != process.generation or (self.closed and self.thread is None):
            self._refuse()
        if self.thread is not None and process.get_ident() != self.thread:
            raise WrongThread("only the loop thread may do this; use defer() or call()")

    def next_delay(self) -> "float | None":
        """Seconds until the next turn is due without any descriptor being ready; None: no need."""
        if self._deferred or self._ending:
            return 0.0
        timers = self._timers
        while timers and timers[0][2].function is None:
            heappop(timers)
        return max(0.0, timers[0][0] - self.clock()) if timers else None

    def _poll(self, timeout: "float | None") -> None:
        self._turn = (self._turn | 1) + 1  # even: awake
        self.count["turns"] += 1
        if self._deferred:
            self._run_deferred()
            if not self.running:
                timeout = 0  # something happened: the program may wait for just that
        if self._room:
            self.make_room()
        delay = self.next_delay()
        if delay is not None and (timeout is None or delay < timeout):
            timeout = delay
        self._turn += 1  # odd: asleep
        if self._deferred or self._ending:
            timeout = 0
        if timeout is not None:
            timeout = min(max(timeout, 0), NAP) * self.unit
        events = self._poller.poll(timeout)
        self._turn = turn = self._turn + 1
        entries = self._entries
        start = self.clock()
        for fd, mask in events:
            entry = entries.get(fd)
            if entry is None or entry.turn >= turn:
                continue
            if entry.read and mask & ~WRITE:
                start = self._call(start, entry.read, ())
            if entry.write and mask & (WRITE | TROUBLE) and entries.get(fd) is entry:
                start = self._call(start, entry.write, ())  # type: ignore[union-attr]  # not None: see above
        if self._timers:
            self._run_timers(start)

    def _run_timers(self, now: float) -> None:
        timers = self._timers
        last = self._serial  # those born meanwhile wait for the next turn: descriptors come in between
        start = now
        while timers and timers[0][0] <= now and timers[0][1] <= last:
            timer = heappop(timers)[2]
            if timer.function is not None:
                self.count["late"] = max(self.count["late"], start - timer.when)
                function, args = timer.function, timer.args
                timer.cancel()
                start = self._call(start, function, args)

    def _run_deferred(self) -> None:
        queue = self._deferred
        count = self.count
        depth = len(queue)
        if depth > count["high_water"]:
            count["high_water"] = depth
        start = self.clock()
        if count["ran"] >= self._mark:
            self._mark = count["ran"] + depth
            self._marked = start
        end = start + SLICE
        for number in range(1, depth + 1):
            function, args = queue.popleft()
            count["ran"] += 1
            start = self._call(start, function, args)
            if not number & 63 and start >= end:
                count["slices"] += 1
                break

    def _call(self, start: float, function: "Callable[..., Any]", args: "tuple[Any, ...]") -> float:
        try:
            function(*args)
        except BaseException as error:  # on our own thread even SystemExit is only an error of that function
            if not self.running and not isinstance(error, Exception):
                raise
            self.count["errors"] += 1
            try:
                self.on_error(function)
            except Exception:
                pass  # nobody is left to tell
        now = self.clock()
        if now - start > self.slowest[0]:
            self.slowest = now - start, _name(function)
        return now

    def _drain(self) -> None:
        try:
            os.read(self._wake_r, 4096)
        except BlockingIOError:
            pass  # spurious readiness is no error

    def _run(self, started: "Waiter") -> None:
        self.thread = process.get_ident()
        self._inside = True
        started.wake()
        try:
            while not self._ending and self.generation == process.generation:
                self._poll(None)
        except BaseException as error:  # the poller broke: everyone who waits is told so
            self._ending = self._ending or error
        self._inside = False
        self._finish()

    def _finish(self) -> None:
        if self.closed or self.generation != process.generation:
            return
        self.thread = process.get_ident()
        self.closed = self._ending
        self._wake = None
        self._turn = -1  # odd, and never noted in _woken: who defers from now on looks at ``closed``
        try:
            self._run_last(self._deferred)
            self._run_last(self._listeners)
        finally:
            if self._room:
                self.make_room()
            for fd in list(self._entries):
                self.forget(fd)
            self._timers.clear()
            process.close(self._wake_r)
            self._close_poller()
            self.thread = None
            self.running = False
            self._done.wake()

    def _run_last(self, queue: "Any") -> None:
        while queue:
            try:
                entry = queue[0]
                del queue[0]
            except IndexError:
                break  # taken back by the thread that had just brought it
            function, args = entry if queue is self._deferred else (entry, ())
            self._call(self.clock(), function, args)

    # -- helpers

    def _close_poller(self) -> None:
        poller = self._poller
        if poller in process.keep:
            process.keep.remove(poller)
            process.disown(poller.fileno())
            poller.close()

    def _take_back(self, queue: "Any", entry: "Any") -> None:
        try:
            queue.remove(entry)
        except (ValueError, IndexError):
            return  # it was called after all
        self._refuse()

    def _refuse(self) -> None:
        if self.generation != process.generation:
            raise ForkedError("the loop of %s belongs to the process that this one was forked from" % self.name)
        raise Closed(str(self.closed)) from (None if isinstance(self.closed, Closed) else self.closed)

    def _print_error(self, function: "Callable[..., Any]") -> None:
        import traceback

        if sys.__stderr__ is None:
            return  # descriptor 2 was closed at the start, so whatever has that number now is not for us
        try:
            text = "contextree: error in %s\n%s" % (_name(function), traceback.format_exc())
            os.write(2, text.encode("utf-8", "replace"))
        except OSError:
            pass  # nobody listens there

def _epoll() -> "Any":
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


def _name(function: object) -> str:
    try:
        return getattr(function, "__qualname__", None) or repr(function)
    except Exception:
        return object.__repr__(function)
