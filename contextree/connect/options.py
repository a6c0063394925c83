"""Keyword arguments that all methods share, for type checkers; nobody imports this when a program runs.

Each method has its own beside its ``plan``: a TypedDict ``Options`` with the same names (tests/methods sees to
that)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterable, Optional

    from typing_extensions import TypedDict

    class GrowOptions(TypedDict, total=False):
        """What every method that grows a child takes."""

        threads: int
        on_start: Iterable[Callable[[], object]]
        on_fork: Iterable[Callable[[], object]]
        log_level: int
        trusted: bool
        wait: bool
        heartbeat: Optional[float]

#: Those that are not the plan's.
GROW = ("threads", "on_start", "on_fork", "log_level", "trusted", "wait", "heartbeat")
