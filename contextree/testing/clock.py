"""Time that passes only when a loop would sleep."""

import select
import threading


class VirtualClock:
    """Seconds that pass only by ``advance``; give it to ``Broker(clock=clock, poller=clock.poller())``.

    Calling it reads it. ``reads`` counts how often. Safe from every thread.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.reads = 0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """The present time in seconds."""
        with self._lock:
            self.reads += 1
            return self.now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass; ValueError when they are negative."""
        if seconds < 0:
            raise ValueError(f"time does not go back ({seconds} s)")
        with self._lock:
            self.now += seconds

    def poller(self, patience: float = 10.0) -> "VirtualPoller":
        """A poller that advances this clock where a real one would sleep."""
        return VirtualPoller(self, patience)


class VirtualPoller:
    """Like ``select.epoll()``, over real descriptors, but where that sleeps for a timeout it advances ``clock`` by it.

    A descriptor that is ready now comes first; then no time passes. Without a timeout only a descriptor can end the
    sleep, for example another thread's wake: it is waited for, at most ``patience`` real seconds, then RuntimeError is
    raised, so that a test fails instead of hanging. Used by the loop's thread alone, but for ``slept``.
    """

    def __init__(self, clock: VirtualClock, patience: float = 10.0) -> None:
        self.clock = clock
        self.patience = patience
        self.slept: list[float] = []  # the sleeps it was asked for and did not take
        self._poll = select.poll()

    def register(self, fd: int, mask: int) -> None:
        """Watch ``fd``."""
        self._poll.register(fd, mask)

    def modify(self, fd: int, mask: int) -> None:
        """Watch ``fd`` for something else; OSError when it is not watched."""
        self._poll.modify(fd, mask)

    def unregister(self, fd: int) -> None:
        """Stop watching ``fd``; KeyError when it is not watched."""
        self._poll.unregister(fd)

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """What is ready now; else nothing, with ``timeout`` seconds passed on the clock."""
        events = self._poll.poll(0)
        if events:
            return events
        if timeout is None or timeout < 0:
            events = self._poll.poll(self.patience * 1000)
            if not events:
                raise RuntimeError(f"the loop would sleep for ever: no timer, and nothing ready in {self.patience} s")
            return events
        self.slept.append(timeout)
        self.clock.advance(timeout)
        return []
