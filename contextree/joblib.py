"""joblib's ``Parallel`` in contexts: importing this module registers the backend ``"contextree"``.

>>> import joblib, contextree.joblib
>>> with contextree.Executor(2) as executor, joblib.parallel_config("contextree", executor=executor):
...     joblib.Parallel()(joblib.delayed(divmod)(number, 3) for number in range(4))
[(0, 0), (0, 1), (0, 2), (1, 0)]

Without ``executor`` each ``Parallel`` forks ``n_jobs`` workers of its own.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib import register_parallel_backend
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from contextree.master.executor import Executor

__all__ = ["Backend"]


class Backend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """The backend; joblib makes it. Tasks are joblib's batches, whose size it adapts to their duration."""

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(self, executor: Executor | None = None, nesting_level: int | None = None,
                 inner_max_num_threads: int | None = None, **options: Any) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **options)
        self.executor = executor
        self.own: Executor | None = None
        self.tasks: set[Future[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """How many tasks run at once. ``-1``: as many as there are workers, or CPUs."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        most = self.executor._max_workers if self.executor is not None else os.cpu_count() or 1
        if n_jobs is None or n_jobs == -1:
            return most
        if n_jobs < 0:
            return max(1, most + 1 + n_jobs)
        return n_jobs if self.executor is None else min(n_jobs, most)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Get ready for one ``Parallel``."""
        self.parallel = parallel
        count = self.effective_n_jobs(n_jobs)
        if self.executor is None:
            self.own = Executor(count)
        return count

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> "Future[Any]":
        """Have a batch run."""
        executor = self.executor or self.own
        if executor is None:
            raise RuntimeError("this backend has been terminated")
        future = executor.submit(func)
        self.tasks.add(future)
        future.add_done_callback(self.tasks.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future: "Future[Any]") -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The result of a batch."""
        return future.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what has not begun."""
        for future in list(self.tasks):
            future.cancel()

    def terminate(self) -> None:
        """End what is the backend's own."""
        own, self.own = self.own, None
        if own is not None:
            own.shutdown(cancel_futures=True)


register_parallel_backend("contextree", Backend)
