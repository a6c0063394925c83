"""What children report of their subtrees, what is believed of that, and the police.

The tables of the subtree below a context: who is there, by which link, what each says of itself, who has ended, who may
talk to whom, which ids are bound to which link. A child speaks of its own subtree alone; what it has no right to say is
counted, told to the log at a bounded rate, and ends its link when it becomes too much.

Tables and links belong to the loop thread; ``link_to`` and the look-ups read them from any thread.
"""

from struct import error as StructError  # noqa: N812

from contextree.core import process
from contextree.core.process import dumps
from contextree.core.wire import values
from contextree.core.wire.errors import ContextDied, ContextreeError, PeerError, UsageError
from contextree.core.wire.frames import (
    BROKEN, CONTROL, IDS, LOG, LOGS, MAX_HOPS, NUMBER, OPEN, REFUSED, ROUTE_ADD, ROUTE_DEL, frame,
)
from contextree.core.wire.routes import FULL_NAME, Blocks, valid_name
from contextree.parent import child_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Sequence

    from contextree.core.router import Router as Core
    from contextree.parent.boot import ChildLink
    from contextree.parent.child_state import ChildState
    from contextree.parent.loop import Loop

STRIKES = 20  # violations of the protocol proper, for which no honest child has a reason
NOISE = 1000  # dropped frames
ID_BLOCK = 64
MAX_SUBTREE = 1 << 16
INFO_FIELDS = {"method": str, "pid": int, "version": tuple, "executable": str, "via": str, "started": float, "uid": int,
               "platform": str, "magic": bytes}


def clean(facts: "dict[Any, Any]") -> "dict[str, Any]":
    """What a context says of itself, without what is not of the kind that it should be: it is shown, formatted,
    compared."""
    kept = {}
    for key, kind in INFO_FIELDS.items():
        value = facts.get(key)  # type: Any
        if kind is tuple:
            value = tuple(value) if type(value) in (list, tuple) else ()
            good = len(value) == 3 and all(type(part) is int and 0 <= part < 1000 for part in value)
        elif kind is bytes:
            good = type(value) is bytes and len(value) == 4
        elif kind is str:
            good = type(value) is str and len(value) <= 256 and value.isprintable()
        else:
            good = type(value) in (int, kind) and 0 <= value < 1 << 63
        if good:
            kept[key] = value
    return kept


class Info:
    """What is known of one context of this subtree: for ``tree()``, errors and names."""

    __slots__ = ("id", "name", "parent", "link", "trusted", "state", "facts", "died")

    def __init__(self, number: int, name: str, parent: int, link: "ChildLink", trusted: bool) -> None:
        self.id = number
        self.name = name
        self.parent = parent
        self.link = link
        self.trusted = trusted
        self.state = "connecting"
        self.facts = {}  # type: dict[str, Any]
        self.died = None  # type: Any


class Subtree:
    """The contexts below ``core``'s, and what they may do. ``decode`` reads what they say."""

    def __init__(self, core: "Core", ids: "Iterable[tuple[int, int]]", decode: "Callable[..., Any]") -> None:
        self.core = core
        self.broker = core.broker  # type: Loop  # type: ignore[assignment]  # upgraded to one by the engine
        self.ids = Blocks(ids)
        self.decode = decode
        self.infos = {}  # type: dict[int, Info]  # this subtree
        # those that ended, the last ones: (name, error)
        self.gone = {}  # type: dict[int, tuple[str, ContextreeError]]
        # (first, second): first and what is below it may open channels to second and below
        self.grants = set()  # type: set[tuple[int, int]]
        # (first, owner) -> numbers of services there that first and what is below it may call
        self.uses = {}  # type: dict[tuple[int, int], frozenset[int]]
        self.guests = {}  # type: dict[int, Any]  # id -> Guest: clients that have joined
        self.waiting_ids = []  # type: list[tuple[int, Callable[[int, int], None]]]
        self.watchers = {}  # type: dict[int, list[process.Waiter]]  # id -> waiters for its end
        self.count = {"spoofed": 0, "refused": 0, "forwarded": 0, "dropped": 0, "violations": 0,
                      "disconnected": 0}

    # -- look-ups, any thread

    def link_to(self, peer: int) -> "Any":
        """The link that leads to ``peer``: a child's, or upward."""
        info = self.infos.get(peer)
        if info is not None:
            return info.link
        if peer in self.gone:
            return None
        return self.core.upstream

    def no_way(self, peer: int) -> "ContextreeError | None":
        """The error for a context that is gone or was never there. None while it is not known how it ended: whoever has
        a channel to it is going to be told."""
        _, error = self.gone.get(peer, (None, None))
        if error is not None:
            return type(error)(str(error), **error.__dict__)
        if peer in self.infos:
            return None
        return ContextDied("there is no context %d in the tree below %s" % (peer, self.core.name))

    def is_below(self, number: int, ancestor: int) -> bool:
        """Whether ``ancestor`` is ``number`` or above it, as far as this subtree knows."""
        for _ in range(MAX_HOPS):
            if number == ancestor:
                return True
            info = self.infos.get(number)
            if info is None:
                return False
            number = info.parent
        return False

    # -- police

    def log(self, link: "ChildLink", info: "Info", view: memoryview, raw: memoryview) -> None:
        """A log record of a child: to the root. At a bounded rate, which is asked before anything is decoded."""
        core = self.core
        if not link.logs.take(self.broker.clock(), 1 + (len(view) >> 10)):
            self.count["dropped"] += 1
            return
        if core.upstream is not None:
            core.upstream.send(LOGS, bytes(raw))
        else:
            self.on_log(info, view)  # type: ignore[attr-defined]  # Engine has it

    def late(self, link: "ChildLink", kind: int, src: int, view: memoryview, raw: memoryview) -> None:
        """A frame of a context that is not there (any more): news of its end overtake its bulk and its logs."""
        if src not in self.gone or src not in link.blocks:
            return self.spoofed(link, src)
        self.core.count["late"] += 1
        if kind == LOG:
            self.log(link, Info(src, self.gone[src][0], link.peer, link, False), view, raw)
        return None

    def spoofed(self, link: "ChildLink", src: int) -> None:
        """A frame whose source does not lie behind its link."""
        self.count["spoofed"] += 1
        self.security(link, "sent a frame in the name of context %d" % src)
        self.noise(link)

    def refuse(self, link: "ChildLink", kind: int, flags: int, number: int, dst: int, src: int) -> None:
        """A frame that the sender has no right to send."""
        self.count["refused"] += 1
        if kind == OPEN:
            self.security(link, "context %d has no grant to open a channel to context %d" % (src, dst))
            self.core.refuse(link, src, number, flags, REFUSED, "%s: context %d was not granted access to context %d"
                             % (self.core.name, src, dst), dst)
        self.noise(link)

    def noise(self, link: "ChildLink") -> None:
        """Count a dropped frame."""
        link.noise += 1
        if link.noise > NOISE:
            self.strike(link, "%d frames that it may not send" % link.noise)

    def strike(self, link: "ChildLink", what: str, number: "int | None" = None, flags: int = 0, src: int = 0) -> None:
        """Count a violation, and disconnect who has too many."""
        self.count["violations"] += 1
        self.security(link, what)
        if number is not None:
            self.core.refuse(link, src, number, flags, BROKEN, what)
        link.strikes += 1
        if (link.strikes > STRIKES or link.noise > NOISE) and not link.closed:
            self.count["disconnected"] += 1
            link.close("it broke the rules: %s" % what)

    def security(self, link: "ChildLink", what: str) -> None:
        """Tell the log, at a bounded rate."""
        if link.complaints.take(self.broker.clock()):
            self.on_security(link.peer, what)  # type: ignore[attr-defined]  # as well

    def granted(self, kind: int, src: int, dst: int, use: int = 0) -> bool:
        """Whether contexts may talk sideways; who may open may be answered. ``use``: an OPEN is for that service."""
        opening = kind == OPEN
        return self.allows(opening, src, dst, use) or (not opening and self.allows(False, dst, src, 0))

    def allows(self, opening: bool, src: int, dst: int, use: int) -> bool:
        """Whether ``src`` may open a channel to ``dst``, or (not ``opening``) has a reason to talk with it at all."""
        below = self.line(dst)
        for first in self.line(src) if self.grants or self.uses else ():
            for second in below:
                if (first, second) in self.grants:
                    return True
            numbers = self.uses.get((first, dst), frozenset())
            if use in numbers if opening else numbers:
                return True
        guest = self.guests.get(src)
        return guest is not None and bool(guest.rights.allow(below, opening, use))

    def line(self, number: int) -> "list[int]":
        """``number`` and what is above it, as far as this subtree knows."""
        found = [number]
        while number in self.infos and len(found) < MAX_HOPS:
            number = self.infos[number].parent
            found.append(number)
        return found

    # -- the subtree

    def add(self, link: "ChildLink", number: int, parent: int, name: str, trusted: bool,
            facts: "dict[Any, Any] | None" = None) -> "Info":
        """A new context below this one; ancestors are told."""
        info = Info(number, name, parent, link, trusted)
        info.facts = facts or {}
        self.infos[number] = info
        self.core.names[number] = name
        self.announce(info)
        return info

    def announce(self, info: "Info") -> None:
        """Tell the parent of a new or changed context."""
        upstream = self.core.upstream
        if upstream is not None:
            facts = {key: info.facts[key] for key in INFO_FIELDS if key in info.facts}
            upstream.send(CONTROL, frame(ROUTE_ADD, 0, CONTROL, 0, upstream.peer, self.core.id,
                                         values.encode([info.id, info.parent, info.name, info.trusted, info.state,
                                                        facts])))

    def report(self, link: "ChildLink", kind: int, view: memoryview) -> None:
        """A direct child speaks of its own subtree, or wants ids for it."""
        if not link.opens.take(self.broker.clock()):
            return self.strike(link, "too many reports")
        try:
            if kind == IDS:
                count = NUMBER.unpack(view)[0]
                if not 0 < count <= 4096 or link.blocks.room() > MAX_SUBTREE:
                    return self.strike(link, "a request for %d ids" % count)
                return self.request_ids(max(count, ID_BLOCK), lambda first, end: self.grant_ids(link, first, end))
            data = self.decode(bytes(view))
            if kind == ROUTE_ADD:
                return self.route_add(link, *data)
            return self.route_del(link, *data)
        except (ContextreeError, TypeError, ValueError, KeyError, StructError) as error:
            return self.strike(link, "a bad report: %s" % error)

    def route_add(self, link: "ChildLink", number: int, parent: int, name: str, trusted: bool, state: str,
                  facts: "dict[Any, Any]") -> None:
        """Add or update a context below a child."""
        old = self.infos.get(number)
        above = self.infos.get(parent)
        if (type(number) is not int or number not in link.blocks or number == link.peer
                or not valid_name(name, FULL_NAME) or above is None or above.link is not link or type(facts) is not dict
                or state not in ("connecting", "up")
                or not name.startswith(above.name + ".") or number in self.gone
                or (old is not None and (old.link is not link or old.name != name or old.parent != parent))):
            return self.strike(link, "reported context %.40r as %.200r" % (number, name))
        facts = clean(facts)
        trusted = bool(trusted and self.infos[link.peer].trusted)
        if old is None:
            if len(self.infos) > MAX_SUBTREE or not self.is_below(parent, self.core.id):
                return self.strike(link, "too many contexts, or too many of them below one another")
            self.add(link, number, parent, name, trusted, facts).state = state
        else:
            old.state = state
            old.facts.update(facts)
            self.announce(old)
        return None

    def route_del(self, link: "ChildLink", numbers: "Sequence[int]", reason: str, fate: object = None) -> None:
        """Contexts below a child have ended."""
        mine = []
        for number in numbers:
            info = self.infos.get(number)
            if info is None or info.link is not link or number == link.peer:
                self.count["refused"] += 1
                self.noise(link)
            else:
                mine.append(number)
        if mine:
            self.remove(mine, str(reason)[:20000], None, child_state.from_fields(fate))

    def remove(self, numbers: "Sequence[int]", reason: str, error: "ContextreeError | None" = None,
               status: "ChildState | None" = None, output: str = "") -> None:
        """Contexts are gone: routes, channels, waiters; ancestors and partners by grant are told.

        The first of ``numbers`` ended with ``status`` and ``output``, and the others with it."""
        first = self.infos[numbers[0]].name if numbers[0] in self.infos else "?"
        gone = set(numbers)
        for number in numbers:
            info = self.infos.pop(number, None)
            if info is not None:
                info.state = "died"
                info.died = error or (
                    ContextDied("%s ended: %s" % (info.name, reason), context=info.name, reason=reason, status=status,
                                output=output)
                    if number == numbers[0] else
                    ContextDied("%s ended with %s: %s" % (info.name, first, reason), context=info.name, reason=reason))
                self.gone[number] = info.name, info.died
                while len(self.gone) > 10000:
                    del self.gone[next(iter(self.gone))]
        for number in numbers:
            if number in self.gone:
                self.core.lost({number}, self.gone[number][1])
            for waiter in self.watchers.pop(number, ()):
                waiter.wake()
        upstream = self.core.upstream
        payload = values.encode([list(numbers), reason, status and list(status)])
        if upstream is not None:
            upstream.send(CONTROL, frame(ROUTE_DEL, 0, CONTROL, 0, upstream.peer, self.core.id, payload))
        self.tell_partners(gone, dumps((list(numbers), reason), 4))

    def tell_partners(self, gone: "set[int]", payload: bytes) -> None:
        """Those who may talk with contexts that have ended, by a grant, hear of it; so do those that a client talked
        with."""
        told = set()
        for pair in list(self.grants) + list(self.uses):
            for one, other in (pair, pair[::-1]):
                if one in gone:
                    told.add(other)
            if gone & set(pair):
                self.grants.discard(pair)
                self.uses.pop(pair, None)
        for number, guest in list(self.guests.items()):
            if number in gone:
                told |= guest.link.partners
            elif not gone.isdisjoint(guest.link.partners):
                told.add(number)
        for other in told - gone:
            if other in self.infos:
                self.infos[other].link.send(CONTROL, frame(ROUTE_DEL, 0, CONTROL, 0, other, self.core.id, payload))

    # -- ids

    def request_ids(self, count: int, then: "Callable[[int, int], None]") -> None:
        """Call ``then(first, end)`` with ``count`` ids, from here or from above. Loop thread."""
        block = self.ids.take(count)
        if block:
            return then(*block)
        if self.core.upstream is None:
            raise UsageError("all ids are used up")
        self.waiting_ids.append((count, then))
        self.core.upstream.send(CONTROL, frame(IDS, 0, CONTROL, 0, self.core.upstream.peer, self.core.id,
                                               NUMBER.pack(max(count, ID_BLOCK))))
        return None

    def ids_ahead(self, number: int) -> "tuple[int, int] | None":
        """A block for a direct child that has had none, bound to its link, if there is one here: it need not ask when
        it is to have children. Loop thread."""
        info = self.infos.get(number)
        if info is None or info.link.peer != number or info.link.blocks.room() > 1:
            return None
        block = self.ids.take(8 * ID_BLOCK)  # for its children and for theirs
        if block:
            info.link.blocks.add(*block)
        return block

    def grant_ids(self, link: "ChildLink", first: int, end: int) -> None:
        """Bind a block to a child's link and tell it."""
        link.blocks.add(first, end)
        link.send(CONTROL, frame(IDS, 0, CONTROL, 0, link.peer, self.core.id, NUMBER.pack(first) + NUMBER.pack(end)))

    def ids_came(self, first: int, end: int) -> None:
        """A block from above. Loop thread."""
        self.ids.add(first, end)
        waiting, self.waiting_ids = self.waiting_ids, []
        for count, then in waiting:
            self.request_ids(count, then)

    def allocate(self) -> int:
        """One id for a new direct child. Any thread but the loop's; may wait for a round trip."""
        box = []
        waiter = process.Waiter()

        def got(first: int, end: int) -> None:
            box.append(first)
            waiter.wake()

        self.broker.call(self.request_ids, 1, got)
        if not waiter.wait(30):
            raise PeerError("the parent of %s gave no ids" % self.core.name)
        return box[0]
