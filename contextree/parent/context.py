"""Context handles: calls into a context, facts about it, its end. Programs in it: runner."""

from contextree.core import calls as core_calls
from contextree.core import process
from contextree.core.wire import values
from contextree.core.wire.errors import CallTimeout, Closed, ContextDied, ContextreeError, UsageError
from contextree.core.wire.frames import CALL, CONTROL, MAIN, PICKLE, PICKLE5, PING, SERVICE, STREAM, frame
from contextree.core.wire.routes import FULL_NAME, valid_name
from contextree.parent import calls, waits
from contextree.parent.grower import Grower
from contextree.parent.lasting import Lasting
from contextree.parent.mover import Mover
from contextree.parent.pickling import pack_call, pack_value
from contextree.parent.runner import Runner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import AbstractSet, Any, AsyncIterable, Callable, Coroutine, Iterable, Sequence, TypeVar, overload

    from typing_extensions import ParamSpec, Unpack

    from contextree.connect.plan import Plan
    from contextree.core.router import Channel as CoreChannel
    from contextree.parent.channel import Channel
    from contextree.parent.engine import Engine
    from contextree.parent.future import CallFuture
    from contextree.parent.options import CallOptions

    P = ParamSpec("P")
    T = TypeVar("T")

PICKLES = PICKLE | (PICKLE5 if core_calls.PROTOCOL == 5 else 0)  # what answers may be


class Context(Grower, Runner, Mover, Lasting):
    """One context of the tree, as seen from here. The same object for the same id, within one router.

    Handles may be passed to calls and come back as the same object.

    >>> web.call(abs, -42)
    42
    >>> web.name, web.state
    ('web', 'up')
    """

    def __init__(self, engine: "Engine", number: int, name: str) -> None:
        self.engine = engine
        self.id = number
        self.name = name
        self.options = {}  # type: dict[str, Any]
        self.shared = set()  # type: set[str]

    def __repr__(self) -> str:
        return "<Context %d %s>" % (self.id, self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and other.id == self.id and other.engine is self.engine

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> "tuple[Any, ...]":
        return restore, (self.id, self.name)

    def __copy__(self) -> "Context":
        return self

    def __deepcopy__(self, memo: object) -> "Context":
        return self

    # -- calls

    if TYPE_CHECKING:  # what a function returns there comes back here; of a coroutine function, what it is awaited for
        @overload
        def call(self, __function: "Callable[P, Coroutine[Any, Any, T]]", *args: "P.args", **kwargs: "P.kwargs") -> "T":
            ...

        @overload
        def call(self, __function: "Callable[P, T]", *args: "P.args", **kwargs: "P.kwargs") -> "T":
            ...

    def call(self, __function: "Callable[..., Any]", *args: "Any", **kwargs: "Any") -> "Any":
        """Run ``function(*args, **kwargs)`` there and return its result.

        Exceptions are re-raised as themselves where they are builtin, registered, or this context is trusted, with a
        RemoteError as cause; as RemoteError otherwise. ContextDied when the context ends, CallTimeout after the timeout
        of ``with_options``, NotSendable when something cannot be sent."""
        return calls.call(self, __function, args, kwargs, self.options)

    if TYPE_CHECKING:
        @overload
        def submit(self, __function: "Callable[P, Coroutine[Any, Any, T]]", *args: "P.args",
                   **kwargs: "P.kwargs") -> "CallFuture[T]":
            ...

        @overload
        def submit(self, __function: "Callable[P, T]", *args: "P.args", **kwargs: "P.kwargs") -> "CallFuture[T]":
            ...

    def submit(self, __function: "Callable[..., Any]", *args: "Any", **kwargs: "Any") -> "CallFuture[Any]":
        """As ``call``, without waiting: a ``concurrent.futures.Future``."""
        return calls.submit(self, __function, args, kwargs, self.options)

    if TYPE_CHECKING:
        @overload
        def stream(self, __function: "Callable[P, Iterable[T]]", *args: "P.args",
                   **kwargs: "P.kwargs") -> "calls.Stream[T]":
            ...

        @overload
        def stream(self, __function: "Callable[P, AsyncIterable[T]]", *args: "P.args",
                   **kwargs: "P.kwargs") -> "calls.Stream[T]":
            ...

    def stream(self, __function: "Callable[..., Any]", *args: "Any", **kwargs: "Any") -> "calls.Stream[Any]":
        """Iterate here over what ``function(*args, **kwargs)`` yields there; it waits while we do not take."""
        return calls.Stream(self, __function, args, kwargs, self.options)

    def channel(self) -> "Channel":
        """A two-way channel with its far end in this context, where it arrives as an argument of a call.

        Costs no round trip: it is opened when it is first used here. Passed unused to a third context, it is that one
        which talks with this one (siblings by ``Router.grant``)."""
        from contextree.parent import channel

        info = self.engine.infos.get(self.id)
        protocol = 5 if info is None or tuple(info.facts.get("version", ())) >= (3, 8) else 4
        return channel.make(self.engine.core, self.id, protocol, timeout=self.options.get("timeout"))

    def with_options(self, **options: "Unpack[CallOptions]") -> "Context":
        """The same context with other options for its calls: ``timeout`` in seconds for each (for a stream: for each
        item). ``threads``: run them there on a pool of up to as many threads instead of one by one on its main thread.
        ``cancel``: what the end of a call by cancel or timeout does to its function: ``"tell"`` (the default: see
        ``current_call``), ``"raise"`` CallCancelled or CallTimeout in it, ``"kill"`` the process, forked for it alone,
        that it runs in. What is not given stays as it is."""
        for name in options:
            if name not in ("timeout", "threads", "cancel"):
                raise TypeError("with_options() has no option %r; there are timeout, threads and cancel" % name)
        calls.check_cancel(options.get("cancel", "tell"))
        twin = Context(self.engine, self.id, self.name)
        twin.shared = self.shared
        twin.options = dict(self.options, **options)
        return twin

    def pack_call(self, kind: int, function: "Callable[..., Any]", args: "tuple[Any, ...]", kwargs: "dict[str, Any]",
                  options: "dict[str, Any]") -> "tuple[Any, int, AbstractSet[str]]":
        """Encode a call for this context: (bytes or buffers, flags, names of the modules that it needs)."""
        info = self.engine.infos.get(self.id)  # type: Any
        version = info and info.facts.get("version")
        by_name = (info and info.facts.get("main")) or self.engine.main_by_name
        if options.get("cancel", "tell") != "tell":
            function, args = calls.wrapped(options["cancel"], kind, function, args)
        return pack_call(function, args, kwargs, version, by_name)

    def open_call(self, kind: int, function: "Callable[..., Any]", args: "tuple[Any, ...]", kwargs: "dict[str, Any]",
                  options: "dict[str, Any]", message: "Callable[..., object]", end: "Callable[..., object]",
                  flush: bool = True, service: int = 0, fin: bool = True,
                  packed: "tuple[Any, int, AbstractSet[str]] | None" = None) -> "CoreChannel":
        """Open a channel for a call; the modules that it needs are shared first. Never waits for anything but those.

        ``fin``: all is said with it. ``packed``: the call as ``pack_call`` has encoded it, where it has."""
        engine = self.engine
        engine.check_fork()
        info = engine.infos.get(self.id)
        # the timeout of a stream is for each of its items; what contextree itself does is needed to clean up, too
        timeout = None if service else calls.time_limit({} if kind == STREAM else options)
        data, flags, modules = packed or self.pack_call(kind, function, args, kwargs, options)
        if modules and not modules <= self.shared:
            engine.share(self, modules, flags & MAIN)
        trusted = self.id in engine.above or (info is not None and info.trusted)
        channel = engine.core.open(self.id, kind, data, flags | service | (PICKLES if trusted else 0),
                                   options.get("threads") or 0, calls.milliseconds(timeout), fin, on_message=message,
                                   on_end=end, flush=flush, pickles=trusted)
        return channel if service else calls.opened(channel)

    def pack_value(self, value: object) -> "Any":
        """Encode a value for this context, which is below us; the modules that it needs are shared first."""
        engine = self.engine
        info = engine.infos.get(self.id)  # type: Any
        by_name = (info and info.facts.get("main")) or engine.main_by_name
        data, flags, modules = pack_value(value, info and info.facts.get("version"), by_name)
        if modules and not modules <= self.shared:
            engine.share(self, modules, flags & MAIN)
        return data

    def service(self, function: "Callable[..., T]", *args: object, timeout: "float | None" = None) -> "T":
        """Run a function of contextree itself there, on a thread of its own."""
        reply = calls.Reply(self.engine)
        channel = self.open_call(core_calls.CALL, function, args, {}, {}, reply.message, reply.end, service=SERVICE)
        try:
            if not reply.waiter.wait(timeout):
                raise CallTimeout("%s did not answer within %s s" % (self.name, timeout))
        except BaseException:
            channel.cancel()
            raise
        if reply.data is None:
            raise calls.copied(reply.error)
        return calls.unpack(  # type: ignore[no-any-return]  # a T
            self.engine, channel.pickles, reply.data, channel.peer)

    # -- growing and ending

    def check_plan(self, plan: "Plan", options: "dict[str, Any]") -> "tuple[dict[str, Any], int]":
        """See that a child may grow here by ``plan``: (options for it, threads for its calls). UsageError."""
        self.engine.check_fork()
        last = plan.name.replace("{id}", "1" * 10) if isinstance(plan.name, str) else ""
        if not valid_name(last):
            raise UsageError("%r cannot be a name: wanted 1 to 128 letters, digits and _.@:-" % (plan.name,))
        if self.id and len(self.name) + 1 + len(last) > FULL_NAME:
            raise UsageError("%s.%s is longer than %d characters: give shorter names by name="
                             % (self.name, plan.name, FULL_NAME))
        options = dict(options)
        threads = options.pop("threads", 0)
        if "heartbeat" in options:
            from contextree.parent import heartbeat

            heartbeat.checked(options["heartbeat"])
        return options, threads

    def _grow(self, plan: "Plan", options: "dict[str, Any]") -> "Context":
        from contextree.parent import control

        if options.get("wait", True):
            waits.check(self.engine)
        options, threads = self.check_plan(plan, options)
        if self.id == self.engine.core.id:
            number = control.grow_here(self.engine, plan, options).id
        else:
            options = self.engine.ahead(self, plan, options)
            plan = self.engine.handed_on(self, plan)
            options["token"] = token = self._token()
            try:
                number = self.service(control.grow, plan, options)
            except ContextreeError:
                raise
            except BaseException:
                self._forget_child(token)
                raise
        context = self.engine.context(number)
        return context.with_options(threads=threads) if threads else context

    def _token(self) -> "tuple[int, int]":
        """What to call a child that is asked for there; nobody else says it."""
        return self.engine.core.id, next(self.engine.core.numbers)

    def _forget_child(self, token: "tuple[int, int]") -> None:
        """Have a child ended that was asked for there: its id, if it has one by now, will be known to nobody. Never
        waits."""
        from contextree.parent import control

        try:
            self.open_call(CALL, control.forget, (token,), {}, {}, lambda *message: None, lambda *end: None,
                           service=SERVICE)
        except ContextreeError:
            pass  # it is gone with its parent

    def _context(self) -> "Context":
        return self

    def shutdown(self, timeout: float = 3.0, force: bool = False) -> None:
        """End this context and its subtree; returns when it is gone and reaped. Siblings are untouched.

        It has ``timeout`` seconds to finish the running call (``force``: none); then it is terminated, and killed 2
        seconds later. Idempotent."""
        engine = self.engine
        if self.id == engine.core.id:
            raise UsageError("a context cannot shut itself down")
        engine.check_fork()
        waits.check(engine)
        info = engine.infos.get(self.id)
        if info is None:
            return
        from contextree.parent import control

        if info.parent == engine.core.id:
            control.shutdown_here(engine, self.id, 0.0 if force else timeout, 0.0 if force else 2.0)
        else:
            try:
                engine.context(info.parent).service(control.shutdown, self.id, 0.0 if force else timeout,
                                                    0.0 if force else 2.0)
            except ContextDied:
                pass  # its parent ended, and it with it
        engine.wait_gone(self.id, 5.0)

    def kill(self) -> None:
        """End it at once: KILL for its process group."""
        self.shutdown(0.0, True)

    def wait(self, timeout: "float | None" = None) -> ContextDied:
        """Wait until the context has ended; returns the ContextDied that says how. Raises CallTimeout."""
        self.engine.check_fork()
        # another ContextreeError where it never was up
        return self.engine.wait_gone(self.id, timeout)  # type: ignore[return-value]

    # -- facts

    @property
    def state(self) -> str:
        """``connecting``, ``up`` or ``died``."""
        info = self.engine.infos.get(self.id)
        if info is not None:
            return info.state
        return "died" if self.id in self.engine.gone else "up"

    @property
    def facts(self) -> "dict[str, Any]":
        """What it said of itself: pid, version, executable, uid, platform, method, started (seconds until it was
        up)."""
        info = self.engine.infos.get(self.id)
        return {key: value for key, value in info.facts.items() if key != "main"} if info else {}

    @property
    def pid(self) -> "int | None":
        """Its process id, on its machine."""
        return self.facts.get("pid")

    @property
    def address(self) -> str:
        """How it was reached from here, as ``open`` takes it: ``ssh://web1/sudo:root``. Options that do not say which
        target it is are not in it, nor is anything secret."""
        hops = []  # type: list[str]
        info = self.engine.infos.get(self.id)
        while info is not None:
            hops.insert(0, info.facts.get("via", "?"))
            info = self.engine.infos.get(info.parent)
        return "/".join(hops)

    @property
    def parent(self) -> "Context | None":
        """The context that it is a child of, as far as it is below this one."""
        info = self.engine.infos.get(self.id)
        return self.engine.context(info.parent) if info else None

    @property
    def children(self) -> "list[Context]":
        """Its direct children."""
        return [self.engine.context(info.id) for info in list(self.engine.infos.values()) if info.parent == self.id]

    def ping(self, timeout: "float | None" = None) -> float:
        """Seconds to its loop thread and back, whatever its calls do."""
        waiter = waits.waiter(self.engine)
        ping = self.begin_ping(waiter.wake)
        try:
            return self.end_ping(ping, waiter.wait(timeout), timeout)
        finally:
            self.engine.core.pings.pop(ping[0], None)

    def begin_ping(self, wake: "Callable[[], object]") -> "tuple[tuple[int, int], float]":
        """The first half of ``ping``, for event loops: ``wake()`` is called when the answer is there, or will never be;
        then ``end_ping`` tells."""
        engine = self.engine
        engine.check_fork()
        core = engine.core
        link = core.link_to(self.id)
        if core.closed:
            raise Closed(str(core.closed))
        if link is None or link.closed:
            error = engine.no_way(self.id)
            if link is None or error is not None:
                raise error or ContextDied("there is no way to %s" % self.name)
        key = self.id, next(core.numbers) & 0xffffffff
        core.pings[key] = wake
        start = core.broker.clock()
        link.send(CONTROL, frame(PING, 0, CONTROL, key[1], self.id, core.id))
        return key, start

    def end_ping(self, ping: "tuple[tuple[int, int], float]", answered: bool, timeout: "float | None") -> float:
        """The time that a ping took; raises CallTimeout where it was not ``answered`` within ``timeout``."""
        core = self.engine.core
        if not answered:
            raise CallTimeout("%s did not answer a ping within %s s" % (self.name, timeout))
        error = self.engine.no_way(self.id) if self.id in self.engine.gone else None
        if error is not None:
            raise error
        if core.closed:
            raise Closed(str(core.closed))
        return core.broker.clock() - ping[1]

    def dump(self, timeout: float = 10.0) -> str:
        """The stacks of all threads there, as text, even while its main thread is busy."""
        from contextree.parent import control

        self.engine.share_package(self)
        return self.service(control.dump, timeout=timeout)

    def __enter__(self) -> "Context":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()


def restore(number: int, name: str) -> Context:
    """The handle for a context that was passed in a message: the same object as before, in the router that is
    unpickling."""
    from contextree.core import main as life
    from contextree.parent.engine import engine_of

    core = getattr(core_calls.here, "router", None) or (life.child and life.child.router)  # type: Any
    if core is None:
        raise UsageError("<Context %d %s> means nothing here: a context is unpickled where it is an argument or a "
                         "result of a call, or within a context" % (number, name))
    context = engine_of(core).context(number, name)
    if context.name != name:  # names are given once, and are the same everywhere
        raise UsageError("<Context %d %s> is of another tree: here %d is %s" % (number, name, number, context.name))
    return context


def restore_plain(plain: "Any") -> Context:
    """``restore`` for what came as plain data: a context that is known here already, by its true name."""
    number, name = plain
    engine = core_calls.here.router.engine
    if number not in engine.infos and number not in engine.gone and number != engine.core.id:
        raise UsageError("a context %.40r that is not known here" % (number,))
    return restore(number, str(name))


values.register(Context, "contextree.Context", lambda context: [context.id, context.name], restore_plain)
