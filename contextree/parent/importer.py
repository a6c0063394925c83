"""Modules for children: every parent answers from its cache and asks its own parent for what is missing.

Requests are served by a few threads of this service, never by the loop, because looking up may wait or read files.
"""

from contextree.core import process
from contextree.core.importer import ABSENT, CODE, MAGIC
from contextree.core.mailbox import Mailbox
from contextree.core.process import dumps, loads
from contextree.core.wire import values
from contextree.core.wire.errors import CallTimeout, Closed, ContextreeError
from contextree.core.wire.frames import BROKEN, MODULES, RESOURCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Sequence

    from contextree.core.importer import Importer
    from contextree.core.router import Channel
    from contextree.core.router import Router as Core
    from contextree.parent.engine import Engine

THREADS = 4
MAX_NAMES = 5000  # in one request
MAX_JOBS = 2000  # that wait
ANSWER = 30.0  # seconds that the parent has


class ModuleService:
    """Serves MODULES and RESOURCE channels of the direct children of ``engine``."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.jobs = Mailbox()
        self.threads = 0
        # name -> record with source, for children with another Python
        self.other = {}  # type: dict[str, tuple[Any, ...]]
        self.count = {"requests": 0, "modules": 0, "resources": 0}
        engine.core.openers[MODULES] = lambda *args: self.opened(self.serve_modules, *args)
        engine.core.openers[RESOURCE] = lambda *args: self.opened(self.serve_resource, *args)
        engine.broker.on_end(self.jobs.close)

    def opened(self, serve: "Callable[..., Any]", channel: "Channel", options: int, threads: int, deadline: int,
               data: bytes, fin: bool) -> None:
        """A request came. Loop thread."""
        self.count["requests"] += 1
        if len(self.jobs) > MAX_JOBS or not fin:
            return channel.cancel(BROKEN, "too many requests wait")
        self.jobs.put((serve, channel, data))
        if self.threads < THREADS and len(self.jobs) > len(self.jobs.waiters):
            self.threads += 1
            self.engine.start(self.work)

    def work(self) -> None:
        """Serve until the end, or until nothing is left that must not be waited for."""
        while True:
            try:
                serve, channel, data = self.jobs.get(self.engine.idle)
            except (Closed, CallTimeout):
                self.threads -= 1
                return
            try:
                serve(channel, data)
            except ContextreeError:
                pass  # the child has gone
            except Exception as error:
                self.engine.broker.on_error(serve)
                channel.cancel(BROKEN, "the look-up failed: %s" % error)

    def serve_modules(self, channel: "Channel", data: bytes) -> None:
        """Send a record for every name, in order."""
        names = data[4:].decode("utf-8", "replace").split("\n")[:MAX_NAMES]
        for record in self.engine.lookup(names, data[:4]):
            self.count["modules"] += 1
            channel.send(dumps(record, 4))
        channel.send(b"", True)

    def from_above(self, importer: "Importer", names: "Sequence[str]", magic: bytes) -> "Iterator[tuple[Any, ...]]":
        """Records out of the cache of this context; what it has not got is fetched with one request.

        That something is absent is not remembered for others: it may have been shared with them meanwhile."""
        own = importer.records
        if magic == MAGIC:
            fetch(importer, [name for name in names if name not in own or own[name][1] == ABSENT])
            for name in names:
                yield importer.record(name)
        else:
            other = self.other
            missing = [name for name in names
                       if name not in other and (name not in own or own[name][1] in (ABSENT, CODE))]
            record = None  # type: Any
            for record in (missing and self.ask(["source"] + missing)) or ():
                if record[1] != ABSENT:
                    other[record[0]] = record
                else:
                    own[record[0]] = record
            for name in names:
                record = other.get(name) or own.get(name)
                yield record if record and record[1] != CODE else (name, ABSENT, "", "its source cannot be sent", False)

    def serve_resource(self, channel: "Channel", data: bytes) -> None:
        """Answer one question about data files, sources, names."""
        self.count["resources"] += 1
        channel.send(dumps(self.answer(self.engine.decode(data)), 4), True)

    def answer(self, question: "Any") -> "Any":
        """The answer from here if it can be given, else from above."""
        if type(question) is list and len(question) == 2 and question[0] == "name" and type(question[1]) is int:
            name = self.engine.name_of(question[1])
            if name is not None:
                return name
        return self.engine.answer(question)

    def ask(self, question: "Any") -> "Any":
        """Put a question to the parent of this context; None when it does not know."""
        return ask(self.engine.core, question)


def ask(core: "Core", question: "Any") -> "Any":
    """Put a question to the parent and wait for the answer. Not on the loop thread."""
    if core.upstream is None:
        return None
    box = []
    waiter = process.Waiter()

    def message(channel: "Channel", data: bytes, fin: bool, cost: int) -> None:
        box.append(data)
        waiter.wake()

    channel = core.open(core.upstream.peer, RESOURCE, values.encode(question), fin=True, on_message=message,
                        on_end=lambda channel, error: waiter.wake())
    if not waiter.wait(ANSWER):
        channel.cancel()
    return loads(box[0]) if box else None


def fetch(importer: "Importer", names: "Sequence[str]") -> None:
    """Ask for all of ``names``, at once; what is asked for already is waited for."""
    with importer.lock:
        missing = [name for name in names if name not in importer.pending]
        for name in missing:
            importer.records.pop(name, None)
            importer.pending[name] = []
    if missing:
        importer.request(missing)
