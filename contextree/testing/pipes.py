"""Descriptors and pollers with the faults that real ones show once a year."""

import errno
import select
import socket
from collections import deque
from collections.abc import Iterable

from contextree.core import process


def joined_pair(kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
    """Two connected, non-blocking, close-on-exec Unix sockets, both numbered 3 or above.

    They are registered as ours (``process.own``), so a forked child closes them. The caller closes them by
    ``socket.close()``; that is all that is needed.
    """
    pair = []
    for end in socket.socketpair(socket.AF_UNIX, kind):
        pair.append(_Owned(fileno=process.own(end.detach())))
        pair[-1].setblocking(False)
    return pair[0], pair[1]


class _Owned(socket.socket):
    def close(self) -> None:
        if self.fileno() >= 0:
            process.disown(self.fileno())
        super().close()


class FaultyPipe:
    """One end of a connection that goes wrong by plan; it reads and writes ``sock``, a non-blocking socket.

    ``chunk``     at most so many bytes move at once, in either direction (short reads and writes)
    ``eagain``    every so-manieth operation raises BlockingIOError, though the descriptor was ready
    ``eof_at``    after so many bytes read, the end of file
    ``read_error``, ``write_error``   ``(n, error)``: after n bytes, ``error`` is raised, every time from then on

    ``bytes_read``, ``bytes_written`` and ``operations`` count. Not thread-safe, like a socket used by one owner.
    """

    def __init__(self, sock: socket.socket, *, chunk: int | None = None, eagain: int = 0, eof_at: int | None = None,
                 read_error: tuple[int, BaseException] | None = None,
                 write_error: tuple[int, BaseException] | None = None) -> None:
        self.sock = sock
        self.chunk = chunk
        self.eagain = eagain
        self.eof_at = eof_at
        self.read_error = read_error
        self.write_error = write_error
        self.bytes_read = self.bytes_written = self.operations = 0

    def fileno(self) -> int:
        """The socket's descriptor, -1 when closed."""
        return self.sock.fileno()

    def close(self) -> None:
        """Close the socket; any number of times."""
        self.sock.close()

    def recv(self, size: int) -> bytes:
        """Up to ``size`` bytes; b"" at the end; BlockingIOError when there is nothing; the planned error."""
        size = self._allowed(size, self.bytes_read, self.read_error)
        if self.eof_at is not None:
            size = min(size, self.eof_at - self.bytes_read)
            if size <= 0:
                return b""
        data = self.sock.recv(size)
        self.bytes_read += len(data)
        return data

    def recv_into(self, buffer: bytearray | memoryview, size: int = 0) -> int:
        """Like ``recv``, into ``buffer``; how many bytes."""
        view = memoryview(buffer)
        data = self.recv(size or len(view))
        view[:len(data)] = data
        return len(data)

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Write the start of ``data``; how many bytes; BlockingIOError when it is full; the planned error."""
        size = self._allowed(len(data), self.bytes_written, self.write_error)
        sent = self.sock.send(memoryview(data)[:size])
        self.bytes_written += sent
        return sent

    def sendmsg(self, buffers: Iterable[bytes | bytearray | memoryview]) -> int:
        """Like ``send``, for the buffers one after the other."""
        return self.send(b"".join(buffers))

    def _allowed(self, size: int, done: int, error: tuple[int, BaseException] | None) -> int:
        self.operations += 1
        if self.eagain and self.operations % self.eagain == 0:
            raise BlockingIOError(errno.EAGAIN, "planned")
        if error is not None:
            if done >= error[0]:
                raise error[1]
            size = min(size, error[0] - done)
        return size if self.chunk is None else min(size, self.chunk)


class FaultyPoller:
    """Like ``select.epoll()`` (or around the ``poller`` given), with faults injected by any thread.

    What is injected is seen by the next ``poll``; wake the loop if it sleeps. ``polls`` counts the calls. The caller
    closes it; that closes the epoll it made, not one it was given.
    """

    def __init__(self, poller: "select.epoll | None" = None) -> None:
        self._poller = select.epoll() if poller is None else poller
        self.polls = 0
        self.close = self._poller.close if poller is None else lambda: None
        self._injected: deque[tuple[int, int]] = deque()
        self._errors: deque[BaseException] = deque()
        self.register = self._poller.register
        self.modify = self._poller.modify
        self.unregister = self._poller.unregister

    def inject(self, fd: int, mask: int = select.EPOLLIN) -> None:
        """Report ``fd`` as ready once, though it may not be, may have been forgotten, or may be another's by now."""
        self._injected.append((fd, mask))

    def fail(self, error: BaseException) -> None:
        """The next ``poll`` raises ``error``."""
        self._errors.append(error)

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """What is ready, with what was injected in front; or the injected error."""
        self.polls += 1
        events = self._poller.poll(0 if self._errors or self._injected else timeout)
        if self._errors:
            raise self._errors.popleft()
        return [self._injected.popleft() for _ in range(len(self._injected))] + events

    def fileno(self) -> int:
        """The real poller's descriptor."""
        return self._poller.fileno()
