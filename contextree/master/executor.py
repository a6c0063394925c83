"""``contextree.Executor``: contexts as the workers of a ``concurrent.futures.Executor``. How it works: ``pool``."""

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from contextree.core import process
from contextree.core.wire.errors import ContextreeError, UsageError
from contextree.master.pool import Pool, end_contexts, live
from contextree.master.router import Router
from contextree.master.worker import Task
from contextree.parent.calls import describe
from contextree.parent.context import Context
from contextree.parent.grower import Grower
from contextree.parent.tasks import run_chunk

P = ParamSpec("P")
T = TypeVar("T")

AT_ONCE = 10_000  # tasks that ``map`` makes of inputs whose length is known before it waits for results to be taken
LAZY = 32  # the same of other inputs, for each task that can run at once ...
LEAST = 128  # ... but so many in any case


class Executor(futures.Executor):
    """Runs tasks in contexts: a ``concurrent.futures.Executor``, for whatever works with one.

    >>> with contextree.Executor([web, router.fork()]) as executor:
    ...     list(executor.map(pow, [2, 3, 4], [5, 2, 3]))
    [32, 9, 64]

    contexts             where tasks run: contexts, which go on after the executor's end; or a number: so many forked
                         workers in a tree of its own; or a Router, or a Context with ``max_workers``, below which they
                         are forked. Workers of its own are replaced when they die, and end with it.
    workers_per_context  tasks that may run at once in each: one, on its main thread, or several, on threads there.
    max_workers          how many contexts to fork; by default as many as there are CPUs.
    initializer          called as ``initializer(*initargs)`` in each context before its first task. Where it fails the
                         executor is broken.
    replace              ``replace(dead)`` gives the context that takes the place of a given one that has died, or None.
    prefetch             tiny tasks are sent ahead to busy workers, up to so many to each; 0: none.

    A task whose worker dies while it runs ends with WorkerDied; those that wait go to other workers. Any thread may use
    it; in a process forked from this one it raises ForkedError. Not shut down, it ends when nobody has it any more, or
    with the program, once its tasks are done."""

    def __init__(self, contexts: "int | Grower | Iterable[Context] | None" = None, workers_per_context: int = 1, *,
                 max_workers: int | None = None, initializer: Callable[..., object] | None = None,
                 initargs: tuple[Any, ...] = (), replace: Callable[[Context], Context | None] | None = None,
                 prefetch: int | None = None) -> None:
        if isinstance(contexts, int):
            if max_workers is not None:
                raise TypeError("a number of contexts is max_workers: give it once")
            contexts, max_workers = None, contexts
        given = not (contexts is None or (isinstance(contexts, Grower) and
                                          not (isinstance(contexts, Context) and max_workers is None)))
        if given and max_workers is not None:
            raise TypeError("max_workers is for workers that the executor forks itself, and it was given contexts")
        if not given and replace is not None:
            raise TypeError("replace is for contexts that are given: the executor replaces its own itself")
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if workers_per_context <= 0:
            raise ValueError("workers_per_context must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if prefetch is not None and prefetch < 0:
            raise ValueError("prefetch must be 0 or more")
        if given:
            chosen = [contexts] if isinstance(contexts, Context) else list(contexts)  # type: ignore[arg-type]
            check(chosen)
            self._pool = Pool(chosen[0].engine, workers_per_context, prefetch)
            self._pool.grow = replace
            self._count = len(chosen)
            self._start(initializer, initargs, iter(chosen))
            return
        self._count = max_workers or os.cpu_count() or 1
        below = contexts if isinstance(contexts, Grower) else Router("executor")
        self._pool = pool = Pool(below.engine, workers_per_context, prefetch)
        pool.own = True
        pool.grow = lambda dead: below.fork()
        if contexts is None:
            pool.on_closed = below.close  # type: ignore[attr-defined]  # a Router
        self._start(initializer, initargs, (below.fork(wait=False) for _ in range(self._count)))

    def _start(self, initializer: Any, initargs: tuple[Any, ...], contexts: Iterator[Context]) -> None:
        """Make ``contexts`` workers. After an error nothing of the executor's own is left."""
        pool = self._pool
        hired = []
        try:
            if initializer is not None:
                task = Task(pool, "")
                pool.pack(task, initializer, initargs, {})
                pool.initializer = task.data, task.options, task.size
            pool.starting += 1  # so that it is not the end if the first one has died
            try:
                for context in contexts:
                    hired.append(context)
                    pool.hire(context)
            finally:
                pool.started()
        except BaseException:
            pool.grow = None
            if pool.own:
                end_contexts(hired)
            pool.shutdown(True, True)
            raise

    def __repr__(self) -> str:
        pool = self._pool
        return f"<Executor, {len(pool.workers)} workers, {pool.left} tasks>"

    @property
    def contexts(self) -> list[Context]:
        """The contexts that work, or are about to."""
        return [worker.context for worker in list(self._pool.workers)]

    @property
    def _max_workers(self) -> int:  # dask and joblib ask for it
        return self._count * self._pool.slots

    @property
    def _broken(self) -> "str | bool":  # as the standard executors have it
        return str(self._pool.broken or "") or False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "futures.Future[T]":
        """Have ``fn(*args, **kwargs)`` called by the next idle worker: its Future.

        What cannot be sent ends the future with NotSendable, a dead worker with WorkerDied. ``cancel()`` succeeds as
        long as the task has not begun, and then it never will. Raises RuntimeError after shutdown, WorkerDied when no
        worker is left."""
        return self._pool.submit(fn, args, kwargs)

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1,
            buffersize: int | None = None) -> Iterator[T]:
        """As the builtin ``map``, by the workers: results in the order of the input.

        ``chunksize`` items make one task. At most ``buffersize`` tasks are under way or wait for their results to be
        taken, and no more is taken from the input meanwhile; by default 10,000 where its length is known, and else a
        few for each worker. TimeoutError when a result is not there ``timeout`` seconds after this call. What has not
        begun is cancelled when the iterator is closed or fails."""
        check_sizes(chunksize, buffersize)
        if buffersize is None:
            sized = all(hasattr(each, "__len__") for each in iterables)
            buffersize = AT_ONCE if sized else max(LEAST, LAZY * self._max_workers)
        end = None if timeout is None else monotonic() + timeout
        submit = self._pool.submit
        rows = zip(*iterables, strict=False)
        source: Iterator[Task]
        if chunksize == 1:
            source = (submit(fn, row, {}) for row in rows)
        else:
            what = f"a chunk of {describe(fn)}"
            chunks = iter(lambda: list(itertools.islice(rows, chunksize)), [])
            source = (submit(run_chunk, (fn, chunk), {}, what) for chunk in chunks)
        tasks: deque[Task] = deque()
        try:
            tasks.extend(itertools.islice(source, buffersize))
        except BaseException:
            cancel(tasks)
            raise
        return self._results(tasks, source, end, chunksize)

    def _results(self, tasks: "deque[Task]", source: Iterator[Task], end: float | None,
                 chunksize: int) -> Iterator[Any]:
        """The results of ``tasks``, each of which makes room for the next one of ``source``."""
        try:
            while tasks:
                found = tasks[0].result(None if end is None else end - monotonic())
                del tasks[0]
                tasks.extend(itertools.islice(source, 1))
                if chunksize == 1:
                    found = [found]
                found.reverse()
                while found:
                    yield found.pop()
        finally:
            cancel(tasks)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks. Those that are there are done, or, with ``cancel_futures``, those that have begun.

        Then contexts of its own end, and given ones are let go. With ``wait`` all that has happened on return.
        Idempotent."""
        self._pool.shutdown(wait, cancel_futures)

    def __del__(self) -> None:
        pool = self.__dict__.get("_pool")
        if pool is not None and not pool.closing and pool.generation == process.generation:
            # not here: whoever was interrupted by the garbage collector may hold any lock
            try:
                pool.engine.broker.defer_nowait(pool.shutdown, False, False)
            except ContextreeError:  # the loop has ended
                process.start_thread(pool.shutdown, (False, False))


def cancel(tasks: "deque[Task]") -> None:
    """Cancel what has not begun, the last ones first: each that is sent makes room for the one behind it."""
    while tasks:
        tasks.pop().cancel()


def check_sizes(chunksize: int, buffersize: int | None) -> None:
    """Raise, as the standard executors do, where arguments of ``map`` are wrong."""
    if chunksize < 1:
        raise ValueError("chunksize must be >= 1.")
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")


def check(contexts: list[Any]) -> None:
    """Raise where ``contexts`` are no contexts for an executor."""
    if not contexts:
        raise ValueError("max_workers must be greater than 0: an executor without a context can do nothing")
    for context in contexts:
        if not isinstance(context, Context):
            raise UsageError(f"an executor wants contexts, a number or a router, not {context!r}")
        context.engine.check_fork()
        if context.options.get("timeout"):
            raise UsageError(f"the calls of {context!r} have a timeout, which tasks of an executor cannot have: limit "
                             "the wait for their result")


def _end_all() -> None:
    """The interpreter ends: tasks are done first."""
    for pool in list(live):
        if pool.generation == process.generation:
            pool.shutdown(False, False)
    for pool in list(live):
        if pool.generation == process.generation:
            pool.shutdown(True, False)


threading._register_atexit(_end_all)  # type: ignore[attr-defined]  # before routers are closed, hence after their hook
