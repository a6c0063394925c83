"""The tree's words in the root's ``logging``.

One logger for each context, ``contextree.<name>``, and below it ``.stdout``, ``.stderr`` and ``.login`` (what came
before the context was up); never one that a child names. All that came from below is data: the message is an argument,
control characters are escaped, the level is clamped, and each context has a token bucket. Records are handled by a
thread of their own, since a handler may block and the loop must not; what that thread cannot keep up with is dropped
and counted.
"""

import logging
from typing import Any

from contextree.core import process
from contextree.core.logs import LINE, RECORD, STDOUT
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import CallTimeout, ContextreeError
from contextree.core.wire.flow import Bucket
from contextree.parent.boot import STDERR

RATE, BURST = 2000, 20000  # records a second and at once, for each context
WAITING = 50000
SECURITY = "contextree.security"
# lines of a context, by where they came from; "login" is what came before it was up: banners, what ssh complains of
LEVELS = {"stdout": logging.INFO, "login": logging.INFO, "stderr": logging.WARNING, "warning": logging.WARNING}
INDENTED = "\n    "  # so that no line but the first begins where a formatter puts time, level and logger


def escape(text: str, newline: str = "\\n") -> str:
    """``text`` with everything escaped that could fake another line or drive a terminal; ``newline`` stands for each
    newline."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t"
                   else newline if c == "\n" else c.encode("unicode_escape").decode("ascii")
                   for c in text)


class Logs:
    """Takes payloads from the loop thread and gives them to ``logging``. ``level`` is what children need not go
    below."""

    def __init__(self, engine: Any, level: int | None) -> None:
        self.engine = engine
        self.level = logging.getLogger().getEffectiveLevel() if level is None else level
        self.waiting = Mailbox()
        self.buckets: dict[int, Bucket] = {}
        self.dropped = 0
        self.started = False
        self.done: Any = None  # a waiter, once somebody waits for the end

    # -- the loop thread

    def payload(self, info: Any, view: memoryview) -> None:
        """What a context sent."""
        try:
            data = self.engine.decode(bytes(view))
            kind = data[0] if type(data) is list else None
            if kind == RECORD:
                _, name, level, text, path, line, function, created, trace = data
                if not 0 <= created < 1 << 33:
                    raise ValueError("a time that no formatter can show")
                record = {
                    "name": f"contextree.{info.name}", "levelno": min(max(int(level), 0), 50),
                    "pathname": escape(str(path)[:512]),
                    "lineno": min(int(line), 1 << 31), "msg": "%s", "args": (escape(str(text)[:LINE], INDENTED),),
                    "funcName": escape(str(function)[:128]),
                    "created": float(created), "exc_text": escape(str(trace)[:LINE], INDENTED) if trace else None,
                    "remote_name": escape(str(name)[:128]), "context": info.name, "context_id": info.id,
                }
                return self.put(info.id, record)
            # nothing is converted: bytes() of a number would make as many
            if kind is None or len(data) != {STDOUT: 2, STDERR: 4}.get(kind) or type(data[-1]) is not bytes:
                raise ValueError("no line")
            if kind == STDOUT:
                return self.line(info.id, "stdout", data[1])
            if kind == STDERR:
                below = self.engine.infos.get(data[1])
                if below is not None and below.link is info.link and data[2] == "security":
                    return self.security(below.id, data[3].decode("utf-8", "replace"), info.id)
                if below is not None and below.link is info.link and data[2] in LEVELS:
                    return self.line(below.id, data[2], data[3])
        except (ContextreeError, TypeError, ValueError, IndexError, OverflowError):
            pass
        self.dropped += 1
        return None

    def line(self, number: int, stream: str, line: bytes) -> None:
        """A line of output of a context."""
        name = self.engine.name_of(number) or str(number)
        level = LEVELS.get(stream, logging.ERROR)
        self.put(number, {
            "name": f"contextree.{name}" if stream == "warning" else f"contextree.{name}.{stream}", "levelno": level,
            "msg": "%s", "context": name, "context_id": number,
            "args": (escape(line.decode("utf-8", "replace")),), "exc_text": None,
        })

    def security(self, number: int, what: str, bucket: int = 0) -> None:
        """A context broke a rule. What an intermediate reports of its subtree is paid for from its own ``bucket``."""
        name = self.engine.name_of(number) or str(number)
        self.put(bucket, {"name": SECURITY, "levelno": logging.ERROR, "msg": "%s: %s", "args": (name, escape(what)),
                     "context": name, "context_id": number, "exc_text": None})

    def put(self, number: int, record: dict[str, Any]) -> None:
        """Hand a record to the thread that logs, at a bounded rate."""
        bucket = self.buckets.get(number)
        if bucket is None:
            if len(self.buckets) > 10000:
                self.buckets.clear()
            bucket = self.buckets[number] = Bucket(RATE, BURST)
        if not bucket.take(self.engine.broker.clock()) or len(self.waiting) > WAITING:
            self.dropped += 1
            return
        if not self.started:
            self.started = True
            self.engine.start(self.run)
        self.waiting.put(record)

    # -- the logging thread

    def run(self) -> None:
        """Log until ``end``, or until nothing is left that must not be waited for."""
        while True:
            try:
                record = self.waiting.get(self.engine.idle)
            except CallTimeout:
                self.started = False
                return
            if record is None:
                break
            try:
                logger = logging.getLogger(record["name"])
                if logger.isEnabledFor(record["levelno"]):
                    logger.handle(self.make(record))
            except Exception:
                self.engine.broker.on_error(self.run)
        self.done.wake()  # ``end`` made it before it put the None

    def make(self, fields: dict[str, Any]) -> logging.LogRecord:
        """A LogRecord by the program's own factory, so that a custom one works for forwarded records too."""
        record = logging.getLogRecordFactory()(
            fields["name"], fields["levelno"], fields.get("pathname", ""), fields.get("lineno", 0), fields["msg"],
            fields["args"], None, fields.get("funcName"), None)
        for key in ("exc_text", "context", "context_id", "remote_name"):
            setattr(record, key, fields.get(key))
        if "created" in fields:
            record.created = fields["created"]
            record.msecs = (fields["created"] % 1) * 1000
        return record

    def end(self) -> None:
        """Log what is there, then stop. Not on the loop thread."""
        if self.started:
            self.done = process.waiter()
            self.waiting.put(None)
            self.done.wait(5)
            self.started = False
