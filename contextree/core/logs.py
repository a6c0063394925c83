"""What a child has to say: log records, and lines that something writes to its standard output.

A record goes up as plain data in the class of logs, whose queue drops the oldest, so that a chatty child costs its own
lines and nothing else. ``logging`` is expensive to import (16 ms), so nothing here imports it: a finder waits until
somebody does and then puts the handler in place, before that somebody can log.
"""

import os
import sys

from contextree.core import process
from contextree.core.wire import values
from contextree.core.wire.flow import LOG_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from logging import LogRecord
    from types import ModuleType
    from typing import Any, Callable, Sequence

    from contextree.core.router import Router

LINE = 8192  # longest line or message that is sent in one piece
RECORD, STDOUT = 0, 1


class Lines:
    """Cuts bytes into lines; a line that is too long is sent in pieces."""

    def __init__(self, emit: "Callable[[bytes], object]") -> None:
        self.emit = emit
        self.rest = b""

    def feed(self, data: bytes) -> None:
        """``emit`` every complete line."""
        lines = (self.rest + data).split(b"\n")
        self.rest = lines.pop()
        for line in lines:
            self.emit(line[:LINE])
        while len(self.rest) > LINE:
            self.emit(self.rest[:LINE])
            self.rest = self.rest[LINE:]

    def end(self) -> None:
        """Emit the last line though no newline came."""
        if self.rest:
            self.emit(self.rest)
            self.rest = b""


class Output:
    """Descriptor 1 as a pipe of our own whose other end the loop reads."""

    def __init__(self, router: "Router") -> None:
        self.router = router
        self.lines = Lines(lambda line: router.log(values.encode([STDOUT, line])))
        self.fd, write = process.pipe()
        os.set_blocking(write, True)
        os.dup2(write, 1)
        process.close(write)
        router.broker.watch(self.fd, self.read)

    def read(self) -> None:
        """Forward what was printed, as fast as the link takes it: whoever prints waits, as for any pipe. Loop
        thread."""
        broker = self.router.broker
        link = self.router.upstream
        try:
            data = (link.closed or link.out.log_bytes < LOG_LIMIT >> 1) and os.read(self.fd, 65536)
        except BlockingIOError:
            return
        if data:
            return self.lines.feed(data)
        broker.forget(self.fd)
        if data is False:
            broker.timer(0.01, broker.watch, self.fd, self.read)

    def end(self) -> None:
        """Forward what is left, the last partial line too."""
        try:
            while True:
                data = os.read(self.fd, 65536)
                if not data:
                    break
                self.lines.feed(data)
        except OSError:
            pass  # all read
        self.lines.end()


class Hook:
    """Waits on ``sys.meta_path`` for the first import of ``logging``."""

    def __init__(self, router: "Router", level: int) -> None:
        self.router = router
        self.level = level
        self.installed = None  # type: object
        if "logging" in sys.modules:
            self.install(sys.modules["logging"])
        else:
            sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: "Sequence[str] | None" = None, target: object = None) -> "ModuleSpec | None":
        """The spec of ``logging`` with our handler as the last step of its import."""
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path)
            if spec:
                break
        else:
            return None
        loader = spec.loader
        run = loader.exec_module  # type: ignore[union-attr]  # who finds logging has a loader for it

        def exec_module(module: "ModuleType") -> None:
            run(module)
            self.install(module)

        loader.exec_module = exec_module  # type: ignore[method-assign, union-attr]  # for this one object
        return spec

    def install(self, logging: "Any") -> None:
        """Make the root logger forward what it gets, and nothing else."""
        router = self.router

        class Forward(logging.Handler):  # type: ignore[misc]  # the module is an argument
            def emit(self, record: "LogRecord") -> None:
                try:
                    text = record.getMessage()
                    trace = record.exc_info and self.format_exception(record)
                    router.log(values.encode([RECORD, record.name[:128], record.levelno, text[:LINE],
                                              record.pathname[-512:],
                                              record.lineno, record.funcName, record.created, trace and trace[-LINE:]]))
                except Exception:
                    self.handleError(record)

            def format_exception(self, record: "LogRecord") -> str:
                return logging.Formatter().formatException(record.exc_info)  # type: ignore[no-any-return]

        root = logging.getLogger()
        for logger in [root] + [item for item in root.manager.loggerDict.values() if isinstance(item, logging.Logger)]:
            process.keep += logger.handlers  # to close an inherited stream may wait for a lock that a dead thread held
            del logger.handlers[:]
        self.installed = Forward()
        root.addHandler(self.installed)
        root.setLevel(self.level)
