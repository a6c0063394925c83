"""The life of a child, from the end of the first stage to its exit.

The main thread runs calls; the loop thread does the rest. The end comes by GOAWAY from above (with a grace in seconds)
or by the loss of the link to the parent. Either way: children first, then what runs is given the grace, then the
process leaves by ``os._exit``, with what was printed and logged sent before. A process that was exec'd runs its
``atexit`` functions; a forked one does not, they belong to the process that it was forked from.
"""

import os
import sys
from _signal import SIG_SETMASK, pthread_sigmask  # type: ignore[import-not-found]  # signal imports enum

from contextree.core import process
from contextree.core.broker import Broker
from contextree.core.calls import Calls, here, unpack
from contextree.core.importer import MAGIC, Importer
from contextree.core.logs import Hook, Output
from contextree.core.process import loads
from contextree.core.router import Router
from contextree.core.streams import Link
from contextree.core.wire import values
from contextree.core.wire.errors import ContextDied
from contextree.core.wire.frames import CONTROL, HELLO, NUMBER, SHARE, frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

LOST_GRACE = 2.0  # seconds that a running call has to end in when the parent is gone
# the Child of this process, if it is one; what asks for it runs in a child
child = None  # type: Child  # type: ignore[assignment]
old_stdio = []  # type: list[Any]


class Child:
    """Everything that this context has: ``broker``, ``router``, ``importer``, ``calls``, ``bundle`` (for its own
    children)."""

    def __init__(self, config: "dict[str, Any]", rfd: int, wfd: int, bundle: bytes, forked: bool) -> None:
        global child
        child = self
        self.config = config
        self.bundle = config.get("bundle") or bundle
        self.forked = forked
        self.leaving = None  # type: object
        self.status = 0
        self.broker = broker = Broker(name=config["name"])
        self.router = router = Router(broker, config["id"], config["name"])
        router.max_message = config["max_message"]
        self.link = link = router.upstream = Link(broker, process.own(rfd), process.own(wfd), router.receive, self.lost,
                                                  router.id, config["window"])
        router.on_goaway = self.goaway
        self.importer = Importer.of(router, config["parent"], config.get("records", ()))
        self.calls = Calls(router, self.importer)
        router.openers[SHARE] = self.importer.on_share
        stdio(self)
        sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder) is not Hook]
        Hook(router, config["level"])
        link.peer = config["parent"]
        link.send(CONTROL, config["nonce"] + frame(HELLO, 0, CONTROL, 0, link.peer, router.id, values.encode({
            "pid": os.getpid(), "version": list(sys.version_info[:3]), "magic": MAGIC,
            "executable": sys.executable or "", "uid": os.getuid(), "platform": sys.platform})))
        link.start()

    def run(self) -> None:
        """Serve until the end; does not return."""
        self.broker.start()
        here.router = self.router
        try:
            for data in self.config.get("hooks", ()):
                function, args, kwargs = unpack(data)
                function(*args, **kwargs)
        except BaseException:
            import traceback

            traceback.print_exc()
            self.status = 1
            self.broker.defer(self.leave)
        while True:
            try:
                self.calls.run()
                break
            except KeyboardInterrupt:
                continue
        if not self.forked:
            import atexit

            try:
                atexit._run_exitfuncs()
            except BaseException as error:
                sys.excepthook(type(error), error, error.__traceback__)
        try:
            self.broker.defer(self.leave)
        finally:
            process.Waiter().wait()

    # -- the end, on the loop thread

    def lost(self, link: "Link", reason: str) -> None:
        """The parent is gone: so are we, soon."""
        self.router.close(ContextDied("the parent of %s is gone: %s" % (self.router.name, reason)))
        self.end(LOST_GRACE)

    def goaway(self, grace: str) -> None:
        """We were told to end."""
        self.end(float(grace or 3))

    def end(self, grace: float) -> None:
        """Children first, then this process, within ``grace`` seconds."""
        if self.leaving is None:
            self.leaving = self.broker.timer(grace, self.leave)
            if self.router.engine:
                self.router.engine.end(grace, self.calls.stop)
            else:
                self.calls.stop()

    def leave(self, tries: int = 200) -> None:
        """Exit, when all that was said has been sent (or a second later)."""
        for stream in sys.stdout, sys.stderr:
            try:
                stream.flush()
            except Exception:
                pass  # closed, or full: it was theirs
        self.output.end()  # type: ignore[attr-defined]  # see stdio
        self.flush(tries)

    def flush(self, tries: int) -> None:
        """Leave as soon as the link has nothing to write."""
        link = self.link
        if tries and not link.closed and (link.out or link.pending):
            link.flush()
            self.broker.timer(0.005, self.flush, tries - 1)
        else:
            os._exit(self.status)


def stdio(owner: Child) -> None:
    """Descriptors 0 to 2 open and blocking, 1 a pipe to the log, fresh ``sys.std*``; the old objects are kept,
    unflushed."""
    null = process.null()
    os.dup2(null, 0)
    try:
        os.fstat(2)
    except OSError:
        os.dup2(null, 2)
    if null > 2:
        os.close(null)
    owner.output = Output(owner.router)  # type: ignore[attr-defined]  # not before there is a router
    old_stdio.extend((sys.stdin, sys.stdout, sys.stderr))
    # typeshed has them Final, for everybody but a process that has got new descriptors
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = open(1, "w", 1, "utf-8", "surrogateescape", closefd=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # type: ignore[misc]


def boot(read: "Callable[[int], bytes]", bundle: bytes) -> None:
    """Called by the first stage: the configuration comes next on descriptor 0, then frames, and 1 is the way back."""
    config = loads(read(NUMBER.unpack(read(4))[0]))
    pthread_sigmask(SIG_SETMASK, ())  # that of the thread which started us
    rfd, wfd = process.high(os.dup(0)), process.high(os.dup(1))
    os.dup2(2, 1)
    sys.path[:] = config.get("path") or sys.path
    role = config.get("role")
    if role:  # not a context: what it imports comes with the configuration
        Importer.of(None, 0, config["records"])
        __import__(role)
        return sys.modules[role].main(config, rfd, wfd, bundle)  # type: ignore[no-any-return]
    Child(config, rfd, wfd, bundle, False).run()
