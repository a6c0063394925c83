"""``CallFuture``: one call as a ``concurrent.futures.Future``.

A module of its own, because ``concurrent.futures`` brings ``logging`` and ``threading`` with it (1 MB): most contexts
that have children, or are handed a context, never submit. Futures with callbacks are finished by a thread of the tree
that is kept for that.
"""

import threading

try:
    from concurrent import futures
except ImportError:  # Debian's python3-minimal has none: such a context can grow children and call them all the same
    futures = None  # type: ignore[assignment]
# pyright: reportOptionalMemberAccess=false
# (a CallFuture is made only where there are futures: see __init__)

from contextree.core import process
from contextree.core.calls import ERROR
from contextree.core.wire.errors import CallTimeout, UnsupportedPlatform, WouldBlockLoop
from contextree.core.wire.frames import BROKEN, TIMEOUT
from contextree.parent import waits
from contextree.parent.calls import told, unpack, waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Any, Callable, TypeVar

    from contextree.core.router import Channel
    from contextree.parent.engine import Engine

    T = TypeVar("T")
else:
    T = None
    Future = {T: futures.Future if futures else object}

making = process.allocate_lock()
FAILED = bytes((ERROR,))


def _forked() -> None:
    global making
    making = process.allocate_lock()  # another thread of the parent may have held it


process.after_fork.append(_forked)


class CallFuture(Future[T]):
    """The Future of one call. ``cancel`` also tells the other end: what has not started there will not.

    >>> future = web.submit(pow, 2, 10)
    >>> future.result(timeout=10)
    1024

    A Condition and two lists for every future are most of what a Future costs, and nearly none is ever waited for twice
    or has callbacks; so they are made when somebody first needs them. ``making`` guards that, and the end of those
    without.

    ``result`` and ``exception`` do not wait on the Condition but as everything here does (``parent.waits``): so they
    let other greenlets run. Its lock is a real one in a patched program too: the loop thread takes it."""

    if TYPE_CHECKING:
        channel: Any
        _raw: Any
        _made: Any
        _timer: Any
        _own: Any
    _state = futures and futures._base.PENDING  # type: Any
    _result = _exception = channel = _raw = _made = _timer = _own = None
    _parked = ()  # type: Any  # waiters of ``result`` and ``exception``

    def __init__(self, engine: "Engine") -> None:
        if futures is None:
            raise UnsupportedPlatform("submit() needs concurrent.futures, which the Python of %s does not have: "
                                      "use call()" % engine.core.name)
        self.engine = engine

    def _get_condition(self) -> "threading.Condition":
        with making:
            if self._own is None:
                self._waiters = []
                self._done_callbacks = []  # type: list[Any]
                self._own = threading.Condition(process.allocate_rlock())
            return self._own  # type: ignore[no-any-return]  # made above

    if not TYPE_CHECKING:  # an attribute in concurrent.futures
        _condition = property(_get_condition)

    def message(self, channel: "Channel", data: "Any", fin: bool, cost: int) -> None:
        """The answer came. Loop thread."""
        if self._raw is None:
            self._raw = data
            self._finish()
        if not fin:
            channel.cancel(BROKEN, "an answer is one message")

    def end(self, channel: "Channel | None", error: "BaseException") -> None:
        """No answer will come."""
        if self._raw is None and self._made is None:
            self._made = None, error
            self._finish()

    def limit(self, timeout: float, text: str) -> None:
        """Wait no longer than ``timeout`` seconds from now; ``text`` is that of the CallTimeout. Loop thread."""
        if self._raw is None and self._made is None:
            self._timer = self.engine.broker.timer(timeout, self._expire, text)

    def _expire(self, text: str) -> None:
        self.end(None, CallTimeout(text))
        self.channel.cancel(TIMEOUT, text)

    def _finish(self) -> None:
        if self._timer:
            self._timer.cancel()
        with making:
            if self._own is None:
                self._state = futures._base.FINISHED
                callbacks = ()  # type: Any
            else:
                callbacks = None
        if callbacks is None:
            with self._own:  # pyright: ignore[reportOptionalContextManager]  # made: see above
                if self._state not in (futures._base.PENDING, futures._base.RUNNING):
                    return
                self._state = futures._base.FINISHED
                failed = self._made is not None if self._raw is None else self._raw[:1] == FAILED
                for waiter in self._waiters:
                    waiter.add_exception(self) if failed else waiter.add_result(self)
                callbacks = self._done_callbacks
        self._wake()
        if callbacks:
            self.engine.later(self._invoke_callbacks)  # type: ignore[attr-defined]  # typeshed hides it

    def _wake(self) -> None:
        with making:
            parked, self._parked = self._parked, ()
        for waiter in parked:
            waiter.wake()

    def _make(self) -> "tuple[Any, BaseException | None]":
        if self._made is None:
            try:
                self._made = unpack(self.engine, self.channel.pickles, self._raw, self.channel.peer), None
            except BaseException as error:
                self._made = None, error
            self._raw = b""
        return self._made  # type: ignore[no-any-return]

    def result(self, timeout: "float | None" = None) -> "T":
        """The value, or the exception raised; waits up to ``timeout`` seconds, then raises TimeoutError."""
        self._wait(timeout)
        value, error = self._make()
        if error is not None:
            try:
                raise told(error)
            finally:
                self = None  # type: ignore[assignment]  # noqa: PLW0642  no cycle with the traceback
        return value  # type: ignore[no-any-return]  # a T

    def exception(self, timeout: "float | None" = None) -> "BaseException | None":
        """The exception, or None."""
        self._wait(timeout)
        return self._make()[1]

    def _wait(self, timeout: "float | None") -> None:
        if self._state != futures._base.FINISHED:
            self.engine.check_fork()
            if waits.inside(self.engine.broker):
                raise WouldBlockLoop("result() on the loop thread would wait for itself")
            pending = (futures._base.PENDING, futures._base.RUNNING)
            if self._state in pending:
                waiting(self.engine, self._park, pending, timeout)
            if self._state in pending:
                raise futures.TimeoutError
            if self._state != futures._base.FINISHED:
                raise futures.CancelledError

    def _park(self, pending: "tuple[str, ...]", timeout: "float | None") -> None:
        waiter = waits.waiter(self.engine)
        with making:
            self._parked += (waiter,)
        try:
            if self._state in pending:  # it may have ended just before
                waiter.wait(timeout)
        finally:
            with making:
                self._parked = tuple(other for other in self._parked if other is not waiter)

    def cancel(self) -> bool:
        """Give the answer up: True unless it is there already. The function there is told, not killed."""
        self.engine.check_fork()
        with self._condition:
            if self._state == futures._base.FINISHED:
                return False
            if self._state == futures._base.PENDING:
                self._state = futures._base.CANCELLED
                fresh = True
            else:
                fresh = False
        if fresh:
            self._wake()
            self.set_running_or_notify_cancel()  # nobody else would tell wait() and as_completed()
            self._invoke_callbacks()  # type: ignore[attr-defined]  # as above
        if self.channel is not None:
            self.channel.cancel()
        return True
