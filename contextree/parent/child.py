"""The handle of one child process: wait for it from any thread, signal it, end it. How it is watched: watched.py."""

import errno
import os
import signal
from time import monotonic

from contextree.core import process
from contextree.core.wire.errors import CallTimeout, Closed, ForkedError, ProcessExited, UsageError, WouldBlockLoop
from contextree.parent import pidfd, waits
from contextree.parent.child_state import CONTINUED, DEATHS, EXITED, NAMES, STOPPED, TRAPPED, ChildState, describe
from contextree.parent.watched import FINAL, Phase, Watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Optional, Union

    from contextree.core.process import Waiter
    from contextree.parent.reaper import Reaper


class Ticket:
    """One waiter's claim on the next state that it wants: made by ``Child.begin_wait``; ``wake()`` is called once it
    is there."""

    __slots__ = ("error", "state", "stops", "wake")

    def __init__(self, stops: "frozenset[int]", wake: "Callable[[], object]") -> None:
        self.stops = stops
        self.wake = wake
        self.state = None  # type: Any
        self.error = None  # type: Any

    def result(self) -> "Optional[ChildState]":
        """The state; None while there is none; raises where there will never be one. Any thread."""
        if self.error is not None:
            raise self.error
        return self.state  # type: ignore[no-any-return]


class Child(Watched):
    """A child process, made by ``Reaper.monitor``. All methods may be called from any thread and at any time after
    its death; in a process forked off they raise ``ForkedError``. A handle that is dropped is reaped all the same."""

    stdin = None  # type: Any
    stdout = None  # type: Any
    stderr = None  # type: Any  # file objects, where whoever started it kept some

    # -- what became of it

    @property
    def state(self) -> "Optional[ChildState]":
        """The last known state; None while nothing but running was seen. It never changes after the death."""
        self._check_generation()
        return self._state

    def wait(self, timeout: "Optional[float]" = None, options: "Union[int, Iterable[int]]" = EXITED) -> ChildState:
        """Wait for a state: a death (default), or what ``options`` name of STOPPED, TRAPPED and CONTINUED; a death
        always counts.

        Any number of threads may wait, each for its own; after the death every call returns the same object. Stops may
        coalesce in the kernel: their number means nothing. Raises ``CallTimeout``, ``Closed`` when the loop ended or
        the handle was released, ``WouldBlockLoop`` on the loop thread and on that of an event loop. Where no thread
        runs the loop, this call drives it."""
        waiter = waits.waiter(self._reaper)

        def wake() -> None:
            waiter.wake()
            if not self._broker.running and not self._broker.closed:
                self._broker.defer(waiter.wake)  # we drive the loop: it must not go to sleep after this

        ticket = self.begin_wait(options, wake)
        end = None if timeout is None else monotonic() + timeout
        try:
            while ticket.state is None and ticket.error is None:
                left = None if end is None else max(0.0, end - monotonic())
                self._sleep(waiter, left)
                if left == 0.0:
                    break
        except BaseException:
            self.abandon(ticket)
            raise
        with self._lock:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
                raise CallTimeout("%s has not ended within %s s" % (describe(self.pid, self.command), timeout))
        return ticket.result()  # type: ignore[return-value]  # there is one by now

    def check(self, timeout: "Optional[float]" = None) -> ChildState:
        """Wait for the end; return a clean state, raise ``UncleanExit`` for any other.

        Whoever cancels this wait (Ctrl-C, SystemExit, a cancellation that is no ``Exception``) sends TERM to the
        child."""
        try:
            state = self.wait(timeout)
        except Exception:
            raise
        except BaseException:
            self.cancelled()
            raise
        return state.check()

    def cancelled(self) -> None:
        """Somebody who was to see this child through was cancelled: TERM it, if it still lives. Raises nothing."""
        try:
            self.terminate()
        except (UsageError, OSError):
            pass  # dead, released or another user's: the cancellation is what must be heard

    def begin_wait(self, options: "Union[int, Iterable[int]]", wake: "Callable[[], object]") -> Ticket:
        """The non-blocking half of ``wait``, for event loops: ``wake()`` is called on the loop thread when the
        ticket is ready.

        Where ``ticket.result()`` gives a state at once, nothing is called. Who leaves early must ``abandon`` the
        ticket."""
        ticket = Ticket(_stops(options), wake)
        self._check_generation()
        with self._lock:
            if self.phase in (Phase.REAPED, Phase.LOST):
                ticket.state = self._state
                return ticket
            if self._error is not None:
                raise self._error
            for code in ticket.stops:
                if code in self._unread:
                    ticket.state = self._unread.pop(code)
                    return ticket
            self._tickets.append(ticket)
        try:
            if ticket.stops:
                self._broker.defer(self._look_for_stops)
            if self._fd < 0:
                self._broker.defer(self._look_soon)
        except BaseException:
            self.abandon(ticket)
            raise
        return ticket

    def abandon(self, ticket: Ticket) -> None:
        """This waiter leaves; a stop that it was given but has not read is kept for the next one. Any thread,
        idempotent."""
        with self._lock:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
            elif ticket.state is not None and ticket.state.code not in DEATHS:
                self._unread[ticket.state.code] = ticket.state

    def on_exit(self, callback: "Callable[[ChildState], object]") -> None:
        """Have ``callback(state)`` called on the loop thread, exactly once, also where it is dead already.

        Never after the loop has ended or the handle was released."""
        self._check_generation()
        with self._lock:
            if self.phase not in FINAL:
                self._callbacks.append(callback)
                return
            state = self._state
        if self._error is None:
            self._broker.defer(callback, state)

    def hint(self) -> None:
        """Look whether it has ended: a stream of it closed, or somebody said so. Any thread; a wrong hint does no
        harm."""
        self._check_generation()
        if self.phase not in FINAL:
            self._broker.defer(self._hinted)

    # -- signals

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """Send ``sig`` to this child and to no other process.

        Raises ``ProcessExited`` once it is dead, read or not (then nothing is sent), PermissionError where it
        belongs to another user, ``Closed`` after ``release``."""
        self._signal(sig, self._send)

    def terminate(self) -> None:
        """``kill(SIGTERM)``."""
        self.kill(signal.SIGTERM)

    def killpg(self, sig: int = signal.SIGKILL) -> None:
        """Send ``sig`` to the process group that this child leads. ``UsageError`` where it leads none; else as
        ``kill``."""
        self._signal(sig, self._send_group)

    def end(self, gentle: "Iterable[Callable[[], object]]" = (),
            hang_up: "Optional[Callable[[], object]]" = None, grace: float = 3.0,
            patience: float = 2.0) -> None:
        """Begin to end it, and return at once. A second call replaces the schedule of the first.

        ``gentle`` (send SHUTDOWN, close stdin) are called on the loop thread: the first now, the others spread over
        ``grace`` seconds. Then ``hang_up`` (close the pty's master), TERM and CONT. ``patience`` seconds later KILL;
        these to its group where it leads one. After that it is waited for as long as it takes; so it is where it
        refuses our signals (another user)."""
        self._check_generation()
        self._broker.defer(self._begin_end, list(gentle), hang_up, grace, patience)

    def take_along(self) -> None:
        """When it dies, kill what is left of the group that it leads. Any thread."""
        self.sweep = True

    def release(self) -> None:
        """Let go of it: it runs on, is no longer watched nor reaped by us; waiters get ``Closed``. Idempotent."""
        self._check_generation()
        if self.phase not in FINAL:
            text = "the handle of %s was released" % describe(self.pid, self.command)
            if self._broker.running:
                self._broker.call(self._release, Closed(text))
            else:
                self._release(Closed(text))

    def __enter__(self) -> "Child":
        self._check_generation()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """KILL it unless it is dead, wait until it is reaped, close its streams. Does nothing in a process forked
        off."""
        if self._generation != process.generation:
            return
        try:
            self.kill()
        except ProcessExited:
            pass
        finally:
            for stream in (self.stdin, self.stdout, self.stderr):
                try:
                    if stream is not None:
                        stream.close()
                except OSError:
                    pass  # flushing into a pipe that nobody reads any more
        self.wait()

    # -- any thread, inside

    def _check_generation(self) -> None:
        if self._generation != process.generation:
            name = describe(self.pid, self.command)
            raise ForkedError("%s is a child of the process that this one was forked from" % name)

    def _sleep(self, waiter: "Waiter", left: "float | None") -> None:
        broker = self._broker
        me = process.get_ident()
        if broker.running or broker.thread not in (None, me):
            if broker.thread == me:
                raise WouldBlockLoop("wait() on the loop thread would wait for itself; use on_exit()")
            waiter.wait(left)
        else:
            broker.poll_once(left)

    def _signal(self, sig: int, send: "Callable[[int], object]") -> None:
        self._check_generation()
        with self._lock:
            if self.phase == Phase.RELEASED:
                raise self._error  # type: ignore[misc]  # released with one
            state = self._state if self.phase in FINAL else None
            dead = state is not None or self._peek() != "alive"
            if not dead:
                try:
                    send(sig)
                except ProcessLookupError:
                    dead = True
                except PermissionError as error:
                    self.privileged = True
                    name = describe(self.pid, self.command)
                    raise PermissionError(error.errno, "may not signal %s: it belongs to another user" % name) from None
        if self._fd < 0 and self.phase not in FINAL:
            self._broker.defer(self._look_soon)
        if dead:
            raise ProcessExited("%s has ended already%s" % (
                describe(self.pid, self.command), ": " + str(state) if state else ""), state=state)

    def _send(self, sig: int, flags: int = 0) -> None:
        if self._fd >= 0 and self._reaper.signal_by_pidfd:
            try:
                pidfd.send_signal(self._fd, sig, flags)
                return
            except (ProcessLookupError, PermissionError):
                raise
            except OSError as error:
                if error.errno == errno.ENOSYS:
                    self._reaper.signal_by_pidfd = False  # else EINVAL: groups came with Linux 6.9
        if flags:
            os.killpg(self.pid, sig)
        else:
            os.kill(self.pid, sig)

    def _send_group(self, sig: int) -> None:
        group = os.getpgid(self.pid)
        if group != self.pid or group == os.getpgrp():
            raise UsageError("%s leads no process group of its own, it is in group %d: use kill()" % (
                describe(self.pid, self.command), group))
        self._send(sig, pidfd.PROCESS_GROUP)

    # -- the chain that ends it

    def _begin_end(self, gentle: "list[Callable[[], object]]", hang_up: "Callable[[], object] | None", grace: float,
                   patience: float) -> None:
        for timer in self._end_timers:
            timer.cancel()
        if self.phase in FINAL:
            return
        at = self._broker.timer
        timers = [at(grace * number / len(gentle), step) for number, step in enumerate(gentle)]
        if hang_up is not None:
            timers.append(at(grace, hang_up))  # a timer of its own: where it fails, TERM is sent all the same
        if patience > 0:  # else who dies of TERM would be gone before its group gets the KILL
            # to its group: lxc-attach and nsenter die of TERM, and what they entered a container for lives on there
            timers.append(at(grace, self._quietly, self._kill_all, signal.SIGTERM))
            # TERM stays pending in a stopped one
            timers.append(at(grace, self._quietly, self._kill_all, signal.SIGCONT))
        timers.append(at(grace + patience, self._quietly, self._kill_all, signal.SIGKILL))
        self._end_timers = timers

    def _kill_all(self, sig: int) -> None:
        try:
            self.killpg(sig)
        except ProcessExited:
            raise
        except UsageError:
            self.kill(sig)

    def _quietly(self, function: "Callable[[int], object]", sig: int) -> None:
        try:
            function(sig)
        except (ProcessExited, OSError):
            pass  # dead: about to be reaped; another user's: the closed stdin or terminal must do, and we keep waiting


class RemoteChild(Child):
    """A process whose parent is another context (a child of the template): that one reaps it and tells us the state."""

    def __init__(self, reaper: "Reaper", pid: int, command: str, kill: "Callable[[int], object]") -> None:
        Child.__init__(self, reaper, pid, command)
        self._kill = kill

    def report(self, state: ChildState) -> None:
        """Its parent says: this became of it. Any thread; after a death nothing more is heard."""
        self._check_generation()
        self._broker.defer(self._reported, state)

    def take_along(self) -> None:
        """Have its parent do it."""
        self._kill(0)

    def _reported(self, state: "ChildState") -> None:
        if self.phase in FINAL:
            return
        with self._lock:
            tell = self._saw(state)
        tell()  # type: ignore[misc]  # there is a state

    def _begin(self) -> None:
        pass

    def _try_reap(self, readable: bool = False) -> None:
        pass

    def _look_for_stops(self) -> None:
        pass

    def is_ours(self) -> bool:
        """Never: another process reaps it."""
        return False

    def _peek(self) -> str:
        return "alive"

    def _send(self, sig: int, flags: int = 0) -> None:
        self._kill(sig)

    def _send_group(self, sig: int) -> None:
        raise UsageError("%s has another parent, which signals it alone: use kill()" % describe(self.pid, self.command))


def _stops(options: "int | Iterable[int]") -> "frozenset[int]":
    codes = frozenset((options,) if isinstance(options, int) else options)
    unknown = codes.difference(NAMES)
    if unknown or not codes:
        raise UsageError("cannot wait for %r: wanted one or more of %s" % (options, ", ".join(sorted(NAMES.values()))))
    return codes & {STOPPED, TRAPPED, CONTINUED}
