"""Ends the programs of a context that is killed: nobody in it can do so any more.

A shell of a few lines, one for each context in which programs run, in a session of its own. It is told the process
groups that live, by lines in a pipe whose only other end is the context's; at the end of file it kills those that are
left. A parent-death signal (prctl) would not do: it is the thread's that started the program, and reaches the program
alone.
"""

import os
import subprocess

from contextree.core import process
from contextree.parent.popen import popen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List

    from contextree.parent.reaper import Reaper

SCRIPT = """
g=
while read -r l; do
    case $l in
    +*) g="$g ${l#+}" ;;
    *) n=
        for p in $g; do
            [ "$p" = "${l#-}" ] || n="$n $p"
        done
        g=$n ;;
    esac
done
for p in $g; do
    kill -s KILL -- "-$p"
done
"""


class Watchman:
    """The watchman of one context. Any thread; nothing here waits or raises."""

    def __init__(self, reaper: "Reaper") -> None:
        self.fd = -1
        self.lock = process.allocate_lock()
        self.late = []  # type: List[bytes]  # lines for which the pipe had no room
        ends = [process.own(fd) for fd in os.pipe()]
        os.set_blocking(ends[1], False)
        try:
            child = popen()(["/bin/sh", "-c", SCRIPT, "contextree-watchman"], stdin=ends[0], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, cwd="/", env={}, start_new_session=True)  # type: Any
        except OSError:  # no shell, or no room for a process: programs run all the same
            process.close(ends[1])
        else:
            child.returncode = 0  # the reaper waits for it
            self.fd = ends[1]
            reaper.monitor(child.pid, "contextree-watchman", spawned=True)
        finally:
            process.close(ends[0])

    def begun(self, group: int) -> None:
        """``group`` is to be killed if this context is."""
        self.tell(b"+%d\n" % group)

    def over(self, group: int) -> None:
        """It need not be any more."""
        self.tell(b"-%d\n" % group)

    def tell(self, line: bytes) -> None:
        """Write a line, and those before it for which there was no room."""
        with self.lock:
            self.late.append(line)
            try:
                while self.late:
                    os.write(self.fd, self.late[0])  # all of it or nothing: it is short
                    del self.late[0]
            except BlockingIOError:
                pass  # full; with the next one
            except OSError:
                del self.late[:]  # there is none, or somebody has killed it
