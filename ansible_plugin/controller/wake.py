"""The strategy waits for what it waits for, and not for a time.

Core's strategies look for results every millisecond, and for a free worker every tenth of one: half of that is lost on
each task, and a main process that waits for ten hosts is busy with it. ``Waker.sleep`` stands in for ``time.sleep``
in core's strategy modules while one of ours runs: it returns when there is something to look at, or else after
``LONGEST``, since a worker that died says nothing.
"""

import collections
import contextlib
import os
import select
import time
from typing import Any

LONGEST = 0.02  # seconds


class Results(collections.deque[Any]):
    """Core's results, which the thread that reads them adds to."""

    def __init__(self, old: Any, wake: Any) -> None:
        super().__init__(old)
        self.wake = wake

    def append(self, result: Any) -> None:
        """See deque."""
        super().append(result)
        self.wake()


class Waker:
    """Stands in for the module ``time`` where core's strategies use it. ``wake`` is for any thread."""

    def __init__(self, workers: Any) -> None:
        self.workers = workers  # called for what tells of a worker that becomes free
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        os.set_blocking(self.write_end, False)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def wake(self) -> None:
        """End a sleep, now or the next."""
        with contextlib.suppress(OSError):  # full: it will end
            os.write(self.write_end, b"1")

    def sleep(self, seconds: float) -> None:
        """Wait until there is something to do. A longer time is meant as a time."""
        if seconds > LONGEST:
            time.sleep(seconds)
            return
        poll = select.poll()
        poll.register(self.read_end, select.POLLIN)
        for file in self.workers():
            poll.register(file, select.POLLIN)
        found = poll.poll(LONGEST * 1000)
        if any(file == self.read_end for file, _ in found):
            with contextlib.suppress(OSError):
                os.read(self.read_end, 4096)

    def close(self) -> None:
        """No more of it."""
        os.close(self.read_end)
        os.close(self.write_end)
