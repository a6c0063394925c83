"""The program's own child processes, watched as contextree watches its own: ``start`` them, or ``monitor`` running
ones.

One loop per process, started with the first child; a process forked off gets its own. No signal handler is installed
and no other child's status is taken. Programs with a loop of their own use ``Reaper(Loop())``.
"""

import atexit
import os
import shlex
from collections.abc import Sequence

from contextree.core import process
from contextree.core.wire.errors import NotOurChild, ProcessExited, UncleanExit, UsageError
from contextree.parent.child_state import CONTINUED, DUMPED, EXITED, KILLED, LOST, STOPPED, TRAPPED, ChildState
from contextree.parent.loop import Loop
from contextree.parent.popen import popen as popen_class
from contextree.parent.reaper import Child, Reaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "CONTINUED", "DUMPED", "EXITED", "KILLED", "LOST", "STOPPED", "TRAPPED",
    "Child", "ChildState", "NotOurChild", "ProcessExited", "Reaper", "UncleanExit", "monitor", "start",
]

_lock = process.allocate_lock()
_reaper: Reaper | None = None


def monitor(pid: int, command: str = "") -> Child:
    """A handle of ``pid``, a child of this process that is not waited for elsewhere. Any thread.

    From now on it is reaped as soon as it ends: ``os.waitpid`` elsewhere would find nothing. Raises ``NotOurChild``."""
    return default_reaper().monitor(pid, command)


def start(argv: Sequence[str | os.PathLike[str]], *, reaper: Reaper | None = None, **options: "Any") -> Child:
    """Start a program and return its handle; ``options`` are those of ``subprocess.Popen``. Any thread.

    Pipes that were asked for are in ``stdin``, ``stdout`` and ``stderr`` of the handle. ``preexec_fn`` is refused:
    it is not safe in a program with threads. Raises OSError where the program cannot be started."""
    if options.get("preexec_fn") is not None:
        raise UsageError("preexec_fn is not safe in a program with threads: use start_new_session, process_group, "
                         "user, group or a program that sets things up")
    if reaper is None:
        reaper = default_reaper()
    popen = popen_class()(argv, **options)
    popen.returncode = 0  # the object is dropped here and must not wait for the pid: only the handle does
    words = [argv] if isinstance(argv, (str, bytes, os.PathLike)) else argv
    child = reaper.monitor(popen.pid, " ".join(shlex.quote(os.fsdecode(word)) for word in words), spawned=True)
    child.stdin, child.stdout, child.stderr = popen.stdin, popen.stdout, popen.stderr
    return child


def default_reaper() -> Reaper:
    """The reaper of this process, on a loop of its own; both begin with the first call. Any thread."""
    global _reaper
    with _lock:
        if _reaper is None or _reaper.broker.closed or _reaper.broker.generation != process.generation:
            broker = Loop(name="contextree.processes")
            broker.start()
            atexit.register(broker.stop)
            _reaper = Reaper(broker)
        return _reaper


def _forked() -> None:
    global _lock, _reaper
    _lock = process.allocate_lock()  # another thread of the parent may have held it
    _reaper = None


process.after_fork.append(_forked)
