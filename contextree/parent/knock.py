"""Somebody has connected to a listener's socket, and has not shown an invitation yet. What is said then, both ways."""

import os
from _struct import Struct

from contextree.core import process
from contextree.core.wire.frames import NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from contextree.parent.listen import Listener

MAGIC = b"ctxjoin1"
GREETING = Struct("!8s16s32sH")  # magic, id and secret of the invitation, size of the facts behind it
CREDENTIALS = Struct("3i")  # pid, uid, gid
MAX_FACTS = 2048


class Knock:
    """A connection that has not shown its invitation yet. Loop thread."""

    __slots__ = ("listener", "fd", "pid", "data", "timer")

    def __init__(self, listener: "Listener", fd: int, pid: int) -> None:
        self.listener = listener
        self.fd = fd  # type: Any  # or None
        self.pid = pid
        self.data = b""
        broker = listener.engine.broker
        self.timer = broker.timer(listener.deadline, self.drop, "late")
        broker.watch(fd, self.read)

    def read(self) -> None:
        """More of the greeting has come."""
        try:
            data = os.read(self.fd, GREETING.size + MAX_FACTS + 1)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            return self.drop("left")
        self.data = data = self.data + data
        if data[:8] != MAGIC[:len(data)]:
            return self.refuse("this is no greeting of contextree")
        if len(data) < GREETING.size:
            return
        size = GREETING.size + GREETING.unpack_from(data)[3]
        if len(data) > size or size > GREETING.size + MAX_FACTS:
            return self.refuse("the greeting is too long")
        if len(data) == size:
            self.timer.cancel()
            self.listener.greeted(self)

    def refuse(self, text: str) -> None:
        """Say why not, and hang up."""
        self.listener.security("%s (process %d)" % (text, self.pid))
        try:
            data = text.encode()
            os.write(self.fd, b"-" + NUMBER.pack(len(data)) + data)
        except OSError:
            pass  # it does not want to know
        self.drop("refused")

    def drop(self, why: str) -> None:
        """Hang up."""
        if self.fd is not None:
            fd = self.release()
            self.listener.count[why] += 1
            process.close(fd)

    def release(self) -> int:
        """Stop watching, forget it; the descriptor is the caller's."""
        fd = int(self.fd)
        self.fd = None
        self.timer.cancel()
        self.listener.engine.broker.forget(fd)
        self.listener.knocks.pop(fd, None)
        return fd


def peer(fd: int) -> "tuple[int, int]":
    """(pid, uid) of the process that connected to ``fd``, as the kernel noted it then."""
    import _socket

    sock = _socket.socket(fileno=fd)
    try:
        pid, uid, _ = CREDENTIALS.unpack(sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, CREDENTIALS.size))
    finally:
        sock.detach()
    return pid, uid


def same(one: bytes, other: bytes) -> bool:
    """Whether two secrets are equal, in a time that does not depend on how much of them is."""
    difference = len(one) ^ len(other)
    for a, b in zip(one, other):
        difference |= a ^ b
    return not difference
