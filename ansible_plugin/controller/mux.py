"""The multiplexer of a run: one contextree process that has the links to all hosts, and serves ansible's workers.

Workers are forked for each task and live for milliseconds; this process lives as long as the main process of ansible
does (a pidfd tells), and no longer, however that ends. Workers join it by an invitation that lies in the run's own
temporary directory (0700).

    python -m ansible_collections.contextree.fast.controller.mux DIRECTORY MAIN_PID
"""

import os
import select
import signal
import sys
import threading
from concurrent.futures import Future
from typing import Any

import contextree

from ..target import runner

FILE = "contextree"


class Hosts:
    """What workers call. From any thread."""

    def __init__(self, router: contextree.Router) -> None:
        self.router = router
        self.lock = threading.Lock()
        self.open_ones: dict[str, Future[contextree.Context]] = {}
        self.archives: dict[str, bytes] = {}
        self.sent: dict[contextree.Context, set[str]] = {}

    def context(self, key: str, plan: Any) -> contextree.Context:
        """The context of a plan: the first who asks starts it, the others wait for it."""
        with self.lock:
            future = self.open_ones.get(key)
            if future is not None and future.done() and (future.exception() or future.result().state == "died"):
                future = None
            mine = future is None
            if future is None:
                future = self.open_ones[key] = Future()
        if mine:
            try:
                future.set_result(self.router.grow(plan, threads=50))
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    @contextree.expose
    def module(self, key: str, plan: Any, digest: str, data: bytes | None, task: dict[str, Any]) -> Any:
        """Run a module; (status, stdout, stderr), or MISSING: its archive is wanted."""
        context = self.context(key, plan)
        sent = self.sent.setdefault(context, set())
        if digest in sent:
            found = context.call(runner.run, digest, None, task)
            if found != runner.MISSING:
                return found
        if data is not None:
            self.archives[digest] = data
        data = self.archives.get(digest)
        if data is None:
            return runner.MISSING
        found = context.call(runner.run, digest, data, task)
        sent.add(digest)
        return found

    @contextree.expose
    def command(self, key: str, plan: Any, argv: list[str], data: bytes | None) -> Any:
        """Run a command; (status, stdout, stderr)."""
        done = self.context(key, plan).run(argv, input=data or b"", capture_output=True)
        return (done.returncode if done.returncode >= 0 else 128 - done.returncode), done.stdout, done.stderr

    @contextree.expose
    def put(self, key: str, plan: Any, source: str, target: str) -> None:
        """Copy a file to the host."""
        self.context(key, plan).put(source, target)

    @contextree.expose
    def get(self, key: str, plan: Any, source: str, target: str) -> None:
        """Copy a file from the host."""
        self.context(key, plan).get(source, target)


def main(folder: str, pid: int) -> None:
    """Serve until process ``pid`` has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watched = os.pidfd_open(pid)
    with contextree.Router() as router:
        hosts = router.serve("hosts", Hosts(router), threads=100)
        listener = router.listen()
        invitation = listener.invite(services=[hosts], trusted=True)
        path = listener.save(invitation)
        temporary = os.path.join(folder, FILE + ".new")
        with open(temporary, "w") as file:
            file.write(path)
        os.rename(temporary, os.path.join(folder, FILE))
        select.select([watched], [], [])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
