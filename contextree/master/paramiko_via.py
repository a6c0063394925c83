"""By paramiko from another context: ``router.ssh("db", via=web, transport="paramiko")``.

The new context is a child of ``web`` in every respect: ``web`` makes its Branch, its frames come and go through
``web``, and it ends with ``web``. But paramiko, its keys, known hosts, ssh_config and secrets are here, and only here.
So there are two tubes (see ``parent.tube``) between here and there: one carries the TCP connection, which ``web`` makes
to the host, the other the link, once it has been taken out of SSH here. What ``web`` sees of the connection is SSH, so
it learns no secret; of the link it sees all, as the parent that it is.

The price is the way: each byte of the link goes through ``web`` to the master, and back to ``web``. A jump host does
not have it: ``jump="web"``, where ``web`` can be reached by ssh.
"""

import _socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from contextree.connect.ssh_config import ConfigError
from contextree.core import process
from contextree.core.wire.errors import Closed, ContextreeError
from contextree.master.paramiko_link import connections, library
from contextree.parent import tube
from contextree.parent.tube import Far, Tube

if TYPE_CHECKING:
    from contextree.connect.plan import Plan
    from contextree.master.engine import RootEngine
    from contextree.parent.child_state import ChildState
    from contextree.parent.context import Context


def begin(engine: "RootEngine", context: "Context", plan: "Plan") -> "Plan":
    """The plan as ``context`` is to carry it out; what is to be done here has been prepared. UsageError."""
    way = library()
    channel = context.channel()
    ours, theirs = _socket.socketpair()
    fds = [process.own(ours.detach()), process.own(theirs.detach())]
    there = There(engine)

    def start(command: str) -> None:
        if there.connection is None:
            there.fd = -1
            there.connection = way.Connection(there, plan.transport, command, fds[1], dial)
            connections(engine).add(there.connection)
            there.connection.start()

    def word(name: str, value: Any) -> None:
        if name == "start" and type(value) is str:
            start(value)
        elif name == "signal" and type(value) is int and there.connection is not None:
            there.connection.signal(value)

    def dial(hop: Any) -> int:
        return dial_from(engine, context, hop, plan.phases["connect"])

    def listen() -> None:
        there.tube = Tube(engine, channel.connect(), fds[0], word, there.alone, True)
        there.fd = fds[1]
        there.tube.start()

    try:
        engine.broker.call(listen)
    except BaseException:
        for fd in fds:
            process.close(fd)
        raise
    return plan.copy(transport=Far(channel))


def dial_from(engine: "RootEngine", context: "Context", hop: Any, timeout: float) -> int:
    """A descriptor of a TCP connection that ``context`` makes. On a connection's thread."""
    from contextree.master.paramiko_host import Failure

    proxy = hop.config.get("proxycommand")
    if proxy is not None and proxy.lower() != "none":
        raise ConfigError("%s: transport='paramiko' has no ProxyCommand; say jump=, or leave transport= out"
                          % hop.config.where["proxycommand"])
    channel = context.channel()
    ours, theirs = _socket.socketpair()
    fds = [process.own(ours.detach()), process.own(theirs.detach())]
    carrier = Tube(engine, channel, fds[1])
    try:
        engine.share_package(context, None, tube.__name__)
        what, why = context.service(tube.dial, channel, hop.name, hop.port, hop.family(), hop.config.get("bindaddress"),
                                    timeout)
        if not what:
            engine.broker.call(carrier.start)
            return fds[0]
    except ContextreeError as error:
        what, why = "ask", str(error)
    for fd in fds:
        process.close(fd)
    channel.close()
    text = {"resolve": "ssh: Could not resolve hostname %s: %s" % (hop.name, why),
            "connect": "ssh: connect to host %s port %d: %s" % (hop.name, hop.port, why)}
    raise Failure(text.get(what, "%s cannot connect: %s" % (context.name, why)), "" if what in text else "ConnectError")


class There:
    """What becomes of a connection, told to the context whose child it carries: a ``paramiko_way.Owner``."""

    tube: Tube
    connection: Any = None
    fd = -1

    def __init__(self, engine: "RootEngine") -> None:
        self.engine = engine

    def phase(self, phase: str) -> None:
        """It has come so far."""
        self.tube.say("phase", phase)

    def note(self, text: str) -> None:
        """A line that its user may want to see."""
        self.tube.say("note", text.encode("utf-8", "replace"))

    def stderr(self, data: bytes) -> bool:
        """What came on stderr there; False: more than this cannot be sent for the moment."""
        if data:
            return self.tube.say("stderr", data)
        try:
            return not self.tube.channel.full
        except ContextreeError:
            return True

    def failed(self, error: str, message: str, phase: str) -> None:
        """There is no way."""
        self.tube.say("failed", error, message, phase)

    def ended(self, state: "ChildState") -> None:
        """It is over."""
        connections(self.engine).discard(self.connection)
        self.tube.say("ended", state.code, state.status, state.reason)
        self._later(self.tube.leave)

    def alone(self) -> None:
        """The channel has ended: so has the context there, or its wish for a child. Loop thread."""
        if self.connection is not None:
            self.connection.end("the context that it is for has ended")
        else:
            process.close(self.fd)

    def soon(self, seconds: float, function: Callable[[], object]) -> None:
        """Have ``function`` called, unless the loop ends before that."""
        self._later(self.engine.broker.timer, seconds, function)

    def _later(self, function: Callable[..., object], *args: Any) -> None:
        try:
            self.engine.broker.defer_nowait(function, *args)
        except Closed:
            pass  # nobody wants to know any more


