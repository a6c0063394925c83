"""The side of a service that serves: who may call, the pool that runs the calls, the end.

``Services`` is one for each engine. It gives every service a number, which calls carry in the head of their OPEN, so
that each router on the way can tell which service a frame is for (see ``routing``); and it is the opener of those
channels. A narrowed handle (``Service.only``) has a number of its own: the police need not know of methods.

A ``Host`` is one service. The loop thread puts calls into its ``Lines``: one line for each caller, served in turn, so
that a caller who floods waits behind itself alone. Threads of the pool take them, decode them by the trust in their
sender, ask the policy, run the method.

What callers may make us hold: ``queue`` calls each that wait; a request of at most ``max_request`` bytes; and
``PARTIAL`` bytes of requests that have not come whole, and as much of those that wait. These are counted for each link,
as who is behind a child's is the child's to say; for each caller where the router above has checked who it is. Beyond
that the call gets an error at once.

Why this file is long: a tenth of it are types of signatures.
"""

from itertools import count

from contextree.core import main as life
from contextree.core import process
from contextree.core.calls import ERROR, VALUE, Call, here, unpack
from contextree.core.mailbox import Mailbox
from contextree.core.wire import values
from contextree.core.wire.errors import (
    CallTimeout,
    Closed,
    ContextreeError,
    Overflow,
    PeerError,
    ProtocolError,
    Refused,
    UsageError,
)
from contextree.core.wire.frames import CALL, MORE, OPEN, REFUSED, STREAM
from contextree.parent import waits
from contextree.parent.lines import PARTIAL, Lines, Partial, holder
from contextree.parent.routing import USE, USE_STREAM, use_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from contextree.core.router import Channel
    from contextree.core.streams import Link
    from contextree.parent.engine import Engine

    Policy = Callable[..., object]
    Table = dict[int, tuple["Host", frozenset[str] | None]]

LAST = 65535  # numbers are not used again: a grant for one that has ended must never fit another


class ServiceCall(Call):
    """One call of a method. ``granted``: the names that its caller's handle has, or None for all. ``active``: so many
    threads are in ``run``; two for a moment, when one has put its generator back."""

    service = None  # type: Any  # a Host
    granted = None  # type: Any
    holder = None  # type: Any
    active = weight = 0
    awaited = False  # it was given to the asyncio loop

    def run(self) -> None:
        """Run it, or the next part of it, on the present thread and send the answer."""
        host = self.service
        here.call = self
        try:
            if self.generator is not None:
                return self.pump()
            if self.cancelled:
                return None
            if self.deadline and host.router.broker.clock() >= self.deadline:
                raise CallTimeout("its deadline was over before it could start")
            data, self.data = self.data, None
            method, args, kwargs = data if type(data) is tuple else decode(host.engine, self.channel, data)
            del data
            result = host.method(self, method, args, kwargs)(*args, **kwargs)
            del args, kwargs
            kind = type(result)
            if hasattr(kind, "__await__") or (self.kind == STREAM and hasattr(kind, "__aiter__")):
                from contextree.parent import coroutines

                self.awaited = True
                coroutines.start(self, result)
                if host.jobs.closed:  # it may have made the loop only after ``close`` looked for it
                    host.stop()
                return None
            if self.kind == STREAM:
                self.generator = iter(result)
                return self.pump()
            return self.answer(result, True)
        except BaseException as error:
            self.failed(error)
        finally:
            here.call = None
            with host.jobs.lock:
                self.active -= 1
                active = self.active
            if self.generator is None and not self.awaited:
                host.calls.discard(self)
            elif self.generator is not None and host.jobs.closed and not active:
                self.abort()

    def again(self) -> None:
        """Let the generator go on (or be closed), unless the service has ended: then ``abort`` does that."""
        try:
            Call.again(self)
        except Closed:
            pass
        if self.awaited and self.work.closed:
            process.start_thread(self.abort, ())

    def abort(self) -> None:
        """The service has ended before it: tell so, once. Not on the loop thread, as its generator is closed."""
        try:
            self.service.calls.remove(self)
        except KeyError:
            return
        generator, self.generator = self.generator, None
        try:
            if generator is not None and hasattr(generator, "close"):
                generator.close()
        except BaseException as error:
            return self.failed(error)
        self.failed(self.service.end_error())


def decode(engine: "Engine", channel: "Any", data: bytes) -> "Any":
    """What came, as (method, args, kwargs). Pickles are read from ancestors and from contexts that are trusted; from
    others only plain data."""
    found = None  # type: Any
    if not data or data[0] != VALUE:
        info = engine.infos.get(channel.peer)
        above = channel.link is engine.core.upstream
        if not (channel.peer in engine.above if above else info is not None and info.trusted):
            raise Refused("%s takes plain data only from context %d, which is not trusted"
                          % (engine.core.name, channel.peer))
        found = data and unpack(data)
    else:
        here.sender = channel.peer
        try:
            found = engine.decode(data[1:])
        finally:
            here.sender = None
    if (type(found) not in (list, tuple) or len(found) != 3 or type(found[0]) is not str
            or type(found[1]) not in (list, tuple) or type(found[2]) is not dict):
        raise ProtocolError("this is no call of a method")
    return found


def make_call(host: "Host", channel: "Any", kind: int, options: int, deadline: int, data: "Any") -> ServiceCall:
    """A ServiceCall: to its base class the host is what Calls is, and its Lines a Mailbox."""
    owner = host  # type: Any
    lines = host.jobs  # type: Any
    call = ServiceCall(owner, channel, kind, options, deadline, data, lines)
    call.holder = holder(host.engine, channel)
    return call


class Host:
    """One service: its methods, its pool. Made by ``Services.serve``."""

    main = None  # no call of a service runs on the main thread

    def __init__(self, engine: "Engine", name: str, methods: "dict[str, Any]", policy: "Policy | None", threads: int,
                 queue: int, max_request: int) -> None:
        self.engine = engine
        self.router = engine.core
        self.name = name
        self.methods = methods  # name -> (function, its own check or None)
        self.policy = policy
        self.threads = threads
        self.queue = queue
        self.max_request = max_request
        self.numbers = []  # type: list[int]
        self.jobs = Lines()
        self.work = Mailbox()  # where ``coroutines`` leaves word for a main thread
        # all that have not been answered; of those that are awaited some others
        self.calls = set()  # type: set[ServiceCall]
        self.many = 100
        self.running = 0  # threads
        self.lock = process.allocate_lock()
        self.idle = []  # type: list[process.Waiter]  # waiters for the end of the last thread
        self.count = {"calls": 0, "overflows": 0, "refused": 0}

    def put(self, call: ServiceCall) -> None:
        """Queue a call and see that a thread takes it. Loop thread, or that of a caller in this context."""
        peer = call.channel.peer
        if self.jobs.waiting(peer) >= self.queue or self.jobs.bytes.get(call.holder, 0) > PARTIAL:
            self.count["overflows"] += 1
            raise Overflow("%d calls of context %d wait for the service %s already"
                           % (self.jobs.waiting(peer), peer, self.name))
        self.count["calls"] += 1
        if len(self.calls) > self.many:
            self.unanswered()
            self.many = 2 * len(self.calls) + 100
        self.calls.add(call)
        try:
            self.jobs.put(call)
        except Closed:
            self.calls.discard(call)
            raise self.end_error() from None
        mailbox = self.jobs.mailbox
        with self.lock:
            start = self.running < self.threads and len(mailbox) > len(mailbox.waiters)
            self.running += start
        if start:
            try:
                process.start_thread(self.work_off, ())
            except RuntimeError as error:  # else those that there are will come to it
                with self.lock:
                    self.running -= 1
                    alone = not self.running
                if alone:
                    call.cancelled = True
                    call.channel.cancel(REFUSED, "%s: %s" % (self.router.name, error))

    def unanswered(self) -> int:
        """How many calls have not been answered. Any thread."""
        for call in list(self.calls):
            if call.awaited and (call.channel.ended or call.channel.sent_fin):
                self.calls.discard(call)
        return len(self.calls)

    def stop(self) -> None:
        """``coroutines`` puts a method of its own in this place, which ends what is awaited."""

    def work_off(self) -> None:
        """A thread of the pool: run calls until the end."""
        import sys

        here.router = self.router
        if "threading" not in sys.modules and life.child:
            try:
                from contextree.parent import main_thread

                main_thread.tell(life.child.calls.main)
            except Exception:
                pass  # as in ``core.calls``
        while True:
            try:
                call = self.jobs.get()
            except Exception:
                break
            try:
                call.run()
            except BaseException as error:
                self.router.broker.on_error(call.run) if isinstance(error, Exception) else None
            del call
        with self.lock:
            self.running -= 1
            idle, self.idle = ([], self.idle) if self.running else (self.idle, [])
        for waiter in idle:
            waiter.wake()

    def method(self, call: ServiceCall, name: str, args: "Any", kwargs: "Any") -> "Callable[..., Any]":
        """The method ``name``, if the caller may call it with these arguments. Raises Refused, or what the policy
        raises."""
        function, check = self.methods.get(name, (None, None))
        granted = call.granted
        if function is None or (granted is not None and name not in granted):
            self.count["refused"] += 1
            raise Refused("the service %s has no method %.100r for you" % (self.name, name))
        for test in (self.policy, check):
            if test is not None and not test(self.engine.context(call.channel.peer), name, args, kwargs):
                self.count["refused"] += 1
                raise Refused("you may not call the method %s of the service %s with that" % (name, self.name))
        return function  # type: ignore[no-any-return]

    def end_error(self) -> Closed:
        """What calls get when there is no more service."""
        return Closed("the service %s in %s was closed" % (self.name, self.router.name))

    def close(self, timeout: "float | None") -> None:
        """Take no more calls, fail those that wait, let those that run end within ``timeout`` seconds."""
        self.jobs.close()
        self.stop()
        for call in list(self.calls):
            if not call.active and not call.awaited:
                call.abort()
        waiter = waits.waiter(self.engine)
        with self.lock:
            if not self.running or getattr(getattr(here, "call", None), "service", None) is self:
                return
            self.idle.append(waiter)
        if not waiter.wait(timeout):
            raise CallTimeout("a call of the service %s has not ended within %s s" % (self.name, timeout))


class Services:
    """The services of one context."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.table = {}  # type: Table  # number -> (Host, names or None)
        self.ended = {}  # type: dict[int, str]  # number -> name of a service that was closed
        self.numbers = count(1)
        # channel -> (limit, bytes), while a request has not come whole
        self.requests = {}  # type: dict[Channel, tuple[int, int]]
        self.partial = {}  # type: dict[Any, int]  # holder -> bytes of all these
        core = engine.core
        core.openers[USE] = lambda *args: self.called(CALL, *args)
        core.openers[USE_STREAM] = lambda *args: self.called(STREAM, *args)
        self.opened = core.opened
        # this router's own: requests of several frames are watched from the first one on
        core.opened = self.watched  # type: ignore[method-assign]
        engine.broker.on_end(self.end)

    def serve(self, name: str, methods: "dict[str, Any]", policy: "Policy | None", threads: int, queue: int,
              max_request: int) -> int:
        """Begin to serve; its number."""
        return self.number(Host(self.engine, name, methods, policy, threads, queue, max_request), None)

    def number(self, host: Host, names: "frozenset[str] | None") -> int:
        """A number for those who may call ``names`` (None: all)."""
        if host.jobs.closed:
            raise host.end_error()
        number = next(self.numbers)
        if number > LAST:
            raise UsageError("a context can have no more than %d services and narrowed handles in its life" % LAST)
        host.numbers.append(number)
        self.table[number] = host, names
        return number

    def close(self, number: int, timeout: "float | None") -> None:
        """End the service, its grants here with it."""
        host, _ = self.table.get(number, (None, None))
        if host is None:
            return
        for one in host.numbers:
            self.table.pop(one, None)
            self.ended[one] = host.name
        engine = self.engine
        engine.broker.call(self.revoke, engine.core.id, set(host.numbers))
        host.close(timeout)

    def revoke(self, owner: int, numbers: "set[int]") -> None:
        """No grant for these services holds any more. Loop thread."""
        uses = self.engine.uses
        for key in list(uses):
            if key[1] == owner:
                uses[key] = uses[key] - numbers
                if not uses[key]:
                    del uses[key]

    def end(self) -> None:
        """The loop has ended."""
        for host, _ in list(self.table.values()):
            host.jobs.close()
            host.stop()

    # -- loop thread

    def watched(self, link: "Link", flags: int, number: int, src: int, view: memoryview) -> None:
        """Someone who may do so opens a channel; see Router.opened."""
        if not flags & MORE or not use_of(OPEN, view):
            self.opened(link, flags, number, src, view)
            return
        host, _ = self.table.get(use_of(OPEN, view), (None, None))
        channels = self.engine.core.channels
        new = (src, number, 0) not in channels
        self.opened(link, flags, number, src, view)
        channel = channels.get((src, number, 0))
        if new and channel is not None:
            self.requests[channel] = host.max_request if host else 0, 0
            channel.on_end = self.broken
            channel.__class__ = Partial

    def broken(self, channel: "Channel", error: BaseException) -> None:
        """A request ended before it was whole."""
        self.whole(channel)

    def whole(self, channel: "Channel") -> None:
        """A request has come; it counts with the calls that wait from now on."""
        _, held = self.requests.pop(channel, (0, 0))
        account = holder(self.engine, channel)
        left = self.partial.get(account, 0) - held
        if left > 0:
            self.partial[account] = left
        else:
            self.partial.pop(account, None)

    def called(self, kind: int, channel: "Channel", options: int, number: int, deadline: int, data: bytes,
               fin: bool) -> None:
        """A call has come."""
        host, names = self.table.get(number, (None, None))
        try:
            if not fin:
                raise PeerError("a request is one message")
            if host is None:
                name = self.ended.get(number)
                if name is None:
                    raise Refused("%s has no service %d" % (self.engine.core.name, number))
                raise Closed("the service %s in %s was closed" % (name, self.engine.core.name))
            call = make_call(host, channel, kind, options, deadline, data)
            call.granted = names
            if len(data) > 65536:
                call.weight = len(data)
            host.put(call)
        except ContextreeError as error:
            channel.on_end = None
            if not channel.ended:
                channel.send(refusal(error, self.engine.core.name), True)


def refusal(error: ContextreeError, context: str) -> bytes:
    """An error of ours as an answer, made without looking at its traceback: on the loop thread."""
    kind = type(error)
    return bytes([ERROR]) + values.encode([kind.__module__, kind.__qualname__, (), str(error), "", context, None, {}])
