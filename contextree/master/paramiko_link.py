"""``ssh(host, transport="paramiko")`` carried out: a child at the other end of an SSH connection of this process.

To its ``Branch`` it looks like any other child: the link is one end of a socketpair, its lines of stderr and its exit
status come through the loop, and its "process" is the connection, which a signal ends. How the connection is made, and
what ends it, is in ``paramiko_way``; how it carries the link, in ``paramiko_wire``.

This file imports paramiko when the first such child is wanted: that takes 0.2 s.
"""

import _socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from contextree.connect.plan import command
from contextree.connect.ssh_paramiko import Access
from contextree.core import first_stage, process
from contextree.core.wire.errors import Closed, UsageError
from contextree.parent import boot, child_state, spawn
from contextree.parent.tube import Told

if TYPE_CHECKING:
    from contextree.connect.plan import Plan
    from contextree.master.engine import RootEngine
    from contextree.parent.boot import Branch

STDERR_MAX = 1 << 18  # bytes of stderr on their way to the loop


def launch(engine: "RootEngine", plan: "Plan", options: dict[str, Any], wait: bool = True) -> "Branch":
    """As ``spawn.launch``, for a plan whose transport is paramiko. UsageError where there is none."""
    way = library()
    number = engine.allocate()
    branch = boot.Branch(engine, number, boot.name_for(engine, plan, number), plan, plan.trusted)
    argv = command(plan, ["-c", first_stage.text(), "contextree:%d" % number])
    access: Access = plan.transport
    branch.command = ["paramiko:", access.host if access.user is None else f"{access.user}@{access.host}", *argv]
    if plan.silence:
        spawn.watch_link(engine, plan, options)
    first = boot.opening(engine.bundle, boot.configuration(branch, options))
    ours, theirs = _socket.socketpair()
    fds = [ours.detach(), theirs.detach()]
    try:
        fds = [process.own(fd) for fd in fds]
        here = Here(engine, branch)
        connection = way.Connection(here, access, argv[-1], fds[1])
        here.told.handle = boot.reaper(engine).adopt_remote(0, "paramiko", connection.signal)
    except BaseException:
        for fd in fds:
            process.close(fd)
        raise

    def begin() -> None:
        here.connection = connection
        connections(engine).add(connection)
        branch.begin(fds[0], first)
        branch.warn()
        branch.watch_process(here.told.handle)
        connection.start()

    engine.broker.call(begin)
    if wait:
        boot.wait_up(branch)
    return branch


def library() -> Any:
    """The module that has paramiko; UsageError where it cannot be used."""
    patched = sys.modules.get("gevent.monkey")
    if patched is not None and patched.is_module_patched("threading"):
        raise UsageError("transport='paramiko' needs threads, and gevent has replaced them in this program: leave "
                         "transport= out, the ssh program works here")
    try:
        from contextree.master import paramiko_way
    except ImportError as error:
        raise UsageError("transport='paramiko' wants the library: pip install 'contextree[paramiko]' "
                         f"({error})") from None
    return paramiko_way


class Here:
    """What becomes of a connection, told to the Branch of this process: a ``paramiko_way.Owner``."""

    connection: Any = None
    def __init__(self, engine: "RootEngine", branch: "Branch") -> None:
        self.engine = engine
        self.branch = branch
        self.told = Told(engine, branch)
        self.errors = 0  # bytes of stderr that the loop has not taken yet

    def _later(self, function: Callable[..., object], *args: Any) -> bool:
        try:
            self.engine.broker.defer_nowait(function, *args)
        except Closed:
            return False  # nobody wants to know any more
        return True

    def phase(self, phase: str) -> None:
        """It has come so far."""
        self._later(self.told.phase, phase)

    def note(self, text: str) -> None:
        """A line that its user may want to see."""
        self._later(self.branch.line, text.encode("utf-8", "replace"))

    def stderr(self, data: bytes) -> bool:
        """Lines for the loop; False while it has enough of them."""
        if data:
            self.errors += len(data)
            self._later(self._take, data)
        return self.errors < STDERR_MAX

    def _take(self, data: bytes) -> None:
        self.errors -= len(data)
        self.branch.partial.feed(data)

    def failed(self, error: str, message: str, phase: str) -> None:
        """There is no way."""
        self._later(self.told.failed, error, message, phase)

    def ended(self, state: "child_state.ChildState") -> None:
        """It is over."""
        if not self._later(self._ended, state):
            connections(self.engine).discard(self.connection)

    def _ended(self, state: "child_state.ChildState") -> None:
        connections(self.engine).discard(self.connection)
        self.told.report(state)

    def soon(self, seconds: float, function: Callable[[], object]) -> None:
        """Have ``function`` called, unless the loop ends before that."""
        self._later(self.engine.broker.timer, seconds, function)


def connections(engine: "RootEngine") -> "set[Any]":
    """All connections of one tree. When its loop ends before they do, they end."""
    if engine.connections is None:
        engine.connections = set()

        def end() -> None:
            for connection in list(engine.connections):
                connection.end("the loop has ended")

        engine.broker.on_end(end)
    return engine.connections  # type: ignore[no-any-return]
