"""A worker's way to the multiplexer of its run."""

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import contextree

from . import mux, ready

_client: Any = None
_owner = 0  # the process that it is of: the main one has one too after ``meta: reset_connection``


def hosts(folder: str, main_pid: int) -> Any:
    """The service of the run's multiplexer, which is started by the first worker that asks. Raises ContextreeError,
    OSError or RuntimeError where it cannot be had."""
    global _client, _owner
    if _client is None or _owner != os.getpid() or _client.engine.core.upstream.closed:
        _client, _owner = joined(folder, main_pid), os.getpid()
    return _client.services["hosts"].call


def leave() -> None:
    """Have no connection to it any more, and so no thread."""
    global _client
    client, _client = _client, None
    if client is not None:
        client.close()


def joined(folder: str, main_pid: int) -> Any:
    """A client of the multiplexer; of another one, if the first has died."""
    invitation = where(folder, main_pid)
    try:
        return contextree.join(invitation)
    except (contextree.ContextreeError, OSError):
        with locked(folder) as path, contextlib.suppress(FileNotFoundError):
            with open(path) as file:
                same = file.read() == invitation
            if same:
                os.unlink(path)
        return contextree.join(where(folder, main_pid))


def where(folder: str, main_pid: int) -> str:
    """The path of the invitation."""
    path = os.path.join(folder, mux.FILE)
    with contextlib.suppress(FileNotFoundError), open(path) as file:
        return file.read()
    with locked(folder):
        if not os.path.exists(path):
            start(folder, main_pid, path)
    with open(path) as file:
        return file.read()


@contextlib.contextmanager
def locked(folder: str) -> Iterator[str]:
    """For one worker at a time."""
    path = os.path.join(folder, mux.FILE)
    with open(path + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


def start(folder: str, main_pid: int, path: str) -> None:
    """Start it, and wait until it listens."""
    if main_pid not in (os.getpid(), os.getppid()):
        raise RuntimeError("the playbook has ended")  # whose end was to be that of the multiplexer
    begin = ready.program("controller.mux", "main", folder, main_pid)
    with open(os.path.join(folder, "contextree.log"), "ab") as log:
        process = subprocess.Popen([sys.executable, "-c", begin], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   start_new_session=True)
    while not os.path.exists(path):
        if process.poll() is not None:
            with open(os.path.join(folder, "contextree.log")) as file:
                raise RuntimeError("the multiplexer ended: " + file.read()[-2000:])
        time.sleep(0.002)
