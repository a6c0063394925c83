"""A worker's way to the multiplexer of its run, and the start of that.

Under one of our strategies the main process forks it (``begin``) before there is a worker, and does not wait for it: it
imports what it needs and listens while core gets the first task ready. Under core's own strategies, or where it died,
the first worker that wants it starts it as a program (``start``).
"""

import fcntl
import gc
import os
import select
import signal
import subprocess
import sys
import time
import traceback
import warnings
from typing import Any

from . import ready

FILE = "contextree"  # the invitation, in the run's own temporary folder
LOG = "contextree.log"
STARTUP = 60.0  # seconds

_client: Any = None
_owner = 0  # the process that it is of: the main one has one too after ``meta: reset_connection``
_begun: int | None = None  # can be read when the multiplexer that was forked listens, or died


def hosts(folder: str, main_pid: int) -> Any:
    """The service of the run's multiplexer, which is started by the first worker that asks."""
    global _client, _owner
    if _client is None or _owner != os.getpid():
        import contextree

        _owner = os.getpid()
        _client = contextree.join(where(folder, main_pid))
    return _client.services["hosts"].call


def where(folder: str, main_pid: int) -> str:
    """The invitation."""
    path = os.path.join(folder, FILE)
    if not os.path.exists(path) and _begun is not None:
        select.select([_begun], [], [], STARTUP)
    if not os.path.exists(path):
        with open(path + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(path):
                start(folder, main_pid, path)
    with open(path) as file:
        return file.read()


def start(folder: str, main_pid: int, path: str) -> None:
    """Start it as a program, and wait until it listens."""
    begin = ready.program("controller.mux", "main", folder, main_pid)
    with open(os.path.join(folder, LOG), "ab") as log:
        process = subprocess.Popen([sys.executable, "-c", begin], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   start_new_session=True)
    while not os.path.exists(path):
        if process.poll() is not None:
            with open(os.path.join(folder, LOG)) as file:
                raise RuntimeError("the multiplexer ended: " + file.read()[-2000:])
        time.sleep(0.002)


def begin(folder: str) -> None:
    """Fork it, once in a run. In the main thread of the main process, while no other thread of it does anything."""
    global _begun
    if _begun is not None or os.path.exists(os.path.join(folder, FILE)):
        return
    _begun, told = os.pipe()
    main_pid = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are threads; core forks its workers all the same
        pid = os.fork()
    if pid == 0:
        try:
            _become_multiplexer(folder, main_pid, told)
        finally:
            os._exit(1)
    os.close(told)


def _become_multiplexer(folder: str, main_pid: int, told: int) -> None:
    """What the fork does: let go of all that is the main process's, and serve. Never returns into what called it."""
    try:
        gc.freeze()  # nothing of the main process's is ever finalised here
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        null, log = os.open(os.devnull, os.O_RDWR), os.open(os.path.join(folder, LOG), os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        told = os.dup2(told, 3, inheritable=False)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        kept = [sys.stdin, sys.stdout, sys.stderr]  # what is in their buffers is not ours to write
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", 1), open(2, "w", 1)  # noqa: SIM115
        exec(ready.program("controller.mux", "main", folder, main_pid, told), {"__name__": "__main__"})  # noqa: S102
        del kept
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
