"""Starting a child by a command: any Plan, the same way."""

import _socket  # the plain one: gevent's would wait for its hub
import os
import subprocess
import sys

from contextree.connect.plan import LAUNCHER, command, fill
from contextree.core import first_stage, process
from contextree.core.wire.errors import ConnectError
from contextree.parent import boot, ends
from contextree.parent.pickling import pack_call
from contextree.parent.popen import popen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Sequence

    from contextree.connect.plan import Plan
    from contextree.parent.boot import Branch
    from contextree.parent.engine import Engine
    from contextree.parent.tty import Pty


def launch(engine: "Engine", plan: "Plan", options: "dict[str, Any]", wait: bool = True) -> "Branch":
    """Start a child by ``plan`` and wait until it is up; the ``Branch``. Not on the loop thread.

    Raises ConnectError (or a kind of it) with phase, command, status and last output. ``wait=False`` returns at once:
    frames sent to the child wait in its link."""
    number = engine.allocate()
    plan = with_launchers(plan)
    branch = boot.Branch(engine, number, boot.name_for(engine, plan, number), plan, plan.trusted)
    same = plan.method == "local" and not plan.python
    words = ["-c", first_stage.text(), boot.title(number)]
    token = os.urandom(8).hex()
    if plan.handover:
        from contextree.parent import tty

        words[1] = tty.HANDED + words[1]
    python = (sys.executable,) if sys.executable else ("python3",)
    branch.command = argv = command(plan, words, python, token)
    if plan.silence:
        watch_link(engine, plan, options)
    prepare(plan, token)
    reaper = boot.reaper(engine)
    child, fds, pty = start(branch, argv, python, token)
    process.close(fds[1])
    process.close(fds[3])
    handle = reaper.monitor(child.pid, argv[0], spawned=True, sweep=True)
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


def start(branch: "Branch", argv: "list[str]", python: "tuple[str, ...]",
          token: str) -> "tuple[Any, list[int], Pty | None]":
    """Start the command: (its Popen, descriptors, terminal). The descriptors are our end of the link and its end, our
    end of stderr and its end. Raises ConnectError; nothing is left open then."""
    plan = branch.plan
    env = environment(plan.env)
    ours, theirs = _socket.socketpair()
    fds = [ours.detach(), theirs.detach()]
    pty = None
    try:
        fds = [process.own(fd) for fd in fds]
        fds += [process.own(fd) for fd in os.pipe()]
        os.set_blocking(fds[2], False)
        if plan.before or plan.after:
            argv = surround(branch, argv, python, token, env)
        if plan.tty:
            from contextree.parent import tty

            pty = tty.open_pty()
            argv = tty.wrap(argv, pty.path, plan.handover)
        child = popen()(argv, stdin=fds[1], stdout=fds[1], stderr=fds[3], start_new_session=True, env=env,
                        pass_fds=(branch.after.wake,) if branch.after else ())
    except BaseException as error:
        for fd in fds:
            process.close(fd)
        if pty is not None:
            pty.close()
        if branch.after is not None:
            branch.broker.defer(branch.after.run)
        if not isinstance(error, (OSError, ConnectError)):
            raise
        raise ends.not_started(branch, getattr(error, "filename", None) or argv[0], error) from error
    return child, fds, pty


def surround(branch: "Branch", argv: "list[str]", python: "tuple[str, ...]", token: str,
             env: "dict[str, str]") -> "list[str]":
    """The command with what comes before it; what comes after it is made ready. Raises OSError."""
    from contextree.parent import steps

    before, after = ([fill(words, python, token) for words in commands]
                     for commands in (branch.plan.before, branch.plan.after))
    if before:
        argv = steps.wrap(before, argv, env)
    if after:
        branch.after = steps.After(branch.engine, branch.name, after, env)
    return argv


def watch_link(engine: "Engine", plan: "Plan", options: "dict[str, Any]") -> None:
    """Have the child notice itself that the network is gone: the module and the call that starts it go with the
    bundle."""
    from contextree.parent import linkwatch

    options["records"] = engine.records(("contextree.parent", linkwatch.__name__))
    options["hooks"] = [pack_call(linkwatch.start, (plan.silence,), {}, None, False)[0]] + options["hooks"]


def with_launchers(plan: "Plan") -> "Plan":
    """The plan with the text of each launcher in the place of its name."""
    commands = (plan.argv,) + plan.before + plan.after
    if not any(word.startswith(LAUNCHER) for words in commands for word in words):
        return plan
    argv, *others = ([launcher(word) if word.startswith(LAUNCHER) else word for word in words] for words in commands)
    cut = len(plan.before)
    return plan.copy(argv=argv, before=others[:cut], after=others[cut:])


def launcher(word: str) -> str:
    """The text of ``-c`` that runs a module of contextree.parent as a program, in an interpreter like this one: there
    need be no file of it, so the code itself is in it."""
    from binascii import b2a_base64
    from importlib.util import find_spec
    from marshal import dumps
    from zlib import compress

    name = "contextree.parent." + word[len(LAUNCHER):]
    spec = find_spec(name)  # type: Any
    text = b2a_base64(compress(dumps(spec.loader.get_code(name)), 9)).decode().strip()
    return "import zlib,binascii,marshal;exec(marshal.loads(zlib.decompress(binascii.a2b_base64(%r))))" % text


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
    """Run the plan's probe, and tell the dialogue its token and what the probe says; the probe's failure is no error.
    Raises ConnectError where a control socket is not safe to use, or cannot be found out."""
    if plan.dialogue is not None:
        plan.dialogue.arm(token.encode())
    output = probe(plan.probe) if plan.probe else None
    if plan.dialogue is not None and output is not None:
        plan.dialogue.learn(output)
    if plan.sockets is not None:
        from contextree.parent import private

        if not output:
            raise ConnectError("%s: %s says nothing of its control socket, so nobody can tell whether it is safe"
                               % (plan.name, " ".join(plan.probe or ())[:300]), phase="start")
        for path in plan.sockets(output):
            private.check(path)


def probe(command: "Sequence[str]") -> "bytes | None":
    """What a command writes, or None where it failed."""
    try:
        with popen()(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            try:
                output = child.communicate(timeout=10)[0]
            except BaseException:
                child.kill()
                raise
    except Exception:  # OSError, or that module's own TimeoutExpired
        return None
    return output  # type: ignore[no-any-return]
