"""Files to and from contexts: what the methods of Context do, and the functions that run there for them.

A file that fits into one message goes there with the call itself: one round trip. A larger one waits until the other
end listens, which costs one more. All of it runs on service threads there, so the main thread of a context stays free.

From one context to another the messages go through the lowest context that is above both, in memory and a part at a
time. It could hand them a channel between them instead, but that takes a grant, and a grant lets the one call whatever
it likes in the other: too much for a copy.
"""

from time import monotonic

from contextree.core import calls as core_calls
from contextree.core.wire.errors import Closed, UsageError
from contextree.parent.filepipe import FarPipe, NearPipe
from contextree.parent.filesink import ObjectSink, check
from contextree.parent.filesource import ObjectSource, PathSource
from contextree.parent.pathsink import PathSink
from contextree.parent.transfer import SMALL, Transferred, partial_of, path_bytes, result_of, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from contextree.parent.context import Context
    from contextree.parent.engine import Engine
    from contextree.parent.transfer import Message, Options

MAX_BYTES = 1 << 30  # what read_bytes() takes into memory, if nothing else is said
TELL = 0.1  # seconds between two words about the progress of a transfer elsewhere


def options_of(mode: "Any" = None, owner: "Any" = None, group: "Any" = None, preserve: "bool | str" = False,
               resume: bool = False, sparse: bool = True, fsync: bool = True, links: str = "keep",
               special: str = "error", max_size: "Any" = None) -> "Options":
    """The options of a transfer, checked; UsageError."""
    if mode is not None and (type(mode) is not int or not 0 <= mode <= 0o7777):
        raise UsageError("mode= wants permission bits, such as 0o644, not %r" % (mode,))
    if preserve not in (False, True, "owner"):
        raise UsageError("preserve= wants False, True or 'owner', not %r" % (preserve,))
    if links not in ("keep", "all", "skip"):
        raise UsageError("links= wants 'keep', 'all' or 'skip', not %r" % (links,))
    if special not in ("error", "skip"):
        raise UsageError("special= wants 'error' or 'skip', not %r" % (special,))
    if max_size is not None and (type(max_size) is not int or max_size < 0):
        raise UsageError("max_size= wants a number of bytes, not %r" % (max_size,))
    return {"mode": mode, "owner": owner, "group": group, "preserve": preserve, "resume": bool(resume),
            "sparse": bool(sparse), "fsync": bool(fsync), "links": links, "special": special, "max_size": max_size,
            "owners": preserve == "owner"}


class Meter:
    """Tells how far a transfer is. ``progress``: a function of (bytes done, all of them or None), True for a bar where
    this context can show one, or None. As a context manager: what to call, or None."""

    def __init__(self, engine: "Engine", progress: "Any", title: str) -> None:
        self.bar = engine.progress(title) if progress is True else None
        if progress and progress is not True and not callable(progress):
            raise UsageError("progress= wants a function or True, not %r" % (progress,))
        self.tell = self.bar.tell if self.bar is not None else progress if callable(progress) else None

    def __enter__(self) -> "Any":
        return self.tell

    def __exit__(self, *exc_info: object) -> None:
        if self.bar is not None:
            self.bar.close()


def open_source(source: "Any", options: "Options") -> "Any":
    """A source for what the caller gave: a path (str or PathLike), bytes, or a binary file object."""
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        return PathSource(path_bytes(source, "source"), options)
    return ObjectSource(source)


def feed(pipe: NearPipe, source: "Any", partial: "Any", tell: "Any") -> None:
    """Send all messages of ``source``; less, if the other end has failed."""
    done = 0
    for message in source.messages(partial):
        if not pipe.send(message, message.get("is") == "end" if type(message) is dict else False):
            return
        if tell is not None:
            size = message_size(message)
            done += size
            if size or not done:
                tell(done, source.size)


def message_size(message: "Message") -> int:
    """How much of a file a message is."""
    if isinstance(message, dict):
        return len(message.get("data", b"")) + int(message.get("start", 0))
    return message if isinstance(message, int) else len(message)


def put(context: "Any", source: "Any", destination: "Any", options: "Options", progress: "Any" = None) -> Transferred:
    """What ``Context.put`` does."""
    path = path_bytes(destination, "destination")
    there = dict(options, mask=0o7777)
    reader = open_source(source, options)
    try:
        with Meter(context.engine, progress, shown(path)) as tell:
            if reader.bounded and reader.size <= SMALL and not options["resume"]:
                with NearPipe(context, take_whole, path, there, list(reader.messages()), fin=True) as pipe:
                    result = result_of(pipe.receive())
                if tell is not None:
                    tell(result.size, result.size)
                return result
            with NearPipe(context, take, path, there) as pipe:
                feed(pipe, reader, partial_of(pipe.ready()), tell)
                return result_of(pipe.receive())
    finally:
        reader.close()


def take_whole(path: bytes, options: "Options", messages: "list[Message]") -> "list[int]":
    """In the other context: put what came with the call."""
    with FarPipe() as pipe:
        sink = PathSink(path, options)
        try:
            for message in messages:
                pipe.check()
                sink.take(message)
        finally:
            sink.abort()
    return list(sink.result())


def take(path: bytes, options: "Options") -> "list[int]":
    """In the other context: put what comes on the channel of this call."""
    with FarPipe() as pipe:
        sink = PathSink(path, options)
        try:
            pipe.ready(list(sink.partial))
            while not sink.done:
                message = pipe.receive()
                pipe.check()
                sink.take(message)
        finally:
            sink.abort()
    return list(sink.result())


def get(context: "Any", source: "Any", destination: "Any", options: "Options", progress: "Any" = None) -> Transferred:
    """What ``Context.get`` does."""
    path = path_bytes(source, "source")
    resume = options["resume"]
    with Meter(context.engine, progress, shown(path)) as tell:
        if isinstance(destination, (str, bytes)) or hasattr(destination, "__fspath__"):
            sink = PathSink(path_bytes(destination, "destination"), options, tell)  # type: Any
        else:
            if resume:
                raise UsageError("resume= is for a destination that is a path")
            sink = ObjectSink(destination, options, tell)
        try:
            with NearPipe(context, offer, path, options, fin=not resume) as pipe:
                if resume:
                    pipe.ready()
                    pipe.send(list(sink.partial), True)
                while not sink.done:
                    sink.take(pipe.receive())
        finally:
            sink.abort()
    return Transferred(*sink.result())


def offer(path: bytes, options: "Options") -> "dict[str, str]":
    """In the other context: send what lies at ``path`` on the channel of this call."""
    with FarPipe() as pipe:
        source = PathSource(path, options)
        try:
            partial = None
            if options["resume"]:
                pipe.ready()
                partial = partial_of(pipe.receive())
            for message in source.messages(partial):
                if type(message) is dict and message["is"] == "end":
                    break
                pipe.give(message)
        finally:
            source.close()
    return {"is": "end"}


def read_bytes(context: "Any", source: "Any", max_size: int) -> bytes:
    """What ``Context.read_bytes`` does."""
    from io import BytesIO

    target = BytesIO()
    get(context, source, target, options_of(max_size=max_size))
    return target.getvalue()


# -- from one context to another

def copy(first: "Any", source: "Any", second: "Any", destination: "Any", options: "Options",
         progress: "Any" = None) -> Transferred:
    """What ``Context.copy_to`` does."""
    engine = first.engine
    if not isinstance(second, type(first)) or second.engine is not engine:
        raise UsageError("copy_to wants a context of this tree, not %r" % (second,))
    path, target = path_bytes(source, "source"), path_bytes(destination, "destination")
    with Meter(engine, progress, "%s -> %s" % (shown(path), second.name)) as tell:
        common = meeting(engine, first.id, second.id)  # type: Any
        if common is None or common == engine.core.id:
            return Transferred(*carry(engine, first, path, second, target, options, tell))
        there = engine.context(common).with_options(timeout=first.options.get("timeout"))
        with NearPipe(there, carry_there, first.id, path, second.id, target, options, fin=True) as pipe:
            while True:
                message = pipe.receive()
                if type(message) not in (list, tuple) or len(message) != 2:
                    return result_of(message)
                if tell is not None:
                    tell(*message)


def meeting(engine: "Engine", first: int, second: int) -> "int | None":
    """The lowest context that is above both, or is one of them; None if that is not in this subtree."""
    above = set()
    number = first  # type: int | None
    while number is not None:
        above.add(number)
        info = engine.infos.get(number)
        number = info.parent if info is not None else None
    number = second
    while number is not None and number not in above:
        info = engine.infos.get(number)
        number = info.parent if info is not None else None
    return number


def carry_there(first: int, path: bytes, second: int, target: bytes, options: "Options") -> "list[int]":
    """``carry`` in the context where the ways of two others meet, which may be one of them."""
    from contextree.parent.engine import engine_of

    engine = engine_of(core_calls.here.router)
    told = monotonic()

    def tell(done: int, total: "int | None") -> None:
        nonlocal told
        if pipe.over or monotonic() - told > TELL:
            told = monotonic()
            pipe.give([done, total])

    with FarPipe() as pipe:
        return list(carry(engine, engine.context(first), path, engine.context(second), target, options, tell))


def carry_here(path: bytes, target: bytes, options: "Options") -> "list[int]":
    """From one path of this context to another."""
    source = PathSource(path, options)
    try:
        sink = PathSink(target, options)
        try:
            for message in source.messages(sink.partial):
                sink.take(message)
        finally:
            sink.abort()
    finally:
        source.close()
    return list(sink.result())


def carry(engine: "Engine", first: "Context", path: bytes, second: "Context", target: bytes, options: "Options",
          tell: "Any") -> "list[int] | Transferred":
    """Hand the messages of ``first`` on to ``second``; either may be this context. The result of the sink."""
    here = engine.core.id
    if first.id == second.id == here:
        return carry_here(path, target, options)
    if first.id == here:
        return put(second, shown(path), target, options, tell)
    if second.id == here:
        return get(first, path, target, options, tell)
    with NearPipe(second, take, target, options) as sink, \
            NearPipe(first, offer, path, options, fin=not options["resume"]) as source:
        partial = partial_of(sink.ready())
        if options["resume"]:
            source.ready()
            source.send(list(partial), True)
        sink.tell(source.stop)
        done = 0
        total = None
        while True:
            try:
                message = source.receive()
            except Closed:
                if not sink.over:
                    raise
                return result_of(sink.receive())
            over = type(message) not in (bytes, int) and check(message) == "end"
            if not sink.send(message, over) or over:
                return result_of(sink.receive())
            if type(message) is dict and message["is"] == "file" and not message["path"]:
                total = message["size"]
            done += message_size(message)
            if tell is not None:
                tell(done, total)
