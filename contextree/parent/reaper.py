"""Reaping: every child process of contextree is waited for by itself, on the loop, without a thread or a signal
handler.

A pidfd per child lies in the loop's poller; when it gets readable, ``waitid`` asks for that child alone. Never for all
(P_ALL, -1, a group): that would take the statuses of the program's own children. Nothing of the process is touched:
no SIGCHLD handler, no mask, no wake-up descriptor, so all of it works whoever owns SIGCHLD. Where a pidfd cannot be
had (old kernel, seccomp, no descriptor left) the child is polled: each second, and in steps of 1 to 250 ms while
somebody waits for it or has reason to think that it ended. A process without children has no descriptor and no timer
from here.

Rejected: SIGCHLD (signals coalesce, belong to the main thread, and asyncio, libev and others want it), a blocked
thread per child (memory, and it cannot be interrupted), signalfd (its readiness is that of the process which polls it).
"""

import errno
import signal

from contextree.core import process
from contextree.core.wire.errors import Closed, ForkedError, NotOurChild
from contextree.parent import pidfd
from contextree.parent.child import Child, RemoteChild, Ticket
from contextree.parent.child_state import TAKEN, describe
from contextree.parent.loop import Loop
from contextree.parent.watched import Phase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Optional, TypeVar

    C = TypeVar("C", bound=Child)

__all__ = ["Child", "Phase", "Reaper", "RemoteChild", "Ticket"]

SWEEP = 1.0  # seconds between looks at children that have no pidfd
NEVER = (errno.ENOSYS, errno.EPERM)  # will not get better: do not ask again


class Reaper:
    """The children of one process. ``open_pidfd`` and ``exit_status`` are the system calls (None: without), for old
    kernels in tests; ``stop_interval`` is how often a child is asked whether it stopped, while somebody waits for
    that. ``allow_blocking``: may ``wait`` block the thread of an event loop?"""

    allow_blocking = False

    def __init__(self, broker: Loop, open_pidfd: "Optional[Callable[[int], int]]" = pidfd.open_pidfd,
                 exit_status: "Optional[Callable[[int], Optional[int]]]" = pidfd.exit_status,
                 stop_interval: float = 0.25) -> None:
        self.broker = broker
        self.exit_status = exit_status
        self.stop_interval = stop_interval
        self.by_pidfd = self.signal_by_pidfd = True
        self.count = {"monitored": 0, "reaped": 0, "lost": 0, "recovered": 0, "polled": 0}
        self._open = open_pidfd
        self._children = set()  # type: set[Child]
        self._polled = set()  # type: set[Child]
        self._sweep_timer = None  # type: Any
        self._lock = process.allocate_lock()
        self._ended = None  # type: Optional[BaseException]
        broker.on_end(self._end)

    # -- any thread

    def monitor(self, pid: int, command: str = "", spawned: bool = False, sweep: bool = False) -> Child:
        """A handle of our child ``pid``, which is reaped from now on; the same one where it has one already.

        ``spawned``: we started it a moment ago, so that a status which is gone already means LOST. Without it a process
        that is not our child is refused with ``NotOurChild``. ``sweep``: what is left of the group that it leads is
        killed when it dies (until its ``sweep`` is made false). Raises ``Closed`` after the end of the loop."""
        self._check_generation()
        if pid <= 0:
            raise NotOurChild("%r is no process: wanted the pid of a child" % pid)
        if not spawned:
            for child in list(self._children):
                if child.pid == pid and child.is_ours():
                    return child
        child = Child(self, pid, command, self._open_pidfd(pid))
        child.sweep = sweep
        if not spawned and not child.is_ours():
            process.close(child._fd)
            name = describe(pid, command)
            raise NotOurChild("%s is not a child of this process: only its parent can wait for it" % name)
        return self._add(child)

    def adopt_remote(self, pid: int, command: str, kill: "Callable[[int], object]") -> RemoteChild:
        """A handle of a process that another context reaps; ``kill(sig)`` has it signalled, ``report`` tells its
        state."""
        self._check_generation()
        return self._add(RemoteChild(self, pid, command, kill))

    def why_lost(self) -> str:
        """Why a status that should be there is not."""
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
            return "SIGCHLD is ignored in this process, so the kernel throws statuses away"
        return TAKEN

    def stats(self) -> "dict[str, int]":
        """Counters, and how many children live (``children``) and are polled for want of a pidfd (``polling``)."""
        return dict(self.count, children=len(self._children), polling=len(self._polled))

    @property
    def alive(self) -> int:
        """How many children are watched."""
        return len(self._children)

    def __iter__(self) -> "Iterator[Child]":
        return iter(list(self._children))

    # -- for the handles, on the loop thread

    def poll(self, child: Child) -> None:
        """Have ``child`` looked at by the sweep."""
        self.count["polled"] += 1
        self._polled.add(child)
        if self._sweep_timer is None:
            self._sweep_timer = self.broker.timer(SWEEP, self._sweep)

    def discard(self, child: Child) -> None:
        """``child`` is done with."""
        self._children.discard(child)
        self._polled.discard(child)
        if not self._polled and self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None

    # -- inside

    def _check_generation(self) -> None:
        if self.broker.generation != process.generation:
            raise ForkedError("this reaper belongs to the process that this one was forked from")

    def _open_pidfd(self, pid: int) -> int:
        if self._open is None:
            return -1
        try:
            return process.own(self._open(pid))
        except OSError as error:
            if error.errno in NEVER:
                self._open = None
            return -1  # polled; ESRCH shows as ECHILD at the first look

    def _add(self, child: "C") -> "C":
        with self._lock:
            if self._ended is None:
                self._children.add(child)
                self.count["monitored"] += 1
        if self._ended is None:
            try:
                self.broker.defer(child._begin)
                return child
            except BaseException:
                self._children.discard(child)
                process.close(child._fd)
                raise
        process.close(child._fd)
        raise Closed("the loop has ended: %s" % self._ended)

    def _sweep(self) -> None:
        self._sweep_timer = None
        for child in list(self._polled):
            child._try_reap()
        if self._polled:
            self._sweep_timer = self.broker.timer(SWEEP, self._sweep)

    def _end(self) -> None:
        """The loop ends: take what is there, tell all others."""
        with self._lock:
            self._ended = self.broker.closed
            children = list(self._children)
        for child in children:
            child._try_reap()
            error = Closed("the loop ended before %s did: %s" % (describe(child.pid, child.command), self._ended))
            error.__cause__ = self._ended
            child._release(error)
