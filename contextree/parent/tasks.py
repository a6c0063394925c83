"""Tasks of an executor, in the context that runs them.

An executor (contextree.master.executor) has one channel to each context. Messages downward are RUN and any number of
tasks, or RECALL and the numbers of tasks. What comes back is the number of a task and its answer, as a call would have
it, or a zero and the numbers of those that were recalled before they began.

A task becomes a ``Call`` like any other: on the main thread behind the calls that came before it, or on threads of its
own bench where the executor has several workers here. Its channel is a ``Slot``, which puts the number before the
answer.

What the executor knows when this context dies decides what it may run again elsewhere. So the tasks are taken in the
order in which they came, what is recalled has not begun and never will (both are decided under the lock of the
mailbox), and an answer is with the kernel before the same thread begins the next task. Hence of the tasks without an
answer only the first ones, as many as run at once, can have begun.
"""

from _struct import Struct

from contextree.core import process
from contextree.core.calls import Call, here
from contextree.core.mailbox import Mailbox
from contextree.core.wire.frames import CALL, NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from contextree.core.router import Channel

KIND = 16  # of the channel, beside those in frames.py
RUN, RECALL = 0, 1
TASK = Struct("!IBI")  # number, options of the call, bytes that follow
RAW = b"\2"
NAP = 0.0005


def begin() -> None:
    """Let executors open their channels to this context. Runs on a service thread."""
    service = here.call.service
    service.router.openers[KIND] = lambda *args: Bench(service, *args)


def run_chunk(function: "Any", rows: "Any") -> "list[Any]":
    """Several tasks of ``Executor.map`` as one."""
    return [function(*row) for row in rows]


class Slot:
    """What a task's Call has for a channel."""

    __slots__ = ("bench", "number", "peer", "on_end", "on_room", "full")

    def __init__(self, bench: "Any", number: int) -> None:
        self.bench = bench
        self.number = number
        self.peer = bench.channel.peer
        self.full = False

    def send(self, data: "Any", fin: bool = True, flush: bool = True) -> None:
        """Send the answer. Returns when it is with the kernel, if another task waits for this thread."""
        bench = self.bench
        bench.calls.pop(self.number, None)
        head = NUMBER.pack(self.number)
        kind = type(data)
        if kind is bytes:
            bench.channel.send(head + data)
        else:
            bench.channel.send([head] + data if kind is list else [head + RAW, data])
        if bench.calls:
            bench.settle()

    def cancel(self, *args: "Any") -> None:
        """Nothing to do: the answer is all there is."""


class Bench:
    """The end of one executor's channel here. ``opener`` of KIND."""

    def __init__(self, service: "Any", channel: "Channel", options: "Any", threads: "Any", deadline: "Any", data: "Any",
                 fin: bool) -> None:
        self.service = service
        self.channel = channel
        self.calls = {}  # type: dict[Any, Any]  # number -> Call that has not been answered
        self.work = service.work
        self.pool = None
        if threads:
            self.work = Mailbox()
            self.pool = service.pools[self] = [self.work, 0, threads]
        channel.on_message = self.message
        channel.on_end = self.ended

    def message(self, channel: "Channel", data: "Any", fin: bool, cost: int) -> None:
        """Tasks came, or a recall. Loop thread."""
        if data[0] == RUN:
            view = memoryview(data)
            pos = 1
            while pos < len(data):
                number, options, size = TASK.unpack_from(data, pos)
                pos += TASK.size
                call = Call(self.service, Slot(self, number), CALL, options, 0, view[pos:pos + size], self.work)  # type: ignore[arg-type]  # what Call asks of a channel, a Slot has
                self.calls[number] = call
                self.work.put(call)
                pos += size
                pool = self.pool
                if pool and pool[1] < pool[2] and len(self.work) > len(self.work.waiters):
                    pool[1] += 1
                    process.start_thread(self.service.run, (self.work,))
        else:
            self.recall({number for number, in NUMBER.iter_unpack(data[1:])})
        channel.taken(cost)

    def recall(self, wanted: "Any") -> None:
        """Give back those of the tasks ``wanted`` that nobody has begun. Loop thread."""
        items = self.work.items
        with self.work.lock:
            mine = [call for call in items if getattr(call.channel, "bench", None) is self
                    and call.channel.number in wanted]
            for call in mine:
                items.remove(call)
        numbers = [call.channel.number for call in mine]
        for number in numbers:
            self.calls.pop(number, None)
        self.channel.send(b"".join(map(NUMBER.pack, [0] + numbers)))

    def ended(self, channel: "Channel", error: BaseException) -> None:
        """The executor has ended, or given this context up: what has not begun will not, what runs is told."""
        for call in list(self.calls.values()):
            call.ended(channel, error)
        if self.pool:
            self.service.pools.pop(self, None)
            self.work.close()

    def settle(self) -> None:
        """Wait until what has been sent is with the kernel, or will never be."""
        channel = self.channel
        link = channel.link
        waiter = None
        goal = None
        while not (channel.ended or link.closed):
            if not channel.out:
                if goal is None:
                    goal = link.bytes_out + link.out.queued + sum(map(len, link.pending))
                if link.bytes_out >= goal:
                    return
            waiter = waiter or process.Waiter()
            waiter.wait(NAP)
