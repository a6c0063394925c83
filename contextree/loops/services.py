"""Services, awaited: a shell around the synchronous handle, which is in ``sync``."""

import functools
from typing import Any

from contextree.loops import calling
from contextree.loops.flows import Stream
from contextree.loops.threads import left_alone
from contextree.parent.service import Methods
from contextree.parent.service import Service as SyncService


class Service:
    """The handle of a service: ``await service.call.lookup("x")``, ``service.submit.lookup("x")`` for a task, ``async
    for item in service.stream.items()``. Made by ``Router.serve``, or come as a result; ``sync`` is the same for
    threads. ``async with``: its end is ``close()``."""

    def __init__(self, home: Any, sync: SyncService) -> None:
        self.loop = home.loop
        self.sync = sync
        self._home = home
        self.wrapped = home.wrapped  # for streams

    def __repr__(self) -> str:
        return f"<{self.loop.name} {self.sync!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Service) and other.sync == self.sync

    def __hash__(self) -> int:
        return hash(self.sync)

    def __reduce__(self) -> Any:
        return self.sync.__reduce__()

    @property
    def name(self) -> str:
        """Its name."""
        return self.sync.name

    @property
    def methods(self) -> list[str]:
        """The names of the methods that it has."""
        return self.sync.methods

    @property
    def context(self) -> Any:
        """The context that it lives in."""
        return self.wrapped(self.sync.context)

    @property
    def call(self) -> "Methods[Any]":
        """Call a method, and await its result. Cancelled: the method is told, and its answer dropped."""
        return Methods(self.sync, self._ask)

    @property
    def submit(self) -> "Methods[Any]":
        """``call`` as a task of this loop that runs beside this one."""
        return Methods(self.sync, lambda *call: self.loop.start(functools.partial(self._ask, *call)))

    @property
    def stream(self) -> "Methods[Stream[Any]]":
        """What a method yields, for ``async for``."""
        return Methods(self.sync, lambda service, method, args, kwargs, options: Stream(self, method, args, kwargs))

    async def _ask(self, service: Any, method: Any, args: Any, kwargs: Any, options: Any) -> Any:
        return self.wrapped(await calling.ask(self.loop, service, method, args, kwargs, options))

    def with_options(self, **options: Any) -> "Service":
        """The same service with other options for its calls: ``timeout`` in seconds for each."""
        return Service(self._home, self.sync.with_options(**options))

    def only(self, *methods: str) -> "Service":
        """A handle for no more than ``methods``. In the context that serves."""
        return Service(self._home, self.sync.only(*methods))

    def stats(self) -> dict[str, int]:
        """Counters. In the context that serves."""
        return self.sync.stats()

    async def close(self, timeout: float | None = 5.0) -> None:
        """End it: later calls and those that wait get Closed; those that run may end within ``timeout`` seconds, else
        CallTimeout. Idempotent. In the context that serves. Cancelled: that goes on all the same."""
        await left_alone(self.loop, self.sync.engine, self.sync.close, timeout)

    async def __aenter__(self) -> "Service":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.loop.shielded(self.close)
