"""A worker's way to the multiplexer of its run."""

import fcntl
import os
import subprocess
import sys
import time
from typing import Any

import contextree

from . import mux, ready

_client: Any = None
_owner = 0  # the process that it is of: the main one has one too after ``meta: reset_connection``


def hosts(folder: str, main_pid: int) -> Any:
    """The service of the run's multiplexer, which is started by the first worker that asks."""
    global _client, _owner
    if _client is None or _owner != os.getpid():
        _owner = os.getpid()
        _client = contextree.join(where(folder, main_pid))
    return _client.services["hosts"].call


def where(folder: str, main_pid: int) -> str:
    """The path of the invitation."""
    path = os.path.join(folder, mux.FILE)
    if not os.path.exists(path):
        with open(path + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(path):
                start(folder, main_pid, path)
    with open(path) as file:
        return file.read()


def start(folder: str, main_pid: int, path: str) -> None:
    """Start it, and wait until it listens."""
    begin = ready.program("controller.mux", "main", folder, main_pid)
    with open(os.path.join(folder, "contextree.log"), "ab") as log:
        process = subprocess.Popen([sys.executable, "-c", begin], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   start_new_session=True)
    while not os.path.exists(path):
        if process.poll() is not None:
            with open(os.path.join(folder, "contextree.log")) as file:
                raise RuntimeError("the multiplexer ended: " + file.read()[-2000:])
        time.sleep(0.002)
