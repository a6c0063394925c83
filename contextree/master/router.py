"""The root of a tree: ``contextree.Router``."""

import contextlib
import logging
import threading
import weakref
from collections.abc import Iterable
from typing import Any

from contextree.core import process
from contextree.core.mailbox import Mailbox
from contextree.core.router import MAX_MESSAGE
from contextree.core.router import Router as Core
from contextree.core.wire.errors import Closed, ForkedError, UsageError, WouldBlockLoop
from contextree.master.driving import DrivenLoop
from contextree.master.engine import RootEngine
from contextree.master.finder import Finder
from contextree.parent import waits
from contextree.parent.heartbeat import checked
from contextree.parent.loop import Loop
from contextree.parent.reaper import Reaper
from contextree.parent.router import Router as ParentRouter

_open: "weakref.WeakSet[Router]" = weakref.WeakSet()


class Router(ParentRouter):
    """The root of a tree of contexts, with one loop thread. Use it in a ``with`` block: everything is gone after it.

    >>> with contextree.Router() as tree:
    ...     tree.fork().call(sum, [1, 2, 3])
    6

    name         of this context, in messages.
    share        names of modules, or ``"package.*"``, that children may import besides what calls need.
    block        names that they never get.
    preload      modules that the template of forked children imports before it forks.
    log_level    records below this level are not sent by children; default: the root logger's level now.
    max_message  bytes; the largest message, here and in all children.
    grace        seconds that children have at the end, before they are terminated.
    heartbeat    seconds within which a child on another host is found out to be silent, and dead: its host down, the
                 network cut, its interpreter stopped; None: never. The default of that option, in the whole tree.
    allow_blocking  may its methods wait on a thread where an asyncio loop or a trio run is in progress? They freeze it.
                 Without it they raise WouldBlockLoop there, but for IPython and notebooks.
    thread       False: no thread is started; this one drives the tree, by ``poll_once`` and whenever it waits for it.

    Any thread may use it. In a process forked from this one it raises ForkedError."""

    engine: RootEngine

    def __init__(self, name: str = "master", *, share: Iterable[str] = (), block: Iterable[str] = (),
                 preload: Iterable[str] = (),
                 log_level: int | None = None, max_message: int = MAX_MESSAGE, grace: float = 3.0,
                 heartbeat: float | None = RootEngine.heartbeat, allow_blocking: bool = False,
                 thread: bool = True) -> None:
        heartbeat = checked(heartbeat)
        self.broker: Loop = Loop(name=name) if thread else DrivenLoop(name)
        core = Core(self.broker, 0, name)
        core.max_message = max_message
        self.finder = Finder((*share, "dill.*"), block)  # functions that have no name go by dill
        engine = RootEngine(core, self.finder, log_level)
        core.engine = engine
        engine.preload = tuple(preload)
        engine.heartbeat = heartbeat
        engine.allow_blocking = allow_blocking
        super().__init__(engine)
        self.grace = grace
        self._closing = process.allocate_lock()
        self._over = Mailbox()  # closed when the children are gone
        self._gone = Mailbox()  # closed when everything is
        self._finishing = False
        self._left: list[tuple[int, str]] = []
        self.closed = False
        self.broker.on_error = self._log_error
        self.broker.on_end(self._ended)
        if isinstance(self.broker, DrivenLoop):
            engine.idle = 0
            engine.start = self.broker.soon  # type: ignore[method-assign]
        else:
            self.broker.start()
        _open.add(self)

    def __enter__(self) -> "Router":
        try:
            waits.check(self.engine)  # now, rather than at the end of the block
        except WouldBlockLoop:
            self._finish()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.engine.core.generation == process.generation:  # else the block belongs to the parent of this process
            self.close()

    def close(self, grace: float | None = None) -> None:
        """End all contexts and the loop; returns when processes are reaped and descriptors closed. Idempotent.

        Running calls get ``grace`` seconds; then their contexts are terminated, and killed two seconds later. Where it
        is interrupted (Ctrl-C, a greenlet's timeout) the end goes on, and the next ``close`` waits for its rest."""
        if self.engine.core.generation != process.generation:
            raise ForkedError("this router belongs to the process that this one was forked from")
        if self._finishing and self._gone.closed:
            return
        waits.check(self.engine)
        with self._closing:  # for a moment: other greenlets of this thread may come meanwhile
            first, self.closed = not self.closed, True
        if first:
            try:
                self.engine.core.closed = Closed(f"the router {self.name} was closed")
                self.broker.on_end(self._over.close)
                self.broker.defer_nowait(self.engine.end, self.grace if grace is None else grace, self._over.close)
            except Closed:
                self._over.close()  # the loop has ended
        _wait_closed(self._over)
        self._finish()

    shutdown = close

    # -- without a thread

    def poll_once(self, timeout: float | None = None) -> None:
        """With ``thread=False``: one turn of the loop; waits up to ``timeout`` seconds for something to do (None: for
        as long as it takes). On the thread that made the router. UsageError inside a turn."""
        if not isinstance(self.broker, DrivenLoop):
            raise UsageError("this router has a thread of its own: Router(thread=False) has none")
        self.broker.poll_once(timeout)

    def fileno(self) -> int:
        """With ``thread=False``: a descriptor that is readable when ``poll_once`` has something to do."""
        return self.broker.fileno()

    def next_delay(self) -> float | None:
        """With ``thread=False``: seconds until ``poll_once`` is due though nothing is readable; None: no need."""
        return self.broker.next_delay()

    # -- the end

    def _finish(self) -> None:
        """What is left to do once the children are gone: the loop, stray processes, the log. One thread does it, the
        others wait for it."""
        with self._closing:
            mine, self._finishing = not self._finishing, True
        if not mine:
            return _wait_closed(self._gone)
        try:
            self.broker.stop()
            self._reap()
            if isinstance(self.broker, DrivenLoop):
                self.broker.run_soon()
            self.engine.logs.end()
        finally:
            self.closed = True
            _open.discard(self)
            self._gone.close()

    def _ended(self) -> None:
        self.engine.core.close(Closed(f"the router {self.name} was closed: {self.broker.closed}"))
        engine = self.engine
        if engine.reaper is not None:
            self._left = [(child.pid, child.command) for child in engine.reaper if child.is_ours()]
        for branch in list(engine.children.values()):
            branch.abandon(Closed(str(self.broker.closed)))
        for after in list(engine.afters):
            after.abandon()
        if engine.template is not None:
            engine.template.abandon()

    def _reap(self) -> None:
        """Wait for processes that were not reaped because the loop ended before they did: they have lost their link."""
        left: list[tuple[int, str]] = self._left
        if left:
            broker = Loop(name=self.name)
            broker.start()
            reaper = Reaper(broker)
            reaper.allow_blocking = True  # ``close`` was allowed to
            children = [reaper.monitor(pid, command, spawned=True) for pid, command in left]
            for child in children:
                child.end(grace=self.grace)
            for child in children:
                child.wait(self.grace + 5)
            broker.stop()

    def _log_error(self, function: Any) -> None:
        logging.getLogger("contextree").error("error in %s", getattr(function, "__qualname__", function),
                                                exc_info=True)  # noqa: LOG014  the loop calls this in its handler


def _wait_closed(mailbox: Mailbox) -> None:
    with contextlib.suppress(Closed):
        mailbox.get()


def _close_all() -> None:
    for router in list(_open):
        if router.engine.core.generation == process.generation:
            if isinstance(router.broker, DrivenLoop):
                router.broker.take_over()
            router.close(0.5)


threading._register_atexit(_close_all)  # type: ignore[attr-defined]  # before threads are joined; atexit is too late
