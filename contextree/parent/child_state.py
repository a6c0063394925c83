"""What became of a child process: ``ChildState``, an immutable value with the fields of the kernel's siginfo."""

import os
import signal
from collections import namedtuple

from contextree.core.wire.errors import UncleanExit

# si_code of SIGCHLD (CLD_EXITED to CLD_CONTINUED), and one of our own: dead, and nobody can say how
EXITED, KILLED, DUMPED, TRAPPED, STOPPED, CONTINUED, LOST = range(1, 8)
NAMES = {EXITED: "EXITED", KILLED: "KILLED", DUMPED: "DUMPED", TRAPPED: "TRAPPED", STOPPED: "STOPPED",
         CONTINUED: "CONTINUED", LOST: "LOST"}
DEATHS = frozenset((EXITED, KILLED, DUMPED, LOST))
TAKEN = "its status was taken by other code in this process"

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs a child milliseconds
    from typing import Any, NamedTuple

    _Base = NamedTuple("_Base", [("pid", int), ("uid", Any), ("code", int), ("status", Any), ("command", str),
                                 ("reason", str)])
else:
    _Base = namedtuple("ChildState", "pid uid code status command reason")


class ChildState(_Base):
    """One change of a child. Immutable, comparable, can be pickled.

    ``pid``; ``uid`` (real user id, None where the kernel did not tell); ``code`` (EXITED, KILLED, DUMPED, TRAPPED,
    STOPPED, CONTINUED, LOST); ``status`` (exit status for EXITED, None for LOST, signal number otherwise); ``command``;
    ``reason`` (LOST only: why nobody knows)."""

    __slots__ = ()

    def died(self) -> bool:
        """The process is gone for good; true for LOST too."""
        return self.code in DEATHS

    def clean(self) -> bool:
        """It exited with status 0. A LOST state is never clean."""
        return self.code == EXITED and self.status == 0

    def killed_with(self) -> "int | None":
        """The number of the signal that killed it, else None."""
        return self.status if self.code in (KILLED, DUMPED) else None

    @property
    def exit_status(self) -> "int | None":
        """The exit status where it exited by itself, else None."""
        return self.status if self.code == EXITED else None

    @property
    def returncode(self) -> "int | None":
        """As subprocess counts: the exit status, or the signal's number below zero; None while alive and when lost."""
        if self.code == EXITED:
            return int(self.status)
        return -self.status if self.code in (KILLED, DUMPED) else None

    def check(self) -> "ChildState":
        """This state when it is clean; else raises ``UncleanExit`` with ``state`` and ``command``."""
        if self.clean():
            return self
        raise UncleanExit("%s %s" % (describe(self.pid, self.command), self), state=self, command=self.command)

    def __str__(self) -> str:
        if self.code == EXITED:
            return "exited with status %d" % self.status
        if self.code == LOST:
            return "lost: %s" % self.reason
        if self.code == CONTINUED:
            return "continued"
        verb = {KILLED: "killed by", DUMPED: "killed, core dumped, by", TRAPPED: "trapped by", STOPPED: "stopped by"}
        return "%s %s" % (verb[self.code], signal_name(self.status))

    def __repr__(self) -> str:
        return "<ChildState %s: %s>" % (describe(self.pid, self.command), self)


def from_siginfo(info: "os.waitid_result", command: str = "") -> ChildState:
    """The state in a result of ``os.waitid``."""
    return ChildState(info.si_pid, info.si_uid, info.si_code, info.si_status, command, "")


def from_status(pid: int, status: int, command: str = "") -> ChildState:
    """The state in a status word as ``os.waitpid`` returns it."""
    if os.WIFEXITED(status):
        return ChildState(pid, None, EXITED, os.WEXITSTATUS(status), command, "")
    if os.WIFSIGNALED(status):
        code = DUMPED if os.WCOREDUMP(status) else KILLED
        return ChildState(pid, None, code, os.WTERMSIG(status), command, "")
    if os.WIFSTOPPED(status):
        return ChildState(pid, None, STOPPED, os.WSTOPSIG(status), command, "")
    return ChildState(pid, None, CONTINUED, signal.SIGCONT, command, "")


def lost(pid: int, command: str = "", reason: str = TAKEN) -> ChildState:
    """Dead, and nobody can say how; ``reason`` says why."""
    return ChildState(pid, None, LOST, None, command, reason)


def from_fields(fields: "Any") -> "ChildState | None":
    """The state that another context told of, as a list of fields; None where it told nothing that makes sense."""
    try:
        pid, _, code, status, command, reason = fields
        if code in DEATHS and ((type(status) is int and 0 <= status < 256) or code == LOST):
            return ChildState(int(pid), None, code, status, str(command)[:300], str(reason)[:300])
    except (TypeError, ValueError):
        pass
    return None


def signal_name(number: int) -> str:
    """``SIGKILL (9)``; ``signal 35`` where it has no name."""
    try:
        return "%s (%d)" % (signal.Signals(number).name, number)
    except ValueError:
        return "signal %d" % number


def describe(pid: int, command: str) -> str:
    """``process 12 (sleep 5)``."""
    return "process %d (%s)" % (pid, command) if command else "process %d" % pid
