"""Tasks of an executor, in the context that runs them.

An executor (contextree.master.executor) has one channel to each context. Messages downward are RUN and any number of
tasks, or RECALL and the numbers of tasks. What comes back is the number of a task and its answer, as a call would have
it, or a zero and the numbers of those that were recalled before they began.

A task becomes a call like any other: on the main thread behind the calls that came before it, or on threads of its own
where the executor has several workers here. Its channel is a ``Slot``, which puts the number before the answer. An
async function is awaited as in any call, and occupies its thread meanwhile.

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
    from typing import Any, Callable, TypeVar

    from contextree.core.calls import Calls
    from contextree.core.router import Channel

    T = TypeVar("T")

KIND = 16  # of the channel, beside those in frames.py
RUN, RECALL = 0, 1
TASK = Struct("!IBI")  # number, options of the call, bytes that follow
RAW = b"\2"
NAP = 0.0005


def begin() -> None:
    """Let executors open their channels to this context. Runs on a service thread."""
    service = here.call.service
    service.router.openers[KIND] = lambda *args: Bench(service, *args)


def run_chunk(function: "Callable[..., T]", rows: "list[Any]") -> "list[T]":
    """Several tasks of ``Executor.map`` as one."""
    return [function(*row) for row in rows]


class Slot:
    """What a task's call has for a channel."""

    __slots__ = ("bench", "number", "peer", "on_end", "on_room", "full", "sent_fin", "waiter")

    def __init__(self, bench: "Bench", number: int) -> None:
        self.bench = bench
        self.number = number
        self.peer = bench.channel.peer
        self.full = self.sent_fin = False
        self.waiter = None  # type: Any
        self.on_end = None  # type: Any
        self.on_room = None  # type: Any

    @property
    def ended(self) -> "BaseException | None":
        """The error with which the executor's channel has ended."""
        return self.bench.channel.ended  # type: ignore[no-any-return]

    def send(self, data: "Any", fin: bool = True, flush: bool = True) -> None:
        """Send the answer. Returns when it is with the kernel, if there are other tasks."""
        bench = self.bench
        self.sent_fin = True
        head = NUMBER.pack(self.number)
        kind = type(data)
        try:
            if kind is bytes:
                bench.channel.send(head + data)
            else:
                bench.channel.send([head] + data if kind is list else [head + RAW, data])
        finally:
            bench.calls.pop(self.number, None)
        if bench.calls:
            bench.settle()
        if self.waiter is not None:
            self.waiter.wake()

    def wait(self) -> None:
        """Wait until an answer has been sent: an async function gave its thread back before."""
        self.waiter = process.waiter()
        while self.number in self.bench.calls and not self.ended:
            self.waiter.wait()


class Task(Call):
    """A call by an executor."""

    def run(self) -> None:
        """Run it, and answer, on the present thread."""
        Call.run(self)
        slot = self.channel  # type: Any
        if slot.number in slot.bench.calls:
            slot.wait()


class Bench:
    """The end of one executor's channel here. The opener of KIND."""

    def __init__(self, service: "Calls", channel: "Channel", options: int, threads: int, deadline: int, data: bytes,
                 fin: bool) -> None:
        self.service = service
        self.channel = channel
        self.calls = {}  # type: dict[int, Task]  # by number: those without an answer
        self.work = service.work
        self.pool = None  # type: list[Any] | None
        if threads:
            self.work = Mailbox()
            self.pool = service.pools[self] = [self.work, 0, threads]
        channel.on_message = self.message
        channel.on_end = self.ended

    def message(self, channel: "Channel", data: bytes, fin: bool, cost: int) -> None:
        """Tasks came, or a recall. Loop thread."""
        if data[0] == RUN:
            self.add(data)
        else:
            self.recall({number for number, in NUMBER.iter_unpack(data[1:])})
        channel.taken(cost)

    def add(self, data: bytes) -> None:
        """Put the tasks of a message where threads find them."""
        view = memoryview(data)
        pos = 1
        pool = self.pool
        while pos < len(data):
            number, options, size = TASK.unpack_from(data, pos)
            pos += TASK.size
            slot = Slot(self, number)  # type: Any
            task = self.calls[number] = Task(
                self.service, slot, CALL, options, 0, view[pos:pos + size], self.work)  # type: ignore[arg-type]
            self.work.put(task)
            pos += size
            if pool and pool[1] < pool[2] and len(self.work) > len(self.work.waiters):
                pool[1] += 1
                process.start_thread(self.service.run, (self.work,))

    def recall(self, wanted: "set[int]") -> None:
        """Give back those of the tasks ``wanted`` that nobody has begun. Loop thread."""
        items = self.work.items
        with self.work.lock:
            mine = [task for task in items if getattr(task.channel, "bench", None) is self
                    and task.channel.number in wanted]
            for task in mine:
                items.remove(task)
        numbers = [task.channel.number for task in mine]
        for number in numbers:
            self.calls.pop(number, None)
        self.channel.send(b"".join(map(NUMBER.pack, [0] + numbers)))

    def ended(self, channel: "Channel", error: BaseException) -> None:
        """The executor has ended, or given this context up: what has not begun will not, what runs is told."""
        tasks, self.calls = list(self.calls.values()), {}
        for task in tasks:
            task.channel.on_end(channel, error)
            waiter = task.channel.waiter  # type: ignore[attr-defined]  # a Slot has it
            if waiter is not None:
                waiter.wake()
        if self.pool:
            self.service.pools.pop(self, None)
            self.work.close()

    def settle(self) -> None:
        """Wait until what has been sent is with the kernel, or will never be."""
        channel = self.channel
        link = channel.link
        waiter = goal = None
        while not (channel.ended or link.closed):
            if not channel.out:
                if goal is None:
                    goal = link.bytes_out + link.out.queued + sum(map(len, link.pending))
                if link.bytes_out >= goal:
                    return
            waiter = waiter or process.waiter()
            waiter.wait(NAP)
