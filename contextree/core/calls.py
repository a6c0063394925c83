"""Functions called in this context.

The loop thread only puts a call into a mailbox; the main thread takes them one after the other. Calls that ask for
threads go to a pool of as many, and those that build the tree (SERVICE) to a pool of their own, so that a busy function
cannot keep a grandchild from starting. Whatever a function does (raises, exits, interrupts itself, returns what cannot
be sent) is the answer to that one call.

A generator that is streamed gives its thread back while its reader has not taken what it made: it is put back into the
mailbox when there is room. What is to be awaited goes to an asyncio loop (``contextree.parent.coroutines``).

The first byte of an answer says what follows: see the constants. Values go upward in the strict codec (wire/values.py),
or as pickles where the asker said so, because it trusts this context.
"""

import sys
from _struct import Struct
from _thread import _local

from contextree.core import process
from contextree.core.mailbox import Mailbox
from contextree.core.process import dumps, loads
from contextree.core.wire import values
from contextree.core.wire.errors import CallCancelled, CallTimeout, ContextreeError, NotSendable
from contextree.core.wire.frames import CALL, MAIN, NUMBER, PICKLE, PICKLE5, REFUSED, SERVICE, STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from contextree.core.importer import Importer
    from contextree.core.router import Channel, Router

VALUE, PICKLED, RAW, BUFFERS, ERROR, SPLIT = 0, 1, 2, 3, 4, 5
LENGTH = Struct("!Q")
MAX_TEXT = 65536  # of a traceback
PROTOCOL = 5 if sys.version_info >= (3, 8) else 4
here = _local()  # .router of the thread that runs calls or unpickles; .call


class Call:
    """One call, as seen by the function that runs in it (``contextree.current_call()``)."""

    def __init__(self, service: "Calls", channel: "Channel", kind: int, options: int, deadline: float, data: bytes,
                 work: "Mailbox") -> None:
        self.service = service
        self.channel = channel
        self.kind = kind
        self.options = options
        # the protocol of pickled answers, that both ends know; 0: no pickles
        self.pickles = options & PICKLE and (PROTOCOL if options & PICKLE5 else 4)
        self.deadline = deadline and service.router.broker.clock() + deadline / 1000
        self.data = data  # type: Any
        self.work = work
        self.generator = None  # type: Any
        self.cancelled = False
        channel.on_end = self.ended

    def ended(self, channel: "Channel", error: BaseException) -> None:
        """The caller does not wait any more."""
        self.cancelled = True
        if self.generator is not None:
            self.again()

    def room(self) -> None:
        """There is room; not heeded if the generator went on meanwhile, maybe on another thread."""
        if self.channel.on_room:
            self.again()

    def again(self) -> None:
        """Let the generator go on (or be closed)."""
        self.channel.on_room = None
        if not self.work.closed:
            self.work.put(self)

    def run(self) -> None:
        """Run it, or the next part of it, on the present thread and send the answer."""
        here.call = self
        router = self.service.router
        try:
            if self.generator is not None:
                return self.pump()
            if self.cancelled:
                return None
            if self.deadline and router.broker.clock() >= self.deadline:
                raise CallTimeout("its deadline was over before it could start")
            if self.options & MAIN:
                self.service.importer.load_main()
            data, self.data = self.data, None
            function, args, kwargs = unpack(data)
            del data
            result = function(*args, **kwargs)
            del function, args, kwargs
            kind = type(result)
            if hasattr(kind, "__await__") or (self.kind == STREAM and hasattr(kind, "__aiter__")):
                from contextree.parent import coroutines

                return coroutines.start(self, result)
            if self.kind == STREAM:
                self.generator = iter(result)
                return self.pump()
            return self.answer(result, True)
        except BaseException as error:
            self.failed(error)
        finally:
            here.call = None

    def pump(self) -> None:
        """Send items until the reader has enough, the caller has gone, or others wait for this thread."""
        generator = self.generator
        channel = self.channel
        over = True
        try:
            while not self.cancelled:
                try:
                    item = next(generator)
                except StopIteration:
                    return channel.send(b"", True)
                self.answer(item, False)
                if channel.full:
                    channel.on_room = self.room
                    if channel.full or channel.on_room is None:
                        over = False
                        return None
                    channel.on_room = None
                if self.work.items:
                    over = False
                    return self.again()
        finally:
            if over:  # at once, whoever else still knows it
                self.generator = None
                if hasattr(generator, "close"):
                    generator.close()

    def answer(self, result: object, fin: bool) -> None:
        """Encode and send one value."""
        try:
            data = pack(result, self.pickles)
        except NotSendable:
            raise
        except Exception as error:
            raise NotSendable("the result cannot be sent: %s: %s" % (type(error).__name__, error)) from error
        if not self.cancelled:
            self.channel.send(data, fin, not self.work.items)

    def failed(self, error: BaseException) -> None:
        """Send what went wrong instead."""
        self.generator = None
        if self.cancelled:
            return
        try:
            data = pack_error(error, self.service.router.name, self.pickles)
        except BaseException as second:
            data = pack_error(NotSendable("%s, and that cannot be sent: %s"
                                          % (type(error).__name__, type(second).__name__)),
                              self.service.router.name, False)
        if not self.cancelled:
            try:
                self.channel.send(data, True)
            except CallCancelled:
                self.cancelled = True


class Calls:
    """The service that runs calls of this context; ``run`` is the main thread's loop."""

    waiting = 0  # calls of the main thread's function that wait elsewhere; see parent.calls
    nested = staticmethod(lambda channel: False)  # may the call be one that such a function waits for?

    def __init__(self, router: "Router", importer: "Importer") -> None:
        self.router = router
        self.importer = importer
        self.work = Mailbox()
        self.main = process.get_ident()
        self.pools = {}  # type: dict[object, list[Any]]
        router.openers[CALL] = lambda *args: self.opened(CALL, *args)
        router.openers[STREAM] = lambda *args: self.opened(STREAM, *args)

    def opened(self, kind: int, channel: "Channel", options: int, threads: int, deadline: int, data: bytes,
               fin: bool) -> None:
        """A call has come. Loop thread."""
        work = self.work
        if work.closed:
            return  # who waits is told that this context has ended, and how
        if options & SERVICE or threads or self.nested(channel):
            pool = self.pool(options & SERVICE, threads or 64)
            work = pool[0]
        call = Call(self, channel, kind, options, deadline, data, work)
        if work is not self.work and pool[1] < pool[2] and len(work) >= len(work.waiters):
            try:
                process.start_thread(self.run, (work,))
                pool[1] += 1
            except RuntimeError as error:
                if not pool[1]:  # else those that there are will come to it
                    return channel.cancel(REFUSED, "%s: %s" % (self.router.name, error))
        work.put(call)
        return None

    def pool(self, service: int, size: int) -> "list[Any]":
        """[mailbox, threads, most threads] of the pool for services or for threaded calls."""
        pool = self.pools.setdefault(service, [Mailbox(), 0, size])
        pool[2] = max(pool[2], size)
        return pool

    def run(self, work: "Mailbox | None" = None) -> None:
        """Run calls on this thread until ``stop``."""
        here.router = self.router
        if work is None:  # one of a pool may be empty, and then it is false
            work = self.work
        elif "threading" not in sys.modules:
            try:
                from contextree.parent import main_thread

                main_thread.tell(self.main)
            except Exception:
                pass  # a threading of another Python, or none: calls that want it will say so
        get = work.get
        while True:
            try:
                call = get()
            except Exception:
                return
            try:
                call.run()
            except BaseException as error:  # a late interrupt, between two calls
                self.router.broker.on_error(call.run) if isinstance(error, Exception) else None
            del call

    def stop(self) -> None:
        """No more calls; what waits is dropped."""
        for pool in [[self.work], *self.pools.values()]:
            pool[0].items.clear()
            pool[0].close()


def pack(value: "Any", pickles: int) -> "bytes | memoryview | list[Any]":
    """Encode a result as a message for ``Channel.send``. ``pickles``: the protocol for a pickle, or 0."""
    if type(value) is bytes:
        return memoryview(value) if len(value) > 4096 else b"\2" + value
    if not pickles:
        return b"\0" + values.encode(value)
    if pickles < 5:
        return b"\1" + dumps(value, 4)
    buffers = []  # type: list[Any]
    data = dumps(value, 5, buffer_callback=buffers.append)
    if not buffers:
        return b"\1" + data if len(data) < 65536 else [b"\1", data]
    raw = [buffer.raw() for buffer in buffers]
    return [b"\3" + NUMBER.pack(len(raw)) + b"".join(LENGTH.pack(part.nbytes) for part in [memoryview(data)] + raw),
            data] + raw


def unpack(data: bytes) -> "Any":
    """Decode what came as a pickle: from an ancestor, or from a context that is trusted."""
    form = data[0]
    if form == RAW:
        return data[1:]
    view = memoryview(data)
    if form == PICKLED:
        return loads(view[1:])
    if form == SPLIT:  # a function that the caller knows already, and its arguments
        end = 3 + (data[1] << 8) + data[2]
        return (loads(view[3:end]),) + loads(view[end:])
    view = memoryview(bytearray(data))  # arrays are made of it, and people write to arrays
    count = NUMBER.unpack_from(view, 1)[0] + 1
    pos = 5 + 8 * count
    parts = []
    for index in range(count):
        end = pos + LENGTH.unpack_from(view, 5 + 8 * index)[0]
        parts.append(view[pos:end])
        pos = end
    return loads(parts[0], buffers=parts[1:])


def shorten(text: str) -> str:
    """At most ``MAX_TEXT`` characters, cut in the middle."""
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return "%s\n... %d characters left out ...\n%s" % (text[:half], len(text) - MAX_TEXT, text[-half:])


def pack_error(error: BaseException, context: str, pickles: int) -> bytes:
    """Encode an exception: type, arguments, text and traceback as plain data, and a pickle where that is welcome."""
    import traceback

    kind = type(error)
    args = error.args
    if isinstance(error, OSError) and len(args) == 2 and error.filename is not None:
        args += (error.filename, None, error.filename2)
    try:
        values.encode(args)
    except Exception:
        args = None  # type: ignore[assignment]
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be made)"
    trace = error.__traceback__
    if trace and trace.tb_next:
        error.__traceback__ = trace.tb_next  # without our own frame
    try:
        lines = "".join(traceback.format_exception(kind, error, error.__traceback__))
    except Exception:
        lines = "%s: %s" % (kind.__name__, text)
    pickled = None
    if pickles:
        try:
            pickled = dumps(error, pickles)
            loads(pickled)
        except Exception:
            pickled = None
    fields = {}
    for key, value in vars(error).items() if isinstance(error, ContextreeError) else ():
        try:
            values.encode(value)
            fields[key] = value
        except Exception:
            fields[key] = str(value)
    return b"\4" + values.encode([kind.__module__, kind.__qualname__, args, shorten(text), shorten(lines), context,
                                  pickled, fields])
