"""A tree without threads of its own: ``Router(thread=False)``.

The thread that makes such a router drives its loop, and runs what else contextree has threads for: looking modules up,
logging, callbacks of futures. It does so in ``poll_once``, which a foreign event loop calls when the descriptor of the
loop is readable or its time has come; and while it waits for something in the tree, because nothing would ever come
otherwise: what ``process.waiter`` gives on such a thread drives the loops of that thread until it is woken.

A turn runs nothing of the user's and waits for nothing. So what may wait, or is the user's, comes after the turn, from
``DrivenLoop.soon``; there waiting is allowed, it is a turn inside of no other. Other threads may use the tree as ever;
what they wait for comes when the driver drives.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from contextree.core import process
from contextree.core.wire.errors import WouldBlockLoop
from contextree.parent.loop import Loop

_driven: "dict[int, list[DrivenLoop]]" = {}  # thread -> the loops that it drives
_before: Callable[[], Any] | None = None  # what was in the place of ``process.waiter``


class DrivenLoop(Loop):
    """A loop that the thread which makes it drives."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.thread = process.get_ident()
        self._after: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        _driven.setdefault(process.get_ident(), []).append(self)
        self.on_end(lambda: _forget(self))
        _install()

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        """Have ``function(*args)`` called on the driving thread, between two turns. Any thread."""
        self._after.append((function, args))
        self.wake()

    def poll_once(self, timeout: float | None = None) -> None:
        """One turn, and what is to be done after it. UsageError inside a turn, WrongThread on another thread."""
        super().poll_once(0 if self._after else timeout)
        self.run_soon()

    def next_delay(self) -> float | None:
        """Seconds until the next turn is due though no descriptor is ready; None: no need."""
        return 0.0 if self._after else super().next_delay()

    def run_soon(self) -> None:
        """Do what is to be done between two turns."""
        while self._after:
            function, args = self._after.popleft()
            try:
                function(*args)
            except Exception:
                self.on_error(function)

    def take_over(self) -> None:
        """The calling thread drives it from now on: the former driver has ended, or never will again."""
        _forget(self)
        self.thread = process.get_ident()
        _driven.setdefault(process.get_ident(), []).append(self)


class DrivingWaiter:
    """A ``process.Waiter`` for a driving thread: the loops that it drives go on while it waits."""

    __slots__ = ("loops", "plain")

    def __init__(self, loops: list[DrivenLoop]) -> None:
        self.loops = loops
        self.plain = process.Waiter()

    def wake(self) -> bool:
        """Wake it; False when it had been woken before. Any thread."""
        woken = self.plain.wake()
        for loop in list(self.loops):
            if loop.thread != process.get_ident():
                loop.wake()
        return woken

    def wait(self, timeout: float | None = None) -> bool:
        """Drive until woken: True; or for ``timeout`` seconds: False. WouldBlockLoop inside a turn."""
        end = None if timeout is None else monotonic() + timeout
        while not self.plain.wait(0):
            left = None if end is None else end - monotonic()
            if left is not None and left <= 0:
                return False
            loops = [loop for loop in self.loops if not loop.closed]
            if any(loop._inside for loop in loops):
                raise WouldBlockLoop("this would wait in the middle of a turn of the loop that it waits for")
            if not loops:
                return self.plain.wait(left)
            if len(loops) > 1:
                left = _sleep(loops, left)
            for loop in loops:
                if not loop.closed:
                    loop.poll_once(left)
        return True


def _sleep(loops: list[DrivenLoop], left: float | None) -> float:
    """Until one of several loops has something to do; 0."""
    poller = process.unpatched("select", "poll")()
    for loop in loops:
        poller.register(loop.fileno(), 1)  # POLLIN
        delay = loop.next_delay()
        left = delay if left is None else left if delay is None else min(left, delay)
    poller.poll(None if left is None else left * 1000 + 1)
    return 0.0


def _waiter() -> Any:
    loops = _driven.get(process.get_ident())
    return DrivingWaiter(loops) if loops else _before()  # type: ignore[misc]  # set by _install


def _install() -> None:
    global _before
    if _before is None:
        _before, process.waiter = process.waiter, _waiter  # type: ignore[assignment]


def _forget(loop: DrivenLoop) -> None:
    """The thread of ``loop`` drives it no more."""
    for thread, loops in list(_driven.items()):
        if loop in loops:
            loops.remove(loop)
            if not loops:
                _driven.pop(thread, None)


process.after_fork.append(_driven.clear)
