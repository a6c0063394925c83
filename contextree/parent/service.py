"""Services, as those who serve and those who call see them: ``serve``, ``Service``, ``expose``.

A handle says which service; it gives no right to call it. That is granted to contexts (``Router.grant_service``), and
checked by the routers on the way: see ``routing`` and ``reports``. What runs the calls is in ``serving``.

To the caller's half of calls (``calls``) a handle looks like a context: it has an id, options, and ``open_call``.
"""

from contextree.core import calls as core_calls
from contextree.core import main as life
from contextree.core import process
from contextree.core.process import dumps
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
    from typing import Any

MARK = "__contextree_expose__"


def expose(function=None, *, allow=None):
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
    def mark(function):
        setattr(function, MARK, allow or True)
        return function

    return mark if function is None else mark(function)


def methods_of(thing, allow):
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


def services_of(engine):
    """The services of ``engine``, made now if there are none yet. Any thread."""
    from contextree.parent.serving import Services

    with engine.lock:
        if engine.services is None:
            engine.services = Services(engine)
        return engine.services


def serve(engine, name, thing, threads, queue, allow, max_request) -> "Service":
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


class Methods:
    """``service.call``, ``.submit``, ``.stream``: called with the name of a method, or by attribute:
    ``service.call.lookup("x")``."""

    __slots__ = ("_service", "_how")

    def __init__(self, service, how) -> None:
        self._service = service
        self._how = how

    def __call__(self, __method, *args, **kwargs):
        service = self._service
        return self._how(service, __method, args, kwargs, service.options)

    def __getattr__(self, name):
        if name.startswith("__") or name not in self._service.methods:
            raise AttributeError("the service %s has no method %r; it has %s" % (
                self._service.name, name, ", ".join(self._service.methods)))
        service, how = self._service, self._how

        def method(*args, **kwargs):
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

    def __init__(self, engine, owner, owner_name, number, name, methods) -> None:
        self.engine = engine
        self.id = owner
        self.number = number
        self.name = name
        self.methods = methods
        self.options = {}
        self._owner_name = owner_name

    def __repr__(self) -> str:
        return "<Service %s of %s: %s>" % (self.name, self._owner_name, ", ".join(self.methods))

    def __eq__(self, other) -> bool:
        return (isinstance(other, Service) and (other.id, other.number) == (self.id, self.number)
                and other.engine is self.engine)

    def __hash__(self) -> int:
        return hash((self.id, self.number))

    def __reduce__(self):
        return restore, (self.id, self._owner_name, self.number, self.name, self.methods)

    @property
    def context(self) -> "Any":
        """The Context that it lives in."""
        return self.engine.context(self.id, self._owner_name)

    @property
    def call(self) -> Methods:
        """Call a method and wait for its result. Exceptions come as those of ``Context.call`` do. Refused without a
        grant, or when the policy says no; Closed after the end of the service; Overflow when too many calls of ours
        wait there."""
        return Methods(self, calls.call)

    @property
    def submit(self) -> Methods:
        """As ``call``, without waiting: a ``concurrent.futures.Future``."""
        return Methods(self, calls.submit)

    @property
    def stream(self) -> Methods:
        """Iterate here over what a method yields there; it waits while we do not take."""
        return Methods(self, calls.Stream)

    def with_options(self, **options) -> "Service":
        """The same service with other options for its calls: ``timeout`` in seconds for each."""
        for name in options:
            if name != "timeout":
                raise TypeError("with_options() has no option %r; there is timeout" % name)
        twin = self._twin()
        twin.options = dict(self.options, **options)
        return twin

    def _twin(self):
        return Service(self.engine, self.id, self._owner_name, self.number, self.name, self.methods)

    def only(self, *methods) -> "Service":
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
        engine.services.close(self.number, timeout)

    def stats(self) -> dict:
        """Counters: calls, those that wait, threads, refusals. In the context that serves; UsageError elsewhere."""
        host = self._host("stats()")
        return dict(host.count, waiting=len(host.jobs.items), threads=host.running, unanswered=host.unanswered())

    def _host(self, what):
        self.engine.check_fork()
        if self.id != self.engine.core.id or self.engine.services is None:
            raise UsageError("%s is for %s, where the service %s lives" % (what, self._owner_name, self.name))
        host, _ = self.engine.services.table.get(self.number, (None, None))
        if host is None:
            raise Closed("the service %s was closed" % self.name)
        return host

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *exc_info) -> None:
        if self.engine.core.generation == process.generation and not self.engine.broker.closed:
            self.close()

    # -- what ``calls`` needs of a context

    def open_call(self, kind, method, args, kwargs, options, message, end, flush=True):
        """Open a channel for a call of ``method``."""
        engine = self.engine
        engine.check_fork()
        core = engine.core
        timeout = calls.time_limit({} if kind == STREAM else options)
        deadline = calls.milliseconds(timeout)
        running = calls.running()
        if self.id == core.id:
            channel = self._call_here(kind, (method, args, kwargs), deadline, message, end)
        else:
            channel = self._call_there(kind, method, args, kwargs, deadline, message, end, flush)
        if running is not None:
            calls.opened(running, channel)
        return channel

    def _call_there(self, kind, method, args, kwargs, deadline, message, end, flush):
        """A call of another context."""
        engine = self.engine
        info = engine.infos.get(self.id)
        above = self.id in engine.above
        if info is not None:
            data = self._pack_down(info, method, args, kwargs)
        elif above and engine.trusted:
            data = pack_up(method, args, kwargs, PICKLES if self.id == 0 else 0)
        else:
            try:
                data = b"\0" + values.encode([method, list(args), kwargs])
            except NotSendable as error:
                raise NotSendable("the call of %s cannot be sent from a context that %s does not trust: %s"
                                  % (method, self._owner_name, error)) from error
        trusted = above or (info is not None and info.trusted)
        return engine.core.open(self.id, USE_STREAM if kind == STREAM else USE, data, PICKLES if trusted else 0,
                                self.number, deadline, True, on_message=message, on_end=end, flush=flush,
                                pickles=trusted)

    def _pack_down(self, info, method, args, kwargs):
        """A call for a context below: whatever can be sent to it."""
        engine = self.engine
        if SCALARS.issuperset(map(type, args)) and SCALARS.issuperset(map(type, kwargs.values())):
            return b"\1" + dumps((method, args, kwargs), 4)
        data, flags, modules = pack_call(method, args, kwargs, info.facts.get("version"), lambda value: False)
        context = self.context
        if modules and not modules <= context.shared:
            engine.share(context, set(modules), flags & MAIN)
        return data

    def _call_here(self, kind, what, deadline, message, end):
        """A call within this context."""
        from contextree.parent.lines import Loopback
        from contextree.parent.serving import ServiceCall

        core = self.engine.core
        services = self.engine.services
        host, names = services.table.get(self.number, (None, None))
        if host is None:
            raise Closed("the service %s was closed" % self.name)
        channel = Loopback(core.id, message, end)
        call = ServiceCall(host, channel, kind, PICKLES, deadline, what, host.jobs)
        call.granted = names
        host.put(call)
        return channel


def pack_up(method, args, kwargs, protocol5):
    """A call for a context above that trusts us."""
    try:
        return core_calls.pack((method, args, kwargs), core_calls.PROTOCOL if protocol5 else 4)
    except Exception as error:
        raise failure(method, args, kwargs, error) from error


def restore(owner, owner_name, number, name, methods) -> Service:
    """The handle of a service that was passed in a message, in the router that is unpickling."""
    from contextree.parent.engine import engine_of

    core = getattr(core_calls.here, "router", None) or (life.child and life.child.router)
    if core is None:
        raise UsageError("the service %s means nothing here: a handle is unpickled where it is an argument or a result "
                         "of a call, or within a context" % name)
    return Service(engine_of(core), owner, owner_name, number, name, methods)


def restore_plain(plain) -> Service:
    """``restore`` for what came as plain data: of a context that is known here."""
    owner, _, number, name, methods = plain
    engine = core_calls.here.router.engine
    if owner != engine.core.id and owner not in engine.infos and owner not in engine.above:
        raise UsageError("a service of a context %.40r that is not known here" % (owner,))
    if type(number) is not int or not 0 < number < 65536 or type(methods) is not list:
        raise UsageError("no handle of a service")
    return Service(engine, owner, engine.name_of(owner) or "?", number, str(name), [str(method) for method in methods])


values.register(Service, "contextree.Service", lambda service: list(service.__reduce__()[1]), restore_plain)
