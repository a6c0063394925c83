"""Notice a child that is silent: its host is down, packets are dropped without a word, or a process on the way hangs.

Whoever grew the child asks, by a PROBE on its link, and the loop thread there answers. ssh has such a thing too, but
it hears of nothing beyond sshd, and other methods have none.

What is counted is not the clock but looks: eight to a heartbeat, each in a turn of the loop of its own. A turn reads
what has come before it lets the timer look, so this process may be stopped, suspended or busy for as long as it
likes: one look of the eight passes meanwhile, and the answer that waits in the kernel is read before the next. Any
byte that came since the last look counts as life, not only an answer.

    look 1            nothing came for a while
    look 2            nothing: ask
    look 7            still nothing: it is dead. Its link is closed and its process, whatever that is, ended

So a link is dead at the earliest when nothing has come for 7/8 of its heartbeat, of which it had 5/8 to answer, and
when everything is on time it is found out within the heartbeat. One timer serves all links; it ticks as often as the
shortest heartbeat wants, and not at all while no child has one.
"""

from contextree.core.wire.errors import UsageError
from contextree.core.wire.frames import CONTROL, PROBE, frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from contextree.core.broker import Broker
    from contextree.parent.boot import Branch, ChildLink

LOOKS = 8
ASK = 2
DEAD = 7


def checked(seconds: "Any") -> "float | None":
    """A ``heartbeat=`` argument; UsageError where it is neither None nor a number of seconds above 0."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < 1e7:
        raise UsageError("heartbeat= wants a number of seconds above 0, or None for never, not %r" % (seconds,))
    return float(seconds)


class Beat:
    """What is known of one child: ``due``, when to look again; ``seen``, bytes that had come; ``misses``, looks since
    then."""

    __slots__ = ("branch", "link", "period", "due", "seen", "misses")

    def __init__(self, branch: "Branch", period: float, now: float) -> None:
        self.branch = branch
        self.link = branch.link  # type: ChildLink
        self.period = period
        self.due = now + period
        self.seen = self.link.bytes_in
        self.misses = 0

    def look(self) -> None:
        """Has anything come? If not for long: ask, or give the child up."""
        link = self.link
        if link.bytes_in != self.seen:
            self.seen = link.bytes_in
            self.misses = 0
            return
        self.misses += 1
        if self.misses == ASK and link.probe_sent is None:  # else the answer to an earlier one is awaited
            link.probe_sent = link.broker.clock()
            link.probed = 0
            link.send(CONTROL, frame(PROBE, 0, CONTROL, 0, 0, link.own_id))
        elif self.misses == DEAD:
            self.branch.lifeless(link.broker.clock() - link.last_read)


class Heart:
    """Looks at those children of one engine that have a heartbeat. Loop thread."""

    def __init__(self, broker: "Broker") -> None:
        self.broker = broker
        self.beats = []  # type: list[Beat]
        self.every = 0.0  # seconds from one tick to the next
        self.timer = None  # type: Any

    def watch(self, branch: "Branch", heartbeat: float) -> None:
        """Look after a child that is up, until its link closes."""
        beat = Beat(branch, heartbeat / LOOKS, self.broker.clock())
        self.beats.append(beat)
        if self.timer is None or beat.period < self.every:
            self.every = beat.period
            if self.timer is not None:
                self.timer.cancel()
            self.timer = self.broker.timer(self.every, self.tick)

    def tick(self) -> None:
        """Look at those whose time it is; the next tick comes when the one with the shortest heartbeat wants it."""
        self.beats = [beat for beat in self.beats if not beat.link.closed]
        self.timer = None
        if self.beats:
            self.every = min([beat.period for beat in self.beats])
            self.timer = self.broker.timer(self.every, self.tick)
        now = self.broker.clock()
        for beat in list(self.beats):
            if beat.due <= now + self.every / 2:
                beat.due = max(beat.due, now - beat.period / 2) + beat.period
                beat.look()
