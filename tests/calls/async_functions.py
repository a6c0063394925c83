"""Async functions that the tests call in other contexts. Python 3.6 runs this too."""

import asyncio
import functools
import os
import threading

import contextree
from tests.calls.running import gates, kind, mark, marked, time_left

__all__ = ["mark", "marked"]


async def add(first, second=1):
    await asyncio.sleep(0)
    return first + second


async def fail(text):
    await asyncio.sleep(0)
    raise ValueError(text)


class Async:
    """Everything that gives something to be awaited."""

    async def method(self, number):
        return number + 1

    @classmethod
    async def of_class(cls, number):
        return cls.__name__, number

    @staticmethod
    async def static(number):
        return number * 2

    async def __call__(self, number):
        return number + 100


class Awaitable:
    """No coroutine, but can be awaited."""

    def __await__(self):
        yield from add(41).__await__()
        return "awaited"


plus_five = functools.partial(add, second=5)


async def meet(count):
    """Returns when as many are in here at once."""
    waiting = gates.setdefault("meeting", [])
    me = asyncio.get_event_loop().create_future()
    waiting.append(me)
    if len(waiting) == count:
        for each in waiting:
            each.set_result(count)
    return await me, threading.get_ident()


def on_main_thread():
    return threading.current_thread() is threading.main_thread()


async def off_main_thread():
    return threading.current_thread() is not threading.main_thread(), threading.get_ident()


async def until_cancelled(*, clean_up=True):
    mark("begun")
    try:
        await asyncio.sleep(60)  # sleeps: it is cancelled there
    except BaseException as error:
        mark(kind(error))
        if clean_up:
            await asyncio.sleep(0.001)  # sleeps: a coroutine may await while it cleans up
            mark("cleaned up")
        raise


async def write_when_cancelled(path):
    """Takes a moment to end."""
    open(path + ".begun", "w").close()
    try:
        await asyncio.sleep(60)  # sleeps: it is cancelled there
    finally:
        await asyncio.sleep(0.05)  # sleeps: the time that it is given
        with open(path, "w") as file:
            file.write("ended in good order")


async def refuse_to_end():
    mark("begun")
    while True:
        try:
            await asyncio.sleep(60)  # sleeps: it is cancelled there
        except asyncio.CancelledError:
            pass


async def exit_now(status):
    raise SystemExit(status)


async def interrupt():
    raise KeyboardInterrupt


async def count_tasks():
    """How many there are on this loop."""
    tasks = (getattr(asyncio, "all_tasks", None) or asyncio.Task.all_tasks)()
    return sum(not task.done() for task in tasks)


async def exit_in_a_task():
    task = asyncio.ensure_future(exit_now(3))
    await asyncio.wait([task])
    return type(task.exception()).__name__


async def call_of_task():
    """What current_call() is in here, and in a task made here."""
    async def inner():
        return contextree.current_call()

    call = contextree.current_call()
    inside = await asyncio.ensure_future(inner())
    return call is inside, call.time_left(), call.caller.id, contextree.current_router().name


async def ask(other):
    """Calls of a task have its deadline."""
    return contextree.current_call().time_left(), (await asyncio.wrap_future(other.submit(time_left)))[0]


async def return_lock():
    return threading.Lock()


made = {"count": 0, "closed": 0}


async def produce(item, stop=10**9, fail_at=None):
    made["count"] = made["closed"] = 0
    try:
        for number in range(stop):
            if number == fail_at:
                raise LookupError("at %d" % number)
            made["count"] += 1
            yield item if item is not None else number
    finally:
        await asyncio.sleep(0)
        made["closed"] += 1


def get_made():
    return dict(made)


async def yield_lock():
    yield 1
    yield threading.Lock()


async def of_sizes(sizes):
    for size in sizes:
        yield bytes(size)


async def yield_then_sleep():
    try:
        yield 1
        await asyncio.sleep(60)  # sleeps: it is cancelled there
    finally:
        await asyncio.sleep(0)
        made["closed"] += 1


class Iterable:
    """An async iterable with an iterator of its own, which has no aclose."""

    def __init__(self, stop):
        self.left = stop

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self.left


async def give(value):
    """A coroutine whose result is streamed."""
    return Iterable(value) if isinstance(value, int) else value


async def fork_and_use():
    """While the loop runs: a fork of this very process, whose loop is its own."""
    child = await asyncio.get_event_loop().run_in_executor(None, fork_direct)
    try:
        first = await asyncio.wrap_future(child.submit(call_outside))
        second = await asyncio.wrap_future(child.submit(add, 1, 2))
        third = await asyncio.wrap_future(child.submit(loop_descriptors))
    finally:
        await asyncio.get_event_loop().run_in_executor(None, child.shutdown)
    return first, second, third, await add(3, 4)


def fork_direct():
    return contextree.current_router().fork(direct=True)


def call_outside():
    return contextree.current_call().deadline


def loop_descriptors():
    """How many epoll descriptors this process has beside those of contextree's loop and of its own asyncio."""
    kinds = [os.readlink("/proc/self/fd/" + name) for name in os.listdir("/proc/self/fd")
             if os.path.islink("/proc/self/fd/" + name)]
    return sum("eventpoll" in each for each in kinds)
