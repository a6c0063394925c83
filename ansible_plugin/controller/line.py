"""A worker's line to the multiplexer: a unix socket, on which it asks, and waits for the answer.

A worker of ansible lives for one task, or for many, and asks one thing at a time. To join the tree of the multiplexer
as a context costs it forty modules and a thread, which is more than most of its questions; so it does not. What guards
this door is what guards that of contextree (docs/decisions/0015 and 0038): the socket lies in a directory that is this
user's alone, the kernel tells both ends that the other one is this user, and a token that lies in a file beside it is
shown first. What goes over it are pickles, as this user's processes trust each other.

The multiplexer's end is in ``desk``.
"""

import os
import pickle
import select
import socket
import struct
from typing import Any

from contextree.core import process
from contextree.core.wire.errors import ConnectError, ContextDied, UsageError
from contextree.parent import place

HEAD = struct.Struct("!Q")  # the size of what follows
PEER = struct.Struct("3i")  # pid, uid, gid
SOCKET, TOKEN = "socket", "token"  # in a directory of their own
SIZE = 48  # of a token
MOST = 1 << 30  # bytes of a question or an answer


class Calls:
    """The methods of the service at the other end. They raise what is raised there."""

    def __init__(self, line: "Line", waits: bool) -> None:
        self._line, self._waits = line, waits

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self._line.ask(name, args, self._waits)


class Line:
    """One line. For one thread."""

    def __init__(self, token: str) -> None:
        """``token``: the path of the file. Raises ContextreeError, OSError: there is nobody, or not who should be."""
        self.call = Calls(self, True)
        self.submit = Calls(self, False)  # nobody waits for the end of these, and what they raise is lost
        directory = place.open_directory(os.path.dirname(token))
        try:
            secret = read_token(os.path.basename(token), directory)
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(place.through(directory, SOCKET))
                if peer(sock) != os.geteuid():
                    raise ConnectError("the socket beside %s is another user's" % token, phase="connect")
                sock.sendall(secret)
            except BaseException:
                sock.close()
                raise
        finally:
            os.close(directory)
        self.fd: int | None = process.own(sock.detach())  # a process that is forked from this one has not got it

    def is_open(self) -> bool:
        """Whether it can be asked. The other end says nothing that it is not asked, so what can be read is the end."""
        if self.fd is None:
            return False
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return not poll.poll(0)

    def ask(self, name: str, args: tuple[Any, ...], waits: bool) -> Any:
        """Have a method called. Who is torn out of this by a signal has no line any more, and the call is cancelled."""
        if self.fd is None:
            raise ContextDied("the line to the multiplexer is closed")
        try:
            send(self.fd, (name, args, waits))
            if not waits:
                return None
            answer = receive(self.fd)
        except OSError as error:
            self.close()
            raise ContextDied("the multiplexer is gone: %s" % error) from None
        except BaseException:
            self.close()
            raise
        if answer is None:
            self.close()
            raise ContextDied("the multiplexer is gone")
        good, result = answer
        if good:
            return result
        raise result

    def close(self) -> None:
        """No more of it."""
        fd, self.fd = self.fd, None
        if fd is not None:
            process.close(fd)


def read_token(name: str, directory: int) -> bytes:
    """The token in a file. UsageError unless it is this user's alone."""
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory), "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_mode & 0o170077 != 0o100000 or found.st_uid != os.geteuid():
            raise UsageError("%s must be a file of user %d with mode 0600" % (name, os.geteuid()))
        token = bytes.fromhex(file.read(1000).decode("ascii", "replace").strip())
    if len(token) != SIZE:
        raise UsageError("%s holds no token" % name)
    return token


def peer(sock: socket.socket) -> int:
    """The user at the other end of a socket, by the kernel's word."""
    return int(PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))[1])


def send(fd: int, value: Any) -> None:
    """Send a value. Raises OSError, and what pickle raises."""
    body = pickle.dumps(value, 5)
    left = memoryview(HEAD.pack(len(body)) + body)
    while left:
        left = left[os.write(fd, left):]


def receive(fd: int) -> Any:
    """What comes; None at the end."""
    head = _read(fd, HEAD.size)
    if head is None:
        return None
    size = HEAD.unpack(head)[0]
    if size > MOST:
        raise OSError("%d bytes are too many" % size)
    body = _read(fd, size)
    return None if body is None else pickle.loads(body)


def _read(fd: int, size: int) -> bytes | None:
    """This many bytes; None where it ends before."""
    part = os.read(fd, min(size, 1 << 20))
    if len(part) == size:
        return part
    parts = []
    while part:
        parts.append(part)
        size -= len(part)
        if not size:
            return b"".join(parts)
        part = os.read(fd, min(size, 1 << 20))
    return None
