"""One source to many contexts, so that each link of the tree carries it once.

The messages of the source (see ``transfer``) go to the contexts nearest to us that are targets, or above several; each
of those hands every message on to the ones below it as it comes, and puts the file in place itself if it is a target.
Nothing is stored on the way. What becomes of each target is an outcome of its own, and the others go on.

Who is slow is waited for, so it sets the pace of all: nobody holds more than a few messages for it. Who takes nothing
for ``stall`` seconds is given up, with all that is below it. A context that itself waits for one below says so (BUSY),
lest it be given up for that one; three times ``stall`` is the end of that too. When all is sent, whoever still answers
a ping is waited for: its disk may be slow.
"""

from time import monotonic

from contextree.core import calls as core_calls
from contextree.core.wire.errors import CallTimeout, ContextreeError, ProtocolError, UsageError
from contextree.parent.calls import copied, make_error
from contextree.parent.filepipe import FarPipe, NearPipe
from contextree.parent.files import Meter, message_size, open_source, options_of, take
from contextree.parent.pathsink import PathSink
from contextree.parent.transfer import Transferred, path_bytes, result_of, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator

    from typing_extensions import Unpack

    from contextree.parent.context import Context
    from contextree.parent.engine import Engine
    from contextree.parent.options import PathName, Progress, PutOptions, Source
    from contextree.parent.transfer import Message, Options

BUSY = ["busy"]  # what a context says that waits for one below it


def plan(engine: "Engine", targets: "set[int]") -> "list[list[Any]]":
    """The tree to hand on by: [id, is it a target, [the same for those below]]. Contexts that would have one below them
    and are no targets are left out: frames go through them as they are."""
    tree = {}  # type: dict[Any, Any]
    for target in targets:
        path = [target]
        while path[0] in engine.infos and engine.infos[path[0]].parent != engine.core.id:
            path.insert(0, engine.infos[path[0]].parent)
        level = tree
        for number in path:
            level = level.setdefault(number, {})

    def nodes(level: "dict[Any, Any]") -> "list[list[Any]]":
        found = []  # type: list[list[Any]]
        for number, below in sorted(level.items()):
            inner = nodes(below)
            if number in targets or len(inner) > 1:
                found.append([number, number in targets, inner])
            else:
                found += inner
        return found

    return nodes(tree)


def ids(node: "list[Any]") -> "list[int]":
    """The targets of a node and of all below it."""
    return ([node[0]] if node[1] else []) + [number for each in node[2] for number in ids(each)]


class Branch:
    """One context that the messages are handed to. ``outcome``: {id: what becomes of it}: the numbers of a Transferred,
    or an exception, or one as the bytes of its record."""

    def __init__(self, engine: "Engine", node: "list[Any]", path: bytes, options: "Options", stall: float,
                 timeout: "float | None" = None, busy: "Callable[[], object] | None" = None) -> None:
        self.engine = engine
        self.node = node
        self.stall = stall
        self.busy = busy  # to be called now and then while it is waited for
        self.outcome = {}  # type: dict[int, Any]
        self.listens = False
        self.free = self.alive = monotonic()  # when it last took something; or at least said that it lives
        self.pipe = None  # type: NearPipe | None
        try:
            context = engine.context(node[0]).with_options(timeout=timeout)
            if node[2]:
                self.pipe = NearPipe(context, relay, node, path, options, stall)
            else:
                self.pipe = NearPipe(context, take, path, options)
        except ContextreeError as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Nothing will become of this branch any more."""
        self.outcome = dict.fromkeys(ids(self.node), error)
        if self.pipe is not None:
            self.pipe.cancel()

    def send(self, message: "Any", fin: bool) -> bool:
        """Hand a message on; False once the branch has failed."""
        pipe = self.pipe
        if self.outcome or pipe is None:
            return False
        try:
            if not self.listens:
                self.wait(pipe.ready)
                self.listens = True
            if self.wait(lambda limit: pipe.send(message, fin, limit)):
                self.free = self.alive = monotonic()
            else:
                self.finish()
        except Exception as error:  # what the function there raised, maybe
            self.fail(self.given_up(error))
        return not self.outcome

    def wait(self, step: "Callable[[float], Any]") -> "Any":
        """``step(seconds)``, again and again while it raises CallTimeout, for as long as there is hope.

        While another branch was waited for, this one had the same time to take something."""
        while True:
            now = monotonic()
            left = min(self.alive + self.stall, self.free + 3 * self.stall) - now
            try:
                return step(min(max(left, 0.01 * self.stall), 0.2 * self.stall))
            except CallTimeout:
                self.pipe.left()  # type: ignore[union-attr]  # there is one, it is waited for
                self.listen()
                if self.busy is not None:
                    self.busy()
                if monotonic() >= min(self.alive + self.stall, self.free + 3 * self.stall):
                    raise

    def listen(self) -> None:
        """Take note of what it has said meanwhile."""
        pipe = self.pipe
        while self.listens and pipe is not None and pipe.inbox.items and not pipe.inbox.items[0][1]:  # not its last
            if pipe.receive() != BUSY:
                raise ProtocolError("%s says what it may not" % pipe.name())
            self.alive = monotonic()

    def given_up(self, error: Exception) -> Exception:
        """The error of one that is given up, in words that tell so."""
        if isinstance(error, CallTimeout) and self.pipe is not None and self.pipe.deadline is None:
            return CallTimeout("%s was given up: it took nothing, and said nothing, for %.3g s"
                               % (self.engine.context(self.node[0]).name, self.stall))
        return error

    def finish(self) -> None:
        """Take what it says of the end."""
        if self.outcome or self.pipe is None:
            return
        try:
            result = self.answer(self.pipe)
            if not self.node[2]:
                self.outcome = {self.node[0]: list(result_of(result))}
            else:
                self.outcome = outcomes(result, ids(self.node))
        except Exception as error:
            self.fail(self.given_up(error))

    def answer(self, pipe: NearPipe) -> "Any":
        """What it says of the end, which may take as long as its disk does, if only its loop is alive."""
        while True:
            try:
                answer = pipe.receive(self.stall)
                if answer != BUSY:
                    return answer
            except CallTimeout:
                pipe.left()
                self.engine.context(self.node[0]).ping(self.stall)

    def cancel(self) -> None:
        """Give it up without a word."""
        if self.pipe is not None:
            self.pipe.cancel()


def outcomes(result: "Any", wanted: "list[int]") -> "dict[int, Any]":
    """What a context says of its targets, checked."""
    found = {}
    for row in result if type(result) in (list, tuple) else ():
        number, error, done = row if type(row) in (list, tuple) and len(row) == 3 else (None, None, None)
        if number in wanted:
            found[number] = error if type(error) is bytes else list(result_of(done))
    if set(found) != set(wanted):
        raise ProtocolError("%.80r are not the outcomes of contexts %r" % (result, wanted))
    return found


def hand_on(messages: "Any", branches: "list[Branch]", own: "Any" = None, tell: "Any" = None) -> None:
    """Hand messages to all branches, and to ``own``, until the end or until none of them wants more."""
    for message in messages:
        over = type(message) is dict and message.get("is") == "end"
        wanted = own is not None and own.take(message)
        for branch in branches:
            wanted = branch.send(message, over) or wanted
        if tell is not None and wanted:
            tell(message)
        if over or not wanted:
            break
    for branch in branches:
        branch.finish()


class Own:
    """The sink of a context that is itself a target: what fails in it is its outcome and holds up nobody."""

    def __init__(self, path: bytes, options: "Options") -> None:
        self.outcome = None  # type: Any
        self.sink = None  # type: Any
        try:
            self.sink = PathSink(path, options)
        except Exception as error:
            self.outcome = error

    def take(self, message: "Any") -> bool:
        """Deal with a message; False when there is no need of more."""
        if self.outcome is None:
            try:
                self.sink.take(message)
                if self.sink.done:
                    self.outcome = list(self.sink.result())
                return True
            except Exception as error:
                self.outcome = error
                self.abort()
        return False

    def abort(self) -> None:
        """Remove what is not in place."""
        if self.sink is not None:
            self.sink.abort()


def relay(node: "list[Any]", path: bytes, options: "Options", stall: float) -> "list[list[Any]]":
    """In a context on the way: hand on what comes, and put it in place. The outcomes, as plain rows."""
    from contextree.parent.engine import engine_of

    engine = engine_of(core_calls.here.router)
    with FarPipe() as pipe:
        own = Own(path, options) if node[1] else None
        branches = [Branch(engine, each, path, options, stall, busy=lambda: pipe.give(BUSY)) for each in node[2]]

        def messages() -> "Iterator[Message]":
            while True:
                yield pipe.receive()

        try:
            pipe.ready()
            hand_on(messages(), branches, own)
        finally:
            if own is not None:
                own.abort()
            for branch in branches:
                branch.cancel()
    found = {node[0]: own.outcome} if own is not None else {}
    for branch in branches:
        found.update(branch.outcome)
    return [row(engine, number, value) for number, value in found.items()]


def row(engine: "Engine", number: int, value: "Any") -> "list[Any]":
    """An outcome as plain data: [id, record of an error or None, numbers or None]."""
    if isinstance(value, Exception):
        value = core_calls.pack_error(value, engine.name_of(number) or str(number), 0)
    return [number, value, None] if type(value) is bytes else [number, None, value]


def put_all(contexts: "Iterable[Context]", source: "Source", destination: "PathName", *, stall: float = 60.0,
            progress: "Progress" = None, timeout: "float | None" = None,
            **options: "Unpack[PutOptions]") -> "dict[Context, Transferred | Exception]":
    """Put one source into many contexts: {context: Transferred, or the exception that it failed with}.

    As ``Context.put`` for each, but each link of the tree is crossed once: contexts hand it on to those below them as
    it comes. The slowest sets the pace; one that takes nothing for ``stall`` seconds is given up. ``timeout``: seconds
    for all. ``options`` are those of ``put``, without ``resume``. ``progress`` tells what the slowest has been sent.

    Raises only what is wrong with the source or with the options. Any thread but the loop's.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = contextree.put_all([web, router.fork()], b"127.0.0.1 localhost", folder + "/hosts")
    >>> [result.size for result in done.values()]
    [19, 19]
    """
    contexts = list(contexts)
    checked = options_of(**options)
    if checked["resume"]:
        raise UsageError("put_all() cannot resume: what there is of a broken transfer differs from host to host")
    path = path_bytes(destination, "destination")
    reader = open_source(source, checked)
    branches = []  # type: list[Branch]
    try:
        if not contexts:
            return {}
        engine = contexts[0].engine
        if any(context.engine is not engine or context.id == engine.core.id for context in contexts):
            raise UsageError("put_all() wants contexts of one tree, and not the one that calls it")
        there = dict(checked, mask=0o7777)
        with Meter(engine, progress, shown(path)) as tell:
            branches = [Branch(engine, node, path, there, stall, timeout)
                        for node in plan(engine, {context.id for context in contexts})]
            hand_on(reader.messages(), branches, None, tell and telling(tell, reader.size))
    finally:
        reader.close()
        for branch in branches:
            branch.cancel()
    found = {}  # type: dict[int, Any]
    for branch in branches:
        found.update(branch.outcome)
    return {context: settled(engine, found[context.id]) for context in contexts}


def telling(tell: "Any", total: "int | None") -> "Callable[[Message], None]":
    """A function of messages that calls ``tell(done, total)``."""
    done = 0

    def told(message: "Message") -> None:
        nonlocal done
        done += message_size(message)
        tell(done, total)

    return told


def settled(engine: "Engine", value: "Any") -> "Transferred | Exception":
    """An outcome for the caller: a Transferred, or an exception of its own."""
    if isinstance(value, Exception):
        return copied(value)
    if type(value) is bytes:
        return make_error(engine.decode(value[1:]), False)
    return Transferred(*value)
