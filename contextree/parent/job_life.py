"""One life of a job: the tree that its process belongs to, or belonged to; and whom its log records go to.

See ``job``, which makes and ends lives.
"""

import sys

from contextree.core.calls import here, unpack
from contextree.core.logs import LINE, RECORD
from contextree.core.process import dumps
from contextree.core.wire import values
from contextree.core.wire.errors import ContextDied
from contextree.core.wire.frames import CONTROL, ROUTE_DEL, frame
from contextree.core.wire.routes import MAX_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from contextree.core.router import Router
    from contextree.parent.engine import Engine
    from contextree.parent.job import Keeper
    from contextree.parent.job_calls import JobCalls, Record

GRACE = 3.0  # seconds for the children of a life that ends


class Life:
    """One tree that the process belongs to, or belonged to: then its calls and its children are what is left."""

    def __init__(self, keeper: "Keeper", router: "Router", calls: "JobCalls") -> None:
        self.keeper = keeper
        self.router = router
        self.engine = router.engine  # type: Engine
        self.calls = calls
        self.running = set()  # type: set[Record]  # once the master is gone
        self.adrift = False

    def lost(self, reason: str) -> "list[Record]":
        """The master is gone: those of its calls that go on. Loop thread."""
        self.adrift = True
        engine, router = self.engine, self.router
        error = ContextDied("the master of %s is gone: %s" % (router.name, reason))
        below = set(engine.infos)
        cut = self.calls.cut(below)
        self.running = set(cut)
        router.lost({key[0] for key in list(router.channels) + list(router.pings)} - below, error)
        for number in engine.above:
            engine.gone[number] = router.names.get(number, "the master"), error
        news = dumps((sorted(engine.above), str(error)), 4)
        for number in below:  # what they wait for from up there will not come
            engine.infos[number].link.send(CONTROL, frame(ROUTE_DEL, 0, CONTROL, 0, number, router.id, news))
        engine.ids_came(1 << 31, MAX_ID)  # nobody else gives ids in this tree from now on
        self.settle()
        return cut

    def settle(self) -> None:
        """What is below goes when the last call has. Loop thread."""
        if self.adrift and not self.running and not self.engine.ending:
            self.calls.close_pools()
            self.engine.end(GRACE, self.over)

    def over(self) -> None:
        """All is gone."""
        listeners = self.keeper.broker._listeners
        if self.engine._release in listeners:
            listeners.remove(self.engine._release)
        if self in self.keeper.lives:
            self.keeper.lives.remove(self)


class Start:
    """A function of ``on_start`` that waits for the main thread, as if it were a call."""

    def __init__(self, calls: "JobCalls", data: bytes) -> None:
        self.calls = calls
        self.data = data

    def run(self) -> None:
        """Run it."""
        here.router = self.calls.router
        function, args, kwargs = unpack(self.data)
        function(*args, **kwargs)


def digest(bundle: bytes) -> str:
    """What tells one version of core from another, however it was packed."""
    import hashlib
    import marshal
    import zlib

    total = hashlib.sha256()
    for name, source in marshal.loads(zlib.decompress(bundle)):
        total.update(("%s\n%s\n" % (name, source)).encode())
    return total.hexdigest()


def log_to(keeper: "Keeper") -> None:
    """Have log records go to the present master; into the output while there is none."""
    router = keeper.child.router
    for finder in sys.meta_path:
        if type(finder).__qualname__ == "Hook" and type(finder).__module__ == "contextree.core.logs":
            hook = finder  # type: Any
            hook.router, hook.level = router, keeper.child.config["level"]
            if "install" not in vars(hook):  # once somebody imports logging
                hook.install = lambda logging, hook=hook: install(keeper, hook, logging)
    logging = sys.modules.get("logging")  # type: Any
    for handler in list(logging.getLogger().handlers) if logging else ():
        if type(handler).__qualname__ == "Hook.install.<locals>.Forward":
            handler.emit = lambda record, handler=handler: forward(keeper, logging, handler, record)
            logging.getLogger().setLevel(keeper.child.config["level"])


def install(keeper: "Keeper", hook: "Any", logging: "Any") -> None:
    """What ``hook`` does when somebody imports logging."""
    type(hook).install(hook, logging)
    log_to(keeper)


def forward(keeper: "Keeper", logging: "Any", handler: "Any", record: "Any") -> None:
    """Send one record, as ``core.logs.Hook`` does."""
    try:
        text = record.getMessage()
        trace = record.exc_info and logging.Formatter().formatException(record.exc_info)
        if not keeper.held:
            keeper.output.keep(("%s %s: %s\n%s" % (record.levelname, record.name, text,
                                                   trace + "\n" if trace else "")).encode("utf-8", "replace"))
            return
        keeper.child.router.log(values.encode([
            RECORD, record.name[:128], record.levelno, text[:LINE], record.pathname[-512:], record.lineno,
            record.funcName, record.created, trace and trace[-LINE:]]))
    except Exception:
        handler.handleError(record)
