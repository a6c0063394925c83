"""A bar on the terminal for transfers of files, by rich."""

from typing import Any


class Bar:
    """Shows how far one transfer is, on stderr. It draws when it is told something, ten times a second at most: there
    is no thread. For one thread."""

    def __init__(self, title: str, console: Any) -> None:
        from rich import progress

        self._progress = progress.Progress(
            progress.TextColumn("{task.description}", markup=False), progress.BarColumn(), progress.DownloadColumn(),
            progress.TransferSpeedColumn(), progress.TimeRemainingColumn(), console=console, auto_refresh=False)
        self._task = self._progress.add_task(title, total=None)
        self._progress.start()
        self._drawn = 0.0

    def tell(self, done: int, total: int | None) -> None:
        """``done`` bytes of ``total`` (None: not known) are over."""
        self._progress.update(self._task, completed=done, total=total)
        now = self._progress.get_time()
        if now - self._drawn >= 0.1:
            self._drawn = now
            self._progress.refresh()

    def close(self) -> None:
        """The last state stays on the screen."""
        self._progress.refresh()
        self._progress.stop()


def bar(title: str, console: Any = None) -> Bar | None:
    """A bar, or None where nobody would see it: stderr is no terminal."""
    from rich.console import Console

    console = console or Console(stderr=True)
    return Bar(title.encode("unicode_escape").decode() if not title.isprintable() else title, console) \
        if console.is_terminal else None
