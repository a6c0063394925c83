"""Context handles, and the methods that grow the tree, the same for a router and for every context in it."""

from contextree.connect import local as local_method
from contextree.connect import ssh as ssh_method
from contextree.core import calls as core_calls
from contextree.core import process
from contextree.core.wire import values
from contextree.core.wire.errors import CallTimeout, Closed, ContextDied, UsageError
from contextree.core.wire.frames import CONTROL, MAIN, PICKLE, PICKLE5, PING, SERVICE, frame
from contextree.core.wire.routes import FULL_NAME, valid_name
from contextree.parent import calls
from contextree.parent.pickling import pack_call, pack_value
from contextree.parent.template import fork_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from contextree.parent.channel import Channel
    from contextree.parent.transfer import Transferred

PICKLES = PICKLE | (PICKLE5 if core_calls.PROTOCOL == 5 else 0)  # what answers may be


class Grower:
    """``fork``, ``local``, ``ssh``: children of this context. Each blocks until the child is up and returns its
    Context; each raises ConnectError (phase, command, status, last lines in its fields). From any thread but the
    loop's.

    Common to all of them: ``name`` (its part of the full name), ``via`` (the context whose child it becomes; this one
    if not given), ``on_start`` (functions to run there before the first call), ``threads`` (how many calls may run
    there at once; 0: one at a time, on the main thread)."""

    engine = None  # type: Any  # that of the tree

    def grow(self, plan, via=None, **options) -> "Context":
        """Start a child by any ``contextree.connect.plan.Plan``: for connection methods of your own."""
        return self._parent(via)._grow(plan, options)

    def _parent(self, via) -> "Any":
        """Where a child is to grow: ``via``, a Context or a Router of this tree, or here."""
        if via is None:
            return self
        if not isinstance(via, Grower) or via.engine is not self.engine:
            raise UsageError("via= wants a context of this tree, not %r" % (via,))
        return via

    def fork(self, direct: bool = False, name: "str | None" = None, via=None, **options) -> "Context":
        """A forked child: from a clean template process, or (``direct``) of this very process with its memory.

        ``direct`` is for the process that calls; other contexts fork from their template."""
        return self._parent(via)._grow(fork_plan(name), dict(options, direct=direct))

    def local(self, python=None, env=None, name: "str | None" = None, via=None, **options) -> "Context":
        """A new interpreter on the machine of this context: ``python`` is its command, this interpreter by default."""
        return self.grow(local_method.plan(python=python, env=env, name=name), via, **options)

    def ssh(self, host: str, via=None, on_start=(), threads: int = 0, wait: bool = True, **options) -> "Context":
        """An interpreter on ``host``, by the system's ssh. Options: see ``contextree.connect.ssh.plan``."""
        return self.grow(ssh_method.plan(host, **options), via, on_start=on_start, threads=threads, wait=wait)


class Context(Grower):
    """One context of the tree, as seen from here. The same object for the same id, within one router.

    Handles may be passed to calls and come back as the same object.

    >>> web.call(abs, -42)
    42
    >>> web.name, web.state
    ('web', 'up')
    """

    def __init__(self, engine, number: int, name: str) -> None:
        self.engine = engine
        self.id = number
        self.name = name
        self.options = {}
        self.shared = set()

    def __repr__(self) -> str:
        return "<Context %d %s>" % (self.id, self.name)

    def __eq__(self, other) -> bool:
        return isinstance(other, Context) and other.id == self.id and other.engine is self.engine

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self):
        return restore, (self.id, self.name)

    def __copy__(self) -> "Context":
        return self

    def __deepcopy__(self, memo) -> "Context":
        return self

    # -- calls

    def call(self, __function, *args, **kwargs):
        """Run ``function(*args, **kwargs)`` there and return its result.

        Exceptions are re-raised as themselves where they are builtin, registered, or this context is trusted, with a
        RemoteError as cause; as RemoteError otherwise. ContextDied when the context ends, CallTimeout after the timeout
        of ``with_options``, NotSendable when something cannot be sent."""
        return calls.call(self, __function, args, kwargs, self.options)

    def submit(self, __function, *args, **kwargs):
        """As ``call``, without waiting: a ``concurrent.futures.Future``."""
        return calls.submit(self, __function, args, kwargs, self.options)

    def stream(self, __function, *args, **kwargs) -> calls.Stream:
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

    # -- files

    def put(self, source, destination, *, mode: "int | None" = None, owner: "int | str | None" = None,
            group: "int | str | None" = None, preserve: "bool | str" = False, resume: bool = False, sparse: bool = True,
            fsync: bool = True, links: str = "keep", special: str = "error", max_size: "int | None" = None,
            progress=None) -> "Transferred":
        """Put ``source`` (a path as str or PathLike, the bytes themselves, or a binary file object) at the path
        ``destination`` there. Either all of it is in place when this returns, checked by its hash and on the disk, or
        nothing is and an exception says why: OSError with the path there, TransferError, ContextDied, CallTimeout.

        A folder goes with all that is in it. The options are told in docs/howto/files.md."""
        from contextree.parent import files

        return files.put(self, source, destination, files.options_of(
            mode, owner, group, preserve, resume, sparse, fsync, links, special, max_size), progress)

    def get(self, source, destination, *, mode: "int | None" = None, owner: "int | str | None" = None,
            group: "int | str | None" = None, preserve: "bool | str" = False, resume: bool = False, sparse: bool = True,
            fsync: bool = True, links: str = "keep", special: str = "error", max_size: "int | None" = None,
            progress=None) -> "Transferred":
        """Get the file or folder ``source`` from there to ``destination``: a path here, or a binary file object to
        write to. As ``put`` in all else.

        The other end has no say in where anything is put, and a name, a link or a length that does not fit ends the
        transfer with nothing in place."""
        from contextree.parent import files

        return files.get(self, source, destination, files.options_of(
            mode, owner, group, preserve, resume, sparse, fsync, links, special, max_size), progress)

    def read_bytes(self, source, max_size: int = 1 << 30) -> bytes:
        """The content of the file ``source`` there. TransferError if it has more than ``max_size`` bytes."""
        from contextree.parent import files

        return files.read_bytes(self, source, max_size)

    def copy_to(self, source, other: "Context", destination, *, mode: "int | None" = None,
                owner: "int | str | None" = None, group: "int | str | None" = None, preserve: "bool | str" = False,
                resume: bool = False, sparse: bool = True, fsync: bool = True, links: str = "keep",
                special: str = "error", max_size: "int | None" = None, progress=None) -> "Transferred":
        """Copy the file or folder ``source`` of this context to the path ``destination`` of the context ``other``, as
        ``get`` and ``put`` would, without storing it on the way: the lowest context above both hands it on.

        No grant is needed, and none is given."""
        from contextree.parent import files

        return files.copy(self, source, other, destination, files.options_of(
            mode, owner, group, preserve, resume, sparse, fsync, links, special, max_size), progress)

    def with_options(self, **options) -> "Context":
        """The same context with other options for its calls: ``timeout`` in seconds for each, ``threads``: run them
        there on a pool of up to as many threads instead of one by one on its main thread. What is not given stays as it
        is."""
        for name in options:
            if name not in ("timeout", "threads"):
                raise TypeError("with_options() has no option %r; there are timeout and threads" % name)
        twin = Context(self.engine, self.id, self.name)
        twin.shared = self.shared
        twin.options = dict(self.options, **options)
        return twin

    def open_call(self, kind, function, args, kwargs, options, message, end, flush=True, service=0, fin=True):
        """Open a channel for a call; the modules that it needs are shared first. ``fin=False``: the call is not all
        that will be sent on it."""
        engine = self.engine
        engine.check_fork()
        info = engine.infos.get(self.id)
        version = info and info.facts.get("version")
        by_name = (info and info.facts.get("main")) or engine.main_by_name
        data, flags, modules = pack_call(function, args, kwargs, version, by_name)
        if modules and not modules <= self.shared:
            engine.share(self, modules, flags & MAIN)
        trusted = self.id in engine.above or (info is not None and info.trusted)
        timeout = options.get("timeout")
        return engine.core.open(self.id, kind, data, flags | service | (PICKLES if trusted else 0),
                                options.get("threads") or 0,
                                max(1, int(timeout * 1000)) if timeout else 0, fin, on_message=message, on_end=end,
                                flush=flush, pickles=trusted)

    def pack_value(self, value):
        """Encode a value for this context, which is below us; the modules that it needs are shared first."""
        engine = self.engine
        info = engine.infos.get(self.id)
        by_name = (info and info.facts.get("main")) or engine.main_by_name
        data, flags, modules = pack_value(value, info and info.facts.get("version"), by_name)
        if modules and not modules <= self.shared:
            engine.share(self, modules, flags & MAIN)
        return data

    def service(self, function, *args, timeout=None):
        """Run a function of contextree itself there, on a thread of its own."""
        reply = calls.Reply()
        channel = self.open_call(core_calls.CALL, function, args, {}, {}, reply.message, reply.end, service=SERVICE)
        if not reply.waiter.wait(timeout):
            channel.cancel()
            raise CallTimeout("%s did not answer within %s s" % (self.name, timeout))
        if reply.data is None:
            raise calls.copied(reply.error)
        return calls.unpack(self.engine, channel.pickles, reply.data, channel.peer)

    # -- growing and ending

    def _grow(self, plan, options):
        self.engine.check_fork()
        from contextree.parent import control

        last = plan.name.replace("{id}", "1" * 10) if isinstance(plan.name, str) else ""
        if not valid_name(last):
            raise UsageError("%r cannot be a name: wanted 1 to 128 letters, digits and _.@:-" % (plan.name,))
        if self.id and len(self.name) + 1 + len(last) > FULL_NAME:
            raise UsageError("%s.%s is longer than %d characters: give shorter names by name="
                             % (self.name, plan.name, FULL_NAME))
        if options.get("threads"):
            options = dict(options)
        threads = options.pop("threads", 0)
        if self.id == self.engine.core.id:
            number = control.grow_here(self.engine, plan, options).id
        else:
            self.engine.share_package(self)
            number = self.service(control.grow, plan, options)
        context = self.engine.context(number)
        return context.with_options(threads=threads) if threads else context

    def shutdown(self, timeout: float = 3.0, force: bool = False) -> None:
        """End this context and its subtree; returns when it is gone and reaped. Siblings are untouched.

        It has ``timeout`` seconds to finish the running call (``force``: none); then it is terminated, and killed 2
        seconds later. Idempotent."""
        engine = self.engine
        if self.id == engine.core.id:
            raise UsageError("a context cannot shut itself down")
        engine.check_fork()
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

    def detach(self) -> None:
        """Let it survive the loss of its parent: whatever becomes of that, it ends when the call that runs there then
        ends.

        Until then nothing changes; ``shutdown`` and ``kill`` still end it. Returns when it knows. A terminal that its
        command runs on (``sudo``, passwords for ``ssh``) is hung up all the same."""
        engine = self.engine
        engine.check_fork()
        from contextree.parent import control

        info = engine.infos.get(self.id)
        if info is None:
            raise UsageError("only a context below this one can be detached, and %s is none" % self.name)
        if info.parent == engine.core.id:
            engine.share_package(self)
            control.detach_here(engine, self.id)
        else:
            engine.context(info.parent).service(control.detach, self.id)

    def kill(self) -> None:
        """End it at once: KILL for its process group."""
        self.shutdown(0.0, True)

    def wait(self, timeout: "float | None" = None) -> ContextDied:
        """Wait until the context has ended; returns the ContextDied that says how. Raises CallTimeout."""
        self.engine.check_fork()
        return self.engine.wait_gone(self.id, timeout)

    # -- facts

    @property
    def state(self) -> str:
        """``connecting``, ``up`` or ``died``."""
        info = self.engine.infos.get(self.id)
        if info is not None:
            return info.state
        return "died" if self.id in self.engine.gone else "up"

    @property
    def facts(self) -> dict:
        """What it said of itself: pid, version, executable, uid, platform, method, started (seconds until it was
        up)."""
        info = self.engine.infos.get(self.id)
        return {key: value for key, value in info.facts.items() if key != "main"} if info else {}

    @property
    def pid(self) -> "int | None":
        """Its process id, on its machine."""
        return self.facts.get("pid")

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
        engine = self.engine
        engine.check_fork()
        core = engine.core
        link = core.link_to(self.id)
        if core.closed:
            raise Closed(str(core.closed))
        if link is None or link.closed:
            raise engine.no_way(self.id)
        waiter = process.Waiter()
        number = next(core.numbers) & 0xffffffff
        core.pings[self.id, number] = waiter.wake
        start = core.broker.clock()
        link.send(CONTROL, frame(PING, 0, CONTROL, number, self.id, core.id))
        if not waiter.wait(timeout):
            core.pings.pop((self.id, number), None)
            raise CallTimeout("%s did not answer a ping within %s s" % (self.name, timeout))
        if self.id in engine.gone:
            raise engine.no_way(self.id)
        if core.closed:
            raise Closed(str(core.closed))
        return core.broker.clock() - start

    def dump(self, timeout: float = 10.0) -> str:
        """The stacks of all threads there, as text, even while its main thread is busy."""
        from contextree.parent import control

        self.engine.share_package(self)
        return self.service(control.dump, timeout=timeout)

    def __enter__(self) -> "Context":
        return self

    def __exit__(self, *exc_info) -> None:
        self.shutdown()


def restore(number: int, name: str) -> Context:
    """The handle for a context that was passed in a message: the same object as before, in the router that is
    unpickling."""
    from contextree.core import main as life
    from contextree.parent.engine import engine_of

    core = getattr(core_calls.here, "router", None) or (life.child and life.child.router)
    if core is None:
        raise UsageError("<Context %d %s> means nothing here: a context is unpickled where it is an argument or a "
                         "result of a call, or within a context" % (number, name))
    context = engine_of(core).context(number, name)
    if context.name != name:  # names are given once, and are the same everywhere
        raise UsageError("<Context %d %s> is of another tree: here %d is %s" % (number, name, number, context.name))
    return context


def restore_plain(plain) -> Context:
    """``restore`` for what came as plain data: a context that is known here already, by its true name."""
    number, name = plain
    engine = core_calls.here.router.engine
    if number not in engine.infos and number not in engine.gone and number != engine.core.id:
        raise UsageError("a context %.40r that is not known here" % (number,))
    return restore(number, str(name))


values.register(Context, "contextree.Context", lambda context: [context.id, context.name], restore_plain)
