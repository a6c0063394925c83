"""The parent's half of a context: routing, and the services around it (template, sharing, handles, logs of children).

There is one engine for each router. In the root it is ``contextree.master.engine.Engine``; in any other context
``engine_of`` makes it when the first child is to be started there.
"""

import marshal
import os
import sys
import zlib

from contextree.core import main as life
from contextree.core import process
from contextree.core.logs import LINE
from contextree.core.mailbox import Mailbox
from contextree.core.process import dumps
from contextree.core.wire import values
from contextree.core.wire.errors import CallTimeout, Closed, ContextreeError, ForkedError, UsageError
from contextree.core.wire.frames import SHARE
from contextree.parent import boot, ends, waits
from contextree.parent.context import Context
from contextree.parent.importer import ModuleService
from contextree.parent.loop import Loop
from contextree.parent.pickling import pack_call
from contextree.parent.routing import Routing
from contextree.parent.template import Template
from contextree.parent.values import decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import AbstractSet, Any, Callable, Iterable, Sequence

    from contextree.connect.plan import Plan
    from contextree.core.router import Router as Core
    from contextree.core.wire.errors import ContextreeError
    from contextree.parent.boot import Branch
    from contextree.parent.reports import Info

making = process.allocate_lock()


def _forked() -> None:
    global making
    making = process.allocate_lock()  # another thread of the parent may have held it


process.after_fork.append(_forked)


def engine_of(core: "Core") -> "Engine":
    """The engine of a context's router, made now if it has none yet. From any thread."""
    with making:
        if core.engine is None:
            child = life.child
            core.engine = Engine(core, child.config["ids"], child.bundle, trusted=child.config["trusted"])
            core.engine.above = frozenset(child.config["above"])
            core.engine.heartbeat = child.config.get("heartbeat", Engine.heartbeat)
            # where the end of this context found none to end, nothing may begin in this one
            core.engine.ending = core.engine.ending or child.leaving is not None
        return core.engine  # type: ignore[no-any-return]


def search_path() -> "list[str]":
    """``sys.path`` for a child that may run in another directory. What is relative to one that is gone is left out."""
    try:
        here = os.getcwd()
    except OSError:
        return [entry for entry in sys.path if os.path.isabs(entry)]
    return [os.path.join(here, entry) if entry else here for entry in sys.path]


class Engine(Routing):
    """What a context that is not the root has for its children."""

    allow_blocking = False  # may its synchronous API wait on the thread of an event loop?
    future_class = None  # type: Any  # of ``submit``, where it is not CallFuture
    heartbeat = 60.0  # type: float | None  # of children on other hosts whose grower does not say

    def __init__(self, core: "Core", ids: "Iterable[Any]", bundle: bytes, decode: "Callable[..., Any]" = decode,
                 trusted: bool = True) -> None:
        Loop.upgrade(core.broker)
        Routing.__init__(self, core, ids, bundle, decode, trusted)
        self.above = frozenset()  # type: frozenset[int]  # ids of the ancestors
        self.contexts = {}  # type: dict[int, Context]
        self.reaper = None  # type: Any
        self.template = None  # type: Any
        self._code = None  # type: Any
        self._later = None  # type: Any
        self.lock = process.allocate_lock()
        self.template_lock = process.allocate_lock()
        self.heart = None  # type: Any  # parent.heartbeat.Heart, once a child has a heartbeat
        self.preload = ()  # type: tuple[Any, ...]
        self.opened = {}  # type: dict[Any, Any]  # hops of addresses on the way to others: see ``parent.opening``
        self.services = None  # type: Any  # parent.serving.Services, once one is served
        self.tubes = set()  # type: set[Any]  # see tube
        self.modules = ModuleService(self)
        self.broker.on_end(self._release)

    # -- handles

    def context(self, number: int, name: "str | None" = None) -> Context:
        """The handle of context ``number``; always the same one. Raises UsageError when nobody knows it."""
        with self.lock:
            context = self.contexts.get(number)
            if context is not None:
                return context
        name = self.name_of(number) or name or self.modules.ask(["name", number])
        if name is None:
            raise UsageError("there is no context %d" % number)
        with self.lock:
            return self.contexts.setdefault(number, Context(self, number, name))

    def check_fork(self) -> None:
        """Raise ForkedError in a process that was forked from the one that this tree belongs to."""
        if self.core.generation != process.generation:
            raise ForkedError("the tree of %s belongs to the process that this one was forked from" % self.core.name)

    def name_of(self, number: int) -> "str | None":
        """The name of a context below this one or above it, dead ones too."""
        if number in self.gone:
            return self.gone[number][0]
        return self.core.names.get(number)

    def wait_gone(self, number: int, timeout: "float | None") -> "ContextreeError":
        """Wait until a context of this subtree has ended; the error that says how."""
        waiter = waits.waiter(self)
        leave = self.watch_gone(number, waiter)
        try:
            if not waiter.wait(timeout):
                raise CallTimeout("%s has not ended within %s s" % (self.name_of(number), timeout))
        except BaseException:
            leave()
            raise
        self.check_end(number)
        return self.no_way(number)  # type: ignore[return-value]  # it has ended, so it says how

    def watch_gone(self, number: int, waiter: "Any") -> "Callable[[], None]":
        """Have ``waiter`` woken when a context of this subtree has ended, or the loop; who leaves earlier calls what
        this returns. Any thread; never waits."""
        def begin() -> None:
            if number in self.infos:
                self.watchers.setdefault(number, []).append(waiter)
            else:
                waiter.wake()

        def leave() -> None:
            if waiter in self.watchers.get(number, ()):
                self.watchers[number].remove(waiter)

        def leave_soon() -> None:
            try:
                self.broker.defer_nowait(leave)
            except Closed:
                pass  # all waiters have left by now

        try:
            self.broker.defer_nowait(begin)
        except Closed:
            waiter.wake()  # nothing changes any more: ``check_end`` tells
        return leave_soon

    def check_end(self, number: int) -> None:
        """Raise Closed when the loop ended before context ``number`` did: nobody will hear of its end."""
        if self.broker.closed and number in self.infos:
            raise Closed("the router %s was closed: %s" % (self.core.name, self.broker.closed))

    def _release(self) -> None:
        """The loop ends: wake all who wait for the end of a context, close the tubes. Loop thread."""
        for tube in list(self.tubes):
            tube.close()
        for waiters in list(self.watchers.values()):
            for waiter in waiters:
                waiter.wake()

    # -- what children are given

    def child_options(self, plan: "Plan", options: "dict[str, Any]") -> "dict[str, Any]":
        """The part of a child's configuration that depends on this context; takes its own out of ``options``."""
        hooks = [pack_call(hook, (), {}, None, self.main_by_name) for name in ("on_fork", "on_start")
                 for hook in options.pop(name, ())]
        for _, _, modules in hooks:
            self.allow(modules)
        config = {"level": options.pop("log_level", self.log_level()), "hooks": [hook[0] for hook in hooks],
                  "above": sorted(self.above | {self.core.id})}
        if self.heartbeat != Engine.heartbeat:
            config["heartbeat"] = self.heartbeat
        if plan.method == "fork" or (plan.method == "local" and not plan.python):
            config["path"] = search_path()
        return config

    def launch_by_transport(self, plan: "Plan", options: "dict[str, Any]", wait: bool) -> "Branch":
        """Start a child by ``plan.transport``, which needs no command. UsageError where that is not known here."""
        if plan.transport.name == "channel":
            from contextree.parent import tube

            return tube.launch(self, plan, options, wait)
        raise UsageError("transport=%r is carried out by the master alone, %s is another context: say jump=, or leave "
                         "transport= out" % (plan.transport.name, self.core.name))

    def handed_on(self, context: "Context", plan: "Plan") -> "Plan":
        """``plan`` as ``context`` is to carry it out: where its transport is one of this process, what that needs
        here is begun."""
        return plan

    def log_level(self) -> int:
        """The level below which children need not send log records."""
        return int(life.child.config["level"])

    def records(self, names: "Sequence[str]") -> "list[Any]":
        """The records of modules of contextree itself, for a child that cannot ask."""
        return [life.child.importer.record(name) for name in names]

    def lookup(self, names: "Sequence[str]", magic: bytes) -> "Iterable[tuple[Any, ...]]":
        """Records for a child that asked, one by one. On a service thread."""
        return self.modules.from_above(life.child.importer, names, magic)

    def share(self, context: "Context", modules: "AbstractSet[str]", needs_main: int) -> None:
        """See that ``context`` may import ``modules``: here they came from above, so it may."""
        context.shared |= modules

    def answer(self, question: "Any") -> "Any":
        """The answer to a question of a child about data files, sources, names; None when nobody knows."""
        return self.modules.ask(question)

    def allow(self, modules: "Any") -> None:
        """Let children have ``modules``: the root decides."""

    def share_package(self, context: "Context", plan: "Plan | None" = None, start: str = "") -> None:
        """Have ``context`` know what it needs of contextree itself, to start a child by ``plan`` or to do something
        else for an ancestor (by functions of the module ``start``): it may import that in any case, and now it asks for
        all of it at once. Idempotent."""
        own = {name for name in life.child.importer.records if name.startswith("contextree.")} - context.shared
        if own:
            context.shared |= own
            self.tell_shared(context, (sorted(own), [], []))

    def ahead(self, context: "Context", plan: "Plan", options: "dict[str, Any]") -> "dict[str, Any]":
        """Send ahead what ``context`` would have to ask for when it starts a child by ``plan``; the options to give it
        for that. Each question would be a round trip."""
        self.share_package(context, plan)
        block = self.broker.call(self.ids_ahead, context.id)
        return dict(options, ids=block) if block else options

    def tell_shared(self, context: "Context", message: "tuple[list[str], list[str], list[Any]]") -> None:
        """Say which modules ``context`` may import: (names, those of them that are coming, records)."""
        try:
            self.core.open(context.id, SHARE, dumps(message, 4), fin=True, on_message=lambda *args: None)
        except ContextreeError:
            pass  # the call that this is for will say it

    def main_by_name(self, value: "Any" = None) -> bool:
        """May functions of ``__main__`` such as ``value`` go by name? Here only where it is the root's script,
        imported."""
        return life.child.importer.main is not None

    def code_bundle(self) -> bytes:
        """The bundle compiled, for children that run this very interpreter."""
        if self._code is None:
            modules = marshal.loads(zlib.decompress(self.bundle))
            self._code = zlib.compress(marshal.dumps([
                (name, marshal.dumps(compile(source, "contextree:" + name.replace(".", "/")[11:] + ".py", "exec",
                                             dont_inherit=True))
                 if source else source) for name, source in modules]), 1)
        return self._code  # type: ignore[no-any-return]

    def get_template(self) -> Template:
        """The template, started now if there is none."""
        with self.template_lock:
            if self.template is None or self.template.dead:
                self.template = Template(self, search_path(), self.preload)
            return self.template  # type: ignore[no-any-return]

    def progress(self, title: str) -> "Any":
        """Something with ``tell(done, total)`` and ``close()`` that shows progress here, or None: only the root has a
        terminal."""

    # -- what children say

    def child_line(self, number: int, stream: str, line: bytes) -> None:
        """A line that a direct child wrote outside its link. Loop thread."""
        self.core.log(values.encode([boot.STDERR, number, stream, line[:LINE]]))

    def on_log(self, info: "Info", view: memoryview) -> None:
        """A record that came from below; only the root has a use for it."""

    def on_security(self, number: int, what: str) -> None:
        """A child broke a rule: that is for the root's log."""
        self.core.log(values.encode([boot.STDERR, number, "security", what.encode("utf-8", "replace")[:LINE]]))

    # -- threads

    idle = None  # type: float | None  # seconds that what is started waits for more to do

    def start(self, function: "Callable[..., Any]", *args: "Any") -> None:
        """Run ``function(*args)``, which may wait, on a thread of its own; without threads: when the loop has nothing
        else to do."""
        process.start_thread(function, args)

    def later(self, function: "Callable[..., Any]", *args: "Any") -> None:
        """Run ``function`` on a thread that is kept for callbacks of the user; on one of its own after the end of the
        loop, which is when the last futures are told."""
        if self.idle is not None:
            return self.start(function, *args)
        try:
            with self.lock:
                if self._later is None:
                    mailbox = Mailbox()
                    self.broker.on_end(mailbox.close)
                    process.start_thread(self._run_later, (mailbox,))
                    self._later = mailbox
            self._later.put((function, args))
        except Closed:
            mailbox = Mailbox()
            mailbox.put((function, args))
            mailbox.close()
            process.start_thread(self._run_later, (mailbox,))

    def _run_later(self, mailbox: "Mailbox") -> None:
        while True:
            try:
                function, args = mailbox.get()
            except Exception:
                return
            try:
                function(*args)
            except Exception:
                self.broker.on_error(function)

    def end(self, grace: float, then: "Callable[..., object]") -> None:
        """End all children, then call ``then``. Loop thread.

        This process leaves in ``grace`` seconds at the latest: who does not end below it must have been killed by
        then."""
        below = max(grace - 0.5, grace / 2)
        ends.end_all(self, below, then, (grace - below) / 2)
