"""The pipes (or the terminal) between a program that runs here and the channel of its job: see ``program``.

Everything here is the loop's. Descriptors do not block, each is closed exactly once, and nothing is read that could not
be sent: an output whose reader has enough is not watched any more, until the reader or the channel says so.
"""

import os
import struct
from collections import deque

from contextree.core import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Deque, Optional

    from contextree.parent.program import Job

READ = 65535  # bytes of output at once: with its letter it is one frame
BUDGET = 1 << 21  # bytes of one output on their way to its reader
COUNT, HELD = struct.Struct("!I"), struct.Struct("i")


class Output:
    """One pipe that the program writes to, or the master of its terminal."""

    def __init__(self, job: "Job", fd: int, letter: bytes) -> None:
        self.job = job
        self.fd = fd
        self.letter = letter
        self.budget = BUDGET
        self.paused = self.unwanted = False
        self.last = None  # type: Optional[int]  # so many bytes are left to be read, whoever still holds the other end

    def watch(self) -> None:
        """Begin, or go on, to read."""
        self.paused = False
        if self.fd >= 0:
            self.job.broker.watch(self.fd, self.readable)

    def readable(self) -> None:
        """Send what is there; pause where the reader has enough."""
        job = self.job
        channel = job.channel
        if not self.unwanted and (self.budget <= 0 or channel.full):
            self.pause()
            return
        try:
            data = os.read(self.fd, READ if self.last is None else min(self.last, READ))
        except BlockingIOError:
            return
        except OSError:  # EIO: the last one has closed the terminal
            data = b""
        if not data:
            self.close()
        elif not self.unwanted:
            self.budget -= len(data)
            job.send(self.letter + data)
        if self.last is not None and data:
            self.last -= len(data)
            if not self.last:
                self.close()

    def pause(self) -> None:
        """Read no more until there is credit and room."""
        channel = self.job.channel
        self.paused = True
        self.job.broker.forget(self.fd)
        channel.on_room = self.job.room
        if self.budget > 0 and not channel.full:  # it has become empty meanwhile
            self.watch()

    def drain(self) -> None:
        """What is in the pipe now is the last of it: whoever else holds its other end is not waited for."""
        import fcntl
        import termios

        if self.fd >= 0 and self.last is None:
            self.last = HELD.unpack(fcntl.ioctl(self.fd, termios.FIONREAD, bytes(HELD.size)))[0]
            if not self.last:
                self.close()

    def close(self) -> None:
        """No more of it. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self.job.broker.forget(fd)
            process.close(fd)
            self.job.send(self.letter.lower())
            self.job.settle()


class Input:
    """The pipe that the program reads from."""

    def __init__(self, job: "Job", fd: int, terminal: bool) -> None:
        self.job = job
        self.fd = fd
        self.terminal = terminal
        self.waiting = deque()  # type: Deque[Optional[memoryview]]
        self.ended = self.blocked = False

    def add(self, data: "Optional[memoryview]") -> None:
        """Write ``data``, or have it written when there is room. None: end of file."""
        if self.fd < 0:
            if data is not None:
                self.job.send(b"C" + COUNT.pack(1))
            return
        self.waiting.append(data)
        if not self.blocked:
            self.writable()

    def writable(self) -> None:
        """Write what waits, as far as it goes."""
        written = 0
        try:
            while self.waiting:
                data = self.waiting[0]
                if data is None:
                    if self.terminal:
                        os.write(self.fd, b"\4")
                    self.waiting.clear()
                    return self.close()
                count = os.write(self.fd, data)
                if count < len(data):
                    self.waiting[0] = data[count:]
                    break
                self.waiting.popleft()
                written += 1
        except BlockingIOError:
            pass
        except OSError:  # EPIPE: it has closed its end, or has ended
            written += len([data for data in self.waiting if data is not None])
            self.waiting.clear()
            self.job.send(b"B")
            return self.close()
        finally:
            if written:
                self.job.send(b"C" + COUNT.pack(written))
        self.watch(bool(self.waiting))

    def watch(self, blocked: bool) -> None:
        """Wait for room in the pipe, or stop to."""
        if blocked != self.blocked:
            self.blocked = blocked
            self.job.broker.watch(self.fd, None, self.writable if blocked else None)

    def close(self) -> None:
        """The program reads end of file. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self.job.broker.forget(fd)
            process.close(fd)
