"""Joining: other processes of this user become clients of this context, over a unix socket.

What guards the door, from outside in: a directory that is this user's alone (0700), so nobody else reaches the socket;
the kernel's word who connects (SO_PEERCRED: the same user, and that pid, whatever the client says); an invitation, 48
random bytes that are inherited or read from a file of mode 0600, which says what its holder may call; and a deadline
for showing it. All of it happens on the loop, never waiting for anyone: who is silent costs a descriptor and a timer,
and the oldest of too many goes.

A client is a leaf below this context, with a link like a child's and the same police. Beside what a child may not, it
may not report contexts, ask for ids or modules, or log; and it opens channels only to what its invitation names
(``Rights``, shared by all who came with it). It has no process that we own: the end of its link is its end.
"""

import os

from contextree.core import process
from contextree.core.process import dumps
from contextree.core.wire.errors import Closed, ContextreeError, UnsupportedPlatform, UsageError
from contextree.core.wire.flow import WINDOW_MAX, Bucket
from contextree.core.wire.frames import NUMBER
from contextree.core.wire.routes import valid_name
from contextree.parent.boot import ChildLink
from contextree.parent.knock import GREETING, Knock, peer, same
from contextree.parent.place import Place, identity, make_directory
from contextree.parent.reports import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from contextree.parent.context import Context
    from contextree.parent.engine import Engine
    from contextree.parent.service import Service

PENDING = 256  # connections that have not shown an invitation; beyond, the oldest goes
BATCH = 32  # connections taken before the loop turns to others
BACKLOG = 1024
PAUSE = 0.05  # seconds without accepting when there is no descriptor left
SAVED = "contextree invitation 1"


class Rights:
    """What the holders of one invitation may call. Changed on the loop thread."""

    def __init__(self) -> None:
        self.contexts = set()  # type: set[int]  # ids; with what is below them
        self.uses = {}  # type: dict[int, set[int]]  # owner -> numbers of services
        self.services = []  # type: list[Any]  # their handles as plain data, for those who join
        self.names = {}  # type: dict[int, str]  # id -> name, of contexts
        self.packed = None  # type: bytes | None  # these, for those who join: there may be a thousand

    def allow(self, below: "list[int]", opening: bool, use: int) -> bool:
        """Whether a channel may be opened to ``below[0]``, which lies below the others; or, not ``opening``, whether
        there is a reason to talk with it at all."""
        if not self.contexts.isdisjoint(below):
            return True
        numbers = self.uses.get(below[0], ())
        return use in numbers if opening else bool(numbers)


class Invitation:
    """What a process needs to join: the path of the socket, and a token, which is a secret. Made by
    ``Listener.invite``; good for any number of joins until it is revoked. Plain data: a fork inherits it, a pickle
    carries it, ``Listener.save`` puts it into a file.

    >>> with router.listen() as listener:
    ...     invitation = listener.invite(contexts=[web])
    ...     with contextree.join(invitation) as client:
    ...         client.contexts[0].call(abs, -3)
    3
    """

    def __init__(self, path: str, token: bytes) -> None:
        if not isinstance(token, bytes) or len(token) != 48:
            raise UsageError("the token of an invitation is 48 bytes")
        self.path = os.path.abspath(path)
        self.token = token

    def __repr__(self) -> str:
        return "<Invitation to %s>" % self.path


class Guest:
    """A client that has joined; stands among the children of ``engine`` where others have a Branch. Loop thread."""

    detached = False
    process = after = None

    def __init__(self, listener: "Listener", fd: int, number: int, rights: Rights) -> None:
        self.engine = listener.engine
        self.listener = listener
        self.id = number
        self.rights = rights
        self.on_dead = []  # type: list[Callable[[], object]]
        engine = self.engine
        self.link = link = ChildLink(engine.broker, fd, fd, engine.receive, self.lost, engine.core.id, WINDOW_MAX)
        link.peer = number
        link.blocks.add(number, number + 1)
        link.rights = rights
        link.partners = set()

    def lost(self, link: "Any", reason: str) -> None:
        """The link has closed: it is gone, and all that it was granted."""
        engine = self.engine
        engine.link_lost(link)
        engine.children.pop(self.id, None)
        self.listener.guests.discard(self)
        engine.remove([self.id], "it has left" if reason == "end of file" else reason)
        engine.guests.pop(self.id, None)
        engine.contexts.pop(self.id, None)  # there may be very many in the life of a tree
        engine.core.names.pop(self.id, None)
        for function in self.on_dead:
            function()

    def shutdown(self, grace: float, patience: float = 2.0) -> None:
        """End it. It has no process that we could wait for."""
        self.link.close("it was shut down")

    def release(self) -> None:
        """The same: it cannot live on without us."""
        self.link.close("it was shut down")

    def abandon(self, error: BaseException) -> None:
        """The loop ends before it does."""
        self.link.on_lost = lambda link, reason: None
        self.link.close(str(error))


class Listener:
    """A unix socket where other processes of this user join: made by ``Router.listen``. As a context manager its end is
    ``close()``. Any thread may use it.

    >>> with router.listen() as listener, router.serve("echo", {"echo": str}) as echo:
    ...     with contextree.join(listener.invite(services=[echo])) as client:
    ...         client.services["echo"].call.echo(5)
    '5'
    """

    _knocking = Knock  # type: type[Knock]  # what somebody is until it has been let in

    def __init__(self, engine: "Engine", place: Place, sock: "Any", limit: int, deadline: float) -> None:
        self.engine = engine
        self.place = place
        self.path = place.path
        self.limit = limit
        self.deadline = deadline
        self.sock = sock
        self.fd = sock.fileno()
        self.closed = False
        self.invitations = {}  # type: dict[bytes, tuple[bytes, Rights, bool]]  # id -> (secret, Rights, trusted)
        self.knocks = {}  # type: dict[int, Knock]
        self.guests = set()  # type: set[Guest]
        self.complaints = Bucket(1, 10)
        self.count = dict.fromkeys(("joined", "refused", "late", "left", "crowded"), 0)  # type: dict[str, int]

    def __repr__(self) -> str:
        return "<Listener %s, %d clients>" % (self.path, len(self.guests))

    # -- invitations, any thread

    def invite(self, services: "Iterable[Service]" = (), contexts: "Iterable[Context]" = (),
               trusted: bool = False) -> Invitation:
        """An Invitation: its holders may call ``services`` (handles, maybe narrowed by ``only``), and ``contexts`` with
        what is below them, and nothing else. ``trusted``: services here read pickles that they send; they are this
        user's processes anyway. UsageError for what is not below this context."""
        rights = Rights()
        services, contexts = self._check(services, contexts)
        token = os.urandom(48)
        self.engine.broker.call(self._grant, rights, services, contexts)
        self.invitations[token[:16]] = token[16:], rights, bool(trusted)
        return Invitation(self.path, token)

    def grant(self, invitation: Invitation, services: "Iterable[Service]" = (),
              contexts: "Iterable[Context]" = ()) -> None:
        """Let the holders of ``invitation``, those who have joined too, call more."""
        services, contexts = self._check(services, contexts)
        self.engine.broker.call(self._grant, self._known(invitation)[1], services, contexts)

    def revoke(self, invitation: Invitation) -> None:
        """Nobody joins by ``invitation`` any more, and those who did are disconnected."""
        _, rights, _ = self._known(invitation)
        del self.invitations[invitation.token[:16]]

        def end() -> None:
            for guest in list(self.guests):
                if guest.rights is rights:
                    guest.link.close("its invitation was revoked")

        self.engine.broker.call(end)

    def save(self, invitation: Invitation, name: str = "invitation") -> str:
        """Write ``invitation`` into a file beside the socket that this user alone can read, for processes that are
        started later; returns its path, which ``join`` takes. It goes with the listener. UsageError when there is
        such a file."""
        self._known(invitation)
        if not valid_name(name) or name in (".", "..") or name.startswith(self.place.name):
            raise UsageError("%r cannot be the name of an invitation's file" % (name,))
        self.place.write(name, "%s\n%s\n%s\n" % (SAVED, self.place.name, invitation.token.hex()))
        return os.path.join(os.path.dirname(self.path), name)

    def _known(self, invitation: Invitation) -> "tuple[bytes, Rights, bool]":
        self.engine.check_fork()
        found = self.invitations.get(invitation.token[:16])
        if found is None:
            raise UsageError("%r is not of this listener, or was revoked" % (invitation,))
        return found

    def _check(self, services: "Iterable[Service]",
               contexts: "Iterable[Context]") -> "tuple[list[Service], list[Context]]":
        engine = self.engine
        engine.check_fork()
        if self.closed:
            raise Closed("%r was closed" % (self,))
        services, contexts = list(services), list(contexts)
        thing = None  # type: Any
        for thing in services + contexts:
            here = thing in services and thing.id == engine.core.id
            if thing.engine is not engine or not (here or thing.id in engine.infos):
                raise UsageError("%r is not below %s, where clients join" % (thing, engine.core.name))
        return services, contexts

    def _grant(self, rights: Rights, services: "list[Service]", contexts: "list[Context]") -> None:
        for service in services:
            rights.uses.setdefault(service.id, set()).add(service.number)
            rights.services.append((service.id, service.context.name, service.number, service.name, service.methods))
        for context in contexts:
            rights.contexts.add(context.id)
            rights.names[context.id] = context.name
        rights.packed = None

    def stats(self) -> "dict[str, int]":
        """Counters: ``joined``, ``refused`` (no valid invitation, another user, too many), ``late`` (silent until the
        deadline), ``left`` before they greeted, ``crowded`` out by others; ``clients`` and ``pending`` now."""
        return dict(self.count, clients=len(self.guests), pending=len(self.knocks))

    def close(self) -> None:
        """Nobody joins any more; the socket, saved invitations and a directory made for them are gone. Clients that
        have joined stay. Idempotent."""
        self.engine.check_fork()
        try:
            self.engine.broker.call(self._end)
        except Closed:
            pass  # the end of the loop has closed it

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.engine.core.generation == process.generation:
            self.close()

    # -- the loop thread

    def start(self) -> None:
        """Begin to accept."""
        broker = self.engine.broker
        broker.on_end(self._end)
        broker.watch(self.fd, self.accept)

    def accept(self) -> None:
        """Take who knocks."""
        for _ in range(BATCH):
            try:
                fd, _ = self.sock._accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor left
                for knock in list(self.knocks.values())[:BATCH]:
                    knock.drop("crowded")
                self.engine.broker.forget(self.fd)
                self.engine.broker.timer(PAUSE, self.go_on)
                return
            os.set_blocking(fd, False)
            fd = process.own(fd)
            pid, uid = peer(fd)
            knock = self.knocks[fd] = self._knocking(self, fd, pid)
            if uid != os.geteuid():
                knock.refuse("user %d may not join a tree of user %d" % (uid, os.geteuid()))
            if len(self.knocks) > PENDING:
                next(iter(self.knocks.values())).drop("crowded")

    def go_on(self) -> None:
        """Accept again."""
        if not self.closed:
            self.engine.broker.watch(self.fd, self.accept)

    def greeted(self, knock: Knock) -> None:
        """A whole greeting has come: let it in, or not."""
        _, ident, secret, _ = GREETING.unpack_from(knock.data)
        invitation = self.invitations.get(ident)
        if invitation is None or not same(secret, invitation[0]):
            return knock.refuse("the invitation is not valid (any more)")
        engine = self.engine
        if len(self.guests) >= self.limit:
            return knock.refuse("%d clients have joined already" % self.limit)
        if engine.ending:
            return knock.refuse("%s is about to end" % engine.core.name)
        try:
            facts = engine.decode(knock.data[GREETING.size:])
            if type(facts) is not dict:
                raise UsageError("it holds no names")
        except ContextreeError as error:
            return knock.refuse("bad facts: %s" % error)
        facts = dict(clean(facts), pid=knock.pid, uid=os.geteuid(), method="join")
        knock.timer = engine.broker.timer(self.deadline, knock.drop, "late")
        engine.request_ids(1, lambda number, end: self.admit(knock, number, facts, *invitation[1:]))

    def admit(self, knock: Knock, number: int, facts: "dict[str, Any]", rights: Rights, trusted: bool) -> None:
        """It has an id: from now on it is a client."""
        if knock.fd is None:
            return
        engine = self.engine
        core = engine.core
        name = "client.%d" % knock.pid if core.upstream is None else "%s.client.%d" % (core.name, knock.pid)
        guest = Guest(self, knock.release(), number, rights)
        self.count["joined"] += 1
        self.guests.add(guest)
        engine.children[number] = engine.guests[number] = guest
        info = engine.add(guest.link, number, core.id, name, trusted, facts)
        info.state = "up"
        engine.announce(info)
        if rights.packed is None:
            rights.packed = dumps(sorted(rights.names.items()), 4)
        names = {above: engine.name_of(above) or "?" for above in engine.above | {core.id}}
        data = dumps({"id": number, "name": name, "parent": core.id, "names": names, "trusted": trusted,
                      "max_message": core.max_message, "services": rights.services,
                      "contexts": rights.packed}, 4)
        guest.link.pending = [b"+" + NUMBER.pack(len(data)) + data]
        guest.link.start()
        guest.link.flush()

    def security(self, text: str) -> None:
        """Tell the log, at a bounded rate."""
        engine = self.engine
        if self.complaints.take(engine.broker.clock()):
            engine.on_security(engine.core.id, "somebody wanted to join: %s" % text)

    def _end(self) -> None:
        if self.closed:
            return
        self.closed = True
        for knock in list(self.knocks.values()):
            knock.drop("left")
        self.engine.broker.forget(self.fd)
        process.keep.remove(self.sock)
        process.close(self.fd)
        self.sock.detach()
        self.place.leave()


def listen(engine: "Engine", path: "str | None", limit: int, deadline: float) -> Listener:
    """See ``Router.listen``."""
    import _socket

    engine.check_fork()
    if not hasattr(_socket, "SO_PEERCRED") or not os.path.isdir("/proc/self/fd"):
        raise UnsupportedPlatform("listen() needs a kernel that says who connects (SO_PEERCRED), and /proc: Linux")
    if engine.core.closed:
        raise Closed(str(engine.core.closed))
    if path is None:
        place = Place(make_directory(), "socket", True)
    else:
        path = os.path.abspath(path)
        place = Place(os.path.dirname(path), os.path.basename(path), False)
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        place.take_lock()
        place.clear()
        sock.bind(place.through())
        place.socket = identity(place.name, place.fd)
        os.chmod(place.name, 0o600, dir_fd=place.fd)
        sock.listen(BACKLOG)
        listener = Listener(engine, place, sock, limit, deadline)
        process.own(sock.fileno())
        process.keep.append(sock)
        engine.broker.call(listener.start)
    except BaseException:
        if sock in process.keep:
            process.keep.remove(sock)
            process.disown(sock.fileno())
        sock.close()
        place.leave()
        raise
    return listener
