"""The multiplexer of a run: one contextree process that has the links to all hosts, and serves ansible's workers.

It is forked from the main process of ansible, or from the first worker. Workers are forked for each task and live for
milliseconds; this process lives as long as the main process of ansible does (a pidfd tells), and no longer, however
that ends. Workers have lines to it (``desk``), by a token whose path lies in the run's own temporary directory (0700).
"""

import contextlib
import glob
import json
import os
import resource
import select
import signal
import sys
from typing import Any

import contextree

from . import ready
from .desk import Desk
from .hosts import Hosts
from .worker import ENVIRON, FILE, LOG, OPTIONS

FILES = 1 << 16  # open at a time; a link has three
STATISTICS = "ANSIBLE_CONTEXTREE_STATS"  # the path of a file for them


def main(folder: str, pid: int, lock: int) -> None:
    """Serve until process ``pid`` has ended. The descriptor ``lock`` is closed as soon as workers may come."""
    signal.signal(signal.SIGINT, lambda number, frame: None)  # not SIG_IGN, which programs would inherit
    for number in signal.SIGTERM, signal.SIGHUP:
        if signal.getsignal(number) is not signal.SIG_IGN:  # by nohup
            signal.signal(number, lambda number, frame: sys.exit())
    why = ready.fault(there=True)
    if why is not None:
        raise RuntimeError(why)
    watched = os.pidfd_open(pid)
    with contextree.Router() as router:
        hosts = Hosts(router, raise_limit())
        with Desk(hosts) as desk:
            publish(os.path.join(folder, FILE), desk.token)
            os.close(lock)
            with contextlib.suppress(SystemExit):
                select.select([watched], [], [])
        hosts.end()
    for name in FILE, FILE + ".lock", ENVIRON, LOG, *glob.glob(OPTIONS + "*", root_dir=folder):
        with contextlib.suppress(OSError):  # ansible removes the folder, if it is not killed
            os.unlink(os.path.join(folder, name))
    if os.environ.get(STATISTICS):
        publish(os.environ[STATISTICS], json.dumps(hosts.statistics()))


def raise_limit() -> int:
    """Have room for the files of many links; what the limit was."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if 0 <= soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return soft
    return 0


def publish(path: str, text: Any) -> None:
    """Have a file with this text, or none."""
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)
