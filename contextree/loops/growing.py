"""Starting contexts, awaited."""

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from contextree.core.wire.errors import CallCancelled, ContextreeError
from contextree.core.wire.frames import SERVICE
from contextree.loops import calling
from contextree.loops.channels import Channel
from contextree.loops.threads import in_thread
from contextree.loops.waiting import EventLoop, take
from contextree.parent import control
from contextree.parent.channel import Channel as SyncChannel
from contextree.parent.context import Context as SyncContext
from contextree.parent.grower import Grower as SyncGrower

if TYPE_CHECKING:
    from contextree.loops.context import Context


C = TypeVar("C", bound="Context[Any]")  # what this loop's contexts are


class Plans(SyncGrower):
    """Takes what a method of a Grower would start, instead of starting it."""

    def __init__(self, sync: Any) -> None:
        self.engine = sync.engine
        self.sync = sync

    def _grow(self, plan: Any, options: dict[str, Any]) -> Any:
        return self.sync, plan, options


class Grower(Generic[C]):
    """``fork``, ``local``, ``ssh``: children of this context, as in ``contextree.Router``, awaited until they are up.

    Cancelled meanwhile: the child is ended."""

    loop: EventLoop
    sync: Any

    def _wrap(self, context: SyncContext) -> C:
        raise NotImplementedError

    def wrapped(self, value: Any) -> Any:
        """A result as this loop's programs want it: a Context or a Channel to be awaited; all else is itself."""
        if isinstance(value, SyncContext):
            return self._wrap(value)
        return Channel(self, value) if isinstance(value, SyncChannel) else value

    def __getattr__(self, name: str) -> Any:
        """What the synchronous handle can do and this class does not know: a method, run in a thread, awaited."""
        method = None if name.startswith("_") else getattr(type(self.sync), name, None)
        if not callable(method):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

        async def call(*args: Any, **kwargs: Any) -> Any:
            args = tuple(getattr(value, "sync", value) if isinstance(value, Grower) else value for value in args)
            bound = getattr(self.sync, name)
            return self.wrapped(await in_thread(self.loop, self.sync.engine, bound, *args, **kwargs))

        return call

    async def fork(self, direct: bool = False, name: str | None = None, via: Any = None, **options: Any) -> C:
        """A forked child: from a clean template process, or (``direct``) of this very process with its memory."""
        return await self._start("fork", direct=direct, name=name, via=via, **options)

    async def local(self, python: Any = None, env: dict[str, str | None] | None = None, name: str | None = None,
                    via: Any = None, **options: Any) -> C:
        """A new interpreter on the machine of this context."""
        return await self._start("local", python=python, env=env, name=name, via=via, **options)

    async def ssh(self, host: str, via: Any = None, **options: Any) -> C:
        """An interpreter on ``host``, by the system's ssh."""
        return await self._start("ssh", host, via=via, **options)

    async def grow(self, plan: Any, via: Any = None, **options: Any) -> C:
        """A child by any Plan: for connection methods of your own."""
        return await self._start("grow", plan, via=via, **options)

    async def _start(self, method: str, *args: Any, via: Any = None, **options: Any) -> C:
        plans = Plans(self.sync)
        if via is not None:
            via = Plans(plans._parent(getattr(via, "sync", via)))
        parent, plan, options = getattr(plans, method)(*args, via=via, **options)
        engine = parent.engine
        if not isinstance(parent, SyncContext):
            parent = engine.context(parent.id, parent.name)
        options, threads = parent.check_plan(plan, options)
        if parent.id == engine.core.id:
            number = await self._start_here(engine, plan, options)
        else:
            engine.share_package(parent)
            number = await calling.ask(self.loop, parent, control.grow, (plan, options), {}, {}, SERVICE)
        context = engine.context(number)
        return self._wrap(context.with_options(threads=threads) if threads else context)

    async def _start_here(self, engine: Any, plan: Any, options: dict[str, Any]) -> int:
        """A thread starts the process, which is short work; that it comes up is awaited here."""
        wait = options.pop("wait", True)
        branches: list[Any] = []

        def launch() -> None:
            branches.append(control.grow_here(engine, plan, dict(options, wait=False)))

        try:
            await self.loop.shielded(in_thread, self.loop, engine, launch)
            if wait:
                await take(self.loop, branches[0].result)
        except ContextreeError:
            raise
        except BaseException:
            for branch in branches:
                engine.broker.defer_nowait(branch.fail, CallCancelled(f"starting {branch.name} was cancelled"))
            raise
        return branches[0].id  # type: ignore[no-any-return]  # of a Branch
