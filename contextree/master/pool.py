"""What an ``Executor`` is inside: the queue of tasks, and the workers that take them.

How it works. A task is packed by the thread that submits it and appended to one queue. A worker is a context with one
channel for tasks and as many slots as tasks may run there at once. Whoever makes a task and a free slot meet sends it:
the thread that submits, or the loop thread when an answer came. There is no other thread, except for as long as a
context has to be grown or ended.

Sending ahead. One by one, a worker would idle for a round trip between two tasks, which for tiny tasks is most of the
time. So where the last tasks took but moments, and more wait than there are workers, some are sent ahead: what takes
``LOOKAHEAD`` and a round trip and a half. They are still PENDING. When a worker does not get on with what it has, a
timer has it give back what it has not begun, so no task is kept waiting by another one while somebody else idles; and
who cancels a task that was sent ahead has it given back first. The worker decides what has begun, and says so.

When a worker dies, the tasks that may have begun fail with the reason, and those that surely have not go back to the
head of the queue. That is sure where the worker is a process of this machine and a child of this one. Behind other
links answers can be lost on their way, so there all that was sent fails.

Locks: ``lock`` guards everything here; the locks of channels and links are taken inside it, never around it. Futures
are finished outside of it, and no finaliser takes it. It is reentrant, because a signal handler may submit or cancel in
the middle of anything.

Why this file is long: it is one state under one lock.
"""

import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures._base import CANCELLED, PENDING, RUNNING
from typing import Any

from contextree.core import process
from contextree.core.wire.errors import Closed, ContextreeError, ForkedError
from contextree.core.wire.frames import MAIN
from contextree.master.worker import BYTES, GONE, READY, SLOW, STARTING, Task, Worker, WorkerDied, wake
from contextree.parent import waits
from contextree.parent.calls import copied, describe
from contextree.parent.context import Context
from contextree.parent.pickling import pack_call

MOST = 128  # tasks sent ahead to one worker
PATIENCE = 1.0  # seconds that cancel() waits for a task to be given back
TRIES = 3  # workers may fail to start, one after the other
INITIALIZER = "the initializer"

live: "set[Pool]" = set()  # those that have not ended


class Pool:
    """The queue and the workers. It lives until its last task is done, whoever still has the Executor."""

    def __init__(self, engine: Any, slots: int, prefetch: "int | None") -> None:
        self.engine = engine
        self.generation = process.generation
        self.slots = slots
        self.prefetch = MOST if prefetch is None else prefetch
        self.initializer: tuple[Any, int, Any] | None = None  # packed
        self.grow: Callable[[Context], Context | None] | None = None  # a new context in the place of a dead one
        self.own = False  # are the contexts ours to end?
        self.on_closed: Callable[[], object] = int
        self.lock = process.allocate_rlock()
        self.queue: deque[Task] = deque()
        self.dead = 0  # tasks in the queue that were cancelled
        self.left = 0  # tasks that are not done
        self.workers: dict[Worker, None] = {}
        self.idle: deque[Worker] = deque()
        self.starting = 0  # contexts that are being grown
        self.failures = 0  # workers that failed since the last one that worked
        self.last_death: tuple[str, BaseException] | None = None  # of a worker: name, reason
        self.modules: set[str] = set()
        self.version: Any = None
        self.by_name: Any = engine.main_by_name
        self.broken: WorkerDied | None = None
        self.closing = self.cancelling = self.ended = self.closed = self.watching = False
        self.waiters: list[process.Waiter] = []
        live.add(self)

    def check_fork(self) -> None:
        """Raise ForkedError in a process that was forked from the one that this belongs to."""
        if self.generation != process.generation:
            raise ForkedError("this executor belongs to the process that this one was forked from")

    def check_open(self) -> None:
        """Raise where no task can be taken any more."""
        if self.broken is not None:
            raise copied(self.broken)
        if self.closing:
            raise RuntimeError("cannot schedule new futures after shutdown")

    # -- tasks, any thread

    def submit(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], what: str = "") -> Task:
        """Queue one task, and send it if a worker is idle. What cannot be sent fails its future."""
        self.check_fork()
        self.check_open()
        task = Task(self, what or describe(function))
        try:
            self.pack(task, function, args, kwargs)
        except Exception as error:  # whatever __reduce__ of an argument raised
            task.fail(error)
            return task
        with self.lock:
            self.check_open()
            self.left += 1
            self.queue.append(task)
            if self.idle:
                self.fill()
        return task

    def pack(self, task: Task, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Put into ``task`` what is to be sent, and see that all workers may import what it needs."""
        data, options, modules = pack_call(function, args, kwargs, self.version, self.by_name)
        if modules and not self.modules.issuperset(modules):
            with self.lock:
                self.modules.update(modules)
                workers = list(self.workers)
            for worker in workers:
                worker.engine.share(worker.context, set(modules), bool(options & MAIN))
        task.data = data
        task.options = options
        task.size = len(data) if type(data) is bytes else sum(memoryview(part).nbytes for part in data)

    def take_back(self, task: Task) -> bool:
        """Cancel ``task`` if it has not begun; where it was sent ahead, wait until its worker has given it back."""
        with self.lock:
            worker = task.worker
            if task._state != PENDING or worker is None:
                return self.drop(task)
            if process.get_ident() == worker.engine.broker.thread:
                return False
            task.unwanted = True
            waiter = process.waiter()
            worker.waiters.append(waiter)
            worker.recall()
        waiter.wait(PATIENCE)
        with self.lock:
            task.unwanted = False
            return bool(task.cancelled())

    def drop(self, task: Task) -> bool:
        """Cancel a task that is in the queue. Holding the lock; somebody has to tell it without."""
        if task._state != PENDING:
            return bool(task.cancelled())
        task._state = CANCELLED
        task.data = None
        self.left -= 1
        self.dead += 1
        if self.dead > 100 and self.dead > len(self.queue) >> 1:
            self.queue = deque(task for task in self.queue if task._state == PENDING)
            self.dead = 0
        self.check_end()
        return True

    def requeue(self, back: list[Task]) -> list[Task]:
        """Put tasks that have not begun back to the head of the queue; those that were cancelled. Holding the lock."""
        self.queue.extendleft(reversed(back))
        dropped = []
        for task in back:
            task.worker = None
            if task.unwanted or self.cancelling:
                self.drop(task)
                dropped.append(task)
        return dropped

    # -- handing out, holding the lock

    def next(self) -> "Task | None":
        """The next task of the queue."""
        while self.queue:
            task = self.queue.popleft()
            if task._state == PENDING:
                return task
            self.dead -= 1
        return None

    def fill(self) -> None:
        """Give tasks to idle workers, one to each in turn."""
        while self.queue and self.idle:
            worker = self.idle.popleft()
            worker.listed = False
            if worker.free <= 0:
                continue
            task = self.next()
            if task is not None and not worker.send([task], True):
                self.queue.appendleft(task)
                continue
            self.enlist(worker)

    def enlist(self, worker: Worker) -> None:
        """Have ``worker`` among the idle ones if it is one."""
        if worker.free > 0 and not worker.listed:
            worker.listed = True
            self.idle.append(worker)

    def feed(self, worker: Worker) -> None:
        """Give ``worker``, which has just answered, what it should have now. Loop thread."""
        depth = worker.depth() if self.queue else 0
        free = worker.free
        if free > 0 or 2 * len(worker.ahead) < depth:
            count = max(free, 0) + max(0, min(depth, len(self.queue) // len(self.workers)) - len(worker.ahead))
            batch: list[Task] = []
            size = worker.bytes
            while len(batch) < count and (size < BYTES or len(batch) < free):
                task = self.next()
                if task is None:
                    break
                batch.append(task)
                size += task.size
            if batch and not worker.send(batch, False):
                self.queue.extendleft(reversed(batch))
                return
            if worker.ahead and not self.watching:
                self.watching = True
                worker.engine.broker.timer(SLOW, self.look, worker.engine.broker)
        self.enlist(worker)

    def look(self, broker: Any) -> None:
        """Have workers that do not get on give back what they have not begun. Loop thread."""
        with self.lock:
            now = broker.clock()
            busy = [worker for worker in self.workers if worker.ahead]
            for worker in busy:
                if now - worker.since > SLOW + 2 * worker.turn:
                    worker.recall()
            self.watching = bool(busy)
        if busy:
            broker.timer(SLOW, self.look, broker)

    # -- what workers say, mostly on the loop thread

    def answered(self, worker: Worker, number: int, data: Any) -> None:
        """A task is done."""
        with self.lock:
            task = worker.answered(number)
            if task is None:
                return
            if worker.state is READY:
                self.feed(worker)
        task.message(worker.channel, data, True, 0)
        if task.what is INITIALIZER:
            worker.engine.later(self.initialized, worker, task)
        else:
            self.done(1)

    def done(self, count: int) -> None:
        """So many tasks are done."""
        with self.lock:
            self.left -= count
            if self.closing:
                self.check_end()

    def recalled(self, worker: Worker, numbers: "set[int]") -> None:
        """A worker gave tasks back."""
        with self.lock:
            dropped = self.requeue(worker.recalled(numbers))
            waiters, worker.waiters = worker.waiters, []
            self.enlist(worker)
            self.fill()
        wake(waiters)
        self.tell(dropped)

    def tell(self, dropped: list[Task]) -> None:
        """Tell who waits for tasks that were cancelled; on the thread for callbacks."""
        for task in dropped:
            self.engine.later(task.tell_cancelled)

    # -- workers

    def hire(self, context: Context) -> None:
        """Make ``context`` a worker; it begins to work once it is prepared. Any thread but the loop's."""
        context.engine.share_package(context)
        worker = Worker(self, context, self.own)
        with self.lock:
            self.workers[worker] = None
            modules = set(self.modules)
        if modules:
            context.engine.share(context, modules, False)
        worker.begin()

    def hired(self, worker: Worker) -> None:
        """``worker`` is prepared: its initializer runs next, if there is one. Loop thread."""
        if self.initializer is None:
            self.ready(worker)
            return
        task = Task(self, INITIALIZER)
        task.data, task.options, task.size = self.initializer
        with self.lock:
            worker.send([task], False)

    def initialized(self, worker: Worker, task: Task) -> None:
        """The initializer has run. On the thread for callbacks."""
        error = task.exception()
        if error is None:
            self.ready(worker)
        else:
            name = worker.context.name
            reason = f"the initializer failed: {type(error).__name__}: {error}"
            logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=error)
            self.break_down(WorkerDied(f"{name} cannot be used: {reason}", context=name, reason=reason), error)

    def ready(self, worker: Worker) -> None:
        """``worker`` takes tasks from now on."""
        with self.lock:
            if worker.state is STARTING:
                worker.state = READY
                self.failures = 0
                self.profile()
                self.enlist(worker)
                self.fill()

    def profile(self) -> None:
        """What all workers understand: of several Pythons the one that is furthest from ours, and main by name where
        all have it. Holding the lock."""
        infos = [worker.engine.infos.get(worker.context.id) for worker in self.workers]
        facts = [info.facts for info in infos if info is not None]
        versions = sorted({tuple(fact["version"]) for fact in facts if fact.get("version")})
        if versions:
            self.version = versions[0] if versions[0][:2] != sys.version_info[:2] else versions[-1]
        mains = [fact["main"] for fact in facts if fact.get("main")]
        if mains and len(mains) == len(self.workers):
            self.by_name = mains[0] if len(mains) == 1 else lambda value: all(main(value) for main in mains)
        else:
            self.by_name = self.engine.main_by_name

    def died(self, worker: Worker, error: BaseException) -> None:
        """``worker`` is no more. Any thread."""
        with self.lock:
            if worker.state is GONE:
                return
            self.failures += worker.state is STARTING
            self.last_death = worker.context.name, error
            begun, rest = worker.abandon()
            begun = [task for task in begun if task.what is not INITIALIZER]
            self.workers.pop(worker, None)
            waiters, worker.waiters = worker.waiters, []
            dropped = self.requeue(rest)
            regrow = (self.grow is not None and self.failures < TRIES and not self.ended and self.broken is None
                      and not (self.closing and self.left <= len(begun)) and not isinstance(error, Closed))
            self.starting += regrow
            if self.workers:
                self.profile()
            self.fill()
        wake(waiters)
        self.tell(dropped)
        for task in begun:
            task.fail(worker.died(task, error))
        self.done(len(begun))
        if regrow:
            process.start_thread(self.regrow, (worker.context,))
        else:
            self.check_left()

    def started(self, name: str = "", error: BaseException | None = None) -> None:
        """No more contexts come from where one was ``starting``: the last one that failed, and why."""
        with self.lock:
            self.starting -= 1
            if error is not None:
                self.last_death = name, error
            self.check_end()
        self.check_left()

    def check_left(self) -> None:
        """Break down if there is no worker, and none will come."""
        with self.lock:
            if self.workers or self.starting or self.ended or self.last_death is None:
                return
            name, error = self.last_death
        reason = getattr(error, "reason", "") or str(error)
        self.break_down(WorkerDied(f"no worker is left; the last one was {name}: {reason}", context=name,
                                   reason=reason), error)

    def break_down(self, broken: WorkerDied, cause: BaseException) -> None:
        """Take no more tasks; those that have not begun fail."""
        broken.__cause__ = cause
        with self.lock:
            if self.broken is not None:
                return
            self.broken = broken
            tasks = [task for task in self.queue if task._state == PENDING]
            for task in tasks:
                task._state = RUNNING  # nobody can cancel it from now on
            self.queue.clear()
            self.dead = 0
        for task in tasks:
            task.fail(copied(broken))
        self.done(len(tasks))

    def regrow(self, dead: Context) -> None:
        """Get a new context for one that died. On a thread of its own."""
        error: BaseException | None = None
        try:
            while True:
                try:
                    context = self.grow(dead) if self.grow else None
                    if context is not None:
                        self.hire(context)
                    break
                except Exception as failure:
                    error = failure
                    self.failures += 1
                    if self.failures >= TRIES or self.ended:
                        break
        finally:
            self.started(f"one in the place of {dead.name}", error)

    # -- the end

    def shutdown(self, wait: bool, cancel: bool) -> None:
        """Take no more tasks, and end when those that are there are done (``cancel``: those that have begun)."""
        if self.generation != process.generation:
            return
        waiter: Any = None
        if wait:  # for tasks it may take long; the end of workers alone is short, and has to be where a block ends
            waiter = waits.waiter(self.engine) if self.left > 0 else process.waiter()
        with self.lock:
            self.closing = True
            dropped = []
            if cancel:
                self.cancelling = True
                dropped = [task for task in self.queue if task._state == PENDING]
                for task in dropped:
                    self.drop(task)
                for worker in self.workers:
                    worker.recall()
            self.check_end()
            if self.closed:
                waiter = None
            elif waiter is not None:
                self.waiters.append(waiter)
        for task in dropped:
            task.tell_cancelled()
        if waiter is not None:
            waiter.wait()

    def check_end(self) -> None:
        """End once all is done. Holding the lock."""
        if self.closing and self.left <= 0 and not self.starting and not self.ended:
            self.ended = True
            process.start_thread(self.end, ())

    def end(self) -> None:
        """Let the workers go. On a thread of its own."""
        with self.lock:
            workers = list(self.workers)
            self.workers.clear()
            for worker in workers:
                worker.abandon()
        try:
            for worker in workers:
                if worker.channel is not None:
                    worker.channel.cancel()
            end_contexts([worker.context for worker in workers if worker.own])
            self.on_closed()
        except Exception:
            logging.getLogger("contextree").exception("an executor did not end as it should")
        finally:
            live.discard(self)
            with self.lock:
                self.closed = True
            wake(self.waiters)


def end_contexts(contexts: Iterable[Context]) -> None:
    """End them all at once, as far as they are children of this process."""
    contexts = [context for context in contexts if context.state != "died"]
    for context in contexts:
        branch = context.engine.children.get(context.id)
        if branch is not None:
            context.engine.broker.defer(branch.shutdown, 3.0)
    for context in contexts:
        try:
            context.shutdown()
        except ContextreeError:
            pass  # the tree has ended, and it with it
