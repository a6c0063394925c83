"""The call that is running: ``contextree.current_call()``, for the function that runs in it.

A call is *over* when nobody waits for its answer any more: its caller has cancelled it, has died, or its time is up.
Its function is told; what it makes of that is its own business, unless the caller asked for more
(``contextree.parent.cancelling``).
"""

from contextree.core import calls as core_calls
from contextree.core import process
from contextree.core.wire.errors import CallTimeout, UsageError
from contextree.parent import calls, waits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, TypeVar

    from typing_extensions import ParamSpec

    from contextree.core.calls import Call
    from contextree.core.router import Channel
    from contextree.core.wire.errors import ContextreeError
    from contextree.parent.context import Context

    P = ParamSpec("P")
    T = TypeVar("T")

LOOK = 5.0  # seconds after which it is seen at the latest that a call which had a deadline has ended


class RunningCall:
    """The call in which the present code runs, as ``current_call()`` gives it: what its function can know of who
    waits for it, and for how long. One object for each call; everything may be used from any thread.

    >>> with_time = web.with_options(timeout=60)
    >>> with_time.call(lambda: 50 < contextree.current_call().time_left() <= 60)
    True
    """

    def __init__(self, call: "Call") -> None:
        self._call = call
        self._lock = process.allocate_rlock()
        self._hooks = []  # type: list[Callable[[], object]]
        self._callbacks = []  # type: list[Callable[[], object]]
        self._watched = self._timed = False
        self._timer = None  # type: Any

    def __repr__(self) -> str:
        return "<RunningCall of %s%s>" % (self._call.service.router.names.get(
            self._call.channel.peer, "context %d" % self._call.channel.peer), ", cancelled" if self.cancelled else "")

    # -- what there is to know

    @property
    def cancelled(self) -> bool:
        """True once nobody waits for the answer: the caller has cancelled the call or is gone, or the deadline is
        over."""
        return self._call.cancelled or self.time_left() == 0

    @property
    def deadline(self) -> "float | None":
        """When the caller stops waiting, on the clock of ``time.monotonic()`` here; None: never."""
        return self._call.deadline or None

    def time_left(self) -> "float | None":
        """Seconds until the deadline, 0.0 after it; None without one."""
        if not self._call.deadline:
            return None
        return max(0.0, self._call.deadline - self._call.service.router.broker.clock())

    @property
    def caller(self) -> "Context":
        """The Context that made the call."""
        from contextree.parent.engine import engine_of

        return engine_of(self._call.service.router).context(self._call.channel.peer)

    def check(self) -> None:
        """Go on, or raise what ended the call: ``CallTimeout`` after the deadline, ``CallCancelled`` after a cancel or
        the death of the caller. Where a function calls it, it can be cancelled."""
        if self.cancelled:
            raise calls.told(self._reason())

    # -- what there is to do

    def on_cancel(self, callback: "Callable[[], object]") -> None:
        """Have ``callback()`` called when the call is over before its function has ended; now, if it is over already.

        On a thread of its own, while the function may still run, or has just ended; several in the order in which they
        came. What they raise is logged."""
        with self._lock:
            over = not self._watch(self._start)
            if not over:
                self._callbacks.append(callback)
        if over:
            self._run([callback])

    def wait_cancelled(self, timeout: "float | None" = None) -> bool:
        """Wait until the call is over: True; or for ``timeout`` seconds: False."""
        if timeout is not None and timeout <= 0:
            return self.cancelled
        waiter = waits.waiter()
        hook = waiter.wake
        if not self._watch(hook):
            return True
        try:
            return waiter.wait(timeout) or self.cancelled
        finally:
            self._forget(hook)

    def bind(self, function: "Callable[P, T]") -> "Callable[P, T]":
        """``function``, made to run as a part of this call on whatever thread calls it: with its deadline for further
        calls, and its ``current_call()``.

        >>> def both():
        ...     from concurrent.futures import ThreadPoolExecutor
        ...     import contextree
        ...     with ThreadPoolExecutor(2) as pool:
        ...         bound = contextree.current_call().bind(lambda n: (n, contextree.current_call().deadline is None))
        ...         return list(pool.map(bound, [1, 2]))
        >>> web.call(both)
        [(1, True), (2, True)]
        """
        def bound(*args: "Any", **kwargs: "Any") -> "Any":
            here = core_calls.here
            before = getattr(here, "call", None), getattr(here, "router", None)
            here.call, here.router = self._call, self._call.service.router
            try:
                return function(*args, **kwargs)
            finally:
                here.call, here.router = before

        return bound

    # -- how it is heard of

    def _start(self) -> None:
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
        process.start_thread(self._run, (callbacks,))

    def _run(self, callbacks: "list[Callable[[], object]]") -> None:
        for callback in callbacks:
            try:
                callback()
            except Exception:
                self._call.service.router.broker.on_error(callback)

    def _reason(self) -> "ContextreeError":
        """The error that says why it is over."""
        error = self._call.channel.ended
        if isinstance(error, CallTimeout) or (self._call.deadline and self.time_left() == 0):
            return CallTimeout("the time of this call is over: its caller waits no longer")
        return calls.cancelled_by(error)

    def _watch(self, hook: "Callable[[], object]") -> bool:
        """Have ``hook()``, which must not block, called once when the call is over; False, and no call, if it is."""
        channel = self._call.channel
        with self._lock:
            if self.cancelled:
                return False
            if not self._watched:
                channel.on_end = self._ended
                self._watched = True
            if channel.ended:  # meanwhile
                return False
            if hook not in self._hooks:
                self._hooks.append(hook)
            timed, self._timed = self._timed, bool(self._call.deadline)
        if self._timed and not timed:
            self._call.service.router.broker.defer_nowait(self._look)
        return True

    def _forget(self, hook: "Callable[[], object]") -> None:
        with self._lock:
            if hook in self._hooks:
                self._hooks.remove(hook)
            idle = self._timed and not self._hooks
        if idle:
            self._call.service.router.broker.defer_nowait(self._look)

    def _ended(self, channel: "Channel", error: BaseException) -> None:
        """The channel ended before the answer. Any thread."""
        self._call.ended(channel, error)
        self._over()

    def _look(self) -> None:
        """Is the time up? Loop thread. A call that has been answered is let go of soon."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            if self._call.channel.sent_fin or not self._hooks:
                self._timed = False
                return
        left = self.time_left()
        if left:
            self._timer = self._call.service.router.broker.timer(min(left, LOOK), self._look)
        else:
            self._over()

    def _over(self) -> None:
        with self._lock:
            hooks, self._hooks = self._hooks, []
        if not self._call.channel.sent_fin:
            for hook in hooks:
                hook()


def of(call: "Call") -> RunningCall:
    """The RunningCall of a call of ``contextree.core.calls``."""
    shown = getattr(call, "shown", None)
    if shown is None:
        shown = call.__dict__.setdefault("shown", RunningCall(call))
    return shown  # type: ignore[no-any-return]


def current_call() -> RunningCall:
    """The call in which this code runs, on the thread or in the asyncio task of its function; in tasks that this
    starts too (Python 3.7+), in other threads by ``RunningCall.bind``. Raises UsageError where no call runs.

    >>> web.call(lambda: contextree.current_call().cancelled)
    False
    """
    call = calls.running()
    if call is None:
        raise UsageError("no call runs here: current_call() is for the function of a call, on its own thread or task; "
                         "for another thread, bind what runs there: current_call().bind(function)")
    return of(call)
