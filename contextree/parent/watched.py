"""What is known of one child process, as a table of states, and how the loop finds out: the inner half of a handle.

    RUNNING <-> STOPPED -> EXIT_HINT -> REAPED | LOST         any but the last two -> RELEASED

Every move is made on the loop thread, under the handle's lock, and must be in ``MOVES``. A hint (end of a stream, a
waiter of a polled child, a signal of ours) makes the reaper look; only ``waitid`` for this very child decides. There
is one wait per look, it never blocks, and it asks for stops only while somebody waits for one, so that no change is
taken that nobody wants.

The lock makes signalling and reaping of the same child take turns: a handle that says "not reaped" under it names a
pid that cannot have been reused. It is one lock per child, held for a system call or two, and reentrant, because a
Python signal handler that calls ``terminate()`` may interrupt the main thread inside it. No callback runs under it.

Somebody else in the process may take the status (``os.wait()``, libev's ``waitpid(-1)``, an ignored SIGCHLD). Then
waitid says ECHILD, and the status comes from the pidfd (Linux 6.15) or the state is LOST with the reason; it is
never made up.
"""

import errno
import os
import signal

from contextree.core import process
from contextree.core.wire.errors import InternalError
from contextree.parent import pidfd
from contextree.parent.child_state import CONTINUED, DEATHS, describe, from_status, lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

    from contextree.core.broker import Timer
    from contextree.parent.child import Ticket
    from contextree.parent.child_state import ChildState
    from contextree.parent.reaper import Reaper

SHORT, LONG = 0.001, 0.25  # seconds: first and last step of every backoff
RECOVERY = 9  # looks (0.25 s together) for the exit code of a stolen child: the thief may still be inside the kernel


class Phase:
    """Names of the states of a handle."""

    RUNNING, STOPPED, EXIT_HINT = "running", "stopped", "exit hint"
    REAPED, LOST, RELEASED = "reaped", "lost", "released"


FINAL = (Phase.REAPED, Phase.LOST, Phase.RELEASED)
MOVES = {
    Phase.RUNNING: (Phase.STOPPED, Phase.EXIT_HINT) + FINAL,
    Phase.STOPPED: (Phase.RUNNING, Phase.EXIT_HINT) + FINAL,
    Phase.EXIT_HINT: FINAL,
    Phase.REAPED: (), Phase.LOST: (), Phase.RELEASED: (),
}


class Watched:
    """A child that the loop looks after; ``Child`` adds what users call."""

    def __init__(self, reaper: "Reaper", pid: int, command: str, fd: int = -1) -> None:
        self.pid = pid
        self.command = command
        self.phase = Phase.RUNNING
        self.privileged = False  # it refused our signals (EPERM): its end can only be waited for
        self.sweep = False  # what is left of the group that it leads is killed when it dies
        self._reaper = reaper  # type: Any
        self._broker = reaper.broker
        self._generation = process.generation
        self._lock = process.unpatched("_thread", "RLock")()
        self._fd = fd
        self._birth = None if fd >= 0 else pidfd.birth(pid)
        self._state = None  # type: ChildState | None
        self._error = None  # type: BaseException | None
        self._tickets = []  # type: list[Ticket]
        self._unread = {}  # type: dict[int, ChildState]  # code -> a stop that somebody waited for but left without
        self._callbacks = []  # type: list[Callable[[ChildState], object]]
        self._delay = SHORT
        self._timer = None  # type: Timer | None
        self._stop_timer = None  # type: Timer | None
        self._end_timers = ()  # type: Sequence[Timer]
        self._recoveries = 0

    def __repr__(self) -> str:
        return "<%s %s: %s>" % (type(self).__name__, describe(self.pid, self.command), self._state or self.phase)

    def is_ours(self) -> bool:
        """A child of this very process whose status is still to be had, by now. Any thread."""
        with self._lock:
            return self.phase not in FINAL and self._peek() != "stolen"

    def _peek(self) -> str:
        """Under the lock: alive, dead (its status is still there) or stolen."""
        try:
            state = self._wait(pidfd.WEXITED | pidfd.WNOWAIT)
            return "dead" if state is not None and state.code in DEATHS else "alive"
        except ChildProcessError:
            return "stolen"

    def _wait(self, flags: int) -> "ChildState | None":
        if self._fd >= 0 and self._reaper.by_pidfd:
            try:
                return pidfd.wait(pidfd.P_PIDFD, self._fd, flags, self.command, self.pid)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._reaper.by_pidfd = False  # Linux 5.3 has pidfds but cannot wait by them
        if self._birth is not None and pidfd.birth(self.pid) not in (None, self._birth):
            raise ChildProcessError(errno.ECHILD, "its status was taken and its pid is another child's now")
        return pidfd.wait(pidfd.P_PID, self.pid, flags, self.command, self.pid)

    # -- the loop thread

    def _move(self, phase: str) -> None:
        if phase == self.phase:
            return
        if phase not in MOVES[self.phase]:
            raise InternalError("%s cannot go from %s to %s" % (describe(self.pid, self.command), self.phase, phase))
        self.phase = phase

    def _begin(self) -> None:
        if self.phase in FINAL:
            return
        if self._fd >= 0:
            try:
                self._broker.watch(self._fd, self._readable)
            except OSError:  # no room in the poller
                self._birth = pidfd.birth(self.pid)
                process.close(self._fd)
                self._fd = -1
        if self._fd < 0:
            self._reaper.poll(self)
        self._try_reap()  # it may have been stolen before it was watched; a pidfd of a stranger never gets ready

    def _readable(self) -> None:
        self._try_reap(True)

    def _hinted(self) -> None:
        if self.phase not in FINAL:
            self._move(Phase.EXIT_HINT)
            self._look_soon()

    def _look_soon(self) -> None:
        if self.phase in FINAL:
            return
        if self._fd < 0:
            self._delay = SHORT
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        self._try_reap()

    def _try_reap(self, readable: bool = False) -> None:
        if self.phase in FINAL:
            return
        with self._lock:
            try:
                if self.sweep and self._peek() == "dead":
                    self._kill_left()
                state = self._wait(pidfd.WEXITED)
            except ChildProcessError:
                state = self._recover()
            tell = self._saw(state)
        if tell:
            tell()
        if self.phase in FINAL:
            return
        if readable or self._recoveries or (self._fd < 0 and (self.phase == Phase.EXIT_HINT or self._tickets)):
            self._look_again()

    def _kill_left(self) -> None:
        """Under the lock: KILL what is left of the group of a leader that is dead and not reaped yet: as long as that
        is so, the number of the group can be nobody else's."""
        try:
            if os.getpgid(self.pid) == self.pid != os.getpgrp():
                os.killpg(self.pid, signal.SIGKILL)
        except OSError:
            pass  # there is nobody left; or they are another user's, whose terminal or pipe must do

    def _look_again(self) -> None:
        """Readable, but waitid has nothing: it is traced by somebody. Or polled, or stolen a moment ago. Ask by
        timer, so that a descriptor which stays readable cannot keep the loop busy."""
        if self._timer is None:
            if self._fd >= 0:
                self._broker.forget(self._fd)
            self._timer = self._broker.timer(self._delay, self._retry)
            self._delay = min(self._delay * 2, LONG)

    def _retry(self) -> None:
        self._timer = None
        if self.phase in FINAL:
            return
        if self._fd >= 0 and not self._recoveries:
            self._broker.watch(self._fd, self._readable)
        else:
            self._try_reap()

    def _recover(self) -> "ChildState | None":
        """Under the lock, after ECHILD: the kernel's memory of the exit code, None to ask again, or LOST."""
        if self._fd >= 0 and self._reaper.exit_status is not None and self._recoveries < RECOVERY:
            try:
                status = self._reaper.exit_status(self._fd)
            except OSError:
                status = -1  # a kernel that keeps none
            if status is None:
                self._recoveries += 1
                return None
            if status >= 0:
                self._reaper.count["recovered"] += 1
                return from_status(self.pid, status, self.command)
        return lost(self.pid, self.command, self._reaper.why_lost())

    def _saw(self, state: "ChildState | None") -> "Callable[[], None] | None":
        """Under the lock. A stop may come unasked: the kernel shows a tracer, which we may be, every stop of its
        child."""
        if state is None:
            return None
        return self._settle(state) if state.code in DEATHS else self._changed(state)

    def _settle(self, state: "ChildState") -> "Callable[[], None]":
        """Under the lock: the end. Returns what must be called without it."""
        self._move(Phase.LOST if state.reason else Phase.REAPED)
        self._state = state
        self._reaper.count["lost" if state.reason else "reaped"] += 1
        tickets, callbacks = self._let_go()

        def tell() -> None:
            for ticket in tickets:
                ticket.state = state
                ticket.wake()
            for callback in callbacks:  # deferred, so that one that fails does not keep the others from being called
                self._broker.defer(callback, state)

        return tell

    def _let_go(self) -> "tuple[list[Ticket], list[Callable[..., object]]]":
        for timer in [self._timer, self._stop_timer] + list(self._end_timers):
            if timer is not None:
                timer.cancel()
        self._timer = self._stop_timer = None
        self._end_timers = ()
        if self._fd >= 0:
            self._broker.forget(self._fd)
            process.close(self._fd)
            self._fd = -1
        self._reaper.discard(self)
        tickets, callbacks = self._tickets, self._callbacks
        self._tickets, self._callbacks = [], []
        return tickets, callbacks

    def _release(self, error: BaseException) -> None:
        with self._lock:
            if self.phase in FINAL:
                return
            self._move(Phase.RELEASED)
            self._error = error
            tickets, _callbacks = self._let_go()
        for ticket in tickets:
            ticket.error = error
            ticket.wake()

    def _look_for_stops(self) -> None:
        """Ask for the kinds of stop that somebody waits for, until the kernel has no more; then again by timer."""
        if self.phase in FINAL:
            return
        while True:
            with self._lock:
                wanted = set()  # type: set[int]
                for ticket in self._tickets:
                    wanted |= ticket.stops
                if not wanted:
                    return
                flags = pidfd.WCONTINUED if CONTINUED in wanted else 0
                if wanted - {CONTINUED}:
                    flags |= pidfd.WSTOPPED
                try:
                    state = self._wait(flags)
                except ChildProcessError:
                    state = None  # it was reaped elsewhere: that shows at the next look for its end
                if state is None:
                    break
                tell = self._saw(state)
            tell()  # type: ignore[misc]  # there is a state
        if self._stop_timer is not None:
            self._stop_timer.cancel()
        self._stop_timer = self._broker.timer(self._reaper.stop_interval, self._look_for_stops)

    def _changed(self, state: "ChildState") -> "Callable[[], None]":
        """Under the lock: it stopped or goes on. Returns what must be called without it."""
        self._state = state
        if self.phase != Phase.EXIT_HINT:
            self._move(Phase.RUNNING if state.code == CONTINUED else Phase.STOPPED)
        tickets = [ticket for ticket in self._tickets if state.code in ticket.stops]
        if not tickets:
            self._unread[state.code] = state
        for ticket in tickets:
            self._tickets.remove(ticket)
            ticket.state = state

        def tell() -> None:
            for ticket in tickets:
                ticket.wake()

        return tell
