"""A bar on the terminal for what many contexts do."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

SHOWN = 3  # names of those that run


class Bar:
    """How many have ended, how many failed, and who still runs. No thread of its own: it is drawn when something
    happens."""

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
