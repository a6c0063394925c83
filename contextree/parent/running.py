"""``Context.popen``: a handle of a program that runs elsewhere, with the look of ``subprocess.Popen``.

``Process`` and its streams hold an ``Owner``, and the loop holds only the session: so a program that nobody has any
more is ended there. The streams are Python's own (``io``) upon raw ones that wait in mailboxes.
"""

import io
import signal
import subprocess

from contextree.core import process
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import CallTimeout, ContextreeError, UsageError
from contextree.parent import calls
from contextree.parent.command import ERR, OUT, PATIENCE, constant, specify
from contextree.parent.session import END, Session, may_wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, Optional

    from contextree.parent.context import Context

GRACE = 2.0


class Owner:
    """Whoever has the last reference to it was the last who had the program."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __del__(self) -> None:
        session = self.session
        if (not session.over and session.engine.core.generation == process.generation
                and not session.engine.broker.closed):
            try:
                session.engine.broker.defer(session.close)
            except ContextreeError:
                pass  # the tree has ended meanwhile


class Reader(io.RawIOBase):
    """The raw stream of one output."""

    def __init__(self, owner: Owner, mailbox: Mailbox, letter: bytes) -> None:
        self.owner = owner
        self.mailbox = mailbox
        self.letter = letter
        self.rest = memoryview(b"")
        self.dry = False

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "Any") -> int:
        """Fill ``buffer`` with what is there, at least one byte; 0: the end of file. Raises ContextDied and
        the like."""
        session = self.owner.session
        while not len(self.rest) and not self.dry:
            session.engine.check_fork()
            may_wait(session.engine)
            try:
                _, data = self.mailbox.get()
            except ContextreeError:
                session.check()
                self.dry = True
                break
            self.rest = memoryview(data)
            self.dry = not len(data)
        count = min(len(buffer), len(self.rest))
        buffer[:count] = self.rest[:count]
        self.rest = self.rest[count:]
        session.consumed(self.letter, count)
        return count

    def close(self) -> None:
        """Read no more: the program gets SIGPIPE when it writes more."""
        if not self.closed:
            session = self.owner.session
            if not self.dry and session.engine.core.generation == process.generation:
                session.discard(self.letter)
            io.RawIOBase.close(self)


class Writer(io.RawIOBase):
    """The raw stream of stdin: every ``write`` is sent at once, all of it."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: "Any") -> int:
        """Send ``data``; waits while too much is on its way. BrokenPipeError when nobody reads it any more."""
        if self.closed:
            raise ValueError("write to closed file")
        session = self.owner.session
        session.write(data)
        session.check()
        return memoryview(data).nbytes

    def close(self) -> None:
        """End of file for the program. Idempotent."""
        if not self.closed:
            session = self.owner.session
            if session.engine.core.generation == process.generation:
                session.end_input()
            io.RawIOBase.close(self)


class Process:
    """A program that runs in a context: what ``Context.popen`` returns. It looks like ``subprocess.Popen``.

    ``args``, ``pid`` (there), ``context``; ``stdin`` to write to, ``stdout`` and ``stderr`` to read from (None where
    they are no pipes). At the end of a ``with`` block, and when nobody has the handle or a stream of it any more, the
    program and its process group are ended; ``wait()`` before that for one that is to end by itself.

    One thread at a time may use a stream; all else is for any thread.

    >>> with web.popen(["cat"]) as process:
    ...     process.stdin.write(b"first\\nsecond\\n")
    ...     process.stdin.close()
    ...     list(process.stdout), process.wait()
    13
    ([b'first\\n', b'second\\n'], 0)
    """

    def __init__(self, context: "Context", args: "Any", **options: "Any") -> None:
        may_wait(context.engine)
        session = self._begin(context, args, **options)
        try:
            session.started.get(self.timeout)
        except ContextreeError as error:
            self._has_started(error)
        except BaseException:
            session.close()
            raise

    def _begin(self, context: "Context", args: "Any", text: "Optional[bool]" = None,
               encoding: "Optional[str]" = None, errors: "Optional[str]" = None, **options: "Any") -> Session:
        """All of ``__init__`` but the waiting, which is for ``started`` of what this returns."""
        sinks = {}  # type: Dict[bytes, Mailbox]
        options = dict({"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}, **options)
        for name in ("stdin", "stdout", "stderr"):
            if options[name] is not None and not constant(options[name]):
                raise UsageError("%s= of popen() is PIPE, DEVNULL%s, not %r: run() takes files and functions" % (
                    name, "" if name == "stdin" else ", STDOUT or None", options[name]))
        if options.get("pty"):
            options.update(stdout=subprocess.PIPE, stderr=None)
        for letter, name in ((OUT, "stdout"), (ERR, "stderr")):
            if options[name] == subprocess.PIPE:
                sinks[letter] = Mailbox()
        if "timeout" in options or calls.running() is not None:
            options["timeout"] = calls.time_limit({"timeout": options.get("timeout")})
        spec = specify(args, **options)
        self.context = context
        self.args = args
        self.timeout = spec["timeout"]
        self._session = session = Session(context, args, spec, sinks, Mailbox())
        self._owner = owner = Owner(session)
        text = bool(text or encoding or errors)
        self.stdin = None  # type: Any
        self.stdout = None  # type: Any
        self.stderr = None  # type: Any
        for letter, name in ((OUT, "stdout"), (ERR, "stderr")):
            if letter in sinks:
                file = io.BufferedReader(Reader(owner, sinks[letter], letter), 65536)  # type: Any
                setattr(self, name, io.TextIOWrapper(file, encoding or "utf-8", errors) if text else file)
        if spec["stdin"] == "pipe":
            raw = Writer(owner)  # type: Any
            self.stdin = io.TextIOWrapper(raw, encoding or "utf-8", errors, write_through=True) if text else raw
        return session

    def _has_started(self, error: ContextreeError) -> None:
        """The wait for its start has ended with ``error``, which is Closed when it runs."""
        session = self._session
        if isinstance(error, CallTimeout):
            session.close()
            raise subprocess.TimeoutExpired(self.args, self.timeout or 0) from None
        session.check()  # it could not be started

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else "ended with %s" % self.returncode
        return "<Process %s of %s: %r, %s>" % (self.pid, self.context.name, self.args, state)

    @property
    def pid(self) -> "Optional[int]":
        """Its process id there, and that of its process group."""
        return self._session.pid

    @property
    def returncode(self) -> "Optional[int]":
        """Its exit status, or the number of the signal that ended it, negative; None while it runs."""
        return self._session.status

    def poll(self) -> "Optional[int]":
        """``returncode``, for those who know subprocess."""
        return self.returncode

    def wait(self, timeout: "Optional[float]" = None) -> int:
        """Wait until the program has ended; the ``returncode``. What it wrote may still be unread.

        Raises TimeoutExpired (subprocess's), and then the program runs on; also when the deadline of ``popen`` has
        ended it. ContextDied, and UncleanExit when nobody knows how it ended."""
        session = self._session
        session.engine.check_fork()
        may_wait(session.engine)
        try:
            session.exited.get(timeout)
        except ContextreeError as error:
            return self._outcome(error, timeout)
        raise AssertionError("nothing is ever put there")

    def _outcome(self, error: ContextreeError, timeout: "Optional[float]") -> int:
        """What ``wait`` returns or raises, whose wait has ended with ``error``."""
        session = self._session
        if isinstance(error, CallTimeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        if session.status is None and session.reason is None:
            session.check()
        if session.expired:
            raise subprocess.TimeoutExpired(self.args, self.timeout or 0)
        if session.status is None:
            raise session.unclean()
        return session.status

    def send_signal(self, number: int, group: bool = True) -> None:
        """Send a signal to the program and all in its process group (``group=False``: to it alone). Returns at once;
        nothing happens when it has ended."""
        if not 0 < number < signal.NSIG:
            raise ValueError("%r is no signal" % (number,))
        self._session.engine.check_fork()
        self._session.signal(number, group)

    def terminate(self) -> None:
        """TERM to the program and its group."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """KILL to the program and its group."""
        self.send_signal(signal.SIGKILL)

    def end(self, grace: float = GRACE) -> None:
        """TERM to the group, KILL after ``grace`` seconds; on return all is over there, or the context has ended, or
        it did not answer for some seconds. Idempotent."""
        session = self._session
        if session.over:
            return
        may_wait(session.engine)
        if not self._begin_end(grace):
            return
        try:
            while session.main.get(grace + PATIENCE)[0] != END:
                pass
        except ContextreeError:
            session.close()

    def _begin_end(self, grace: float) -> bool:
        """``end`` but for the waiting; False: there is nothing to wait for."""
        session = self._session
        if session.over:
            return False
        session.engine.check_fork()
        session.end(grace)
        for letter in session.sinks:  # else what nobody reads would keep the end from coming
            session.discard(letter)
        return True

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal (``pty=``); it gets SIGWINCH."""
        self._session.engine.check_fork()
        self._session.resize(rows, columns)

    def __iter__(self) -> "Iterator[Any]":
        """The lines of stdout."""
        return iter(self.stdout)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, kind: "Any", error: "Any", trace: "Any") -> None:
        if self._session.engine.core.generation != process.generation:
            return
        try:
            self.end(GRACE if kind is None or issubclass(kind, Exception) else 0.0)
        finally:
            self._close_streams()

    def _close_streams(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                try:
                    stream.close()
                except (OSError, ContextreeError):
                    pass  # it cannot be said any more
