"""``open``: a context by its address, hop by hop, with the hops before the last shared.

What is opened on the way stays, and later ``open``s go through it: the table is ``engine.opened``, by the context below
which a hop stands, the hop, and its options. Two that want the same hop at once share one connect: the first makes it,
the others wait, and get its error where it fails (asking a password's account ten times would lock it). A hop that has
died is opened anew. The last hop is nobody else's.

What is decided is written once, as a generator that yields what has to be waited for, and both the synchronous API
(``run``) and the event loops (``contextree.loops.growing``) carry that out:

    ("wait", mailbox)                              until the mailbox is closed; somebody else opens that hop
    ("grow", place, method, arguments, options)    a child of ``place``; sends the Context back

The lock of the table is held for looks and notes alone, never while anything is waited for.
"""

from contextree.connect import address as text
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import Closed, ContextDied, ContextreeError, UsageError
from contextree.parent import control, waits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Generator, List, Mapping, Optional, Sequence, Tuple, Union

    from contextree.connect.address import Hop
    from contextree.parent.context import Context
    from contextree.parent.engine import Engine
    from contextree.parent.grower import Grower

    Address = Union[str, Sequence[Union[str, Hop]]]
    Ask = Callable[[Any], Optional[Mapping[str, Any]]]
    Layer = Union[Mapping[str, Any], Ask]
    Options = Union[None, Ask, Mapping[str, Layer]]
    Steps = Generator[Tuple[Any, ...], Any, Context]


class Opened:
    """A hop on the way: in the table, or of one ``open`` alone (``key`` is None)."""

    __slots__ = ("key", "context", "error", "ready", "users", "kept")

    def __init__(self, key: "Any") -> None:
        self.key = key
        self.context = None  # type: Any  # a Context, once it is up
        self.error = None  # type: ContextreeError | None
        self.ready = Mailbox()  # closed when it is known what became of it
        self.users = 1  # opens that go through it now
        self.kept = False  # one has come through


class Way:
    """One ``open``: from ``start`` along ``hops``."""

    def __init__(self, start: "Grower", address: "Address", options: "Options", reuse: bool,
                 last: "Dict[str, Any]") -> None:
        self.engine = start.engine  # type: Engine
        self.start = start  # type: Any
        self.hops = text.parse(address)
        self.options = options
        self.reuse = reuse
        self.last = last
        self.held = []  # type: List[Opened]  # what it goes through
        self.found = set()  # type: set[Opened]  # those of them that others have opened
        self.at = 0  # the hop that is being opened
        self.place = start  # type: Any  # and below which context
        check_keys(self.hops, options)
        for hop in self.hops:
            hop.arguments()  # raises UsageError before anything is opened

    def steps(self) -> "Steps":
        """All of it; see above. Returns the Context."""
        again = True
        while True:
            try:
                context = yield from self.walk()
                break
            except BaseException as error:
                lost = [hop for hop in self.found if hop.context is not None and hop.context.state == "died"]
                self.leave(False)
                if again and lost and isinstance(error, ContextDied):
                    again = False  # it died before we came through
                    continue
                if isinstance(error, ContextreeError) and len(self.hops) > 1:
                    raise self.told(error) from error.__cause__
                raise
        if self.held and not self.reuse:
            first = self.held[0].context  # type: Any
            self.engine.watch_gone(context.id, Ender(self.engine, first.id))
        self.leave(True)
        return context

    def walk(self) -> "Steps":
        """From the start to the last hop."""
        self.place = self.start
        self.at = 0
        for hop in self.hops[:-1]:
            self.place = yield from self.through(hop)
            self.at += 1
        hop = self.hops[-1]
        twice = set(self.last) & set(hop.arguments()[1])
        if twice:
            raise UsageError("%s= is given twice: in the address %s, and beside it" % (min(twice), hop))
        context = yield self.request(hop, self.last)
        return context  # type: ignore[no-any-return]  # what is sent for "grow"

    def through(self, hop: "Hop") -> "Steps":
        """The context of a hop before the last, below ``place``."""
        while True:
            entry, mine = self.enter(hop)
            if not mine:
                yield "wait", entry.ready
                if entry.error is not None:
                    raise type(entry.error)(*entry.error.args, **entry.error.__dict__)
                if entry.context is not None and entry.context.state != "died":
                    return entry.context  # type: ignore[no-any-return]  # a Context by now
                self.drop(entry)  # who began to open it was interrupted, or it has died since
                continue
            try:
                entry.context = yield self.request(hop, {})
            except BaseException as error:
                self.drop(entry)
                if isinstance(error, ContextreeError):
                    entry.error = error
                raise
            finally:
                entry.ready.close()
            return entry.context  # type: ignore[no-any-return]  # as above

    def request(self, hop: "Hop", last: "Dict[str, Any]") -> "Tuple[Any, ...]":
        """What to yield for a new ``hop`` below ``place``. Functions in ``options`` are asked now."""
        args, own = hop.arguments()
        options = {}  # type: Dict[str, Any]
        for layer in layers(hop, self.options):
            options.update((layer(hop) if callable(layer) else layer) or {})
        options.update(last)
        options.update(own)
        if hop.method == "local" and hop.target:
            options["python"] = own["python"]
        return "grow", self.place, hop.method, args, options

    # -- the table

    def enter(self, hop: "Hop") -> "Tuple[Opened, bool]":
        """(the entry of a hop below ``place``, whether it is for us to open it)."""
        known = sorted((name, repr(value)) for layer in layers(hop, self.options) if not callable(layer)
                       for name, value in layer.items() if not text.SECRET.search(name))
        key = (self.place.id, hop, tuple(known)) if self.reuse else None
        table = self.engine.opened
        with self.engine.lock:
            there = table.get(key)
            mine = there is None or (there.context is not None and there.context.state == "died")
            entry = Opened(key) if mine else there  # type: Any
            if not mine:
                entry.users += 1
                self.found.add(entry)
            elif key is not None:
                table[key] = entry
            self.held.append(entry)
        return entry, mine

    def drop(self, entry: Opened) -> None:
        """It leads nowhere (any more)."""
        with self.engine.lock:
            self.forget(entry)
            self.held.remove(entry)
            self.found.discard(entry)
            entry.users -= 1

    def forget(self, entry: Opened) -> None:
        """Nobody else is to find it. Under the lock."""
        if entry.key is not None and self.engine.opened.get(entry.key) is entry:
            del self.engine.opened[entry.key]

    def leave(self, good: bool) -> None:
        """This ``open`` is through; or it is not: then what it opened and nobody else uses is ended, without waiting
        for that."""
        held, self.held = self.held, []
        self.found.clear()
        ended = None  # type: Context | None  # the first one: all below it end with it
        with self.engine.lock:
            for entry in reversed(held):
                entry.users -= 1
                entry.kept = entry.kept or good
                context = entry.context
                if context is None or entry.users or entry.kept:
                    continue
                below = {info.id for info in list(self.engine.infos.values())
                         if info.parent == context.id and info.state == "up"}  # else it is ours, given up a moment ago
                if below <= ({ended.id} if ended else set()):
                    self.forget(entry)
                    ended = context
        if ended is not None:
            control.end_soon(self.engine, ended.id)

    def told(self, error: "ContextreeError") -> "ContextreeError":
        """The same error, which says at which hop."""
        hop = self.hops[self.at]
        fields = dict(error.__dict__, hop=self.at + 1, hops=len(self.hops), address=str(hop))
        return type(error)("hop %d of %d (%s at %s): %s" % (
            self.at + 1, len(self.hops), hop, self.place.name, error.args[0] if error.args else ""), **fields)


class Ender:
    """Ends context ``number`` once it is woken: with the one that was opened through it."""

    def __init__(self, engine: "Engine", number: int) -> None:
        self.engine = engine
        self.number = number

    def wake(self) -> bool:
        """On the loop thread; at its end, too."""
        control.end_soon(self.engine, self.number)
        return True


def layers(hop: "Hop", options: "Options") -> "List[Layer]":
    """What ``options`` say about a hop, from the general to the particular."""
    if options is None or callable(options):
        return [options] if options is not None else []
    found = [options[hop.method]] if hop.method in options else []
    return found + [value for key, value in options.items()
                    if key not in text.METHODS and text.parse([key])[0].covers(hop)]


def check_keys(hops: "Sequence[Hop]", options: "Options") -> None:
    """Refuse options for a hop that is not in the address: a password would be missing elsewhere. UsageError."""
    if options is None or callable(options):
        return
    for key, value in options.items():
        if not callable(value) and not hasattr(value, "items"):
            raise UsageError("options= wants a dict or a function for %r, not %s" % (key, type(value).__name__))
        if key not in text.METHODS and not any(text.parse([key])[0].covers(hop) for hop in hops):
            raise UsageError("options= has %r, which is no hop of the address: that has %s"
                             % (key, ", ".join(str(hop) for hop in hops)))


def run(start: "Grower", address: "Address", options: "Options", reuse: bool, last: "Dict[str, Any]") -> "Context":
    """``open`` for the synchronous API: see ``Grower.open``."""
    start.engine.check_fork()
    waits.check(start.engine)
    steps = Way(start, address, options, reuse, last).steps()
    go = steps.send  # type: Any
    value = None  # type: Any
    while True:
        try:
            request = go(value)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # what ``steps`` returns
        try:
            value = perform(*request)
            go = steps.send
        except BaseException as error:
            go, value = steps.throw, error


def perform(what: str, subject: "Any", *growth: "Any") -> "Any":
    """Do what a step asks for."""
    if what == "wait":
        try:
            return subject.get()
        except Closed:
            return None
    method, args, options = growth
    return getattr(subject, method)(*args, **options)
