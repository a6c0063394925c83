"""A worker's way to the multiplexer of its run, and the start of that.

Under one of our strategies the main process forks it (``begin``) before there is a worker, and does not wait for it: it
imports what it needs and listens while core gets the first task ready. Under core's own strategies, or where it died,
the first worker that wants it does that, and waits.
"""

import contextlib
import fcntl
import gc
import hashlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import IO, Any

FILE = "contextree"  # the path of the multiplexer's token, in the run's own temporary folder
LOG = "contextree.log"
ENVIRON = "contextree.environ"  # what the multiplexer has, as ``environment`` tells
OPTIONS = "contextree.options."  # see ``definitions``
FAILED = "contextree.failed"  # it is there when there is to be no multiplexer in this run

_line: Any = None
_stays = False  # a strategy of ours runs: this process, if it is a worker, may do more than one task
_started_with = ""  # see ``started_with``
_owner = 0  # the process that it is of: the main one has one too after ``meta: reset_connection``


def hosts(folder: str, main_pid: int) -> Any:
    """The methods of ``service``. Raises ContextreeError, OSError or RuntimeError where it cannot be had."""
    return service(folder, main_pid).call


def service(folder: str, main_pid: int) -> Any:
    """A line to the run's multiplexer, which is started by the first worker that asks. Raises as above."""
    global _line, _owner
    if _line is None or _owner != os.getpid() or not _line.is_open():
        leave()
        _line, _owner = joined(folder, main_pid), os.getpid()
    return _line


def leave() -> None:
    """Have no line to it any more."""
    global _line
    old, _line = _line, None
    if old is not None and _owner == os.getpid():
        old.close()


def joined(folder: str, main_pid: int) -> Any:
    """A line to the multiplexer; to another one, if the first has died."""
    import contextree  # here: the main process has nothing to do with it

    from .line import Line

    token = where(folder, main_pid)
    try:
        return Line(token)
    except (contextree.ContextreeError, OSError, ValueError):
        path = os.path.join(folder, FILE)
        with locked(folder, fcntl.LOCK_EX), contextlib.suppress(FileNotFoundError):
            with open(path) as file:
                same = file.read() == token
            if same:
                os.unlink(path)
        return Line(where(folder, main_pid))


def where(folder: str, main_pid: int) -> str:
    """The path of the token, once the multiplexer listens. It is started where nobody has done that yet."""
    started = False
    while True:
        try:
            with open(os.path.join(folder, FILE)) as file:
                return file.read()
        except FileNotFoundError:
            pass
        with contextlib.suppress(FileNotFoundError), open(os.path.join(folder, FAILED)) as file:
            raise RuntimeError(file.read())
        with locked(folder, fcntl.LOCK_EX) as lock:
            if not os.path.exists(os.path.join(folder, FILE)):
                if started:
                    fail(folder)
                start(folder, main_pid, lock.fileno())
                started = True


def fail(folder: str) -> None:
    """There is to be no multiplexer in this run: raise why, now and for all who ask later."""
    with open(os.path.join(folder, LOG)) as file:
        why = "the multiplexer ended: " + file.read()[-2000:].strip()
    with open(os.path.join(folder, FAILED + ".new"), "w") as file:
        file.write(why)
    os.rename(file.name, os.path.join(folder, FAILED))
    raise RuntimeError(why)


def is_first(folder: str) -> bool:
    """Whether nobody in this run has asked that before."""
    try:
        os.close(os.open(os.path.join(folder, FAILED + ".said"), os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        return False
    return True


def begin(folder: str) -> None:
    """Have the multiplexer started, if nobody has done that yet; waits for nothing. In the main process, by a
    strategy."""
    global _stays
    _stays = True
    try:
        with locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB) as lock:
            if not os.path.exists(os.path.join(folder, FILE)):
                start(folder, os.getpid(), lock.fileno())
    except BlockingIOError:
        pass  # somebody is at it


def stays() -> bool:
    """Whether a strategy of ours runs."""
    return _stays


def is_early(folder: str) -> bool:
    """Whether something may be gained by asking for a link before it is needed: where this process does just one task,
    it is likely to be there unless the run has only begun."""
    return _stays or not os.path.exists(os.path.join(folder, FILE))


@contextlib.contextmanager
def locked(folder: str, how: int) -> Iterator[IO[str]]:
    """The lock of whoever starts the multiplexer, and then of that itself, until it listens."""
    with open(os.path.join(folder, FILE + ".lock"), "w") as lock:
        fcntl.flock(lock, how)
        yield lock


def start(folder: str, main_pid: int, lock: int) -> None:
    """Fork it. It lets go of ``lock`` when it listens, or ends."""
    global _started_with
    if main_pid not in (os.getpid(), os.getppid()):
        raise RuntimeError("the playbook has ended")  # whose end was to be that of the multiplexer
    _started_with = environment()
    with open(os.path.join(folder, ENVIRON), "w") as file:
        file.write(_started_with)

    def multiplex() -> None:
        detach(os.path.join(folder, LOG), lock)
        from . import mux

        mux.main(folder, main_pid, lock)

    fork(multiplex)


def environment() -> str:
    """The environment of this process, as a hash."""
    return hashlib.sha256(repr(sorted(os.environ.items())).encode("utf-8", "surrogateescape")).hexdigest()


def started_with(folder: str) -> str:
    """That of the multiplexer; where there is none yet, it is going to be as it is here."""
    global _started_with
    if not _started_with:
        with contextlib.suppress(FileNotFoundError), open(os.path.join(folder, ENVIRON)) as file:
            _started_with = file.read()
    return _started_with or environment()


def fork(what: Callable[[], None]) -> int:
    """Fork a process that does this in a session of its own; its id."""
    with warnings.catch_warnings(), uninterrupted():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are threads; core forks its workers all the same
        pid = os.fork()
        if pid == 0:
            try:
                gc.freeze()  # what is garbage here may hold descriptors, whose numbers are somebody else's there
                os.setsid()
                what()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
    return pid


@contextlib.contextmanager
def uninterrupted() -> Iterator[Callable[[], list[int]]]:
    """Have signals that have handlers in Python wait. What these raise while a process forks, Python throws away in its
    hooks around that, and a Ctrl-C is lost. Given is what the process that is forked meanwhile calls to have the
    handlers again; it tells which signals came."""
    if threading.current_thread() is not threading.main_thread():
        yield list
        return
    came: list[int] = []
    kept = {number: handler for number in (signal.SIGINT, signal.SIGTERM)
            if callable(handler := signal.getsignal(number))}

    def as_before() -> list[int]:
        for number, handler in kept.items():
            signal.signal(number, handler)
        return came

    try:
        for number in kept:
            signal.signal(number, lambda number, frame: came.append(number))
        yield as_before
    finally:
        for each in as_before():
            signal.raise_signal(each)


def detach(log: str, keep: int) -> None:
    """In a forked process: its own signals, and nothing of what was open but the descriptor ``keep``."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open(os.devnull, os.O_RDWR)
    for fd in map(int, os.listdir("/dev/fd")):
        if fd not in (keep, null):
            with contextlib.suppress(OSError):
                os.fstat(fd)  # not the one of the list itself
                os.dup2(null, fd, inheritable=False)  # not closed: objects of the former process may do that
    words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(words, 1)
    os.dup2(words, 2)
    os.close(words)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  for the life of the process
    sys.stdout = sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
