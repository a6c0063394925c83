"""Contexts, awaited: a thin shell around the synchronous handle, which is in ``sync``."""

import functools
import subprocess
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from contextree.core.wire.errors import CallTimeout, ContextDied
from contextree.core.wire.frames import SERVICE
from contextree.loops import calling, programs
from contextree.loops.channels import Channel
from contextree.loops.flows import Stream
from contextree.loops.growing import C, Grower
from contextree.loops.threads import in_thread, left_alone
from contextree.parent import control
from contextree.parent.context import Context as SyncContext
from contextree.parent.transfer import Transferred

if TYPE_CHECKING:
    from typing_extensions import Self

    from contextree.connect.plan import Secret
    from contextree.loops.jobs import Job

P = ParamSpec("P")
T = TypeVar("T")


class Context(Grower[C]):
    """One context of the tree, its calls awaited. Equal where the context is the same; may be passed to calls."""

    sync: SyncContext

    def __init__(self, sync: SyncContext) -> None:
        self.sync = sync

    def __repr__(self) -> str:
        return f"<{self.loop.name} {self.sync!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and other.sync == self.sync

    def __hash__(self) -> int:
        return hash(self.sync)

    def __reduce__(self) -> Any:
        return self.sync.__reduce__()  # it arrives as a Context of the synchronous kind, which works everywhere

    def _wrap(self, context: SyncContext) -> C:
        return type(self)(context)  # type: ignore[return-value]  # the class of each loop says that it is its own C

    # -- calls

    @overload
    async def call(self, function: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        ...

    @overload
    async def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        ...

    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run ``function(*args, **kwargs)`` there and return its result, or raise what it raised.

        Cancelled: the function there is told, and its answer dropped. Errors are those of ``contextree.Context``."""
        return self.wrapped(await calling.ask(self.loop, self.sync, function, args, kwargs, self.sync.options))

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """``call`` as a task of this loop that runs beside this one: await it for the result, ``cancel()`` it."""
        return self.loop.start(functools.partial(self.call, function, *args, **kwargs))

    @overload
    def stream(self, function: Callable[P, Iterable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
        ...

    @overload
    def stream(self, function: Callable[P, AsyncIterable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
        ...

    def stream(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Stream[Any]:
        """What ``function(*args, **kwargs)`` yields there, for ``async for``."""
        return Stream(self, function, args, kwargs)

    def channel(self) -> Channel:
        """A two-way channel with its far end in this context, where it arrives as an argument of a call."""
        return Channel(self, self.sync.channel())

    def with_options(self, **options: Any) -> C:
        """The same context with other options for its calls: ``timeout``, ``threads``."""
        return self._wrap(self.sync.with_options(**options))

    # -- its life

    async def ping(self, timeout: float | None = None) -> float:
        """Seconds to its loop thread and back, whatever its calls do."""
        waiter = self.loop.waiter()
        ping = self.sync.begin_ping(waiter.wake)
        try:
            return self.sync.end_ping(ping, await waiter.wait(timeout), timeout)
        finally:
            self.sync.engine.core.pings.pop(ping[0], None)

    async def wait(self, timeout: float | None = None) -> ContextDied:
        """Wait until the context has ended; the ContextDied that says how. Raises CallTimeout."""
        engine, number = self.sync.engine, self.sync.id
        engine.check_fork()
        waiter = self.loop.waiter()
        leave = engine.watch_gone(number, waiter)
        try:
            if not await waiter.wait(timeout):
                raise CallTimeout(f"{self.name} has not ended within {timeout} s")
        finally:
            leave()
        engine.check_end(number)
        return engine.no_way(number)  # type: ignore[return-value]  # it has ended, so it says how

    @property
    def name(self) -> str:
        """Its full name."""
        return self.sync.name

    @property
    def id(self) -> int:
        """Its number in the tree."""
        return self.sync.id

    @property
    def state(self) -> str:
        """``connecting``, ``up`` or ``died``."""
        return self.sync.state

    @property
    def facts(self) -> dict[str, Any]:
        """What it said of itself."""
        return self.sync.facts

    @property
    def pid(self) -> int | None:
        """Its process id, on its machine."""
        return self.sync.pid

    @property
    def address(self) -> str:
        """How it was reached from here, as ``open`` takes it."""
        return self.sync.address

    @property
    def parent(self) -> C | None:
        """The context that it is a child of, as far as it is below this one."""
        parent = self.sync.parent
        return None if parent is None else self._wrap(parent)

    @property
    def children(self) -> list[C]:
        """Its direct children."""
        return [self._wrap(child) for child in self.sync.children]

    async def run(self, args: Any, **options: Any) -> subprocess.CompletedProcess[Any]:
        """``contextree.Context.run``, awaited; no thread waits for it. Cancelled: the program and its group are ended.

        Functions that are given as ``stdout`` and ``stderr`` are called in this task."""
        return await programs.run(self.loop, self.sync, args, options)

    async def popen(self, args: Any, **options: Any) -> programs.Process:
        """``contextree.Context.popen``: a ``Process`` whose streams and end are awaited; no thread waits for it.
        Cancelled: the program is ended."""
        return await programs.popen(self.loop, self.sync, args, options)

    # -- what is done by a thread

    async def _slow(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self.wrapped(await in_thread(self.loop, self.sync.engine, getattr(self.sync, method), *args, **kwargs))

    async def put(self, source: Any, destination: Any, **options: Any) -> Transferred:
        """Put a file or folder there: ``contextree.Context.put``. Cancelled: nothing of it is in place."""
        return await self._slow("put", source, destination, **options)  # type: ignore[no-any-return]  # what ``put`` gives

    async def get(self, source: Any, destination: Any, **options: Any) -> Transferred:
        """Get a file or folder from there: ``contextree.Context.get``. Cancelled: nothing of it is in place."""
        return await self._slow("get", source, destination, **options)  # type: ignore[no-any-return]  # as above

    async def shutdown(self, timeout: float = 3.0, force: bool = False) -> None:
        """End this context and its subtree; it is gone and reaped then. Cancelled: that goes on all the same."""
        await left_alone(self.loop, self.sync.engine, self.sync.shutdown, timeout, force)

    async def kill(self) -> None:
        """End it at once."""
        await self.shutdown(0.0, True)

    async def detach(self, keep: bool = False, **options: Any) -> "Secret | None":
        """Let it survive the loss of its parent; ``keep``: as a job, whose token this returns. The options are those of
        ``contextree.Context.detach``."""
        return await self._slow("detach", keep, **options)  # type: ignore[no-any-return]  # what ``detach`` gives

    async def job(self) -> "Job":
        """What this context has kept as a job."""
        from contextree.loops.jobs import Job

        return Job(self, await self._slow("job"))

    async def dump(self, timeout: float = 10.0) -> str:
        """The stacks of all threads there, as text."""
        return await self.with_options(timeout=timeout)._service(control.dump)  # type: ignore[no-any-return]  # text

    async def _service(self, function: Any, *args: Any) -> Any:
        self.sync.engine.share_package(self.sync)
        return await calling.ask(self.loop, self.sync, function, args, {}, self.sync.options, SERVICE)

    async def __aenter__(self) -> "Self":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.loop.shielded(self.shutdown)
