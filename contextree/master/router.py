"""The root of a tree: ``contextree.Router``."""

import atexit
import logging
import sys
import threading
import weakref
from collections.abc import Iterable
from typing import Any

from contextree.core import process
from contextree.core.broker import Broker
from contextree.core.router import MAX_MESSAGE
from contextree.core.router import Router as Core
from contextree.core.wire.errors import Closed, ForkedError
from contextree.master.engine import RootEngine
from contextree.master.finder import Finder
from contextree.parent.router import Router as ParentRouter

_open: "weakref.WeakSet[Router]" = weakref.WeakSet()


class Router(ParentRouter):
    """The root of a tree of contexts, with one loop thread. Use it in a ``with`` block: everything is gone after it.

    name         of this context, in messages.
    share        names of modules, or ``"package.*"``, that children may import besides what calls need.
    block        names that they never get.
    preload      modules that the template of forked children imports before it forks.
    log_level    records below this level are not sent by children; default: the root logger's level now.
    max_message  bytes; the largest message, here and in all children.
    grace        seconds that children have at the end, before they are terminated.

    Any thread may use it. In a process forked from this one it raises ForkedError."""

    def __init__(self, name: str = "master", *, share: Iterable[str] = (), block: Iterable[str] = (), preload: Iterable[str] = (),
                 log_level: int | None = None, max_message: int = MAX_MESSAGE, grace: float = 3.0) -> None:
        self.broker = Broker(name=name)
        core = Core(self.broker, 0, name)
        core.max_message = max_message
        self.finder = Finder((*share, "dill.*"), block)  # functions that have no name go by dill
        engine = RootEngine(core, self.finder, log_level)
        core.engine = engine
        engine.preload = tuple(preload)
        super().__init__(engine)
        self.grace = grace
        self._closing = threading.Lock()
        self.closed = False
        self.broker.on_error = self._log_error
        self.broker.on_end(self._ended)
        self.broker.start()
        _open.add(self)

    def __enter__(self) -> "Router":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.engine.core.generation == process.generation:  # else the block belongs to the parent of this process
            self.close()

    def close(self, grace: float | None = None) -> None:
        """End all contexts and the loop; returns when processes are reaped and descriptors closed. Idempotent.

        Running calls get ``grace`` seconds; then their contexts are terminated, and killed two seconds later."""
        if self.engine.core.generation != process.generation:
            raise ForkedError("this router belongs to the process that this one was forked from")
        with self._closing:
            if self.closed:
                return
            self.closed = True
            _open.discard(self)
            if not self.broker.closed:
                waiter = process.Waiter()
                self.engine.core.closed = Closed(f"the router {self.name} was closed")
                self.broker.defer(self.engine.end, self.grace if grace is None else grace, waiter.wake)
                self.broker.on_end(waiter.wake)
                waiter.wait()
                self.broker.stop()
            self.engine.logs.end()

    shutdown = close

    def _ended(self) -> None:
        self.engine.core.close(Closed(f"the router {self.name} was closed: {self.broker.closed}"))
        for branch in list(self.engine.children.values()):
            branch.link.close("the loop has ended")
            branch.result.close(Closed(str(self.broker.closed)))
            branch.close_stderr()
            branch.close_terminal()

    def _log_error(self, function: Any) -> None:
        logging.getLogger("contextree").error("error in %s", getattr(function, "__qualname__", function), exc_info=True)


def _close_all() -> None:
    for router in list(_open):
        if router.engine.core.generation == process.generation:
            router.close(0.5)


if sys.version_info >= (3, 9):
    threading._register_atexit(_close_all)  # type: ignore[attr-defined]
else:
    atexit.register(_close_all)
