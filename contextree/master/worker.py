"""One worker of an executor: a context, the channel on which it gets tasks, and what it was sent.

How tasks are sent ahead, recalled and lost is told in ``pool``, whose lock guards all of this. ``contextree.parent
.tasks`` is the other end.
"""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import BrokenExecutor
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, RUNNING
from typing import TYPE_CHECKING, Any

from contextree.core.calls import ERROR
from contextree.core.wire.errors import ContextreeError, InternalError, WorldError
from contextree.core.wire.frames import CALL, CONTROL, NUMBER, PING, SERVICE, frame
from contextree.parent import tasks
from contextree.parent.context import PICKLES, Context
from contextree.parent.future import CallFuture

if TYPE_CHECKING:
    from contextree.core.process import Waiter
    from contextree.master.pool import Pool

LOOKAHEAD = 0.002  # seconds of work that a worker may have before it
BYTES = 1 << 16  # that may be sent ahead to one worker
SLOW = 0.005  # a worker that has not answered for so long gives back what it was sent ahead
STARTING, READY, GONE = "starting", "ready", "gone"


class WorkerDied(WorldError, BrokenExecutor):
    """The worker that ran the task ended before its answer was there; or no worker is left to run it.

    A ``concurrent.futures.BrokenExecutor``, with the ContextDied (or what kept a worker from starting) as its cause.
    Fields: ``context`` (name), ``reason``. The executor goes on as long as it has a worker.

    >>> import os
    >>> with contextree.Executor(1) as executor:
    ...     print(executor.submit(os._exit, 3).exception())
    ...     print(executor.submit(len, "four").result())
    fork... ended while it ran _exit: ...exited with status 3
    4
    """

    context = reason = ""


class Task(CallFuture[Any]):
    """One task, as its submitter sees it. ``data`` is what is to be sent, until it has begun."""

    worker: "Worker | None" = None
    number = 0
    data: Any = None
    options = size = 0
    unwanted = False  # it is being taken back, to be cancelled

    def __init__(self, pool: "Pool", what: str) -> None:
        self.pool = pool
        self.engine = pool.engine
        self.what = what

    def cancel(self) -> bool:
        """Take the task back: True when it has not begun, and never will. See ``Executor.submit``."""
        if not self.cancelled():
            self.pool.check_fork()
            if not self.pool.take_back(self):
                return False
            self.tell_cancelled()
        return True

    def tell_cancelled(self) -> None:
        """Tell who waits for it; once. Holding no lock."""
        with self._condition:
            if self._state != CANCELLED:
                return
            self._state = CANCELLED_AND_NOTIFIED
            for waiter in self._waiters:
                waiter.add_cancelled(self)
        self._wake()
        self._invoke_callbacks()  # type: ignore[attr-defined]  # typeshed hides it

    def fail(self, error: BaseException) -> None:
        """End it with ``error``. Holding no lock."""
        self.data = None
        self._made = None, error
        self._finish()


class Worker:
    """One context that runs tasks. Made by the pool; everything but the start and ``message`` holds the pool's lock."""

    def __init__(self, pool: "Pool", context: Context, own: bool) -> None:
        self.pool = pool
        self.context = context
        self.engine = engine = context.engine
        self.own = own  # is the context ours to end?
        self.slots = pool.slots  # tasks that it may run at once
        self.state = STARTING
        self.channel: Any = None
        self.running: dict[int, Task] = {}  # what may have begun
        self.ahead: deque[Task] = deque()  # what was sent besides
        self.bytes = 0  # of those
        self.listed = False  # is it in the pool's list of idle ones?
        self.recalling = False
        self.waiters: list[Waiter] = []  # for the answer to the recall
        self.pace = self.turn = 0.0  # seconds between two answers; of a round trip when it began
        self.since = 0.0  # when the last answer came, or its first task was sent
        self.last = 0  # number of a task
        info = engine.infos.get(context.id)
        self.pickles = PICKLES if context.id in engine.above or (info and info.trusted) else 0
        self.exact = bool(info and info.parent == engine.core.id and info.facts.get("method") in ("fork", "local"))

    # -- the start, without the lock

    def begin(self) -> None:
        """Have the context prepare for tasks. Any thread; never waits."""
        try:
            self.context.open_call(CALL, tasks.begin, (), {}, {}, self.begun, self.ended, service=SERVICE)
        except ContextreeError as error:
            self.pool.died(self, error)

    def begun(self, channel: Any, data: Any, fin: bool, cost: int) -> None:
        """It is prepared: open the channel. Loop thread."""
        if data[:1] == bytes((ERROR,)):
            task = Task(self.pool, "the start of a worker")
            task.engine = self.engine
            task.channel = channel
            task.message(channel, data, True, 0)
            self.engine.later(self.failed, task)
            return
        if self.state is GONE:
            return
        threads = self.context.options.get("threads") or (self.slots if self.slots > 1 else 0)
        try:
            self.channel = self.engine.core.open(
                self.context.id, tasks.KIND, threads=threads and self.slots, on_message=self.message,
                on_end=self.ended, pickles=bool(self.pickles))
        except ContextreeError as error:
            self.pool.died(self, error)
            return
        self.measure()
        self.pool.hired(self)

    def measure(self) -> None:
        """Measure a round trip, which takes no task's time. Loop thread."""
        core = self.engine.core
        start = core.broker.clock()
        number = next(core.numbers) & 0xffffffff

        def came() -> None:
            self.turn = core.broker.clock() - start

        core.pings[self.context.id, number] = came
        self.channel.link.send(CONTROL, frame(PING, 0, CONTROL, number, self.context.id, core.id))

    def failed(self, task: Task) -> None:
        """It could not be prepared. On the thread for callbacks, as the error has to be decoded."""
        self.pool.died(self, task.exception() or InternalError("the start of a worker failed without an error"))

    def message(self, channel: Any, data: Any, fin: bool, cost: int) -> None:
        """An answer, or what was recalled. Loop thread."""
        number = NUMBER.unpack_from(data)[0]
        if number:
            self.pool.answered(self, number, data[4:])
        else:
            self.pool.recalled(self, {one for one, in NUMBER.iter_unpack(data[4:])})
        channel.taken(cost)

    def ended(self, channel: Any, error: ContextreeError) -> None:
        """Nothing more will come."""
        self.pool.died(self, error)

    # -- tasks

    @property
    def free(self) -> int:
        """How many more tasks it could begin now."""
        return 0 if self.recalling or self.state != READY else self.slots - len(self.running)

    def depth(self) -> int:
        """How many tasks it should have beyond those that it runs."""
        if self.recalling or not self.pace or self.bytes >= BYTES:
            return 0
        return min(self.pool.prefetch, int((LOOKAHEAD + 1.5 * self.turn) / self.pace))

    def send(self, batch: list[Task], flush: bool) -> bool:
        """Send tasks; False when they have not been sent, because the channel has ended."""
        first = number = self.last + 1
        parts: list[bytes] = [bytes((tasks.RUN,))]
        try:
            for task in batch:
                head = tasks.TASK.pack(number, task.options | self.pickles, task.size)
                number += 1
                if type(task.data) is bytes:
                    parts += head, task.data
                    continue
                parts.append(head)
                self.channel.send([b"".join(parts), *task.data], flush=flush)
                del parts[1:]
            if len(parts) > 1:
                self.channel.send(b"".join(parts), flush=flush)
        except ContextreeError:
            return False
        self.last = number - 1 & 0x3fffffff
        if not self.running:
            self.since = self.engine.broker.clock()
        for number, task in enumerate(batch, first):
            task.worker = self
            task.number = number
            task.channel = self.channel
            task.engine = self.engine
            self.ahead.append(task)
            self.bytes += task.size
        self.promote()
        return True

    def promote(self) -> None:
        """Note which tasks may have begun."""
        while self.ahead and len(self.running) < self.slots:
            task = self.ahead.popleft()
            self.bytes -= task.size
            self.running[task.number] = task
            task._state = RUNNING
            task.data = None

    def answered(self, number: int) -> "Task | None":
        """The task ``number``, which is done."""
        task = self.running.pop(number, None)
        if task is None:  # it was to be recalled, and had begun
            task = next((task for task in self.ahead if task.number == number), None)
            if task is None:
                return None
            self.ahead.remove(task)
            self.bytes -= task.size
            task._state = RUNNING
        now = self.engine.broker.clock()
        pace = min(now - self.since, 2 * SLOW)
        self.pace = self.pace + (pace - self.pace) * 0.2 if self.pace else pace
        self.since = now
        if not self.recalling:
            self.promote()
        return task

    def recall(self) -> None:
        """Ask for what it was sent ahead. Until it has answered nothing is sent to it, and what is known to have begun
        does not change."""
        if not self.recalling and self.ahead:
            self.recalling = True
            numbers = b"".join(NUMBER.pack(task.number) for task in self.ahead)
            try:
                self.channel.send(bytes((tasks.RECALL,)) + numbers)
            except ContextreeError:
                pass  # it has ended; ``died`` comes

    def recalled(self, numbers: "set[int]") -> list[Task]:
        """What it gave back, in the order in which it was sent."""
        self.recalling = False
        back = [task for task in self.ahead if task.number in numbers]
        self.ahead = deque(task for task in self.ahead if task.number not in numbers)
        self.bytes = sum(task.size for task in self.ahead)
        self.promote()
        self.since = self.engine.broker.clock()
        return back

    def abandon(self) -> tuple[list[Task], list[Task]]:
        """It is gone: (tasks that may have begun, tasks that have not)."""
        self.state = GONE
        while self.ahead and (len(self.running) < self.slots or not self.exact):
            task = self.ahead.popleft()
            self.running[task.number] = task
            task._state = RUNNING  # nobody can cancel it from now on
        begun, rest = list(self.running.values()), list(self.ahead)
        self.running = {}
        self.ahead = deque()
        return begun, rest

    def died(self, task: Task, error: BaseException) -> WorkerDied:
        """The error of a task that may have begun here."""
        name = self.context.name
        reason = getattr(error, "reason", "") or str(error)
        died = WorkerDied(f"{name} ended while it ran {task.what}: {reason}", context=name, reason=reason)
        died.__cause__ = error
        return died


def wake(waiters: Iterable["Waiter"]) -> None:
    """Wake all of them."""
    for waiter in waiters:
        waiter.wake()
