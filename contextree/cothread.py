"""contextree for cothread programs: ``contextree.cothread.Router``.

It is the synchronous API, with every wait on cothread's thread a cooperative one: other cothreads run while one calls,
grows children, takes from a stream or waits for a future. See docs/howto/greenlets.md.
"""

from typing import Any

from contextree.loops.cothread import install
from contextree.master.router import Router as _Router

__all__ = ["Router", "install"]


class Router(_Router):
    """``contextree.Router`` for cothreads: takes the same arguments, has the same methods.

    The first one makes all waiting for contextree on cothread's thread cooperative, in the whole process and for good.

    >>> import cothread
    >>> with contextree.cothread.Router() as tree:
    ...     worker = tree.fork()
    ...     jobs = [cothread.Spawn(worker.call, pow, 2, n) for n in range(4)]
    ...     cothread.WaitForAll(jobs)
    [1, 2, 4, 8]
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        install()
        super().__init__(*args, **options)
