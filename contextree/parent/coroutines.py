"""Async functions as targets of calls: what a function gives to be awaited is awaited, on an asyncio loop.

There is one such loop for a context, on a thread of its own, made when the first call needs it (asyncio takes 50 ms to
import): any number of calls run there at once, each as a task, and the main thread is free meanwhile. What was called
with ``stream`` and gives an async iterator is read at the pace of the reader. When a call is over (see ``current``) its
task is cancelled; when the context ends, all of them are, and the main thread waits for them as long as it is let.

How a task knows its call: by a context variable, which the tasks that it starts inherit. Python 3.6 has none, so there
a table of tasks has to do.
"""

import asyncio

from contextree.core import calls as core_calls
from contextree.core import process
from contextree.core.wire.errors import Closed, ContextreeError
from contextree.core.wire.frames import STREAM
from contextree.parent import calls, current

try:
    from contextvars import ContextVar  # novm
except ImportError:
    ContextVar = None  # type: ignore[assignment,misc]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from contextree.core.calls import Call
    from contextree.core.router import Channel

BATCH = 16  # items of a stream after which other tasks have their turn
making = process.allocate_lock()
variable = ContextVar("contextree.call", default=None) if ContextVar is not None else None  # type: Any
running = {}  # type: dict[Any, Any]  # task -> call, where there are no context variables


def find() -> "Any":
    """The call that the present task belongs to, or None."""
    if variable is not None:
        return variable.get()
    try:
        return running.get(asyncio.Task.current_task())  # type: ignore[attr-defined]  # 3.6 has it
    except RuntimeError:
        return None  # no loop here


def heir(loop: "Any", coroutine: "Any") -> "Any":
    """A task that belongs to the same call as the one that makes it: for Python 3.6."""
    task = asyncio.Task(coroutine, loop=loop)
    call = find()
    if call is not None:
        running[task] = call
        task.add_done_callback(lambda task: running.pop(task, None))
    return task


def _forked() -> None:
    global making
    making = process.allocate_lock()
    running.clear()
    if variable is not None:
        variable.set(None)  # the fork may have come out of a task


process.after_fork.append(_forked)
calls.tasks = find


def start(call: "Any", awaitable: "Any") -> None:
    """Await ``awaitable`` (or read the async iterator), and so answer ``call``. Any thread but the asyncio loop's."""
    service = call.service
    with making:
        tasks = getattr(service, "tasks", None)
        if tasks is None:
            tasks = service.tasks = Tasks(service)
    try:
        tasks.submit(call, awaitable)
    except Exception:
        if asyncio.iscoroutine(awaitable):
            awaitable.close()  # or Python warns that nobody has awaited it
        raise


class Tasks:
    """The asyncio loop of one context, and its thread."""

    def __init__(self, service: "Any") -> None:
        self.service = service
        self.ending = False
        self.ended = process.Waiter()
        self.loop = loop = asyncio.new_event_loop()
        process.keep.append(loop)  # in a forked child it must not be closed: both would share its epoll object
        self.fds = [process.own(getattr(loop, part).fileno())  # and its descriptors must not stay open there
                    for part in ("_selector", "_ssock", "_csock") if hasattr(loop, part)]
        if variable is None:
            loop.set_task_factory(heir)
        service.stop = self.stop
        process.start_thread(self.thread, ())

    def submit(self, call: "Call", awaitable: "Any") -> None:
        """Have it run. Any thread. Closed when the context is about to end."""
        with self.service.work.lock:  # what is handed over before the end is there when ``finish`` looks
            if self.ending:
                raise Closed("%s is about to end" % self.service.router.name)
            self.loop.call_soon_threadsafe(self.begin, call, awaitable)

    def thread(self) -> None:
        """Run the loop until the context ends."""
        core_calls.here.router = self.service.router
        loop = self.loop
        asyncio.set_event_loop(loop)
        while not self.ending:
            try:
                loop.run_forever()
            except BaseException:  # sys.exit() in a task that a function started ends that task, and no more
                self.service.router.broker.on_error(loop.run_forever)
        finishing = loop.create_task(self.finish())
        while not finishing.done():
            try:
                loop.run_until_complete(finishing)
            except BaseException:  # as above; or the ``stop`` of the loop came when it was there already
                if finishing.done():
                    self.service.router.broker.on_error(self.finish)
        for fd in self.fds:
            process.disown(fd)
        process.keep.remove(loop)
        asyncio.set_event_loop(None)
        loop.close()  # the pool of a service ends before its process does
        self.ended.wake()

    async def finish(self) -> None:
        """Cancel all that runs, and wait until it has ended."""
        find_all = getattr(asyncio, "all_tasks", None) or asyncio.Task.all_tasks  # type: ignore[attr-defined]
        mine = getattr(asyncio, "current_task", None) or asyncio.Task.current_task  # type: ignore[attr-defined]
        await asyncio.sleep(0)  # those handed over last are tasks now
        while True:
            left = [task for task in find_all() - {mine()} if not task.done()]  # Python 3.6 tells of those, too
            if not left:
                break
            for task in left:
                task.cancel()
            await asyncio.wait(left)
        await self.loop.shutdown_asyncgens()

    def stop(self) -> None:
        """In the place of ``Calls.stop``: no more calls; the main thread leaves when the tasks have ended. Loop thread
        of the context."""
        work = self.service.work
        with work.lock:
            type(self.service).stop(self.service)
            if not self.ending:
                self.ending = True
                work.items.append(self)
        self.wake(self.loop.stop)

    def run(self) -> None:
        """What the main thread finds in its mailbox at the end, as if it were a call."""
        self.ended.wait()

    def wake(self, function: "Callable[[], object]") -> None:
        """Have ``function()`` run on the loop, if it still runs. Any thread."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            pass  # it is closed

    # -- on the asyncio loop

    def begin(self, call: "Call", awaitable: "Any") -> None:
        """Make the task of ``call``."""
        task = self.loop.create_task(self.serve(call, awaitable))
        shown = current.of(call)

        def cancel() -> None:
            self.wake(task.cancel)

        def done(task: "Any") -> None:
            shown._forget(cancel)
            if asyncio.iscoroutine(awaitable):
                awaitable.close()  # it was cancelled before its first step; Python warns of those never awaited

        task.add_done_callback(done)
        if not shown._watch(cancel):
            task.cancel()

    async def serve(self, call: "Call", awaitable: "Any") -> None:
        """The task: await, answer."""
        if variable is not None:
            variable.set(call)
        else:
            running[asyncio.Task.current_task()] = call  # type: ignore[attr-defined]
        try:
            if hasattr(type(awaitable), "__await__"):
                result = await awaitable
                del awaitable
            else:
                result = awaitable
            if call.kind != STREAM:
                call.answer(result, True)
            elif hasattr(type(result), "__aiter__"):
                await self.items(call, result)
            else:
                call.generator = iter(result)
                call.again()
        except BaseException as error:
            shown = current.of(call)
            if isinstance(error, asyncio.CancelledError):
                if shown.cancelled:
                    error = shown._reason()
                elif self.ending:
                    service_ended = getattr(self.service, "end_error", None)  # of a Host (parent.serving)
                    if service_ended is None:
                        return  # who waits is told that this context has ended, and how
                    error = service_ended()
            call.failed(error)
        finally:
            running.pop(variable is None and asyncio.Task.current_task(), None)  # type: ignore[attr-defined]

    async def items(self, call: "Call", iterable: "Any") -> None:
        """Send what an async iterator yields, at the pace of the reader; close it at the end, whichever."""
        channel = call.channel
        iterator = type(iterable).__aiter__(iterable)
        count = 0
        try:
            while True:
                try:
                    item = await type(iterator).__anext__(iterator)
                except StopAsyncIteration:
                    break
                try:
                    call.answer(item, False)
                except ContextreeError:
                    if not channel.ended:
                        raise
                if channel.ended:  # wait for the cancel here: it must not come when the generator cleans up
                    await self.loop.create_future()
                count += 1
                if channel.full:
                    await self.room(channel)
                elif count % BATCH == 0:
                    await asyncio.sleep(0)
        finally:
            if hasattr(iterator, "aclose"):
                await iterator.aclose()
        if not call.cancelled:
            channel.send(b"", True)

    async def room(self, channel: "Channel") -> None:
        """Wait until the reader has taken enough."""
        room = self.loop.create_future()

        def come() -> None:
            if not room.done():
                room.set_result(None)

        channel.on_room = lambda: self.wake(come)
        if not channel.full:
            come()
        try:
            await room
        finally:
            channel.on_room = None
