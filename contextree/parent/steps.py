"""Commands before and after a child: what its plan wants done on this machine besides the child's own command.

``before`` runs in the process that becomes the child's command: a few lines of shell ahead of it. So the commands are
bounded by the limit of the phase (connect), cancelled, told of and reaped as the command itself is: the status of the
one that failed is that of the process, and what they said is in its last lines. They read nothing, and what they
write to stdout goes to stderr.

``after`` is done by a shell of its own, an ``After``, which is there from the start and waits for a line in a pipe, or
for its end. The line comes from us, when the child is gone or could not be started. The end comes when we were killed
and the child's command has ended as well, which holds the pipe too; so what was lent to a container is taken back then
as well. It is in a session of its own, and what ends the child does not end it.
"""

import os
import subprocess

from contextree.connect.quote import quote_sh
from contextree.core import process
from contextree.core.wire.errors import CallTimeout, Closed
from contextree.parent import boot
from contextree.parent.ends import printable
from contextree.parent.popen import popen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

    from contextree.parent.child_state import ChildState
    from contextree.parent.engine import Engine

LIMIT = 30.0  # seconds for what is to be done afterwards
# A shell that waits for a command in the foreground hears of TERM only after it; so it waits for one in the background.
_BEFORE = 'trap \'trap "" TERM; kill -s KILL 0\' TERM HUP INT\n%strap - TERM HUP INT\nexec "$@"'
_AFTER = "read -r line\nstatus=0\n%sexit $status"


def wrap(before: "Sequence[Sequence[str]]", argv: "Sequence[str]", env: "dict[str, str]") -> "list[str]":
    """A command that runs those of ``before``, one after the other, and becomes ``argv`` where none has failed.

    Raises OSError where the program of one cannot be run. Start it with ``start_new_session=True``."""
    from contextree.parent import tty

    for words in list(before) + [argv]:
        tty.find(words[0], env, None)
    lines = "".join("%s >&2 </dev/null & wait $! || exit\n" % quote_sh(words) for words in before)
    return ["/bin/sh", "-c", _BEFORE % lines, "contextree-before"] + list(argv)


class After:
    """What is to be done when a child is gone. ``wake`` is the descriptor that the child's command holds too.

    The loop thread, but for the start and ``wait``. ``engine.afters`` has those that are not over."""

    def __init__(self, engine: "Engine", name: str, commands: "Sequence[Sequence[str]]", env: "dict[str, str]") -> None:
        self.engine = engine
        self.name = name
        self.commands = commands
        self.on_over = []  # type: list[Callable[[], object]]
        self.over = False
        self.timer = None  # type: Any
        fds = []  # type: list[int]
        try:
            fds += [process.own(fd) for fd in os.pipe()]
            fds += [process.own(fd) for fd in os.pipe()]
            os.set_blocking(fds[2], False)
            lines = "".join("%s </dev/null || status=$?\n" % quote_sh(words) for words in commands)
            child = popen()(["/bin/sh", "-c", _AFTER % lines, "contextree-after"], stdin=fds[0], stdout=fds[3],
                            stderr=fds[3], start_new_session=True, env=env)  # type: Any
        except BaseException:
            for fd in fds:
                process.close(fd)
            raise
        process.close(fds[0])
        process.close(fds[3])
        child.returncode = 0  # the handle reaps it; Popen must not try
        self.wake, self.output = fds[1], fds[2]
        self.handle = boot.reaper(engine).monitor(child.pid, "contextree-after", spawned=True)
        engine.broker.call(self.begin)

    def begin(self) -> None:
        """From now on the end of this context waits for it."""
        self.engine.afters.add(self)
        self.handle.on_exit(self.exited)

    def run(self) -> None:
        """The child is gone: now. Idempotent."""
        fd, self.wake = self.wake, -1
        if fd >= 0:
            try:
                os.write(fd, b"\n")
            except OSError:
                pass  # somebody has killed it
            process.close(fd)
            self.timer = self.engine.broker.timer(LIMIT, self.handle.end, (), None, 0, 0)

    def exited(self, state: "ChildState") -> None:
        """It has been done, or has failed."""
        try:
            lines = [line for line in os.read(self.output, 65536).splitlines() if line.strip()]
        except OSError:
            lines = []
        if not state.clean():
            text = "%s: what was to be done after it (%s) %s%s" % (
                self.name, "; ".join(" ".join(words)[:200] for words in self.commands), state,
                ": " + printable(lines[-1]) if lines else "")
            self.engine.child_line(self.engine.core.id, "warning", text.encode("utf-8", "replace"))
        self.finish()

    def finish(self) -> None:
        """Close everything, and tell who waits."""
        self.over = True
        for fd in (self.wake, self.output):
            if fd >= 0:
                process.close(fd)
        self.wake = self.output = -1
        if self.timer is not None:
            self.timer.cancel()
        self.engine.afters.discard(self)
        for function in self.on_over:
            function()

    def leave(self, forever: bool = False) -> None:
        """The child lives on without us: it does its work once the child's command has ended; never, where the child
        lives on without that as well (``forever``)."""
        if forever:
            self.handle.end(grace=0, patience=0)
        else:
            self.handle.release()
        self.finish()

    def abandon(self) -> None:
        """The loop ends earlier: it does its work all the same, and nobody hears how it went."""
        self.run()
        self.finish()

    def wait(self) -> None:
        """Wait until it is over; how it went is logged. Any thread but the loop's."""
        try:
            self.handle.wait(LIMIT + 5)
        except (Closed, CallTimeout):
            pass
