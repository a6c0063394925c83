"""Starting a child by a command: any Plan, the same way."""

import _socket  # the plain one: gevent's would wait for its hub
import os
import subprocess
import sys

from contextree.connect.plan import command
from contextree.core import first_stage, process
from contextree.core.wire.errors import ConnectError
from contextree.parent import boot
from contextree.parent.pickling import pack_call
from contextree.parent.popen import popen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from contextree.connect.plan import Plan
    from contextree.parent.boot import Branch
    from contextree.parent.engine import Engine
    from contextree.parent.tty import Pty


def launch(engine: "Engine", plan: "Plan", options: "dict[str, Any]", wait: bool = True) -> "Branch":
    """Start a child by ``plan`` and wait until it is up; the ``Branch``. Not on the loop thread.

    Raises ConnectError (or a kind of it) with phase, command, status and last output. ``wait=False`` returns at once:
    frames sent to the child wait in its link."""
    number = engine.allocate()
    branch = boot.Branch(engine, number, boot.name_for(engine, plan, number), plan, plan.trusted)
    same = plan.method == "local" and not plan.python
    token = os.urandom(8).hex()
    words = stage(plan, number)
    branch.command = argv = command(plan, words, (sys.executable,) if sys.executable else ("python3",), token)
    if plan.silence:
        watch_link(engine, plan, options)
    prepare(plan, token)
    reaper = boot.reaper(engine)
    ours, theirs = _socket.socketpair()
    fds = [ours.detach(), theirs.detach()]
    pty = None
    try:
        fds = [process.own(fd) for fd in fds]
        fds += [process.own(fd) for fd in os.pipe()]
        os.set_blocking(fds[2], False)
        if plan.tty:
            from contextree.parent import tty

            pty = tty.open_pty()
            argv = tty.wrap(argv, pty.path, plan.handover)
        child = popen()(argv, stdin=fds[1], stdout=fds[1], stderr=fds[3], start_new_session=True,
                        env=environment(plan.env))
    except (OSError, ConnectError) as error:
        discard(fds, pty)
        if isinstance(error, ConnectError):  # no terminal
            raise
        raise ConnectError("%s: cannot start %s: %s" % (branch.name, argv[0], error.strerror or error), phase="start",
                           command=" ".join(argv)[:300]) from error
    process.close(fds[1])
    process.close(fds[3])
    handle = reaper.monitor(child.pid, argv[0], spawned=True)
    child.returncode = 0  # the handle reaps it; Popen must not try
    bundle = engine.bundle
    if same:
        bundle = engine.code_bundle()
        options["bundle"] = engine.bundle
    first = boot.opening(bundle, boot.configuration(branch, options))

    def begin() -> None:
        branch.begin(fds[0], first)
        branch.watch_stderr(fds[2])
        branch.warn()
        if pty is not None:
            slave, pty.slave = pty.slave, -1
            master = process.own(pty.detach_master())
            os.set_blocking(master, False)
            branch.watch_terminal(master, process.own(slave))
        branch.watch_process(handle)

    engine.broker.call(begin)
    if wait:
        boot.wait_up(branch)
    return branch


def stage(plan: "Plan", number: int) -> "list[str]":
    """What the interpreter is given: the first stage, behind what a handed over terminal needs, and who it is."""
    text = first_stage.text()
    if plan.handover:
        from contextree.parent import tty

        text = tty.HANDED + text
    return ["-c", text, "contextree:%d" % number]


def discard(fds: "list[int]", pty: "Pty | None") -> None:
    """Close what the command was to have."""
    for fd in fds:
        process.close(fd)
    if pty is not None:
        pty.close()


def watch_link(engine: "Engine", plan: "Plan", options: "dict[str, Any]") -> None:
    """Have the child notice itself that the network is gone: the module and the call that starts it go with the
    bundle."""
    from contextree.parent import linkwatch

    options["records"] = engine.records(("contextree.parent", linkwatch.__name__))
    options["hooks"] = [pack_call(linkwatch.start, (plan.silence,), {}, None, False)[0]] + options["hooks"]


def environment(extra: "dict[str, str | None] | None") -> "dict[str, str]":
    """``os.environ`` with the changes of a plan, and with ``first_stage.SAFE``."""
    env = dict(os.environ)
    env.setdefault(*first_stage.SAFE)
    for key, value in (extra or {}).items():
        if value is None:
            env.pop(key, None)
        else:
            env[key] = value
    return env


def prepare(plan: "Plan", token: str) -> None:
    """Tell the dialogue its token, and what the plan's probe says; the probe's failure is no error."""
    if plan.dialogue is None:
        return
    plan.dialogue.arm(token.encode())
    if plan.probe:
        try:
            with popen()(plan.probe, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL) as probe:
                try:
                    output = probe.communicate(timeout=10)[0]
                except BaseException:
                    probe.kill()
                    raise
        except Exception:  # OSError, or that module's own TimeoutExpired
            return
        plan.dialogue.learn(output)
