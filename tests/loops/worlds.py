"""The event loops that the shared tests run in: one face for starting, sleeping, cancelling; each by the loop's own
means."""

import asyncio
import contextlib
import importlib.util

import contextree.aio


class Asyncio:
    """asyncio with its own loop."""

    name = "asyncio"
    api = contextree.aio
    Cancelled = asyncio.CancelledError

    def run(self, main, *args):
        """Run ``main`` to its end in a fresh loop; nothing may be left in it."""
        return asyncio.run(self._watched(main, *args))

    async def _watched(self, main, *args):
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        try:
            return await main(*args)
        finally:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for _ in range(3):  # tasks that were cancelled a moment ago
                await asyncio.sleep(0)
            left = [task for task in others if not task.done()]
            assert not left, left
            assert not complaints, complaints

    async def rest(self, seconds=0.0):
        """Let others run."""
        await asyncio.sleep(seconds)  # sleeps: the tests' way to let other tasks run

    def start(self, function, *args):
        """A task; ``cancel()`` and ``await wait()`` -> (result, error)."""
        return AsyncioTask(asyncio.ensure_future(function(*args)))

    @contextlib.asynccontextmanager
    async def tasks(self):
        """A block in which ``start`` may be called."""
        yield self

    def threadsafe(self):
        """What calls a function in this loop, from any thread."""
        return asyncio.get_running_loop().call_soon_threadsafe

    async def within(self, seconds, function, *args):
        """``await function(*args)``, cancelled after ``seconds``: (True, None), else (False, its result)."""
        try:
            return False, await asyncio.wait_for(function(*args), seconds)
        except asyncio.TimeoutError:
            return True, None


class AsyncioTask:
    """A task as the tests see it."""

    def __init__(self, task):
        self.task = task
        self.cancel = task.cancel
        self.done = task.done

    async def wait(self):
        """(result, None), (None, error) or (None, "cancelled")."""
        await asyncio.wait([self.task])
        if self.task.cancelled():
            return None, "cancelled"
        if self.task.exception() is not None:
            return None, self.task.exception()
        return self.task.result(), None


class Uvloop(Asyncio):
    """asyncio's tasks in uvloop."""

    name = "uvloop"

    def run(self, main, *args):
        """As above."""
        import uvloop

        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            return loop.run_until_complete(self._watched(main, *args))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            asyncio.set_event_loop(None)
            loop.close()


class Trio:
    """trio."""

    name = "trio"

    def __init__(self):
        import trio

        self.trio = trio
        self.api = contextree.trio
        self.Cancelled = trio.Cancelled
        self.nurseries = []

    def run(self, main, *args):
        """Run ``main`` to its end."""
        return self.trio.run(main, *args)

    async def rest(self, seconds=0.0):
        """Let others run."""
        await self.trio.sleep(seconds)  # sleeps: the tests' way to let other tasks run

    @contextlib.asynccontextmanager
    async def tasks(self):
        """A block in which ``start`` may be called; its end cancels and awaits all."""
        async with self.trio.open_nursery() as nursery:
            yield TrioTasks(self.trio, nursery)
            nursery.cancel_scope.cancel()

    def threadsafe(self):
        """What calls a function in this loop, from any thread."""
        return self.trio.lowlevel.current_trio_token().run_sync_soon

    async def within(self, seconds, function, *args):
        """``await function(*args)``, cancelled after ``seconds``: (True, None), else (False, its result)."""
        with self.trio.move_on_after(seconds):
            return False, await function(*args)
        return True, None


class TrioTasks:
    """Starts tasks of a nursery."""

    def __init__(self, trio, nursery):
        self.trio = trio
        self.nursery = nursery

    def start(self, function, *args):
        """A task; ``cancel()`` and ``await wait()`` -> (result, error)."""
        task = TrioTask(self.trio, function, args)
        self.nursery.start_soon(task.run)
        return task


class TrioTask:
    """A task as the tests see it."""

    def __init__(self, trio, function, args):
        self.scope = trio.CancelScope()
        self.over = trio.Event()
        self.cancel = self.scope.cancel
        self.done = self.over.is_set
        self.call = function, args
        self.result = None, "cancelled"

    async def run(self):
        """Its life."""
        function, args = self.call
        try:
            with self.scope:
                self.result = await function(*args), None
        except Exception as error:
            self.result = None, error
        finally:
            self.over.set()

    async def wait(self):
        """(result, None), (None, error) or (None, "cancelled")."""
        await self.over.wait()
        return self.result


class Guest(Trio):
    """trio as a guest of asyncio."""

    name = "guest"

    def run(self, main, *args):
        """As above."""

        async def host():
            loop = asyncio.get_running_loop()
            done = loop.create_future()
            self.trio.lowlevel.start_guest_run(
                main, *args, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result,
                host_uses_signal_set_wakeup_fd=True)
            return (await done).unwrap()

        return asyncio.run(host())


WORLDS = [kind for kind, needs in ((Asyncio, "asyncio"), (Uvloop, "uvloop"), (Trio, "trio"), (Guest, "trio"))
          if importlib.util.find_spec(needs)]
if Uvloop in WORLDS:
    import uvloop

    uvloop.new_event_loop().close()  # the first one opens a pipe that libuv keeps for the life of the process
