"""Bars on the terminal: for what many contexts do, and for transfers of files.

They have no thread: they are drawn when they are told something. For one thread each.
"""

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

SHOWN = 3  # names of those that run
PAUSE = 0.1  # seconds between two drawings of a transfer


class CountBar:
    """How many have ended, how many failed, and who still runs."""

    def __init__(self, what: str, total: int | None) -> None:
        self.progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[news]}", markup=False), console=Console(stderr=True), transient=True,
            auto_refresh=False)
        self.task = self.progress.add_task(what.replace("[", r"\["), total=total, news="")
        self.failed = 0
        self.progress.start()

    def note(self, outcome: Any, running: list[str]) -> None:
        """One has ended."""
        self.failed += outcome.error is not None
        news = f"{self.failed} failed  " if self.failed else ""
        if running:
            news += ", ".join(running[:SHOWN]) + (" ..." if len(running) > SHOWN else "")
        self.progress.update(self.task, advance=1, news=news)
        self.progress.refresh()

    def close(self) -> None:
        """Wipe it away."""
        self.progress.stop()


class Bar:
    """How far one transfer is."""

    def __init__(self, title: str, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
            TimeRemainingColumn(), console=console, auto_refresh=False)
        self._task = self._progress.add_task(title, total=None)
        self._progress.start()
        self._drawn = 0.0

    def tell(self, done: int, total: int | None) -> None:
        """``done`` bytes of ``total`` (None: not known) are over."""
        self._progress.update(self._task, completed=done, total=total)
        now = self._progress.get_time()
        if now - self._drawn >= PAUSE:
            self._drawn = now
            self._progress.refresh()

    def close(self) -> None:
        """The last state stays on the screen."""
        self._progress.refresh()
        self._progress.stop()


def bar(title: str, console: Console | None = None) -> Bar | None:
    """The bar of a transfer, or None where nobody would see it: stderr is no terminal."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        return None
    return Bar(title if title.isprintable() else title.encode("unicode_escape").decode(), console)
