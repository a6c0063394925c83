"""The fault table: where something breaks, and what those get who wait. ``docs/faults.md`` is written from it.

    python -m tests.ending.faults > docs/faults.md

The tree is ``master``, ``mid`` below it, and ``mid.target`` below that; everybody waits for ``mid.target``.
"""

import os
import signal
from typing import NamedTuple

from tests.ending import far

WAITS = {
    "call": "a call that runs there", "submit": "a Future of `submit`", "stream": "the next item of a stream",
    "grow": "a child that is being started there", "import": "an import there that waits for the master",
    "ping": "a ping, sent after the fault", "shutdown": "`shutdown()`, asked after the fault",
}


class Fault(NamedTuple):
    """``break_it(tree)`` breaks something; ``cell`` is what a wait gets, but for those in ``others``."""

    name: str
    break_it: object
    cell: str
    others: dict = {}
    kind: str = "local"  # how ``mid.target`` was grown; "job": taken up
    beats: str = ""  # which one of the two has ``heartbeat=1``

    def expected(self, wait):
        """The beginning of what a wait gets: ``Class: text``, or ``returns``, ``goes on``."""
        return self.others.get(wait, self.cell)


GONE = {"shutdown": "returns"}
ENDED = "ContextDied: mid.target ended: its process (local) "
WITH_MID = "ContextDied: mid.target ended with mid: its process (local) "


def kill(context):
    """KILL its process."""
    os.kill(context.pid, signal.SIGKILL)


def stop(context):
    """Have it hang: it is stopped, as by a debugger, a freezer, or a host that swaps."""
    os.kill(context.pid, signal.SIGSTOP)


def leave(context, status):
    """Have it leave within a call."""
    context.with_options(threads=9).submit(os._exit, status)


FAULTS = [
    Fault("its process is killed", lambda tree: kill(tree.target), ENDED + "killed by SIGKILL (9)", GONE),
    Fault("its process exits in a call", lambda tree: leave(tree.target, 7), ENDED + "exited with status 7", GONE),
    Fault("it closes its link", lambda tree: tree.target.with_options(threads=9).submit(far.hang_up),
          "ContextDied: mid.target ended: the connection was lost (end of file), its process has not ended yet", GONE),
    Fault("the process between is killed", lambda tree: kill(tree.mid), WITH_MID + "killed by SIGKILL (9)", GONE),
    Fault("the process between exits in a call", lambda tree: leave(tree.mid, 8), WITH_MID + "exited with status 8",
          GONE),
    Fault("it hangs and has a heartbeat", lambda tree: stop(tree.target),
          "ContextDied: mid.target ended: no sign of life for ", GONE, beats="target"),
    Fault("the process between hangs and has a heartbeat", lambda tree: stop(tree.mid),
          "ContextDied: mid.target ended with mid: no sign of life for ", GONE, beats="mid"),
    Fault("it is shut down by somebody else", lambda tree: tree.target.shutdown(0.1, force=True),
          "ContextDied: mid.target ended: its process (local) ", GONE),
    Fault("the process between is shut down by somebody else", lambda tree: tree.mid.shutdown(0.1, force=True),
          "ContextDied: mid.target ended", GONE),
    Fault("the router is closed by another thread", lambda tree: tree.router.close(0.1),
          "ContextDied: mid.target ended", {**GONE, "ping": "Closed: the router master was closed"}),
    Fault("the master's loop ends", lambda tree: tree.router.broker.stop(), "Closed: the router master was closed"),
    Fault("the template that it was forked from is killed", lambda tree: os.kill(tree.template, signal.SIGKILL),
          "goes on", {"ping": "returns", "shutdown": "returns"}, "fork"),
    Fault("it floods its stderr", lambda tree: tree.target.with_options(threads=9).call(far.flood_stderr, 5_000_000),
          "goes on", {"ping": "returns", "shutdown": "returns"}),
    Fault("it is a job that was taken up, and is killed", lambda tree: kill(tree.target),
          "ContextDied: mid.target ended: its process has ended, or another master has taken it", GONE, "job"),
    Fault("it is a job that was taken up, and another master takes it", lambda tree: tree.take(),
          "ContextDied: mid.target ended: its process has ended, or another master has taken it", GONE, "job"),
]


def table():
    """The text of docs/faults.md."""
    lines = [
        "# What breaks, and what those get who wait", "",
        "The tree is `master`, `mid` below it and `mid.target` below that, all on one machine; everybody waits for",
        "`mid.target`. Each line shows how the error begins: its class says whose fault it was, its text the context,",
        "how it ended and where. This page is written from the table in `tests/ending/faults.py`, and the tests make",
        "every one of these faults happen.", "",
        *("* **%s**: %s" % item for item in WAITS.items()), "",
    ]
    for fault in FAULTS:
        lines += ["## When %s" % fault.name, ""]
        cells = {}
        for wait in WAITS:
            cells.setdefault(fault.expected(wait), []).append(wait)
        lines += ["* %s: `%s`" % (", ".join(waits), cell.rstrip()) for cell, waits in cells.items()] + [""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(), end="")
