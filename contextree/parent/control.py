"""What ancestors have done here for them: functions that run on service threads."""

from contextree.core import calls as core_calls
from contextree.core import process
from contextree.core.wire.errors import CallCancelled, CallTimeout, Closed, ContextDied, ContextreeError, UsageError
from contextree.core.wire.frames import CALL, SERVICE
from contextree.parent import boot, spawn, template, waits
from contextree.parent.engine import engine_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from contextree.connect.plan import Plan
    from contextree.core.router import Channel
    from contextree.parent.boot import Branch
    from contextree.parent.engine import Engine

FOREVER = 3e7  # a year


def grow_here(engine: "Engine", plan: "Plan", options: "dict[str, Any]") -> "Branch":
    """Start a child of this process; its Branch. Closed once the end has begun: nobody would end the child."""
    if engine.ending or engine.core.closed:
        raise Closed(str(engine.core.closed or "%s is ending" % engine.core.name))
    options = dict(options)
    wait = options.pop("wait", True)
    direct = options.pop("direct", False)
    plan = plan.copy(heartbeat=options.pop(
        "heartbeat", plan.heartbeat or (engine.heartbeat if plan.remote else None)))
    if plan.heartbeat and engine.heart is None:  # here: the loop thread must not import
        from contextree.parent.heartbeat import Heart

        engine.heart = Heart(engine.broker)
    config = engine.child_options(plan, options)
    if options:
        raise UsageError("unknown options: %s" % ", ".join(sorted(options)))
    if plan.method == "fork":
        return template.launch(engine, plan, config, direct, wait)
    if plan.transport is not None:
        return engine.launch_by_transport(plan, config, wait)
    return spawn.launch(engine, plan, config, wait)


def grow(plan: "Plan", options: "dict[str, Any]") -> int:
    """``grow_here`` for an ancestor: the id."""
    if options.get("direct"):
        raise UsageError("fork(direct=True) forks the process that calls it; %s forks from its template"
                         % core_calls.here.router.name)
    wait = options.pop("wait", True)
    token = options.pop("token", None)
    ids = options.pop("ids", None)
    engine = engine_of(core_calls.here.router)
    if ids:
        engine.broker.call(engine.ids_came, *ids)
    branch = grow_here(engine, plan, dict(options, wait=False))
    branch.token = token
    end_if_cancelled(branch)
    if wait:
        boot.wait_up(branch)
    return branch.id


def forget(token: object) -> None:
    """End the child that ``grow`` was asked for with this ``token``: whoever asked has left, and the answer may have
    been on its way already."""
    engine = engine_of(core_calls.here.router)

    def find() -> None:
        for branch in list(engine.children.values()):
            if getattr(branch, "token", None) == token:  # clients have none
                give_up(branch)

    engine.broker.call(find)


def give_up(branch: "Branch") -> None:
    """Nobody will know of this child: end it. Loop thread."""
    if branch.state == "up":
        branch.shutdown(0.0)
    elif branch.state not in ("dying", "dead"):
        branch.fail(CallCancelled("starting %s was cancelled" % branch.name))


def end_if_cancelled(branch: "Branch") -> None:
    """End a child when the ancestor who wants it gives the call up that runs on this thread: nobody will know of it."""
    call = core_calls.here.call
    ended = call.channel.on_end

    def on_end(channel: "Channel", error: BaseException) -> None:
        ended(channel, error)
        give_up(branch)

    call.channel.on_end = on_end
    if call.cancelled:
        branch.broker.defer(give_up, branch)


def shutdown_here(engine: "Engine", number: int, grace: float, patience: float) -> None:
    """End a direct child and wait until it is gone, and what was to be done after it has been done."""
    waiter = waits.waiter(engine)
    afters = []  # type: list[Any]

    def begin() -> None:
        branch = engine.children.get(number)
        if branch is None:
            waiter.wake()
        else:
            branch.on_dead.append(waiter.wake)
            engine.watchers.setdefault(number, []).append(waiter)  # for the end of the loop
            afters.append(branch.after)
            branch.shutdown(grace, patience)

    engine.broker.call(begin)
    if not waiter.wait(grace + patience + 10):
        raise CallTimeout("context %d has not ended, even by KILL" % number)
    engine.check_end(number)
    if any(afters):
        afters[0].wait()


def shutdown(number: int, grace: float, patience: float) -> None:
    """``shutdown_here`` for an ancestor."""
    shutdown_here(engine_of(core_calls.here.router), number, grace, patience)


def end_soon(engine: "Engine", number: int, grace: float = 3.0) -> None:
    """Have a context below this one ended, and wait for nothing. Any thread."""
    info = engine.infos.get(number)
    if info is None:
        return

    def begin() -> None:
        branch = engine.children.get(number)
        if branch is not None:
            branch.shutdown(grace)

    def ignore(*args: object) -> None:
        """It has ended, or its parent has, and it with that."""

    try:
        if info.parent == engine.core.id:
            engine.broker.defer_nowait(begin)
        else:
            engine.context(info.parent).open_call(CALL, shutdown, (number, grace, 2.0), {}, {}, ignore, ignore,
                                                  service=SERVICE)
    except ContextreeError:
        pass


def detach_here(engine: "Engine", number: int) -> None:
    """Let a direct child survive this context: it is told so, and our end will not end it."""
    def mark() -> None:
        branch = engine.children.get(number)
        if branch is not None:
            branch.detached = True

    engine.context(number).service(detach_self)
    engine.broker.call(mark)


def detach(number: int) -> None:
    """``detach_here`` for an ancestor."""
    detach_here(engine_of(core_calls.here.router), number)


def detach_self() -> None:
    """In the detached context: the loss of the parent ends nothing but the wait for further calls."""
    import os
    import stat

    from contextree.core import main as life

    child = life.child
    if child.link.on_lost != child.lost:
        return  # it is detached already
    reader = None
    if stat.S_ISFIFO(os.fstat(2).st_mode):
        try:  # a pipe that we could read ourselves has a reader, also between the parent's end and ``lost``
            reader = process.own(os.open("/proc/self/fd/2", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            pass  # no Linux, or the pipe is another account's

    def lost(link: object, reason: str) -> None:
        child.router.close(ContextDied("the parent of %s is gone: %s" % (child.router.name, reason)))
        null = os.open("/dev/null", os.O_RDWR)  # what it writes to the parent's pipe would be an error from now on
        os.dup2(null, 2)
        process.close_fd(null)
        if reader is not None:
            process.close(reader)
        child.end(FOREVER)

    child.link.on_lost = lost  # read once, by the loop, when the link closes


def grant(first: int, second: int) -> None:
    """Let context ``first`` and its subtree open channels to ``second`` and its subtree; both below this one."""
    engine = engine_of(core_calls.here.router)
    engine.broker.call(engine.grants.add, (first, second))


def use_here(engine: "Engine", first: int, owner: int, number: int, granted: bool) -> None:
    """Let context ``first`` and its subtree call service ``number`` in ``owner``, or no more; both below this one."""
    def change() -> None:
        uses = engine.uses
        numbers = uses.pop((first, owner), frozenset())
        numbers = numbers | {number} if granted else numbers - {number}
        if numbers and (first in engine.infos):
            uses[first, owner] = numbers

    engine.broker.call(change)


def use(first: int, owner: int, number: int, granted: bool) -> None:
    """``use_here`` for an ancestor."""
    use_here(engine_of(core_calls.here.router), first, owner, number, granted)


def dump() -> str:
    """The stacks of all threads of this process."""
    import sys
    import threading
    import traceback

    names = {thread.ident: thread.name for thread in threading.enumerate()}
    broker = core_calls.here.router.broker
    names[broker.thread] = "the loop"
    parts = []
    for ident, top in sys._current_frames().items():
        parts.append("Thread %d (%s):\n%s" % (ident, names.get(ident, "?"), "".join(traceback.format_stack(top))))
    return "\n".join(parts)


__all__ = ["boot", "detach", "detach_here", "detach_self", "dump", "forget", "grant", "grow", "grow_here", "shutdown",
           "shutdown_here", "use", "use_here"]
