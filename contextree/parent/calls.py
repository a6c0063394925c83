"""The caller's side: sending calls to a context and taking their answers.

``Reply`` is one awaited answer, ``Stream`` the iterator over a generator there; ``CallFuture`` is in ``future``, which
is imported when somebody submits. Answers are decoded on the thread that asks, as that may run users' code.

Why this file is long: a tenth of it are types of signatures.
"""

import builtins
from time import monotonic

from contextree.core import calls, process
from contextree.core.mailbox import Mailbox
from contextree.core.wire import errors
from contextree.core.wire.frames import BROKEN, CALL, STREAM, TIMEOUT
from contextree.core.wire.errors import (
    CallCancelled, CallTimeout, Closed, ContextreeError, ProtocolError, RemoteError, UsageError, WouldBlockLoop,
)
from contextree.parent import waits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, TypeVar

    from contextree.core.router import Channel
    from contextree.core.streams import Link
    from contextree.parent.context import Context
    from contextree.parent.engine import Engine
    from contextree.parent.future import CallFuture

    T = TypeVar("T")
    X = TypeVar("X", bound=BaseException)
    ExceptionClass = TypeVar("ExceptionClass", bound=type[Exception])
else:
    T = None
    Iterator = {T: object}  # the base of Stream: a subscript that needs no typing

OWN = errors.__name__
BACKLOG = 1 << 24  # bytes that may wait for one context before who calls it has to wait too
tasks = None  # type: Callable[[], Any] | None  # contextree.parent.coroutines' answer to ``running``, once it is there
#: (module, qualname) -> class: what may be re-raised as itself, besides builtins and our own
exception_types = {}  # type: dict[tuple[str, str], type[Exception]]


def register_exception(kind: "ExceptionClass") -> "ExceptionClass":
    """Let exceptions of exactly the class ``kind`` be re-raised as themselves, also from contexts that are not trusted:
    made by ``kind(*args)`` of plain ``args`` that come from there. Returns ``kind``, so that it can decorate a class.

    Here, where the exception arrives; there nothing need be done. UsageError unless ``kind`` is an Exception. Any
    thread.

    >>> @contextree.register_exception
    ... class OutOfPaper(Exception):
    ...     pass
    """
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        raise UsageError("register_exception wants a class of exceptions, not %r" % (kind,))
    exception_types[kind.__module__, kind.__qualname__] = kind
    return kind


def unpack(engine: "Engine", pickles: bool, data: "Any", sender: int) -> "Any":
    """The value of an answer of context ``sender``, or its exception raised. On any thread but the loop's."""
    if type(data) is memoryview:
        return data.obj
    form = data[0] if data else -1
    if form == calls.RAW:
        return data[1:]
    if form not in (calls.VALUE, calls.ERROR) and (form not in (calls.PICKLED, calls.BUFFERS) or not pickles):
        raise ProtocolError("an answer of form %d, which this context may not send" % form)
    here = calls.here
    before = getattr(here, "router", None)
    here.router = engine.core  # for Contexts in it, and no longer: with two routers a later unpickling would take any
    here.sender = sender
    try:
        if form == calls.VALUE:
            return engine.decode(data[1:])
        if form == calls.ERROR:
            raise make_error(engine.decode(data[1:]), pickles)
        return calls.unpack(data)
    finally:
        here.router = before
        here.sender = None


def visible(text: str) -> str:
    """``text`` shortened, with all that could drive a terminal escaped: it is going to be printed."""
    text = calls.shorten(text)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode("ascii") for c in text)


def make_error(record: "Any", pickles: bool) -> "Exception":
    """The exception that an error record stands for, chained to a RemoteError with the remote text."""
    try:
        module, name, args, text, trace, context, pickled, fields = record
        where, what, text, trace = (visible(str(part)) for part in (context, name, text, trace))
        remote = RemoteError("%s in %s: %s" % (what[:200], where[:200], text), text=text, traceback=trace,
                             type_name=visible("%s.%s" % (module, name))[:400], context=where[:200])
    except (TypeError, ValueError):
        return ProtocolError("an exception record that is not one")
    error = None  # type: Any
    kind = exception_types.get((module, name))  # type: Any
    if kind is None and module == "builtins" and isinstance(name, str):
        kind = getattr(builtins, name, None)
    if module == OWN and isinstance(name, str) and name != "RemoteError":
        kind = getattr(errors, name, None)
    try:
        if isinstance(kind, type) and issubclass(kind, ContextreeError):
            error = kind(str(text), **{str(key): value for key, value in (fields or {}).items()})
        elif pickled and pickles:  # attributes, notes and causes too
            error = process.loads(pickled)
        plain = type(args) is tuple and isinstance(kind, type) and issubclass(kind, Exception)
        if plain and not isinstance(error, Exception):
            error = kind(*args)  # pyright: ignore[reportOptionalCall]  # a class: ``plain``
    except Exception:
        error = None
    if not isinstance(error, Exception):
        return remote
    remote.__suppress_context__ = True
    error.__cause__ = remote
    return error


class Reply:
    """One answer that somebody waits for."""

    __slots__ = ("waiter", "data", "error")

    def __init__(self, engine: "Engine") -> None:
        self.waiter = waits.waiter(engine)  # type: Any
        self.data = None  # type: Any
        self.error = None  # type: Any

    def message(self, channel: "Channel", data: "Any", fin: bool, cost: int) -> None:
        """It came. Loop thread."""
        if self.data is None:
            self.data = data
            self.waiter.wake()
        if not fin:
            channel.cancel(BROKEN, "an answer is one message")

    def end(self, channel: "Channel", error: "BaseException") -> None:
        """It will not come."""
        if self.data is None:
            self.error = error
            self.waiter.wake()


def running() -> "Any":
    """The call (of ``core.calls``) whose function runs here, or None."""
    call = getattr(calls.here, "call", None)
    return call if call is not None or tasks is None else tasks()


def time_limit(options: "dict[str, Any]") -> "float | None":
    """Seconds for a call that is made here and now: its own timeout, or what is left of the call that makes it.

    Raises CallTimeout when nothing is left of that; what is to be raised in its function, with ``cancel="raise"``."""
    timeout = options.get("timeout")
    call = running()
    if call is None:
        return timeout
    region = getattr(call, "region", None)
    if region is not None:
        region.check()
    if not call.deadline:
        return timeout
    left = call.deadline - call.service.router.broker.clock()
    if left <= 0:
        raise told(CallTimeout("the time of the call that runs here is over, so it makes no other"))
    return left if timeout is None or left < timeout else timeout  # type: ignore[no-any-return]


def milliseconds(timeout: "float | None") -> int:
    """A time limit as OPEN has it: at least one, at most a month and a half; 0: none."""
    return max(1, int(min(timeout, 4e6) * 1000)) if timeout else 0


def check_cancel(how: object) -> None:
    """Raise UsageError for an unknown value of the option ``cancel``."""
    if how not in ("tell", "raise", "kill"):
        raise UsageError("cancel= wants 'tell', 'raise' or 'kill', not %r" % (how,))


def wrapped(how: str, kind: int, function: "Callable[..., Any]", args: "tuple[Any, ...]") -> "tuple[Any, Any]":
    """The function and the arguments that are sent for ``cancel=how``."""
    from contextree.parent import cancelling

    return cancelling.wrapped(how, kind, function, args)


def opened(channel: "Channel") -> "Channel":
    """``channel``, opened for something that the function which runs here may wait for."""
    region = getattr(running(), "region", None)
    if region is not None:
        region.opened(channel)
    return channel


def told(error: "X") -> "X":
    """``error``, which is about to be raised in the function that runs here: it need not hear twice that nobody waits
    for it (see ``parent.cancelling``)."""
    region = getattr(running(), "region", None)
    if region is not None and isinstance(error, (CallCancelled, CallTimeout)):
        region.heard()
    return error


def wait_for_room(context: "Context", timeout: "float | None" = None) -> None:
    """Wait while more than ``BACKLOG`` bytes are on their way to ``context``; never on the loop thread.

    What waits for other contexts behind the same link does not count: one that takes nothing must not hold up its
    siblings. It looks again every few milliseconds rather than be woken, so that sending, the hot path, has nobody to
    wake."""
    link = context.engine.core.link_to(context.id)
    if link is None or waits.inside(context.engine.broker):
        return
    waiter = end = None
    while overfull(link, context.id):
        if waiter is None:
            waiter, end = waits.waiter(context.engine), timeout is not None and monotonic() + timeout
        elif end and monotonic() >= end:
            raise CallTimeout("%s took nothing of what is on its way to it within %s s" % (context.name, timeout))
        waiter.wait(0.005)


def overfull(link: "Link", number: int) -> bool:
    """Whether who calls context ``number`` by ``link`` should wait a little. Any thread."""
    return link.out.queued + link.unsent.get(number, 0) >= BACKLOG and not link.closed


def waiting(engine: "Engine", wait: "Callable[..., T]", *args: "Any") -> "T":
    """``wait(*args)``, for an answer of another context.

    While the function that occupies the main thread of a context waits so, calls from contexts beside it run on the
    pool: one of them may be what it waits for, when two contexts call each other in turn. Those of ancestors keep their
    order."""
    call = getattr(calls.here, "call", None)
    if call is None or call.work is not call.service.work or process.get_ident() != call.service.main:
        return wait(*args)
    service, above = call.service, engine.above
    service.waiting += 1
    service.nested = lambda channel: service.waiting and channel.peer not in above
    try:
        return wait(*args)
    finally:
        service.waiting -= 1


def call(context: "Context", function: "Callable[..., Any]", args: "tuple[Any, ...]", kwargs: "dict[str, Any]",
         options: "dict[str, Any]") -> "Any":
    """Call and wait."""
    return waiting(context.engine, ask, context, function, args, kwargs, options)


def ask(context: "Context", function: "Callable[..., Any]", args: "tuple[Any, ...]", kwargs: "dict[str, Any]",
        options: "dict[str, Any]") -> "Any":
    """Send a call and wait for its answer."""
    engine = context.engine
    if waits.inside(engine.broker):
        raise WouldBlockLoop("call() on the loop thread would wait for itself; use submit()")
    reply = Reply(engine)
    timeout = time_limit(options)
    wait_for_room(context, timeout)
    channel = context.open_call(calls.CALL, function, args, kwargs, options, reply.message, reply.end)
    try:
        answered = reply.waiter.wait(timeout)
    except BaseException:  # Ctrl-C, or the greenlet was killed or timed out
        channel.cancel()
        raise
    if not answered:
        text = no_answer(context, function, timeout)
        channel.cancel(TIMEOUT, text)
        raise told(CallTimeout(text))
    if reply.data is None:
        raise told(copied(reply.error))
    return unpack(engine, channel.pickles, reply.data, channel.peer)


def no_answer(context: "Context", function: "Callable[..., Any]", timeout: "float | None") -> str:
    """The text of a CallTimeout."""
    return "%s did not answer %s within %s s" % (context.name, describe(function), round(timeout or 0, 3))


def cancelled_by(error: "BaseException | None") -> CallCancelled:
    """What the function of a call is told that ended by ``error``."""
    return CallCancelled("this call was cancelled, its caller waits no longer%s"
                         % ("" if isinstance(error, CallCancelled) else ": %s" % error))


def copied(error: "X") -> "X":
    """An exception of our own for each who waits, because raising one changes it."""
    if isinstance(error, ContextreeError):
        twin = type(error)(str(error), **error.__dict__)
        twin.__cause__ = error.__cause__
        return twin
    return error


def describe(function: "Any") -> str:
    """A function's name for messages."""
    function = getattr(function, "func", function)
    return getattr(function, "__qualname__", None) or repr(function)[:80]


def submit(context: "Context", function: "Callable[..., Any]", args: "tuple[Any, ...]", kwargs: "dict[str, Any]",
           options: "dict[str, Any]", flush: bool = False) -> "CallFuture[Any]":
    """Call without waiting for the answer: a CallFuture. Waits only while too much is on its way there already.
    ``flush``: this thread writes it, if it can, and not the loop together with what else is submitted."""
    from contextree.parent.future import CallFuture

    engine = context.engine
    timeout = time_limit(options)
    wait_for_room(context, timeout)
    future = (engine.future_class or CallFuture)(engine)  # type: CallFuture[Any]
    future.channel = context.open_call(calls.CALL, function, args, kwargs, options, future.message, future.end,
                                       flush=flush)
    if timeout is not None:
        engine.broker.defer(future.limit, timeout, no_answer(context, function, timeout))
    return future


class Stream(Iterator[T]):
    """Iterator over what a generator yields in another context. ``close`` closes the generator there; as a context
    manager it does so at the end of the block. It is paced: the generator waits while we do not take.

    >>> import itertools
    >>> with web.stream(itertools.count, 7) as numbers:
    ...     next(numbers), next(numbers)
    (7, 8)
    """

    if not TYPE_CHECKING:
        @classmethod
        def __class_getitem__(cls, item: "Any") -> "Any":  # ``Stream[int]`` is an annotation, nothing more
            return cls

    def __init__(self, context: "Context", function: "Callable[..., Any]", args: "tuple[Any, ...]",
                 kwargs: "dict[str, Any]", options: "dict[str, Any]", packed: "Any" = None) -> None:
        self.engine = context.engine
        left = time_limit({})
        if packed is None:  # else an event loop has seen to that
            wait_for_room(context, left)
        self.timeout = options.get("timeout")
        self.end = None if left is None else monotonic() + left  # of the call that reads it here
        self.mailbox = mailbox = Mailbox()
        self.done = True

        # no methods: the channel must not keep a stream alive that nobody has
        def message(channel: "Channel", data: "Any", fin: bool, cost: int) -> None:
            try:
                mailbox.put((data, fin, cost))
            except Closed:
                pass  # by its reader, maybe this very moment

        def end(channel: "Channel", error: "BaseException") -> None:
            mailbox.close(error)

        self.channel = context.open_call(calls.STREAM, function, args, kwargs, options, message, end, packed=packed)
        self.done = False

    def __iter__(self) -> "Stream[T]":
        return self

    def __next__(self) -> "T":
        if self.done:
            raise StopIteration
        self.engine.check_fork()
        waits.check(self.engine)
        timeout = self.timeout
        if self.end is not None:
            left = max(self.end - monotonic(), 0)
            timeout = left if timeout is None else min(timeout, left)
        try:
            item = waiting(self.engine, self.mailbox.get, timeout)
        except CallTimeout as error:
            if self.end is not None and monotonic() >= self.end:
                self.done = True
                self.channel.cancel(TIMEOUT, "the time of the call that reads this stream is over")
                told(error)
            raise
        except ContextreeError as error:
            if self.done:  # closed by another thread
                raise StopIteration from None
            self.done = True
            raise told(copied(error)) from None
        return self.take(item)

    def take(self, item: "tuple[Any, bool, int]") -> "T":
        """The value of an item of ``mailbox``, or its exception raised; StopIteration at the end of the stream."""
        data, fin, cost = item
        if fin:  # not else: another thread may have closed it
            self.done = True
        if fin and not data:
            raise StopIteration
        try:
            return unpack(self.engine, self.channel.pickles, data, self.channel.peer)  # type: ignore[no-any-return]
        finally:
            if not fin:
                self.channel.taken(cost)

    def close(self) -> None:
        """Take no more; the generator there is closed. Idempotent; from any thread. In a forked process it does
        nothing."""
        if not self.done and self.engine.core.generation == process.generation:
            self.done = True
            self.channel.cancel()
            self.mailbox.close(Closed("the stream was closed"))

    def __enter__(self) -> "Stream[T]":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self.done and self.engine.core.generation == process.generation and not self.engine.broker.closed:
            self.done = True
            try:
                self.engine.broker.defer(self.channel.cancel)
            except ContextreeError:
                pass  # the tree has ended meanwhile
