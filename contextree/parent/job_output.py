"""What a job writes to its standard output and error, kept in files of bounded size; and the thread that writes files.

Descriptors 1 and 2 become pipes that the loop reads. What comes goes to the master's log as lines, if there is a
master, and to the file, as bytes in the order in which they were read. The file is one of two halves: when the newer
one is full, the older one is dropped. What cannot be written (the disk is full, the directory is gone) is lost and
counted, and a sentence says so where it would have been, once writing works again: the job runs on.

Disks are slow, so a thread of its own, the clerk, does all that is done to files, in order; the loop reads no more
while a lot waits for it, and so who prints waits.
"""

import os

from contextree.core import process
from contextree.core.logs import Lines
from contextree.core.mailbox import Mailbox
from contextree.parent.job_place import OUTPUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from contextree.core.broker import Broker

AHEAD = 1 << 20  # bytes that may wait for the clerk
PAUSE = 0.01  # seconds without reading when more do
SMALLEST = 4096


class Clerk:
    """Runs functions one after the other on a thread of its own, started when the first one comes."""

    def __init__(self, on_error: "Callable[..., object]") -> None:
        self.work = Mailbox()
        self.on_error = on_error
        self.started = False
        self.lock = process.allocate_lock()

    def do(self, function: "Callable[..., object]", *args: "Any") -> None:
        """Have ``function(*args)`` run. Any thread; never waits."""
        with self.lock:
            start, self.started = not self.started, True
        self.work.put((function, args))
        if start:
            process.start_thread(self.run, ())

    def run(self) -> None:
        """The thread."""
        while True:
            function, args = self.work.get()
            try:
                function(*args)
            except Exception:
                self.on_error(function)


class KeptOutput:
    """The output of this process from ``begin`` on. ``fd``: the directory; ``limit``: bytes of it that are kept."""

    def __init__(self, broker: "Broker", clerk: Clerk, fd: int, limit: int, speak: "Callable[[int, bytes], object]",
                 room: "Callable[[], bool]") -> None:
        self.broker = broker
        self.clerk = clerk
        self.directory = fd
        self.half = max(limit, SMALLEST) >> 1
        self.speak = speak  # tells the master a line
        self.room = room  # does the master take more at present?
        self.pipes = {}  # type: dict[int, tuple[int, Lines]]  # fd -> (1 or 2, Lines)
        self.waiting = 0  # bytes for the clerk
        self.start = self.end = 0  # of the newer half, in bytes of all that was written
        self.before = None  # type: int | None  # where the older one starts
        self.file = None  # type: int | None
        self.lost = 0
        self.why = ""
        self.followers = []  # type: list[Callable[[], object]]
        self.lock = process.allocate_lock()

    def begin(self) -> None:
        """Take descriptors 1 and 2 over. Loop thread."""
        for number in (1, 2):
            fd, write = process.pipe()
            os.set_blocking(write, True)
            os.dup2(write, number)
            process.close(write)
            self.pipes[fd] = number, Lines(lambda line, number=number: self.speak(number, line))  # type: ignore[misc]
            self.broker.watch(fd, lambda fd=fd: self.read(fd))  # type: ignore[misc]

    def read(self, fd: int) -> None:
        """More has come. Loop thread."""
        lines = self.pipes[fd][1]
        if self.waiting > AHEAD or not self.room():
            self.broker.forget(fd)
            self.broker.timer(PAUSE, self.broker.watch, fd, lambda: self.read(fd))
            return
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return
        if data:
            self.keep(data)
            lines.feed(data)
        else:
            self.broker.forget(fd)

    def catch_up(self) -> None:
        """Read what there is at this moment. Loop thread."""
        for fd, (_, lines) in self.pipes.items():
            for _ in range(16):  # somebody may go on writing
                try:
                    data = os.read(fd, 65536)
                except BlockingIOError:
                    break
                if not data:
                    break
                self.keep(data)
                lines.feed(data)

    def keep(self, data: bytes) -> None:
        """Write ``data`` behind what is there. Any thread; never waits."""
        with self.lock:
            self.waiting += len(data)
        self.clerk.do(self.write, data)

    def finish(self) -> None:
        """Tell the master what is left, the last partial lines too. Loop thread, at the end."""
        for fd, (_, lines) in self.pipes.items():
            try:
                while True:
                    data = os.read(fd, 65536)
                    if not data:
                        break
                    lines.feed(data)
            except OSError:
                pass  # all read
            lines.end()

    # -- the clerk

    def write(self, data: bytes) -> None:
        """Write to the file; what cannot be is counted."""
        count = len(data)
        try:
            if self.lost:
                self.put(("[contextree: %d bytes of output were lost here: %s]\n" % (self.lost, self.why)).encode())
                self.lost = 0
            begun = self.end
            try:
                self.put(data)
            finally:
                data = data[self.end - begun:]
        except OSError as error:
            self.why = error.strerror or str(error)
            self.lost += len(data)
        with self.lock:
            self.waiting -= count
            followers, self.followers = self.followers, []
        for wake in followers:
            wake()

    def put(self, data: bytes) -> None:
        """Write all of ``data``, in a new file where the present one is full. Raises OSError."""
        view = memoryview(data)
        while view:
            if self.file is None or self.end - self.start >= self.half:
                self.turn()
            done = os.write(self.file, view[:self.half - (self.end - self.start)])  # type: ignore[arg-type]
            self.end += done
            view = view[done:]

    def turn(self) -> None:
        """Begin a new half; the oldest one is dropped."""
        file = os.open(OUTPUT + str(self.end), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
                       0o600, dir_fd=self.directory)
        old, self.file = self.file, process.own(file)
        if old is not None:
            process.close(old)
            if self.before is not None:
                try:
                    os.unlink(OUTPUT + str(self.before), dir_fd=self.directory)
                except OSError:
                    pass  # somebody was faster
            self.before = self.start
        self.start = self.end
