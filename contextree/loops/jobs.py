"""What jobs have kept, awaited: a shell around the synchronous handle, which is in ``sync``."""

from collections.abc import AsyncIterator
from typing import Any

from contextree.loops.threads import in_thread
from contextree.parent.jobs import Job as SyncJob
from contextree.parent.jobs import JobCall as SyncJobCall


class Awaited:
    """What both have: the facts of ``sync``, and a thread for what waits."""

    def __init__(self, home: Any, sync: Any) -> None:
        self.home = home
        self.sync = sync

    def __repr__(self) -> str:
        return f"<{self.home.loop.name} {self.sync!r}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.sync, name)

    async def _slow(self, function: Any, *args: Any) -> Any:
        return await in_thread(self.home.loop, self.home.sync.engine, function, *args)

    async def result(self, timeout: float | None = None) -> Any:
        """What the function returned, or what it raised, raised here; of a Job: of the last of its calls."""
        return self.home.wrapped(await self._slow(self.sync.result, timeout))


class JobCall(Awaited):
    """``contextree.JobCall``."""

    sync: SyncJobCall


class Job(Awaited):
    """``contextree.Job``: all that asks is awaited, ``follow`` is for ``async for``; the facts are as of the last
    ``refresh``."""

    sync: SyncJob

    @property
    def calls(self) -> list[JobCall]:
        """Its calls."""
        return [JobCall(self.home, call) for call in self.sync.calls]

    async def refresh(self) -> "Job":
        """Look again; returns itself."""
        await self._slow(self.sync.refresh)
        return self

    async def done(self) -> bool:
        """Whether all its calls have ended, asked now."""
        return all(call.done for call in (await self.refresh()).sync.calls)

    async def output(self, encoding: str | None = "utf-8") -> Any:
        """What it has written, as far as that is kept."""
        return await self._slow(self.sync.output, encoding)

    async def follow(self, timeout: float | None = None) -> AsyncIterator[str]:
        """Its output line by line, as it comes, until all its calls have ended."""
        lines = self.sync.follow(timeout)
        end = object()
        while True:
            line = await self._slow(next, lines, end)
            if line is end:
                return
            yield line

    async def remove(self) -> None:
        """Remove what a dead job has left."""
        await self._slow(self.sync.remove)
