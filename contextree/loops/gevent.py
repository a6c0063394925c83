"""gevent: the synchronous API lets other greenlets run while it waits.

``install`` puts ``waiter`` in the place of ``process.waiter``, for the whole process: what waits on a thread that has a
hub parks its greenlet there, in programs that are monkey-patched and in those that are not. Threads without a hub sleep
as before, contextree's own among them: they are real ones and touch nothing that gevent patches.

How a greenlet is woken from the loop thread. A wake carries no data (``core.mailbox``): it releases a lock, which makes
it once and for all, and then, where a greenlet is parked, has the hub switch to that. ``Nest.post`` leaves a note in a
deque and sends the one async watcher of the hub, which is the only thing in libev that another thread may do:
``run_callback_threadsafe`` counts references of the loop without a lock, while its thread may be inside libev without
the GIL. The watcher is active, and keeps the hub from ending, only while somebody waits.

``wait`` announces its gate, then looks at the lock; ``wake`` releases the lock, then looks for a gate: one of the two
sees the other. A greenlet that is killed or timed out meanwhile leaves its gate behind; a late switch to that does
nothing, and whoever called ``wait`` passes the baton on, as everywhere.
"""

import sys
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from gevent import getcurrent
from gevent._hub_local import get_hub_if_exists
from gevent.hub import Waiter as Gate

from contextree.core import process
from contextree.parent import waits
from contextree.parent.future import CallFuture

LONGEST = 1e6  # seconds for one timer
_here = process.unpatched("_thread", "_local")()  # .nest of each thread
_before: Callable[[], Any] | None = None  # what was in the place of ``waiter``


class Nest:
    """Where the greenlets of one hub wait. All but ``post`` on the hub's own thread."""

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.watcher = hub.loop.async_()
        self.held = 0

    def hold(self) -> None:
        """Somebody is going to wait: the hub is not to end before."""
        self.held += 1
        if self.held == 1:
            self.watcher.start(self._run)

    def release(self) -> None:
        """The end of what ``hold`` began."""
        self.held -= 1
        if self.held == 0:
            self.posted.clear()  # for those who have left meanwhile
            if self.alive:
                self.watcher.stop()

    @property
    def alive(self) -> bool:
        """False once the hub was destroyed."""
        return self.hub.loop is not None and bool(self.hub.loop.ptr)

    def post(self, function: Callable[..., object], *args: Any) -> bool:
        """Have the hub call ``function(*args)``, which must not switch away for long. Any thread; never blocks. False
        when the hub is no more."""
        entry = function, args
        self.posted.append(entry)
        try:
            if self.alive:
                self.watcher.send()
                return True
        except (AttributeError, ValueError):
            pass  # destroyed at this moment
        try:
            self.posted.remove(entry)
        except ValueError:
            return True  # it was called after all
        return False

    def _run(self) -> None:
        """In the hub. Ctrl-C may strike anywhere: what was not done then is done next time; twice does no harm."""
        posted = self.posted
        try:
            while posted:
                function, args = entry = posted[0]
                try:
                    function(*args)
                except Exception:
                    self.hub.handle_error(function, *sys.exc_info())
                if posted and posted[0] is entry:
                    del posted[0]
        finally:
            if posted and self.alive:
                self.watcher.send()


def nest_here() -> Nest | None:
    """The nest of the present thread's hub; None where there is no hub, or it is the hub itself that asks."""
    hub = get_hub_if_exists()
    if hub is None or hub.dead or getcurrent() is hub or not hub.loop:
        return None
    nest = getattr(_here, "nest", None)
    if nest is None or nest.hub is not hub:
        nest = _here.nest = Nest(hub)
    return nest


class GreenWaiter:
    """As ``process.Waiter``: ``wait`` parks the present greenlet, on the thread that made this; ``wake`` from any."""

    __slots__ = ("nest", "lock", "gate")

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.lock = process.allocate_lock()
        self.lock.acquire()  # at once: nobody else knows it
        self.gate: Any = None

    def wait(self, timeout: float | None = None) -> bool:
        """Until woken: True; or for ``timeout`` seconds: False. ``gevent.Timeout`` and ``kill`` end it too."""
        if self.lock.acquire(False):
            return True
        if timeout is not None and timeout <= 0:
            return False
        end = monotonic() + (process.FOREVER if timeout is None else timeout)
        nest, timer = self.nest, None
        nest.hold()
        try:
            self.gate = gate = Gate(nest.hub)
            while not self.lock.acquire(False):
                left = end - monotonic()
                if left <= 0:
                    return False
                if left < process.FOREVER and (timer is None or not timer.active):
                    if timer is not None:
                        timer.close()
                    timer = nest.hub.loop.timer(min(left, LONGEST))
                    timer.start(gate.switch, None)
                gate.get()
                gate.clear()
            return True
        finally:
            self.gate = None
            if timer is not None:
                timer.close()
            nest.release()

    def wake(self) -> bool:
        """Wake it; False when it had been woken before, or when its hub is no more. From any thread."""
        try:
            self.lock.release()
        except RuntimeError:
            return False
        gate = self.gate
        return gate is None or self.nest.post(gate.switch, None)


def waiter() -> Any:
    """In the place of ``process.waiter``."""
    nest = nest_here()
    return (_before or process.Waiter)() if nest is None else GreenWaiter(nest)


def _in_the_hub() -> str | None:
    hub = get_hub_if_exists()
    if hub is not None and getcurrent() is hub:
        return "the gevent hub of this thread, in which this callback runs: use gevent.spawn()"
    return None


def install() -> None:
    """From now on whoever waits for contextree on a thread with a hub lets its other greenlets run. Idempotent; stays
    for the life of the process."""
    global _before
    if _before is None:
        _before = process.waiter
        process.waiter = waiter  # type: ignore[assignment]  # it makes what the class would
        waits.others.append(_in_the_hub)


class GreenFuture(CallFuture[Any]):
    """A CallFuture that ``gevent.wait``, ``gevent.iwait`` and ``AsyncResult``'s kind of links know: ``rawlink``."""

    _links: dict[Any, Nest]

    def rawlink(self, callback: Callable[[Any], object]) -> None:
        """Have ``callback(self)`` called once, in this thread's hub, when the future is done; it must not block."""
        nest = nest_here()
        if nest is None:
            raise RuntimeError("rawlink() is for greenlets")
        if not hasattr(self, "_links"):
            self._links = {}
        nest.hold()
        self._links[callback] = nest
        self.add_done_callback(lambda future: nest.post(self._follow, callback))

    def unlink(self, callback: Callable[[Any], object]) -> None:
        """``callback`` is not to be called any more. Idempotent."""
        nest = getattr(self, "_links", {}).pop(callback, None)
        if nest is not None:
            nest.release()

    def _follow(self, callback: Callable[[Any], object]) -> None:
        if callback in self._links:
            self.unlink(callback)
            callback(self)
