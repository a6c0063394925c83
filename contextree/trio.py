"""contextree for trio (guest mode too): the same tree, awaited.

    >>> import platform, trio
    >>> async def main():
    ...     async with contextree.trio.Router() as router:
    ...         web = await router.local(name="web")
    ...         async for number in web.stream(range, 3):
    ...             print(number, end=" ")
    ...         return await web.call(platform.python_implementation)
    >>> trio.run(main)
    0 1 2 'CPython'

What ``contextree.Router`` and ``contextree.Context`` have is here under the same names; what waits is awaited, and what
can be cancelled is cancelled by the scope around it. No thread stands behind a call, a stream or a channel. Handles may
be used in several loops, in several threads; ``sync`` of each is the handle for threads, and ``wrap`` leads back.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from contextree.loops import calling, flows, gathering
from contextree.loops.channels import Channel
from contextree.loops.context import Context as BaseContext
from contextree.loops.flows import Stream
from contextree.loops.programs import Process
from contextree.loops.router import Router as BaseRouter
from contextree.loops.services import Service
from contextree.loops.trio_loop import Pending, TrioLoop
from contextree.master.gather import AT_ONCE, Outcome, Results
from contextree.parent.child import Child
from contextree.parent.child_state import EXITED, ChildState

__all__ = ["Channel", "Context", "Pending", "Process", "Router", "Service", "Stream", "check_child", "gather",
           "gather_iter", "select", "wait_child", "wrap"]

P = ParamSpec("P")
T = TypeVar("T")
LOOP = TrioLoop()


class Context(BaseContext["Context"]):
    """One context of the tree: the methods of ``contextree.Context``, awaited. ``submit`` gives a Pending."""

    loop = LOOP

    if TYPE_CHECKING:
        @overload
        def submit(self, function: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args,
                   **kwargs: P.kwargs) -> Pending[T]:
            ...

        @overload
        def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Pending[T]:
            ...

        def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            """``call`` as a task."""


class Router(BaseRouter[Context]):
    """The root of a tree, for ``async with``; the arguments are those of ``contextree.Router``."""

    loop = LOOP
    context = Context


def wrap(handle: Any) -> Any:
    """The handle for trio of a ``contextree.Router``, ``Context``, ``Channel`` or ``Service``."""
    return Router.of(handle)


async def select(sources: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Those of ``sources`` (streams and channels) from which something can be taken now, or that have ended; waits up
    to ``timeout`` seconds for the first one, then returns an empty list."""
    return await flows.select(sources, timeout)


async def gather(contexts: "Iterable[Context] | Mapping[Context, tuple[Any, ...]]", function: Callable[..., Any], /,
                 *args: Any, concurrency: int = AT_ONCE, ordered: bool = False,
                 progress: Callable[[Outcome], object] | None = None, timeout: float | None = None,
                 **kwargs: Any) -> Results:
    """``contextree.gather``, awaited: ``{context: result or error}`` of the call in all ``contexts`` at once.

    ``progress``: called with each Outcome. Cancelled: so are the calls that are under way."""
    return await gathering.gather(LOOP, contexts, function, args, kwargs, concurrency, timeout, ordered, progress)


def gather_iter(contexts: "Iterable[Context] | Mapping[Context, tuple[Any, ...]]", function: Callable[..., Any], /,
                *args: Any, concurrency: int = AT_ONCE, timeout: float | None = None,
                **kwargs: Any) -> AsyncGenerator[Outcome, None]:
    """As ``gather``, for ``async for``: one Outcome after the other, as soon as it is there. ``aclose`` cancels what is
    under way."""
    return gathering.outcomes(LOOP, contexts, function, args, kwargs, concurrency, timeout)


async def wait_child(child: Child, timeout: float | None = None, options: int | Iterable[int] = EXITED) -> ChildState:
    """``child.wait(timeout, options)`` of a ``contextree.processes.Child``, awaited."""
    return await calling.wait_child(LOOP, child, timeout, options)


async def check_child(child: Child, timeout: float | None = None) -> ChildState:
    """``child.check(timeout)`` of a ``contextree.processes.Child``, awaited: UncleanExit unless it exits with 0.

    Cancelled: the child gets TERM, and the cancellation goes on."""
    return await calling.check_child(LOOP, child, timeout)
