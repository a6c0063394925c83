"""One function in many contexts at once, awaited: ``contextree.gather`` for event loops."""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any

from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import UsageError
from contextree.loops.context import Context
from contextree.loops.waiting import EventLoop, take
from contextree.master.gather import Outcome, Results
from contextree.parent.calls import describe


async def outcomes(loop: EventLoop, contexts: "Iterable[Any] | Mapping[Any, tuple[Any, ...]]",
                   function: Callable[..., Any], args: Any, kwargs: Any, concurrency: int, timeout: float | None
                   ) -> AsyncGenerator[Outcome, None]:
    """Outcomes as they come. A task for each call that is under way; closed early, it cancels them."""
    if concurrency < 1:
        raise ValueError("concurrency must be at least 1")
    done = Mailbox()
    tasks: dict[Any, Any] = {}
    known = set()

    async def one(context: Any, own: Any) -> None:
        try:
            here = context if timeout is None else context.with_options(timeout=timeout)
            done.put(Outcome(context, await here.call(function, *own, *args, **kwargs)))
        except Exception as error:
            done.put(Outcome(context, error=error))

    source = iter(contexts.items() if isinstance(contexts, Mapping) else ((context, ()) for context in contexts))
    try:
        while True:
            while len(tasks) < concurrency and (item := next(source, None)) is not None:
                context, own = item
                if not isinstance(context, Context):
                    raise UsageError(f"gather wants contexts to be awaited, not {context!r}")
                if context in known:
                    raise UsageError(f"{context!r} is there twice: gather gives one result for each context")
                known.add(context)
                tasks[context] = loop.start(one, context, own)
            if not tasks:
                return
            outcome = await take(loop, done)
            del tasks[outcome.context]
            yield outcome
    finally:
        for task in tasks.values():
            task.cancel()


async def gather(loop: EventLoop, contexts: Any, function: Callable[..., Any], args: Any, kwargs: Any, concurrency: int,
                 timeout: float | None, ordered: bool, progress: Callable[[Outcome], object] | None) -> Results:
    """All outcomes."""
    if ordered and not isinstance(contexts, Mapping):
        contexts = list(contexts)
    results = Results(describe(function))
    coming = outcomes(loop, contexts, function, args, kwargs, concurrency, timeout)
    try:
        async for outcome in coming:
            results.add(outcome)
            if progress is not None:
                progress(outcome)
    finally:
        await coming.aclose()
    if ordered:
        for context in contexts:
            results[context] = results.pop(context)
    return results
