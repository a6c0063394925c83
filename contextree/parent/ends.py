"""How the end of a child is told: in words, as an error, with its last lines; and how all children are ended.

The functions take a ``Branch`` (see ``boot``), read it, and change nothing but the list of its last lines. Loop thread.
"""

import re

from contextree.core.first_stage import ALIVE
from contextree.core.wire import errors
from contextree.core.wire.errors import ConnectError, ContextreeError

REFUSED = re.compile(r"(?m)^contextree: (Python 3\.6 or newer is needed there, this is \d\S*|"
                     r"Windows cannot be a target)")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from contextree.parent.boot import Branch
    from contextree.parent.engine import Engine


KILLED_THERE = 137  # what shells and container runtimes make of SIGKILL


def printable(line: bytes) -> str:
    """A line of a stranger for an error text: cut, and nothing in it that could drive a terminal."""
    text = line[:500].decode("utf-8", "replace")
    return text if text.isprintable() else "".join(c if c.isprintable() or c == "\t" else "?" for c in text)


def last_lines(branch: "Branch") -> str:
    """What it said at last: on the terminal, then on stderr and stdout."""
    lines = list(branch.output)
    dialogue = branch.plan.dialogue
    if dialogue is not None:
        lines[:0] = [line for line in dialogue.explain().split("\n") if line.strip() and line not in lines]
    return "\n".join(lines)


def explain(branch: "Branch") -> str:
    """How it ended, in words, with its last lines."""
    text = branch.reason or "it was closed"
    if branch.status is not None:
        text = "its process (%s) %s" % (branch.plan.method, branch.status)
        if branch.status.exit_status == KILLED_THERE and branch.plan.method not in ("fork", "local"):
            text += " (it was killed there, perhaps for want of memory)"
        if branch.reason not in (None, "end of file", "the process ended"):
            text += "; " + branch.reason
    elif branch.process is not None:
        text = "the connection was lost (%s), its process has not ended yet" % text
    if branch.silent:
        text = str(branch.reason)
        if branch.process is not None:
            text += "; its process (%s) was ended" % branch.plan.method
    # it says something each second
    elif branch.plan.silence and branch.quiet and branch.quiet > branch.plan.silence * 0.6:
        text += ("; nothing had come from there for %.0f s: the host or the network to it does not answer"
                 % branch.quiet)
    if branch.output and (branch.status is None or not branch.status.clean() or branch.early):
        text += "; its last lines were:\n  " + "\n  ".join(list(branch.output)[-10:])
    return text


def early_error(branch: "Branch", text: str) -> ContextreeError:
    """The error of a child that ended before HELLO."""
    returncode = branch.status.returncode if branch.status is not None else None
    for line in branch.noise.split(b"\n"):
        if line.strip() and line + b"\n" != ALIVE:
            branch.output.append(printable(line))
    output = last_lines(branch)
    refused = REFUSED.findall(output)  # at the start of a line: some shells show the command that they could not run
    if refused:
        return make_error(branch, "VersionError", refused[-1], "boot", returncode)
    if branch.echoes and branch.plan.remote:
        return make_error(branch, "ConnectError", "what is sent there comes back: it runs something like cat or a "
                          "terminal that echoes, not the command that it was given", "boot", returncode)
    if branch.seen_alive:
        return make_error(branch, "ConnectError", "%s started, but: %s" % (branch.name, text), "boot", returncode)
    name, message, phase = branch.plan.explain(returncode, output)
    return make_error(branch, name, message, phase, returncode)


def make_error(branch: "Branch", name: str, message: str, phase: str, status: "int | None" = None) -> "ContextreeError":
    """An error of a class of the tree, by name, with the fields of a ConnectError. Its text says what was being
    started, from where and in which phase."""
    kind = getattr(errors, name, ConnectError)
    command = " ".join(word if len(word) < 200 else word[:60] + "..." for word in branch.command or ())
    via = branch.engine.core.name
    return kind("%s, from %s, phase %s: %s" % (branch.name, via, phase, message), context=branch.name, via=via,
                phase=phase, command=command, status=status, output=last_lines(branch))


def not_started(branch: "Branch", program: str, error: Exception) -> ContextreeError:
    """The error of a command that could not be started, or not be given a terminal."""
    text = "cannot start %s: %s" % (program, error.strerror or error) if isinstance(error, OSError) else str(error)
    return make_error(branch, "ConnectError", text, "start")


def end_all(engine: "Engine", grace: float, then: "Callable[[], object]", patience: float = 2.0) -> None:
    """Shut all children of ``engine`` down, and programs that run here for somebody, then its template, then call
    ``then()``: all have been reaped by then, or it is too late. Loop thread."""
    engine.ending = True
    state = {"done": False}

    def finish(late: bool = False) -> None:
        if state["done"] or ((engine.children or engine.jobs or engine.afters) and not late):
            return
        state["done"] = True
        if engine.template is not None:
            engine.template.end(then)
        else:
            then()

    for branch in list(engine.children.values()):
        branch.on_dead.append(finish)
        if branch.detached:
            branch.release()
        else:
            branch.shutdown(grace, patience)
    for job in list(engine.jobs):
        job.end_with_context(grace, finish)
    for after in list(engine.afters):
        after.on_over.append(finish)
    engine.broker.timer(grace + patience + 3.0, finish, True)
    finish()
