"""Routers, awaited: a shell around the synchronous router, which is in ``sync``."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from contextree.core import process
from contextree.core.wire.errors import UsageError
from contextree.loops.channels import Channel
from contextree.loops.growing import C, Grower
from contextree.loops.threads import in_thread, join
from contextree.master.router import Router as SyncRouter
from contextree.parent.channel import Channel as SyncChannel
from contextree.parent.context import Context as SyncContext
from contextree.parent.router import Router as ParentRouter
from contextree.parent.service import Service as SyncService

if TYPE_CHECKING:
    from typing_extensions import Self


class Router(Grower[C]):
    """The root of a tree, its contexts awaited; the arguments are those of ``contextree.Router``.

    ``async with``: all is gone after the block, also when its task was cancelled. Or ``await`` it, and ``close``."""

    context: type[C]

    def __init__(self, *args: Any, **options: Any) -> None:
        if not options.get("thread", True):
            raise UsageError("a router that is awaited needs its thread: thread=False is for contextree.Router")
        self._arguments = (args, options)
        self._sync: ParentRouter | None = None

    @property
    def sync(self) -> ParentRouter:
        """The same router for threads."""
        if self._sync is None:
            raise UsageError("this router is not open: use `async with Router() as router`, or `await Router()`")
        return self._sync

    @classmethod
    def of(cls, handle: Any) -> Any:
        """The handle for this loop of a synchronous Router, Context, Channel or Service."""
        if isinstance(handle, ParentRouter):
            router = cls()
            router._sync = handle
            return router
        if isinstance(handle, (SyncContext, SyncChannel, SyncService)):
            return cls().wrapped(handle)
        raise UsageError(f"{handle!r} is no Router, Context, Channel or Service")

    def __repr__(self) -> str:
        return f"<{self.loop.name} {self._sync!r}>" if self._sync else f"<{self.loop.name} Router, not open>"

    def _wrap(self, context: SyncContext) -> C:
        return self.context(context)

    async def _begin(self) -> "Self":
        """Start it, if that has not been done: what ``async with`` and ``await`` do."""
        if self._sync is None:
            args, options = self._arguments

            def make() -> None:
                self._sync = SyncRouter(*args, **options)

            try:
                await self.loop.shielded(in_thread, self.loop, None, make)
            except BaseException:
                await self.close()
                raise
        return self

    def __await__(self) -> "Generator[Any, Any, Self]":
        return self._begin().__await__()

    async def __aenter__(self) -> "Self":
        return await self._begin()

    async def __aexit__(self, *exc_info: object) -> None:
        if self._sync is not None and self._sync.engine.core.generation == process.generation:
            await self.close()

    async def close(self, grace: float | None = None) -> None:
        """End all contexts and the loop: processes are reaped and descriptors closed then. Idempotent.

        Running calls get ``grace`` seconds; then their contexts are terminated, and killed two seconds later. A
        cancellation of this task is heard after that."""
        router = self._sync
        if router is not None:
            await self.loop.shielded(in_thread, self.loop, None, _close, router, grace)

    shutdown = close

    # -- what does not wait

    def context_by_id(self, number: int) -> C:
        """The context ``number``. UsageError when there is none."""
        return self._wrap(self.sync.context_by_id(number))

    @property
    def contexts(self) -> list[C]:
        """All contexts below this one that live."""
        return [self._wrap(context) for context in self.sync.contexts]

    @property
    def name(self) -> str:
        """Its name, in messages."""
        return self.sync.name

    def channel(self) -> Channel:
        """A two-way channel whose far end is here: who gets it in a call talks with us."""
        return Channel(self, self.sync.channel())

    @property
    def services(self) -> dict[str, Any]:
        """Of a ``Client`` that was wrapped: the services that it may call, by name."""
        services: dict[str, SyncService] = getattr(self.sync, "services", {})
        return {name: self.wrapped(service) for name, service in services.items()}

    def tree(self) -> str:
        """The tree as text, for people."""
        return self.sync.tree()

    def stats(self) -> dict[str, Any]:
        """Counters of the loop, the router and every link."""
        return self.sync.stats()

    async def grant(self, first: C, second: C) -> None:
        """Let ``first``, and what it grows, call ``second`` and what is below it."""
        await in_thread(self.loop, self.sync.engine, self.sync.grant, first.sync, second.sync)


def _close(router: Any, grace: float | None) -> None:
    router.close(grace)
    join(router.engine)
