"""Services, as those who serve and those who call see them: ``serve``, ``Service``, ``expose``.

A handle says which service; it gives no right to call it. That is granted to contexts (``Router.grant_service``), and
checked by the routers on the way: see ``routing`` and ``reports``. What runs the calls is in ``serving``.

To the caller's half of calls (``calls``) a handle looks like a context: it has an id, options, and ``open_call``.
"""

from contextree.core import calls as core_calls
from contextree.core import main as life
from contextree.core import process
from contextree.core.wire import values
from contextree.core.wire.errors import Closed, NotSendable, UsageError
from contextree.core.wire.frames import MAIN, STREAM
from contextree.core.wire.routes import valid_name
from contextree.parent import calls
from contextree.parent.context import PICKLES
from contextree.parent.pickling import SCALARS, failure, pack_call
from contextree.parent.routing import USE, USE_STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from typing import Any, Callable, Generic, TypeVar

    from contextree.core.router import Channel
    from contextree.parent.context import Context
    from contextree.parent.engine import Engine
    from contextree.parent.future import CallFuture
    from contextree.parent.serving import Host, Services

    R = TypeVar("R")
else:
    R = None
    Generic = {R: object}  # the base of Methods: a subscript that needs no typing

MARK = "__contextree_expose__"


def expose(function: "Any" = None, *, allow: "Callable[..., object] | None" = None) -> "Any":
    """Mark a method of a class: objects of it that are served have it called by others. As ``@contextree.expose``, or
    ``@contextree.expose(allow=check)`` with a policy as ``Router.serve`` takes it, for this method alone.

    >>> class Cache:
    ...     @contextree.expose
    ...     def lookup(self, key):
    ...         return key.upper()
    >>> with router.serve("cache", Cache()) as cache:
    ...     cache.call.lookup("a")
    'A'
    """
    def mark(function: "Any") -> "Any":
        setattr(function, MARK, allow or True)
        return function

    return mark if function is None else mark(function)


def methods_of(thing: "Any", allow: "Any") -> "tuple[dict[str, Any], Any]":
    """What of ``thing`` is to be called by others: {name: (function, check or None)}, and the policy for all."""
    policy = None
    if isinstance(thing, dict):
        found = {name: (function, None) for name, function in thing.items()}
    else:
        found = {}
        for kind in reversed(type(thing).__mro__):
            for name, item in vars(kind).items():
                mark = getattr(getattr(item, "__func__", item), MARK, None)
                if mark is not None:
                    found[name] = getattr(thing, name), None if mark is True else mark
    if callable(allow):
        policy = allow
    elif allow is not None:
        checks = allow if isinstance(allow, dict) else dict.fromkeys([allow] if isinstance(allow, str) else allow, True)
        own, found = found, {}
        for name, check in checks.items():
            function = own[name][0] if name in own else None if isinstance(thing, dict) else getattr(thing, name, None)
            if not callable(function) or not (check is True or callable(check)):
                raise UsageError("allow= has %r: %r; wanted the name of a method, and True or a function"
                                 % (name, check))
            found[name] = function, own.get(name, (None, None))[1] if check is True else check
    for name, (function, _) in found.items():
        if type(name) is not str or name.startswith("_") or not callable(function):
            raise UsageError("%r cannot be a method of a service: its name begins with _, or it cannot be called"
                             % (name,))
    if not found:
        raise UsageError("%r exposes nothing: mark methods with @contextree.expose, or name them in allow=" % (thing,))
    return found, policy


def services_of(engine: "Engine") -> "Services":
    """The services of ``engine``, made now if there are none yet. Any thread."""
    from contextree.parent.serving import Services

    with engine.lock:
        if engine.services is None:
            engine.services = Services(engine)
        return engine.services  # type: ignore[no-any-return]  # made above


def serve(engine: "Engine", name: str, thing: "Any", threads: int, queue: int, allow: "Any",
          max_request: int) -> "Service":
    """See ``Router.serve``."""
    engine.check_fork()
    if not valid_name(name):
        raise UsageError("%r cannot be a name: wanted 1 to 128 letters, digits and _.@:-" % (name,))
    if threads < 1 or queue < 1:
        raise UsageError("a service needs a thread and room for a call")
    if engine.core.closed:
        raise Closed(str(engine.core.closed))
    found, policy = methods_of(thing, allow)
    services = services_of(engine)
    number = services.serve(name, found, policy, threads, queue, max_request)
    return Service(engine, engine.core.id, engine.core.name, number, name, sorted(found))


class Methods(Generic[R]):
    """``service.call``, ``.submit``, ``.stream``: called with the name of a method, or by attribute:
    ``service.call.lookup("x")``."""

    __slots__ = ("_service", "_how")

    def __init__(self, service: "Service", how: "Callable[..., Any]") -> None:
        self._service = service
        self._how = how

    def __call__(self, __method: str, *args: "Any", **kwargs: "Any") -> "Any":
        service = self._service
        return self._how(service, __method, args, kwargs, service.options)

    def __getattr__(self, name: str) -> "Any":
        if name.startswith("__") or name not in self._service.methods:
            raise AttributeError("the service %s has no method %r; it has %s" % (
                self._service.name, name, ", ".join(self._service.methods)))
        service, how = self._service, self._how

        def method(*args: "Any", **kwargs: "Any") -> "Any":
            return how(service, name, args, kwargs, service.options)

        method.__name__ = method.__qualname__ = name
        return method


class Service:
    """The handle of a service: made by ``Router.serve``, passed to calls as a Context is, found by clients in
    ``Client.services``. As a context manager its end is ``close()``.

    ``call``, ``submit`` and ``stream`` are as a Context's, with a method of the service in place of the function:
    ``service.call.lookup("x")``, or ``service.call("lookup", "x")``. Any thread may use it.

    >>> with router.serve("numbers", {"double": lambda number: 2 * number}) as numbers:
    ...     numbers.call.double(21), numbers.submit.double(4).result()
    (42, 8)
    """

    def __init__(self, engine: "Engine", owner: int, owner_name: str, number: int, name: str,
                 methods: "list[str]") -> None:
        self.engine = engine
        self.id = owner
        self.number = number
        self.name = name
        self.methods = methods
        self.options = {}  # type: dict[str, Any]
        self._owner_name = owner_name

    def __repr__(self) -> str:
        return "<Service %s of %s: %s>" % (self.name, self._owner_name, ", ".join(self.methods))

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, Service) and (other.id, other.number) == (self.id, self.number)
                and other.engine is self.engine)

    def __hash__(self) -> int:
        return hash((self.id, self.number))

    def __reduce__(self) -> "Any":
        return restore, (self.id, self._owner_name, self.number, self.name, self.methods)

    @property
    def context(self) -> "Context":
        """The Context that it lives in."""
        return self.engine.context(self.id, self._owner_name)

    @property
    def call(self) -> "Methods[Any]":
        """Call a method and wait for its result. Exceptions come as those of ``Context.call`` do. Refused without a
        grant, or when the policy says no; Closed after the end of the service; Overflow when too many calls of ours
        wait there."""
        return Methods(self, calls.call)

    @property
    def submit(self) -> "Methods[CallFuture[Any]]":
        """As ``call``, without waiting: a ``concurrent.futures.Future``."""
        return Methods(self, calls.submit)

    @property
    def stream(self) -> "Methods[calls.Stream[Any]]":
        """Iterate here over what a method yields there; it waits while we do not take."""
        return Methods(self, calls.Stream)

    def with_options(self, **options: "Any") -> "Service":
        """The same service with other options for its calls: ``timeout`` in seconds for each."""
        for name in options:
            if name != "timeout":
                raise TypeError("with_options() has no option %r; there is timeout" % name)
        twin = self._twin()
        twin.options = dict(self.options, **options)
        return twin

    def _twin(self) -> "Service":
        return Service(self.engine, self.id, self._owner_name, self.number, self.name, self.methods)

    def only(self, *methods: str) -> "Service":
        """A handle for no more than ``methods``: a grant for it is a grant for those alone. In the context that serves;
        UsageError elsewhere."""
        host = self._host("only()")
        for name in methods:
            if name not in self.methods:
                raise UsageError("the service %s has no method %r" % (self.name, name))
        twin = self._twin()
        twin.methods = sorted(set(methods))
        twin.number = self.engine.services.number(host, frozenset(methods))
        return twin

    def close(self, timeout: "float | None" = 5.0) -> None:
        """End it: later calls and those that wait get Closed; those that run may end within ``timeout`` seconds, else
        CallTimeout is raised here. Idempotent. In the context that serves; UsageError elsewhere."""
        engine = self.engine
        engine.check_fork()
        if engine.services is not None and self.id == engine.core.id and self.number in engine.services.ended:
            return
        self._host("close()")
        engine.services.close(self.number, timeout)  # pyright: ignore[reportOptionalMemberAccess]  # see _host

    def stats(self) -> "dict[str, int]":
        """Counters: calls, those that wait, threads, refusals. In the context that serves; UsageError elsewhere."""
        host = self._host("stats()")
        return dict(host.count, waiting=len(host.jobs.items), threads=host.running, unanswered=host.unanswered())

    def _host(self, what: str) -> "Host":
        self.engine.check_fork()
        if self.id != self.engine.core.id or self.engine.services is None:
            raise UsageError("%s is for %s, where the service %s lives" % (what, self._owner_name, self.name))
        host, _ = self.engine.services.table.get(self.number, (None, None))
        if host is None:
            raise Closed("the service %s was closed" % self.name)
        return host  # type: ignore[no-any-return]

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.engine.core.generation == process.generation and not self.engine.broker.closed:
            self.close()

    # -- what ``calls`` needs of a context

    @property
    def shared(self) -> "set[str]":
        """The names of modules that the context of the service may import."""
        return self.context.shared

    def pack_call(self, kind: int, method: str, args: "tuple[Any, ...]", kwargs: "dict[str, Any]",
                  options: "dict[str, Any]") -> "tuple[Any, int, AbstractSet[str]]":
        """Encode a call of ``method``: (bytes or buffers, flags, names of the modules that it needs)."""
        engine = self.engine
        info = engine.infos.get(self.id)
        if self.id == engine.core.id:
            return (method, args, kwargs), 0, set()  # from hand to hand
        if info is not None and not (SCALARS.issuperset(map(type, args))
                                     and SCALARS.issuperset(map(type, kwargs.values()))):
            return pack_call(method, args, kwargs, info.facts.get("version"), lambda value: False)
        if info is None and not (self.id in engine.above and engine.trusted):
            try:
                return b"\0" + values.encode([method, list(args), kwargs]), 0, set()
            except NotSendable as error:
                raise NotSendable("the call of %s cannot be sent from a context that %s does not trust: %s"
                                  % (method, self._owner_name, error)) from error
        try:  # the root has protocol 5 where we have it
            return core_calls.pack((method, args, kwargs), 4 if self.id else core_calls.PROTOCOL), 0, set()
        except Exception as error:
            raise failure(method, args, kwargs, error) from error

    def open_call(self, kind: int, method: str, args: "tuple[Any, ...]", kwargs: "dict[str, Any]",
                  options: "dict[str, Any]", message: "Callable[..., object]", end: "Callable[..., object]",
                  flush: bool = True, packed: "tuple[Any, int, AbstractSet[str]] | None" = None) -> "Channel":
        """Open a channel for a call of ``method``."""
        engine = self.engine
        engine.check_fork()
        deadline = calls.milliseconds(calls.time_limit({} if kind == STREAM else options))
        data, flags, modules = packed or self.pack_call(kind, method, args, kwargs, options)
        if modules and not modules <= self.shared:
            engine.share(self.context, modules, bool(flags & MAIN))
        if self.id == engine.core.id:
            return calls.opened(self._call_here(kind, data, deadline, message, end))
        info = engine.infos.get(self.id)
        trusted = self.id in engine.above or (info is not None and info.trusted)
        return calls.opened(engine.core.open(
            self.id, USE_STREAM if kind == STREAM else USE, data, PICKLES if trusted else 0, self.number, deadline,
            True, on_message=message, on_end=end, flush=flush, pickles=trusted))

    def _call_here(self, kind: int, what: "Any", deadline: int, message: "Callable[..., object]",
                   end: "Callable[..., object]") -> "Any":
        """A call within this context."""
        from contextree.parent.lines import Loopback
        from contextree.parent.serving import make_call

        host, names = self.engine.services.table.get(self.number, (None, None))
        if host is None:
            raise Closed("the service %s was closed" % self.name)
        channel = Loopback(self.id, message, end)
        call = make_call(host, channel, kind, PICKLES, deadline, what)
        call.granted = names
        host.put(call)
        return channel


def restore(owner: int, owner_name: str, number: int, name: str, methods: "list[str]") -> Service:
    """The handle of a service that was passed in a message, in the router that is unpickling."""
    from contextree.parent.engine import engine_of

    core = getattr(core_calls.here, "router", None) or (life.child and life.child.router)  # type: Any
    if core is None:
        raise UsageError("the service %s means nothing here: a handle is unpickled where it is an argument or a result "
                         "of a call, or within a context" % name)
    return Service(engine_of(core), owner, owner_name, number, name, methods)


def restore_plain(plain: "Any") -> Service:
    """``restore`` for what came as plain data: of a context that is known here."""
    owner, _, number, name, methods = plain
    engine = core_calls.here.router.engine
    if owner != engine.core.id and owner not in engine.infos and owner not in engine.above:
        raise UsageError("a service of a context %.40r that is not known here" % (owner,))
    if type(number) is not int or not 0 < number < 65536 or type(methods) is not list:
        raise UsageError("no handle of a service")
    return Service(engine, owner, engine.name_of(owner) or "?", number, str(name), [str(method) for method in methods])


values.register(Service, "contextree.Service", lambda service: list(service.__reduce__()[1]), restore_plain)
