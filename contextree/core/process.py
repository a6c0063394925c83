"""What belongs to this process and to no other: its fork generation, its own descriptors, its way to wait.

A fork is noticed by a counter that ``os.register_at_fork`` advances, never by comparing pids: in two PID namespaces
parent and child can both be pid 1. The same hook closes, in the child, every descriptor that contextree opened: by
identity (number, st_dev, st_ino), because the number alone may meanwhile belong to the user. It takes no lock and logs
nothing. Two limits: all epoll descriptors share one inode, so there the identity tells kinds apart and not objects; and
a descriptor that another thread opened but did not yet register when the fork came stays open in the child until exec.

``unpatched`` gives the standard library's own primitives in a program that gevent has monkey-patched: the broker is a
real thread there too.
"""

import os
import sys
from time import monotonic

try:
    from _pickle import Unpickler, dumps, loads  # the C half alone: pickle.py costs 5 ms more to import
except ImportError:
    from pickle import Unpickler, dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

if sys.version_info < (3, 8):
    from _io import BytesIO

    class Finder(Unpickler):
        """Takes no module that another thread is still importing (bpo-34572)."""

        def find_class(self, module: str, name: str) -> object:
            """See there."""
            __import__(module)
            return Unpickler.find_class(self, module, name)

    def loads(view: "bytes | memoryview") -> "Any":  # type: ignore[misc]
        """See pickle."""
        return Finder(BytesIO(view)).load()


FOREVER = float("inf")
generation = 0
_own = {}  # type: dict[int, tuple[int, int]]  # fd -> (st_dev, st_ino)
# objects that would close a descriptor when they die: in a child its number may be another's by then
keep = []  # type: list[Any]
# called in the child of any fork, in order; must not block, must not raise
after_fork = []  # type: list[Callable[[], object]]


def unpatched(module: str, name: str) -> "Any":
    """``module.name`` as it was before gevent's monkey patching."""
    if "gevent.monkey" in sys.modules:
        return sys.modules["gevent.monkey"].get_original(module, name)
    return getattr(__import__(module), name)


allocate_lock = unpatched("_thread", "allocate_lock")
allocate_rlock = unpatched("_thread", "RLock")
get_ident = unpatched("_thread", "get_ident")
start_thread = unpatched("_thread", "start_new_thread")
close_fd = unpatched("os", "close")  # gevent's waits for its hub, which this thread has not, and a fork has no more


class Waiter:
    """The one blocking primitive: a thread sleeps in ``wait`` until any thread calls ``wake``; a wake has no data."""

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = allocate_lock()
        self.lock.acquire()

    def wait(self, timeout: "float | None" = None) -> bool:
        """Sleep until woken: True; or for ``timeout`` seconds: False. Ctrl-C works. A year is as good as for ever.

        It sleeps in naps, each twice as long as the one before. A signal that comes after the interpreter's last look
        and before the lock's sleep does not end that sleep: with a thread that sends SIGINT as soon as it sees another
        waiting, 22 of 400 went unheard for ever. And before Python 3.11 a lock's time is the system's clock, which
        somebody may set."""
        end = monotonic() + (FOREVER if timeout is None else timeout)
        nap = 0.1
        while True:
            left = end - monotonic()
            if self.lock.acquire(True, min(max(left, 0), nap)):
                return True
            if left <= nap and monotonic() >= end:
                return False
            nap = min(2 * nap, 3e7)

    def wake(self) -> bool:
        """Wake it; False when it had been woken before. From any thread."""
        try:
            self.lock.release()
        except RuntimeError:
            return False
        return True


waiter = Waiter  # makes what the synchronous API waits with; for greenlets contextree.loops puts another in its place


def high(fd: int) -> int:
    """``fd`` moved to 3 or above (0 to 2 belong to stdio) and close-on-exec; the old number is closed."""
    if fd < 3:
        import fcntl  # seldom: 20 KB

        new = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        close_fd(fd)
        return new
    os.set_inheritable(fd, False)
    return fd


def own(fd: int) -> int:
    """Take ``fd`` over: moved by ``high``, remembered by identity, closed by ``close`` or after a fork."""
    fd = high(fd)
    stat = os.fstat(fd)
    _own[fd] = stat.st_dev, stat.st_ino
    return fd


def null() -> int:
    """A descriptor that reads as ended: /dev/null, or an empty pipe where a root directory has no devices."""
    try:
        return os.open("/dev/null", os.O_RDWR)
    except OSError:
        fd, end = os.pipe()
        os.close(end)
        return fd


def close(fd: int) -> None:
    """Close a descriptor taken by ``own``. Does nothing when it is not owned, or when the number is another's by now.

    A number may be owned anew after it was closed, also in a forked child: its holder compares ``generation`` first."""
    _close(fd, _own.pop(fd, None))


def _close(fd: int, identity: "tuple[int, int] | None") -> None:
    try:
        stat = os.fstat(fd)
        if (stat.st_dev, stat.st_ino) == identity:
            close_fd(fd)
    except OSError:
        pass  # closed by someone else; nothing to do and nobody to tell here


def disown(fd: int) -> int:
    """Forget ``fd`` without closing it: somebody else owns it now."""
    _own.pop(fd, None)
    return fd


def pipe() -> "tuple[int, int]":
    """An owned, non-blocking pipe: (to read, to write). After an error nothing is left open."""
    ends = list(os.pipe())
    try:
        for i in (0, 1):
            os.set_blocking(ends[i], False)
            ends[i] = own(ends[i])
    except BaseException:
        for fd in ends:
            disown(fd)
            os.close(fd)
        raise
    return ends[0], ends[1]


def forked() -> None:
    """In a child: a new generation that owns nothing. Runs by itself after ``os.fork`` (3.7+), by hand on 3.6."""
    global generation
    generation += 1
    for fd, identity in list(_own.items()):
        _close(fd, identity)
    _own.clear()
    for function in after_fork:
        function()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forked)  # novm
