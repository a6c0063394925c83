"""The multiplexer of a run: one contextree process that has the links to all hosts, and serves ansible's workers.

Workers are forked for each task and live for milliseconds; this process lives as long as the main process of ansible
does (a pidfd tells), and no longer, however that ends. Workers join it by an invitation that lies in the run's own
temporary directory (0700).
"""

import json
import os
import select
import signal
from typing import Any

import contextree

from .hosts import THREADS, Hosts
from .worker import FILE

STATISTICS = "ANSIBLE_CONTEXTREE_STATS"  # the path of a file for them


def main(folder: str, pid: int, told: int | None = None) -> None:
    """Serve until process ``pid`` has ended. File ``told`` is closed when workers can join."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watched = os.pidfd_open(pid)
    with contextree.Router() as router:
        hosts = Hosts(router)
        service = router.serve("hosts", hosts, threads=THREADS, max_request=1 << 30)
        listener = router.listen()
        invitation = listener.invite(services=[service], trusted=True)
        publish(os.path.join(folder, FILE), listener.save(invitation))
        if told is not None:
            os.close(told)
        select.select([watched], [], [])
    if os.environ.get(STATISTICS):
        publish(os.environ[STATISTICS], json.dumps(hosts.statistics()))


def publish(path: str, text: Any) -> None:
    """Have a file with this text, or none."""
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)
