"""contextree for gevent programs, monkey-patched or not: ``contextree.gevent.Router``.

It is the synchronous API, with every wait a cooperative one: other greenlets run while a greenlet calls, grows
children, takes from a stream or waits for a future. ``gevent.Timeout`` and ``kill`` end such a wait, and the call is
cancelled. See docs/howto/greenlets.md.
"""

from typing import Any

from contextree.loops.gevent import GreenFuture, install
from contextree.master.router import Router as _Router

__all__ = ["GreenFuture", "Router", "install"]


class Router(_Router):
    """``contextree.Router`` for greenlets: takes the same arguments, has the same methods.

    The first one makes all waiting for contextree cooperative, in the whole process and for good. ``submit`` returns
    futures that ``gevent.wait`` and ``gevent.iwait`` take.

    >>> import gevent
    >>> with contextree.gevent.Router() as tree:
    ...     worker = tree.fork()
    ...     jobs = [gevent.spawn(worker.call, pow, 2, n) for n in range(4)]
    ...     [job.get() for job in jobs]
    [1, 2, 4, 8]
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        install()
        super().__init__(*args, **options)
        self.engine.future_class = GreenFuture
