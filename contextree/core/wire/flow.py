"""Who may send how much, and what goes next. Pure bookkeeping: whoever calls holds the link's lock.

Three bounds hold every queue in check:
* credit per channel, end to end: a sender spends it, the receiver gives it back when the *application* took the
  message;
* a window per link: bytes given to the link but not yet acknowledged by the other end of it, so that what lies in pipes
  and in ssh (which may hold 2 MiB that nothing can overtake) stays small;
* limits on the control and log queues, because their frames need no credit.

A frame costs its payload and its header, so that empty ones are not free.
"""

from collections import deque

from contextree.core.wire.frames import BULK, CALLS, CONTROL, LOGS, RESET, SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Deque

CREDIT_START = 1 << 18
CREDIT_MAX = 1 << 22
WINDOW_START = 1 << 18
WINDOW_MAX = 1 << 23
CONTROL_LIMIT = 1 << 20
LOG_LIMIT = 1 << 19
BUDGET = 1 << 28  # what all channels of a context together may have been granted, in round numbers
QUANTUM = {CALLS: 1 << 18, BULK: 1 << 17, LOGS: 1 << 15}  # 8 : 4 : 1


def growing(budget: int, channels: int) -> int:
    """How many of a context's channels may have a larger window than the first, so that all together keep to
    ``budget``."""
    return max(4, (budget - channels * CREDIT_START) // CREDIT_MAX)


class Receiving:
    """The receiving half of a channel's credit. ``window`` grows up to ``most`` while its reader waits for data."""

    __slots__ = ("window", "granted", "owed", "most")

    def __init__(self, window: int = CREDIT_START, most: int = CREDIT_MAX) -> None:
        self.window = self.granted = window
        self.owed = 0
        self.most = most

    def arrived(self, length: int) -> bool:
        """A frame came; False when the sender had no credit for it."""
        self.granted -= length + SIZE
        return self.granted >= 0

    def taken(self, cost: int, starved: bool = False) -> int:
        """The application took ``cost`` bytes: the credit to give back now, or 0 while it is less than half a
        window."""
        self.owed += cost
        if self.owed < self.window >> 1:
            return 0
        grant = self.owed
        if starved and self.window < self.most:
            grant += self.window
            self.window *= 2
        self.owed = 0
        self.granted += grant
        return grant


class Outbox:
    """What waits to be written to one link, by class.

    Control first; then calls, bulk and logs by weight (deficit round robin). Bulk is a ring of sources (channels with
    more to send than one frame, queues of forwarded frames): each gives one frame a turn."""

    __slots__ = ("control", "calls", "ring", "logs", "window", "control_bytes", "log_bytes", "queued", "dropped",
                 "deficit", "sent")

    def __init__(self, window: int = WINDOW_START) -> None:
        self.control = deque()  # type: Deque[bytes]
        self.calls = deque()  # type: Deque[Any]  # frames, and sources of bulk whose place is behind them
        self.ring = deque()  # type: Deque[Any]
        self.logs = deque()  # type: Deque[bytes]
        self.window = window
        self.control_bytes = self.log_bytes = self.queued = self.dropped = 0
        self.deficit = {CALLS: 0, BULK: 0, LOGS: 0}
        self.sent = [0, 0, 0, 0]

    def __bool__(self) -> bool:
        return bool(self.control or self.calls or self.ring or self.logs)

    def push(self, cls: int, frame: bytes) -> bool:
        """Queue a frame of class CONTROL, CALLS or LOGS; False when the control queue is over its limit.

        A RESET must not overtake the OPEN that it is about, so it goes with the calls when some wait."""
        size = len(frame)
        if cls == CONTROL and self.calls and frame[0] & 15 == RESET:
            cls = CALLS
            frame = frame[:2] + b"\1" + frame[3:]
        if cls == CONTROL:
            self.control.append(frame)
            self.control_bytes += size
            return self.control_bytes <= CONTROL_LIMIT
        if cls == LOGS:
            self.logs.append(frame)
            self.log_bytes += size
            while self.log_bytes > LOG_LIMIT:
                self.log_bytes -= len(self.logs.popleft())
                self.dropped += 1
        else:
            self.calls.append(frame)
            self.queued += size
        return True

    def batch(self, limit: int) -> "tuple[list[Any], int]":
        """The buffers to write next, ``limit`` bytes and up to one round more, and their size. Empty when there are
        none or the window is used up.

        A round gives each class its quantum, whatever is left of ``limit``: else the first class would have it all."""
        buffers = list(self.control)
        size = self.control_bytes
        self.control.clear()
        self.control_bytes = 0
        self.sent[CONTROL] += size
        while size < limit and self.window > 0 and len(buffers) < 512 and (self.calls or self.ring or self.logs):
            for cls in (CALLS, BULK, LOGS):
                got = self._turn(cls, buffers)
                size += got
                self.window -= got
                self.sent[cls] += got
        return buffers, size

    def _turn(self, cls: int, buffers: "list[Any]") -> int:
        queue = self.calls if cls == CALLS else self.ring if cls == BULK else self.logs  # type: Deque[Any]
        if not queue:
            self.deficit[cls] = 0
            return 0
        allowed = self.deficit[cls] + QUANTUM[cls]
        got = 0
        while queue and got < allowed and got < self.window:
            if cls == BULK:
                source = queue.popleft()
                pair = source.pull()
                if pair is None:
                    continue
                queue.append(source)
                buffers.extend(pair)
                got += len(pair[0]) + len(pair[1])
            else:
                item = queue.popleft()
                if type(item) is not bytes:  # a source of bulk frames, whose place is behind what was here before it
                    self.ring.append(item)
                    continue
                buffers.append(item)
                got += len(item)
                if cls == CALLS:
                    self.queued -= len(item)
                else:
                    self.log_bytes -= len(item)
        self.deficit[cls] = min(0, allowed - got) if queue else 0
        return got


class Bucket:
    """A token bucket: ``rate`` a second, up to ``burst`` at once."""

    __slots__ = ("rate", "burst", "level", "since")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = self.level = burst
        self.since = None  # type: float | None

    def take(self, now: float, count: float = 1) -> bool:
        """Take ``count`` tokens at time ``now`` (seconds); False when there are not enough."""
        if self.since is not None:
            self.level = min(self.burst, self.level + (now - self.since) * self.rate)
        self.since = now
        if self.level < count:
            return False
        self.level -= count
        return True
