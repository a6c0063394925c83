"""Programs in a context, awaited: natively, without a thread."""

import codecs
import io
import subprocess
from typing import Any

from contextree.core import process
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import CallTimeout, ContextreeError, UsageError
from contextree.loops.flows import Source
from contextree.loops.waiting import EventLoop, take
from contextree.parent import command, running
from contextree.parent.context import Context as SyncContext
from contextree.parent.session import END


async def run(loop: EventLoop, context: SyncContext, args: Any,
              options: dict[str, Any]) -> "subprocess.CompletedProcess[Any]":
    """Run a program to its end. Cancelled, or left by an error of a function that was given: it is ended there, with
    its group. Functions that take output are called in this task, and must not block."""
    job = command.Run(context, args, **options)
    count, over = 0, False
    try:
        while not over:
            context.engine.check_fork()
            try:
                item = await take(loop, job.mailbox, job.left())
            except CallTimeout:
                over = job.late()
                continue
            over = job.take(item)
            count += 1
            if not count % loop.turns:
                await loop.pause()
    finally:
        job.close()
    return job.result()


class Reader(Source):
    """An output of a program, to be read by one task at a time. ``async for`` gives its lines.

    A task that is cancelled while it waits has lost nothing of it."""

    def __init__(self, loop: EventLoop, file: Any) -> None:
        self.loop = loop
        text = hasattr(file, "buffer")
        self._file = file
        self._raw: running.Reader = (file.buffer if text else file).raw
        self._decoder: Any = None
        if text:
            decoder = codecs.getincrementaldecoder(file.encoding)(file.errors)
            self._decoder = io.IncrementalNewlineDecoder(decoder, True)
        self._empty: Any = "" if text else b""
        self._rest: Any = self._empty
        self._dry = False

    async def _box(self) -> Mailbox:
        return self._raw.mailbox

    async def _more(self) -> Any:
        """What comes next; nothing at the end."""
        raw = self._raw
        session = raw.owner.session
        piece = self._empty
        while not self._dry and not piece:
            session.engine.check_fork()
            try:
                _, data = await self._item(None)
            except ContextreeError:
                session.check()
                data = b""
            session.consumed(raw.letter, len(data))
            self._dry = raw.dry = not data
            piece = self._decoder.decode(bytes(data), self._dry) if self._decoder else bytes(data)
        return piece

    async def read(self, size: int = -1) -> Any:
        """At least one and at most ``size`` bytes (characters, of text), as soon as there are some; all until the end
        of file where ``size`` is negative. Nothing: the end of file. Raises ContextDied and the like."""
        if size >= 0:
            if size and not self._rest:
                self._rest = await self._more()
            got, self._rest = self._rest[:size], self._rest[size:]
            return got
        parts = [self._rest]
        try:
            while parts[-1] or len(parts) == 1:
                parts.append(await self._more())
        except BaseException:
            self._rest = self._empty.join(parts)
            raise
        self._rest = self._empty
        return self._empty.join(parts)

    async def readline(self) -> Any:
        """The next line, with its end; the last one may have none. Nothing: the end of file."""
        end = "\n" if self._decoder else b"\n"
        at = self._rest.find(end)
        while at < 0:
            piece = await self._more()
            if not piece:
                at = len(self._rest)
                break
            at = piece.find(end)
            at = at if at < 0 else at + len(self._rest)
            self._rest += piece
        line, self._rest = self._rest[:at + 1], self._rest[at + 1:]
        return line

    def __aiter__(self) -> "Reader":
        return self

    async def __anext__(self) -> Any:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def close(self) -> None:
        """Read no more: the program gets SIGPIPE when it writes more. Idempotent; waits for nothing."""
        self._file.close()


class Writer:
    """The stdin of a program, for one task at a time."""

    def __init__(self, loop: EventLoop, file: Any) -> None:
        self.loop = loop
        self._file = file
        self._text = hasattr(file, "buffer")
        self._raw: running.Writer = file.buffer if self._text else file

    async def write(self, data: Any) -> None:
        """Send ``data``, all of it; waits while too much is on its way. BrokenPipeError when nobody reads it any more.

        Cancelled: some of it may have been sent."""
        if self._raw.closed:
            raise ValueError("write to closed file")
        if self._text:
            data = data.encode(self._file.encoding, self._file.errors)
        session = self._raw.owner.session
        for _ in session.writing(data):
            await take(self.loop, session.writes)
        session.check()

    def close(self) -> None:
        """End of file for the program. Idempotent; waits for nothing."""
        self._file.close()


class Process:
    """A program that runs in a context, awaited: what ``Context.popen`` returns; ``sync`` is the same for threads.

    ``stdin`` to write to, ``stdout`` and ``stderr`` to read from (None where they are no pipes). At the end of an
    ``async with`` block, and when nobody has the handle or a stream of it any more, the program and its group are
    ended; ``await wait()`` before that for one that is to end by itself. No thread waits for anything."""

    def __init__(self, loop: EventLoop, sync: running.Process) -> None:
        self.loop = loop
        self.sync = sync
        self.args = sync.args
        self.stdin = None if sync.stdin is None else Writer(loop, sync.stdin)
        self.stdout = None if sync.stdout is None else Reader(loop, sync.stdout)
        self.stderr = None if sync.stderr is None else Reader(loop, sync.stderr)

    def __repr__(self) -> str:
        return f"<{self.loop.name} {self.sync!r}>"

    @property
    def pid(self) -> int | None:
        """Its process id there, and that of its process group."""
        return self.sync.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, or the number of the signal that ended it, negative; None while it runs."""
        return self.sync.returncode

    async def wait(self, timeout: float | None = None) -> int:
        """Wait until the program has ended; the ``returncode``. What it wrote may still be unread.

        Raises subprocess's TimeoutExpired, and then the program runs on; also when the deadline of ``popen`` has ended
        it. ContextDied, and UncleanExit when nobody knows how it ended. Cancelled: the program runs on."""
        self.sync.context.engine.check_fork()
        try:
            await take(self.loop, self.sync._session.exited, timeout)
        except (CallTimeout, ContextreeError) as error:
            return self.sync._outcome(error, timeout)
        raise AssertionError("nothing is ever put there")

    def send_signal(self, number: int, group: bool = True) -> None:
        """Send a signal to the program and all in its process group (``group=False``: to it alone). Does not wait."""
        self.sync.send_signal(number, group)

    def terminate(self) -> None:
        """TERM to the program and its group."""
        self.sync.terminate()

    def kill(self) -> None:
        """KILL to the program and its group."""
        self.sync.kill()

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal (``pty=``)."""
        self.sync.resize(rows, columns)

    async def end(self, grace: float = running.GRACE) -> None:
        """TERM to the group, KILL after ``grace`` seconds; then all is over there, or the context has ended, or it did
        not answer for some seconds. Idempotent."""
        session = self.sync._session
        if self.sync._begin_end(grace):
            try:
                while (await take(self.loop, session.main, grace + command.PATIENCE))[0] != END:
                    pass
            except ContextreeError:
                session.close()

    def __aiter__(self) -> Reader:
        """The lines of stdout."""
        if self.stdout is None:
            raise UsageError("its stdout is no pipe")
        return self.stdout

    async def __aenter__(self) -> "Process":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if self.sync.context.engine.core.generation != process.generation:
            return
        try:
            await self.loop.shielded(self.end, running.GRACE if kind is None or issubclass(kind, Exception) else 0.0)
        finally:
            self.sync._close_streams()


async def popen(loop: EventLoop, context: SyncContext, args: Any, options: dict[str, Any]) -> Process:
    """Start a program, and be back when it runs. Cancelled: it is ended, if it was started."""
    sync = running.Process.__new__(running.Process)
    session = sync._begin(context, args, **options)
    try:
        await take(loop, session.started, sync.timeout)
    except ContextreeError as error:
        sync._has_started(error)
    except BaseException:
        session.close()
        raise
    return Process(loop, sync)
