"""``contextree.gather``: one function in many contexts at once.

The thread that asks does all the work: it starts calls, as many as may be under way, sleeps on a mailbox into which
finished calls fall, and takes one outcome after the other. The contexts are taken from their iterable only when it is
their turn, so a generator may make them (``router.ssh(host, wait=False)``), and a thousand hosts are connected to a few
at a time, without a thread for each.
"""

import functools
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import ContextreeError, UsageError
from contextree.parent import waits
from contextree.parent.calls import describe
from contextree.parent.context import Context
from contextree.parent.future import CallFuture

T = TypeVar("T")

AT_ONCE = 100  # calls under way, unless somebody wants other


class Outcome(NamedTuple):
    """What became of one context's call: its ``value``, or the ``error`` that it ended with.

    >>> for outcome in contextree.gather_iter([web], divmod, 7, 2):
    ...     print(outcome.context.name, outcome.value, outcome.error)
    web (3, 1) None
    """

    context: Context
    value: Any = None
    error: BaseException | None = None

    def result(self) -> Any:
        """The value, or the error raised."""
        if self.error is not None:
            raise self.error
        return self.value


if sys.version_info >= (3, 11):
    class GatherError(ContextreeError, ExceptionGroup[Exception]):  # noqa: F821  since 3.11
        """Calls of ``gather`` failed: an ExceptionGroup, for ``except*``. Made by ``Results.raise_errors``.

        Fields: ``exceptions``, and ``errors``, the same by context. (Before Python 3.11 a plain exception with these.)

        >>> try:
        ...     contextree.gather([web], int, "x").raise_errors()
        ... except contextree.GatherError as error:
        ...     print(error.message, error.exceptions)
        int failed in 1 of 1 contexts: web (ValueError(...),)
        """

        errors: dict[Context, BaseException]

        def __new__(cls, message: str, exceptions: Any, errors: Any = None) -> "GatherError":
            return ExceptionGroup.__new__(cls, message, exceptions)  # noqa: F821

        def __init__(self, message: str, exceptions: Any, errors: Any = None) -> None:
            self.errors = errors or {}

        def derive(self, exceptions: Any) -> "GatherError":
            """A part of it, for ``except*`` and ``split``."""
            left = {context: error for context, error in self.errors.items() if error in exceptions}
            return GatherError(self.message, exceptions, left)

        def __reduce__(self) -> Any:
            return GatherError, (self.message, self.exceptions, self.errors)
else:
    class GatherError(ContextreeError):
        """Calls of ``gather`` failed. Made by ``Results.raise_errors``. Fields: ``message``, ``exceptions``, and
        ``errors``, the same by context. (From Python 3.11 on it is an ExceptionGroup.)

        >>> try:
        ...     contextree.gather([web], int, "x").raise_errors()
        ... except contextree.GatherError as error:
        ...     print(error.message, error.exceptions)
        int failed in 1 of 1 contexts: web (ValueError(...),)
        """

        def __init__(self, message: str, exceptions: Any, errors: Any = None) -> None:
            super().__init__(message)
            self.message = message
            self.exceptions = tuple(exceptions)
            self.errors: dict[Context, BaseException] = errors or {}

        def __reduce__(self) -> Any:
            return GatherError, (self.message, self.exceptions, self.errors)


class Results(dict[Context, Any]):
    """What ``gather`` returns: a dict of each context's result, or the exception that its call ended with.

    >>> results = contextree.gather([web], pow, 2, 5)
    >>> results[web], results.ok == results, results.errors
    (32, True, {})
    """

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self._failed: set[Context] = set()

    def add(self, outcome: Outcome) -> None:
        """Note one outcome."""
        self[outcome.context] = outcome.value if outcome.error is None else outcome.error
        if outcome.error is not None:
            self._failed.add(outcome.context)

    @property
    def ok(self) -> dict[Context, Any]:
        """The results alone."""
        return {context: value for context, value in self.items() if context not in self._failed}

    @property
    def errors(self) -> dict[Context, BaseException]:
        """The errors alone. An exception that a function returned is a result."""
        return {context: value for context, value in self.items() if context in self._failed}

    def raise_errors(self) -> "Results":
        """Raise all errors as one GatherError, if there are any; else the results themselves."""
        errors = self.errors
        if errors:
            names = [context.name for context in errors]
            text = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
            raise GatherError(f"{self.what} failed in {len(errors)} of {len(self)} contexts: {text}",
                              list(errors.values()), errors)
        return self


def gather(contexts: "Iterable[Context] | Mapping[Context, tuple[Any, ...]]", function: Callable[..., Any],
           /, *args: Any, concurrency: int = AT_ONCE, ordered: bool = False, progress: Any = False,
           timeout: float | None = None, **kwargs: Any) -> Results:
    """Call ``function(*args, **kwargs)`` in all ``contexts`` at once; ``{context: result or error}`` of all of them.

    >>> fork = router.fork()
    >>> results = contextree.gather([web, fork], divmod, 7, 2)
    >>> results[web], results[fork], results.errors
    ((3, 1), (3, 1), {})

    contexts     any iterable of contexts, taken from one by one; or a mapping of each context to a tuple of arguments
                 of its own, which come before ``args``.
    concurrency  so many calls are under way at most.
    ordered      results in the order of the contexts; else in the order in which they came.
    progress     True: a bar on stderr, if that is a terminal; or a function that is called with each Outcome.
    timeout      seconds for each call; CallTimeout is the error of one that takes longer.

    Returns when all have ended, however that was; no call's error is raised (``results.raise_errors()`` does). On
    Ctrl-C no more calls begin, functions that run are told (``current_call``), and KeyboardInterrupt has a note that
    says where they ran, and the ``results`` so far. From any thread but the loop's."""
    results = Results(describe(function))
    run = _Run(contexts, function, args, kwargs, concurrency, timeout, progress)
    try:
        for outcome in run.outcomes():
            results.add(outcome)
    except KeyboardInterrupt as interrupt:
        interrupt.results = results  # type: ignore[attr-defined]
        raise
    if ordered:
        for context in run.order:
            results[context] = results.pop(context)
    return results


def gather_iter(contexts: "Iterable[Context] | Mapping[Context, tuple[Any, ...]]", function: Callable[..., Any],
                /, *args: Any, concurrency: int = AT_ONCE, ordered: bool = False, progress: Any = False,
                timeout: float | None = None, **kwargs: Any) -> Generator[Outcome, None, None]:
    """As ``gather``, one Outcome after the other: as soon as it is there, or (``ordered``) in the contexts' order.

    Calls begin with the first ``next``; the next ones begin as outcomes are taken. Closed early, it cancels what is
    under way.

    >>> [outcome.value for outcome in contextree.gather_iter([web], len, "four")]
    [4]
    """
    run = _Run(contexts, function, args, kwargs, concurrency, timeout, progress)
    return run.in_order() if ordered else run.outcomes()


class _Run:
    """One gather under way; of one thread."""

    def __init__(self, contexts: Any, function: Any, args: Any, kwargs: Any, concurrency: int, timeout: float | None,
                 progress: Any) -> None:
        if not callable(function):
            raise UsageError(f"gather wants contexts and a function, not {function!r}")
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        self.total = len(contexts) if hasattr(contexts, "__len__") else None
        self.source: Iterator[tuple[Context, tuple[Any, ...]]] = iter(
            contexts.items() if isinstance(contexts, Mapping) else ((context, ()) for context in contexts))
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.concurrency = concurrency
        self.timeout = timeout
        self.tell = progress if callable(progress) else None
        self.bar: Any = None
        if progress and self.tell is None and sys.stderr is not None and sys.stderr.isatty():
            from contextree.master.progress import CountBar

            self.bar = CountBar(describe(function), self.total)
        self.order: list[Context] = []
        self.known: set[Context] = set()
        self.running: dict[Context, CallFuture[Any]] = {}
        self.done: Any = Mailbox()  # (context, future) or an Outcome
        self.over = False  # all have been started

    def start(self) -> None:
        """Start calls while there is room."""
        while not self.over and len(self.running) < self.concurrency and not len(self.done):
            try:
                context, own = next(self.source)
            except StopIteration:
                self.over = True
                return
            if not isinstance(context, Context):
                raise UsageError(f"gather wants contexts, not {context!r}")
            if context in self.known:
                raise UsageError(f"{context!r} is there twice: gather gives one result for each context")
            self.known.add(context)
            self.order.append(context)
            here = context if self.timeout is None else context.with_options(timeout=self.timeout)
            try:
                future = here.submit(self.function, *own, *self.args, **self.kwargs)
            except Exception as error:  # it is gone, or this cannot be sent to it
                self.done.put(Outcome(context, error=error))
                continue
            self.running[context] = future
            future.add_done_callback(functools.partial(self.ended, context))

    def ended(self, context: Context, future: Any) -> None:
        """A call has ended. On the thread for callbacks."""
        self.done.put((context, future))

    def outcomes(self) -> Generator[Outcome, None, None]:
        """Outcomes as they come."""
        try:
            self.start()
            while self.running or len(self.done):
                outcome = self.take()
                self.start()
                if self.tell is not None:
                    self.tell(outcome)
                if self.bar is not None:
                    self.bar.note(outcome, [context.name for context in self.running])
                yield outcome
                self.start()
        except KeyboardInterrupt as interrupt:
            self.explain(interrupt)
            raise
        finally:
            for future in list(self.running.values()):
                future.cancel()
            if self.bar is not None:
                self.bar.close()
            close = getattr(self.source, "close", None)
            if close is not None:
                close()

    def in_order(self) -> Generator[Outcome, None, None]:
        """Outcomes in the order of the contexts."""
        early: dict[Context, Outcome] = {}
        turn = 0
        outcomes = self.outcomes()
        try:
            for outcome in outcomes:
                early[outcome.context] = outcome
                while turn < len(self.order) and self.order[turn] in early:
                    yield early.pop(self.order[turn])
                    turn += 1
        finally:
            outcomes.close()

    def take(self) -> Outcome:
        """The next outcome; waits."""
        waits.check(next(iter(self.running)).engine if self.running else None)
        item = self.done.get()
        if isinstance(item, Outcome):
            return item
        context, future = item
        del self.running[context]
        try:
            return Outcome(context, future.result())
        except BaseException as error:  # whatever the function raised
            if not isinstance(error, Exception) and future.exception() is not error:
                raise  # Ctrl-C, just here
            return Outcome(context, error=error)

    def explain(self, interrupt: KeyboardInterrupt) -> None:
        """Say in a note what was going on."""
        names = [context.name for context in self.running]
        known = len(self.order) - len(names)
        text = f"{describe(self.function)} had ended in {known} contexts"
        if names:
            text += f", runs in {', '.join(names[:20])}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")
            text += " (all were told to stop)"
        if self.total is not None and self.total > len(self.order):
            text += f", was not begun in {self.total - len(self.order)}"
        if hasattr(interrupt, "add_note"):
            interrupt.add_note(text)  # pyright: ignore[reportAttributeAccessIssue]  # since 3.11
        interrupt.running = names  # type: ignore[attr-defined]

