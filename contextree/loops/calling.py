"""Calls and child processes, awaited: natively, without a thread.

A ``context`` here is the synchronous handle of a context, or of a service, which looks like one to those who call."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any

from contextree.core.wire.errors import CallTimeout
from contextree.core.wire.frames import CALL, MAIN, TIMEOUT
from contextree.loops.threads import in_thread
from contextree.loops.waiting import Answer, EventLoop
from contextree.parent import calls
from contextree.parent.child import Child
from contextree.parent.child_state import EXITED, ChildState

GLANCE = 0.005  # seconds between looks whether there is room again


async def prepare(loop: EventLoop, context: Any, kind: int, function: Any, args: tuple[Any, ...],
                  kwargs: dict[str, Any], options: dict[str, Any]) -> tuple[Any, int, AbstractSet[str]]:
    """The call encoded, with the modules that it needs shared (by a thread, as that reads files), and room for it."""
    engine = context.engine
    engine.check_fork()
    packed: tuple[Any, int, AbstractSet[str]] = context.pack_call(kind, function, args, kwargs, options)
    _, flags, modules = packed
    if modules and not modules <= context.shared:
        await in_thread(loop, engine, engine.share, context, modules, bool(flags & MAIN))
    link = engine.core.link_to(context.id)
    while link is not None and calls.overfull(link, context.id):
        await loop.waiter().wait(GLANCE)
    return packed


async def ask(loop: EventLoop, context: Any, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any],
              options: dict[str, Any], service: int = 0) -> Any:
    """Call and wait for the answer. Cancelled: the other end is told, and a late answer is dropped."""
    packed = await prepare(loop, context, CALL, function, args, kwargs, options)
    answer = Answer(loop.waiter())
    more: Any = {"service": service} if service else {}  # which a Context knows
    channel = context.open_call(CALL, function, args, kwargs, options, answer.message, answer.end, packed=packed,
                                **more)
    timeout = options.get("timeout")
    try:
        await answer.waiter.wait(timeout)
        if answer.data is None and answer.error is None:
            text = calls.no_answer(context, function, timeout)
            channel.cancel(TIMEOUT, text)
            raise CallTimeout(text)
    except BaseException:
        channel.cancel()
        raise
    if answer.data is None:
        raise calls.copied(answer.error)
    return calls.unpack(context.engine, channel.pickles, answer.data, channel.peer)


async def wait_child(loop: EventLoop, child: Child, timeout: float | None = None,
                     options: int | Iterable[int] = EXITED) -> ChildState:
    """``child.wait(timeout, options)`` of a ``contextree.processes.Child``, awaited."""
    waiter = loop.waiter()
    ticket = child.begin_wait(options, waiter.wake)
    try:
        if ticket.result() is None:
            await waiter.wait(timeout)
        state = ticket.result()
        if state is None:
            raise CallTimeout(f"{child.command or child.pid} has not ended within {timeout} s")
    except BaseException:
        child.abandon(ticket)
        raise
    return state


async def check_child(loop: EventLoop, child: Child, timeout: float | None = None) -> ChildState:
    """``child.check(timeout)``, awaited. Cancelled: the child gets TERM, and the cancellation goes on."""
    try:
        state = await wait_child(loop, child, timeout)
    except Exception:
        raise
    except BaseException:
        child.cancelled()
        raise
    return state.check()
