"""The client's side of joining: a process that nobody in the tree has started becomes a leaf of it.

One exchange over the socket: the greeting with the invitation's token goes, and what the client is and has comes back;
from then on the socket is a link. There is a loop with its thread, as in every context, and nothing else: no importer,
no bundle, no children. The client trusts the tree as a child trusts its parent, so it makes sure first that it talks to
a process of its own user, behind a directory of its own user.
"""

import atexit
import os
import sys
import weakref
from _struct import Struct

from contextree.core import process
from contextree.core.process import loads
from contextree.core.router import Router as Core
from contextree.core.streams import Link
from contextree.core.wire import values
from contextree.core.wire.errors import (
    AuthenticationError,
    Closed,
    ConnectError,
    ConnectTimeout,
    ContextDied,
    UnsupportedPlatform,
    UsageError,
)
from contextree.core.wire.flow import WINDOW_MAX
from contextree.core.wire.frames import MODULES, NUMBER, RESOURCE
from contextree.parent import knock, place
from contextree.parent.context import Context
from contextree.parent.engine import Engine
from contextree.parent.listen import SAVED, Invitation
from contextree.parent.loop import Loop
from contextree.parent.router import Router
from contextree.parent.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from contextree.connect.plan import Plan
    from contextree.core.wire.errors import ContextreeError

TIME = Struct("ll")
_open = weakref.WeakSet()  # type: weakref.WeakSet[Client]


class ClientEngine(Engine):
    """The engine of a client: it knows contexts and services, and has no children."""

    def __init__(self, core: Core, welcome: "dict[str, Any]") -> None:
        Engine.__init__(self, core, (), b"", trusted=welcome["trusted"])
        self.above = frozenset(welcome["names"])
        self._granted = welcome["contexts"]  # packed: most clients look at none of them, and there may be a thousand
        for kind in MODULES, RESOURCE:
            del core.openers[kind]
        self.modules.ask = lambda question: None  # type: ignore[method-assign]  # clients may not ask

    def callable_contexts(self) -> "dict[int, str]":
        """The names of the contexts that this client may call."""
        if type(self._granted) is bytes:
            self._granted = dict(loads(self._granted))
        return self._granted  # type: ignore[no-any-return]

    def name_of(self, number: int) -> "str | None":
        """The name of a context, of those that this client knows."""
        return self.core.names.get(number) or self.callable_contexts().get(number)

    def child_options(self, plan: "Any", options: "Any") -> "Any":
        """There are no children."""
        raise UsageError("a client has no children: have a context of the tree start them")

    def no_way(self, peer: int) -> "Any":
        """The error for a context that cannot be reached."""
        if self.core.upstream.closed:
            return ContextDied("the tree that %s had joined is gone: %s" % (self.core.name, self.core.upstream.closed))
        return Engine.no_way(self, peer)

    def main_by_name(self, value: object = None) -> bool:
        """Functions of ``__main__`` go by value: the tree need not have our script."""
        return False


class Client(Router):
    """A tree that this process has joined: made by ``join``. As a context manager its end is ``close()``.

    ``services`` is a dict of the services that it may call, ``contexts`` a list of the contexts; all else is refused.
    The tree sees it as the context ``name``. In a process forked from this one it raises ForkedError: that may join
    anew. When the tree ends, whatever waits gets ContextDied.

    >>> with router.listen() as listener:
    ...     with contextree.join(listener.invite(contexts=[web])) as client:
    ...         client.context("web").call(len, "four")
    4
    """

    def __init__(self, engine: ClientEngine, welcome: "dict[str, Any]", invitation: Invitation) -> None:
        Router.__init__(self, engine)
        self.engine = engine  # type: ClientEngine
        self._invitation = invitation
        self.services = {}  # type: dict[str, Service]
        for owner, owner_name, number, name, methods in welcome["services"]:
            self.services[name] = Service(engine, owner, owner_name, number, name, methods)
        self.closed = False
        self._lock = process.allocate_lock()

    def __repr__(self) -> str:
        return "<Client %s>" % self.name

    @property
    def contexts(self) -> "list[Context]":
        """The contexts that this client may call."""
        self.engine.check_fork()
        return [self.engine.context(number, name) for number, name in self.engine.callable_contexts().items()]

    def context(self, name: str) -> Context:
        """The context of that name, of those that this client may call. UsageError when there is none."""
        for context in self.contexts:
            if context.name == name:
                return context
        raise UsageError("%s was granted no context %r" % (self.name, name))

    def _grow(self, plan: "Any", options: "Any") -> "Any":
        self.engine.child_options(plan, options)

    def close(self) -> None:
        """Leave the tree. What still waits gets Closed. Idempotent; in a process forked from this one it does
        nothing."""
        engine = self.engine
        if engine.core.generation != process.generation:
            return
        with self._lock:
            if self.closed:
                return
            self.closed = True
        _open.discard(self)
        lost = engine.core.upstream.closed is not None
        engine.core.close(Closed("%s has left the tree" % self.name))
        if not engine.broker.closed:
            try:
                engine.broker.call(engine.core.upstream.close, "it was closed")
                engine.broker.stop()
            except Closed:
                pass  # it has just ended
        directory = os.path.dirname(self._invitation.path)
        if lost and os.path.basename(directory).startswith(place.PREFIX):
            place.sweep(directory)  # if the tree was killed nobody else may be left to do it

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _close_all() -> None:
    for client in list(_open):
        client.close()


atexit.register(_close_all)


def join(invitation: "Invitation | str", timeout: float = 10.0) -> Client:
    """Join a running tree by an Invitation, or by the path of a file that ``Listener.save`` wrote. Any process of the
    same user on the same machine may: forked from one of the tree, or started on its own.

    Raises AuthenticationError when the invitation is not valid (any more), ConnectError when nobody listens,
    ConnectTimeout after ``timeout`` seconds, UsageError when the file or its directory are not this user's alone.

    >>> with router.listen() as listener:
    ...     path = listener.save(listener.invite(contexts=[web]))
    ...     with contextree.join(path) as client:
    ...         client.contexts
    [<Context ... web>]
    """
    if not isinstance(invitation, Invitation):
        invitation = load(os.fspath(invitation))
    fd = process.own(connect(invitation, timeout))
    try:
        broker = Loop(name="client")
    except BaseException:
        process.close(fd)
        raise
    try:
        welcome = greet(invitation, fd)
        broker.name = welcome["name"]
        core = Core(broker, welcome["id"], welcome["name"])
        core.max_message = welcome["max_message"]
        core.names.update(welcome["names"])

        def lost(link: Link, reason: str) -> None:
            if core.closed is None:
                core.close(core.engine.no_way(link.peer))

        core.upstream = link = Link(broker, fd, fd, core.receive, lost, core.id, WINDOW_MAX)
        link.peer = welcome["parent"]
        core.on_goaway = lambda grace: link.close("it was told to leave")
        engine = core.engine = ClientEngine(core, welcome)
        link.start()
        broker.start()
    except BaseException:
        process.close(fd)
        broker.stop()
        raise
    client = Client(engine, welcome, invitation)
    _open.add(client)
    return client


def load(path: str) -> Invitation:
    """The invitation in the file ``path``. UsageError unless file and directory are this user's alone."""
    path = os.path.abspath(path)
    folder, name = os.path.split(path)
    directory = place.open_directory(folder)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
    except OSError as error:
        raise UsageError("%s cannot be read: %s" % (path, error.strerror)) from None
    finally:
        os.close(directory)
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if found.st_mode & 0o170077 != 0o100000 or found.st_uid != os.geteuid():
            raise UsageError("%s must be a file of user %d with mode 0600" % (path, os.geteuid()))
        lines = file.read(1000).decode("ascii", "replace").split("\n")
    try:
        if lines[0] != SAVED or "/" in lines[1]:
            raise ValueError
        return Invitation(os.path.join(folder, lines[1]), bytes.fromhex(lines[2]))
    except (ValueError, IndexError, UsageError):
        raise UsageError("%s holds no invitation" % path) from None


def connect(invitation: Invitation, timeout: float) -> int:
    """A connected socket, whose other end is a process of this user."""
    import _socket  # not gevent's: it waits for nobody

    if not hasattr(_socket, "SO_PEERCRED"):
        raise UnsupportedPlatform("join() needs a kernel that says who listens (SO_PEERCRED): Linux")
    folder, name = os.path.split(invitation.path)
    try:
        directory = place.open_directory(folder)
    except UsageError as error:
        if os.path.lexists(folder):
            raise
        raise ConnectError("nobody listens at %s: %s" % (invitation.path, error), phase="connect") from None
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        limit = TIME.pack(int(timeout), int(timeout % 1 * 1e6) + 1)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, limit)  # of connect, too
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, limit)
        sock.setblocking(True)
        sock.connect(place.through(directory, name))
        uid = knock.CREDENTIALS.unpack(sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED,
                                                        knock.CREDENTIALS.size))[1]
        if uid != os.geteuid():
            raise AuthenticationError("a process of user %d listens at %s" % (uid, invitation.path), phase="connect")
        return sock.detach()
    except BlockingIOError:
        raise ConnectTimeout("%s did not take a connection within %s s" % (invitation.path, timeout),
                             phase="connect") from None
    except OSError as error:
        raise ConnectError("nobody listens at %s: %s" % (invitation.path, error.strerror), phase="connect") from error
    finally:
        os.close(directory)
        sock.close()


def greet(invitation: Invitation, fd: int) -> "Any":
    """Show the token; what we are and have."""
    facts = values.encode({"version": list(sys.version_info[:3]), "executable": (sys.executable or "")[-256:],
                           "platform": sys.platform})
    token = invitation.token
    try:
        os.write(fd, knock.GREETING.pack(knock.MAGIC, token[:16], token[16:], len(facts)) + facts)
        head = receive(fd, 5)
        data = receive(fd, NUMBER.unpack_from(head, 1)[0])
    except BlockingIOError:
        raise ConnectTimeout("%s did not answer" % invitation.path, phase="login") from None
    except (OSError, EOFError) as error:
        raise ConnectError("%s hung up: %s" % (invitation.path, error), phase="login") from None
    if head[:1] != b"+":
        raise AuthenticationError("%s: %s" % (invitation.path, data.decode("utf-8", "replace")), phase="login")
    return loads(data)


def receive(fd: int, count: int) -> bytes:
    """Exactly so many bytes."""
    data = b""
    while len(data) < count:
        part = os.read(fd, count - len(data))
        if not part:
            raise EOFError("end of file")
        data += part
    return data
