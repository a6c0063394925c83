"""The router as a user sees it, in the root and in every other context that has children."""

from contextree.core import calls as core_calls
from contextree.core.wire.errors import UsageError
from contextree.parent.context import Context
from contextree.parent.grower import Grower

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from contextree.connect.plan import Plan
    from contextree.parent.channel import Channel
    from contextree.parent.engine import Engine
    from contextree.parent.listen import Listener
    from contextree.parent.reports import Info
    from contextree.parent.service import Service


class Router(Grower):
    """The tree from one context downward: grows children, finds contexts by id, shows itself.

    In the root, ``contextree.Router``; elsewhere ``contextree.current_router()``. Everything may be called from any
    thread but the loop's."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.id = engine.core.id
        self.name = engine.core.name

    def __repr__(self) -> str:
        return "<Router %s, %d contexts>" % (self.name, len(self.engine.infos))

    def _grow(self, plan: "Plan", options: "dict[str, Any]") -> "Context":
        return Context._grow(self._context(), plan, options)

    def _context(self) -> Context:
        return self.engine.context(self.id, self.name)

    def context_by_id(self, number: int) -> Context:
        """The context ``number``, named as everywhere else; the same object each time. UsageError when there is
        none."""
        self.engine.check_fork()
        return self.engine.context(number)

    @property
    def contexts(self) -> "list[Context]":
        """All contexts below this one that live."""
        self.engine.check_fork()
        return [self.engine.context(info.id) for info in list(self.engine.infos.values())]

    def grant(self, first: Context, second: Context) -> None:
        """Let ``first``, and whatever it grows, call ``second`` and what is below it. Without it siblings cannot talk.

        ``second`` then trusts ``first`` as if it were an ancestor. Ends when one of them does."""
        from contextree.parent import control

        engine = self.engine
        engine.check_fork()
        if first.engine is not engine or second.engine is not engine:  # ids mean something in their own tree alone
            raise UsageError("%r and %r must both be of this tree" % (first, second))
        common = self.id
        for number in self._path(first.id):
            if number in self._path(second.id):
                common = number
        for one in (first, second):
            if one.id not in engine.infos or one.id == common:
                raise UsageError("%r and %r must both be below this context, and beside each other" % (first, second))
        if common == self.id:
            engine.broker.call(engine.grants.add, (first.id, second.id))
        else:
            engine.context(common).service(control.grant, first.id, second.id)

    def serve(self, name: str, thing: "Any", *, threads: int = 8, queue: int = 1000, allow: "Any" = None,
              max_request: int = 1 << 24) -> "Service":
        """Let others call methods of ``thing``, an object here; returns its ``Service``, the handle for that.

        Which methods: those marked with ``@contextree.expose``, or those that ``allow`` names, or, when ``thing`` is a
        dict, the functions in it by their names. ``allow``: names; or a dict of names, each with True or a check; or
        one check for all. A check is ``check(caller, method, args, kwargs)``, with the caller's Context, and says no by
        returning something false or by raising what the caller then gets.

        Calls run on up to ``threads`` threads of its own, in turn for each caller; ``queue`` of one caller may wait,
        and a request is no larger than ``max_request`` bytes. Ancestors may call it, others by ``grant_service``."""
        from contextree.parent import service

        return service.serve(self.engine, name, thing, threads, queue, allow, max_request)

    def grant_service(self, service: "Service", context: Context) -> None:
        """Let ``context``, and whatever it grows, call ``service``: nothing else there, and only the methods of this
        handle (see ``Service.only``). Both must be below this context, or the service in it. Ends with either."""
        self._service_grant(service, context, True)

    def revoke_service(self, service: "Service", context: Context) -> None:
        """Take a grant back: calls that come from now on are refused, answers to earlier ones too. Idempotent."""
        self._service_grant(service, context, False)

    def _service_grant(self, service: "Service", context: Context, granted: bool) -> None:
        from contextree.parent import control

        engine = self.engine
        engine.check_fork()
        if service.engine is not engine or context.engine is not engine:
            raise UsageError("%r and %r must both be of this tree" % (service, context))
        ways = self._path(service.id), self._path(context.id)
        if ways[0][0] != self.id or ways[1][0] != self.id or context.id == self.id:
            raise UsageError("%r and %r must both be below this context" % (service, context))
        common = [one for one, other in zip(*ways) if one == other][-1]
        if common == context.id:
            return  # those above a service need no grant
        if common == self.id:
            control.use_here(engine, context.id, service.id, service.number, granted)
        else:
            parent = engine.context(common)
            engine.share_package(parent)
            parent.service(control.use, context.id, service.id, service.number, granted)

    def listen(self, path: "str | None" = None, *, limit: int = 1000, deadline: float = 5.0) -> "Listener":
        """Let other processes of this user join here, as clients: returns a ``Listener``, which makes invitations.

        The socket is ``path``, in a directory that is this user's and nobody else's; by default one in a new directory,
        which goes with the listener. ``limit``: so many clients at once; ``deadline``: seconds to say who they are.
        UsageError when another process listens there, or when file or directory are not as they have to be."""
        from contextree.parent import listen

        return listen.listen(self.engine, path, limit, deadline)

    def _path(self, number: int) -> "list[int]":
        """Ids from this context down to ``number``."""
        path = [number]
        while number in self.engine.infos and number != self.id:
            number = self.engine.infos[number].parent
            path.insert(0, number)
        return path

    def channel(self, timeout: "float | None" = None) -> "Channel":
        """A two-way channel with its far end in this context: pass it to a call, which can talk with us by it.

        ``timeout``: seconds that ``send`` and ``receive`` wait here when they are not told."""
        from contextree.parent import channel

        self.engine.check_fork()
        return channel.make(self.engine.core, self.id, core_calls.PROTOCOL, timeout=timeout)

    def tree(self) -> str:
        """The tree as text: names, ids, pids, how each was reached, state, Python, seconds to start, round trip,
        traffic."""
        self.engine.check_fork()
        rows = [("context", "id", "pid", "by", "state", "python", "start", "rtt", "in", "out")]
        infos = list(self.engine.infos.values())

        def add(info: "Info", depth: int) -> None:
            facts = info.facts
            link = info.link if info.id == info.link.peer else None
            rows.append((
                "  " * depth + info.name, str(info.id), str(facts.get("pid", "?")),
                str(facts.get("via", "?")).rstrip(":"), info.state,
                ".".join(str(part) for part in facts.get("version", ("?",))),
                "%.1f ms" % (1000 * facts["started"]) if "started" in facts else "?",
                "%.2f ms" % (1000 * link.rtt) if link and link.rtt is not None else "",
                size(link.bytes_in) if link else "", size(link.bytes_out) if link else ""))
            for child in infos:
                if child.parent == info.id:
                    add(child, depth + 1)

        for info in infos:
            if info.parent == self.id:
                add(info, 0)
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)

    def stats(self) -> "dict[str, Any]":
        """Counters of the loop, the router, the police and every link; cheap enough to ask each second."""
        engine = self.engine
        engine.check_fork()
        return {"loop": engine.broker.stats(), "router": dict(engine.core.count, channels=len(engine.core.channels)),
                "police": dict(engine.count), "modules": dict(engine.modules.count),
                "children": engine.reaper.stats() if engine.reaper else {},
                "links": {engine.core.names.get(number, number): branch.link.stats()
                          for number, branch in list(engine.children.items())}}


def size(count: int) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 10000:
            return "%d %s" % (count, unit)
        count //= 1000
    return "%d GB" % count


def current_router() -> Router:
    """The router of the context whose code is running: inside a call, or in a child process. Any thread.

    Raises UsageError where this process is no context that somebody started.

    >>> web.call(lambda: contextree.current_router().name)
    'web'
    """
    from contextree.core import main as life
    from contextree.parent.engine import engine_of

    core = getattr(core_calls.here, "router", None) or (life.child and life.child.router)  # type: Any
    if core is None:
        raise UsageError("this is not a context: only code that contextree runs there has a current router")
    return Router(engine_of(core))
