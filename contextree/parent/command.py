"""The caller's side of programs: ``run``, and the ``Session`` that it and ``contextree.parent.running`` talk through.

The loop thread takes the messages of the far side apart (``program`` has the table) and puts them where they are waited
for: output into the mailbox of its reader, which is one for all in ``run``. It decodes nothing and calls nobody's
code. What a hostile far side can do is to say nonsense (the channel is reset, ``ProtocolError``) or nothing (the
deadline).

``Session.close`` is for those who do not wait for the end: the channel is reset, and the far side ends the program.
"""

import io
import os
import subprocess
from time import monotonic

from contextree.core import calls as core_calls
from contextree.core import process
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import (
    CallTimeout, Closed, ContextreeError, PeerError, ProtocolError, UncleanExit, UsageError, WouldBlockLoop,
)
from contextree.core.wire.frames import BROKEN, SERVICE
from contextree.parent import calls, program
from contextree.parent.child_state import lost
from contextree.parent.program import BUDGET, COUNT, GRACE, STATUS, TAKEN, WINDOW, WRITE, WRITES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional

SLACK = 1 << 17  # bytes by which an honest far side may go beyond a budget: what it had read already
PATIENCE = 3.0  # seconds beyond the grace that the far side has to tell of an end that was asked for
OUT, ERR = b"O", b"E"
END = "end"  # the item that stands for the end of all
POPEN_OPTIONS = ("shell", "cwd", "executable", "user", "group", "extra_groups", "umask")


class OutputTooLarge(PeerError):
    """A program wrote more than ``max_output`` bytes to one of its outputs, and was ended for it. Fields ``cmd``,
    ``stdout`` and ``stderr`` (what had come, as bytes).

    >>> web.run(["yes"], max_output=1000)
    Traceback (most recent call last):
    OutputTooLarge: ['yes'] in web wrote more than 1000 bytes to its stdout
    """


class Session:
    """One program somewhere, as a conversation. ``sinks``: the mailbox for each output, by its letter; items are
    (letter, bytes), with b"" for the end of file. ``main`` gets (END, None) at last; both are closed then.

    After the end: ``status`` (or ``reason``, why there is none), ``expired`` (the deadline ended it), ``error``."""

    def __init__(self, context, spec, sinks, main: Mailbox) -> None:
        engine = context.engine
        engine.check_fork()
        if process.get_ident() == engine.broker.thread:
            raise WouldBlockLoop("a program cannot be run from the loop thread, which would wait for itself")
        self.engine = engine
        self.context = context
        self.args = spec["args"]
        self.sinks = sinks
        self.main = main
        self.came = dict.fromkeys(sinks, 0)  # bytes of each output; the loop's
        self.taken = dict.fromkeys(sinks, 0)  # bytes that its reader took since they were last counted back
        self.returned = dict.fromkeys(sinks, 0)  # bytes counted back; the reader's
        self.writes = Mailbox()  # an item for each message that stdin may be sent, from the start on
        self.early = []  # what is to be said once it was started: before, the far side is a call, which hears nothing
        self.lock = process.allocate_lock()
        self.started, self.exited = Mailbox(), Mailbox()  # closed when it is so
        self.pid = self.status = self.reason = self.failure = None  # type: Any
        self.error = None  # type: Optional[ContextreeError]
        self.expired = self.over = False
        engine.share_package(context)
        self.channel = context.open_call(core_calls.CALL, program.start, (spec,), {}, {}, self.message, self.ended,
                                         service=SERVICE, fin=False)

    # -- the loop thread

    def message(self, channel, data, fin, cost) -> None:
        """The far side says something."""
        if not fin:
            channel.taken(cost)
        try:
            self.hear(bytes(data[:1]), data)
        except (LookupError, ValueError, ContextreeError, program.struct.error) as error:
            text = "%s said what no program says: %s" % (self.context.name, error or type(error).__name__)
            if not fin:
                channel.cancel(BROKEN, text)
            self.ended(channel, ProtocolError(text))
            return
        if fin:
            self.ended(channel, None)
            if self.failure is not None:
                channel.cancel()  # the far side is still the call that failed, and hears nothing
                return
            try:
                channel.send(b"", True)
            except ContextreeError:
                pass  # it ended in that moment

    def hear(self, letter, data) -> None:
        """Put what was said where it is waited for. Raises what it must not be."""
        if letter in self.sinks:
            size = len(data) - 1
            self.came[letter] += size
            if self.came[letter] - self.returned[letter] > BUDGET + SLACK or not size:
                raise ValueError("more output than it may send")
            self.sinks[letter].put((letter, memoryview(data)[1:]))
        elif letter.upper() in self.sinks and len(data) == 1:
            self.sinks[letter.upper()].put((letter.upper(), b""))
        elif letter == b"C":
            count = COUNT.unpack(data[1:])[0]
            if len(self.writes) + count > WRITES:
                raise ValueError("it wrote more than it was sent")
            if self.writes.closed is None:
                for _ in range(count):
                    self.writes.put(None)
        elif letter == b"B":
            self.writes.close(BrokenPipeError(32, "the program reads its stdin no more"))
        elif letter == b"S" and self.pid is None:
            with self.lock:
                self.pid = COUNT.unpack(data[1:])[0]
                early, self.early = self.early, []
                for data in early:
                    self.channel.send(data)
            for _ in range(WRITES):
                self.writes.put(None)
            self.started.close()
        elif letter == b"X":
            self.status = STATUS.unpack(data[1:])[0]
            self.exited.close()
        elif letter == b"L":
            self.reason = calls.visible(str(data[1:4096], "utf-8", "replace"))
            self.exited.close()
        elif letter == b"T":
            self.expired = True
        elif data[0] == core_calls.ERROR and self.pid is None:
            self.failure = data
        elif letter != b"D":
            raise ValueError("%r" % letter)

    def ended(self, channel, error) -> None:
        """Nothing more comes: all is over, or ``error``."""
        if self.over:
            return
        self.over = True
        self.error = error
        why = error or Closed("the program has ended")
        self.writes.items.clear()
        self.writes.close(error or BrokenPipeError(32, "the program has ended"))
        self.main.put((END, None))
        for mailbox in [self.started, self.exited, self.main] + list(self.sinks.values()):
            mailbox.close(why)

    # -- any thread

    def check(self) -> None:
        """Raise what went wrong, if it is over and something did."""
        if self.failure is not None:
            calls.unpack(self.engine, self.channel.pickles, self.failure)
        if self.error is not None:
            raise calls.copied(self.error)

    def consumed(self, letter, size) -> None:
        """The reader of an output has taken ``size`` bytes of it. For one thread at a time for each output."""
        self.taken[letter] += size
        if self.taken[letter] >= BUDGET >> 1:
            count, self.taken[letter] = self.taken[letter], 0
            self.returned[letter] += count
            self.say(b"C" + TAKEN.pack(letter, count))

    def unclean(self) -> UncleanExit:
        """The error for an end without a status."""
        reason = self.reason or "it could not be ended, even by KILL"
        return UncleanExit("%r in %s: how it ended is lost: %s" % (self.args, self.context.name, reason),
                           state=lost(self.pid or 0, str(self.args)[:300], reason), command=str(self.args)[:300])

    def say(self, data) -> None:
        """Tell the far side something, if it still listens."""
        try:
            with self.lock:
                if self.pid is None:
                    self.early.append(data)
                else:
                    self.channel.send(data)
        except ContextreeError:
            pass  # it is over

    def write(self, data, timeout=None) -> None:
        """Send ``data`` to stdin; wait while too much is on its way. BrokenPipeError when nobody reads it."""
        view = memoryview(data).cast("B")
        for at in range(0, len(view), WRITE):
            self.engine.check_fork()
            self.writes.get(timeout)
            self.say(b"I" + view[at:at + WRITE])

    def end_input(self) -> None:
        """End of file for stdin."""
        self.say(b"i")

    def signal(self, number: int, group: bool) -> None:
        """Signal the program or its group; nothing happens when it has ended."""
        self.say(b"K" + bytes((number, group)))

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal."""
        self.say(b"W" + WINDOW.pack(rows, columns))

    def end(self, grace: float) -> None:
        """Have the program and its group ended; the news of it come as ever."""
        self.say(b"E" + GRACE.pack(grace))

    def discard(self, letter) -> None:
        """Take no more of an output."""
        if letter in self.sinks:
            self.say(b"c" + letter)

    def close(self) -> None:
        """Leave: what still runs is ended there, and nobody waits for that. Idempotent; also in a forked child."""
        if not self.over and self.engine.core.generation == process.generation:
            self.channel.cancel()


def specify(args, stdin=None, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=None, add_env=None, timeout=None,
            grace=2.0, pty=False, until="eof", input=None, **options) -> dict:  # noqa: A002  what stdin gets at once
    """What the far side has to know, checked: plain data."""
    options = {name: value for name, value in options.items() if value is not None and value is not False}
    strange = set(options).difference(POPEN_OPTIONS)
    if strange:
        raise TypeError("run() got an unexpected keyword argument %r" % min(strange))
    if until not in ("eof", "exit"):
        raise UsageError("until= wants 'eof' (all who can write to its output have closed it) or 'exit', not %r"
                         % (until,))
    if not isinstance(args, (str, bytes, os.PathLike)):
        args = list(args)
        if not args or not all(isinstance(word, (str, bytes, os.PathLike)) for word in args):
            raise UsageError("a program is a str, or a list of at least one str, bytes or path, not %r" % (args,))
        args = [os.fspath(word) for word in args]
    else:
        args = os.fspath(args)
    for name in ("cwd", "executable"):
        if name in options:
            options[name] = os.fspath(options[name])
    kinds = {subprocess.PIPE: "pipe", subprocess.DEVNULL: "null", subprocess.STDOUT: "stdout", None: "inherit"}
    if pty:
        if "executable" in options:
            raise UsageError("executable= cannot be had with pty=")
        pty = (24, 80) if pty is True else (int(pty[0]), int(pty[1]))
    return {"args": args, "options": options, "env": env if env is None else dict(env),
            "add_env": add_env if add_env is None else dict(add_env), "timeout": timeout, "grace": float(grace),
            "pty": pty, "until": until, "stdin": "null" if stdin is None else kinds[stdin], "stdout": kinds[stdout],
            "stderr": kinds[stderr], "input": input}


def run(context, args, input, stdin, stdout, stderr, capture_output, timeout, check, text, encoding, errors,
        universal_newlines, max_output, **options):  # noqa: A002  as subprocess.run has it
    """See ``Context.run``."""
    text = bool(text or universal_newlines or encoding or errors)
    encoding, errors = encoding or "utf-8", errors or "strict"
    if input is not None and stdin is not None:
        raise ValueError("stdin and input arguments may not both be used.")
    if timeout is None:
        timeout = context.options.get("timeout")
    source = input if input is not None else stdin
    fed = source is not None and not constant(source)
    if not fed and source not in (None, subprocess.DEVNULL):
        raise UsageError("stdin=PIPE is for popen(): give run() what the program is to read")
    first, rest = prepare(source, text, encoding, errors) if fed else (None, None)
    default = subprocess.PIPE if capture_output else None
    takers = {}  # type: Dict[bytes, Any]
    files = {}
    for letter, name, given in ((OUT, "stdout", stdout), (ERR, "stderr", stderr)):
        if given is None:
            given = default
        if options.get("pty") and (letter == ERR or given in (None, subprocess.DEVNULL)):  # a terminal has one output
            taker, given = (lambda data: None), None if letter == ERR else subprocess.PIPE
        elif given is None or constant(given):
            taker = Collected(max_output, name)
        else:
            taker, given = sink(given, text, encoding, errors), subprocess.PIPE
        files[name] = given
        if given == subprocess.PIPE:
            takers[letter] = taker
    spec = specify(args, stdin=subprocess.PIPE if fed else stdin, timeout=timeout, input=first,
                   **dict(options, **files))
    mailbox = Mailbox()
    session = Session(context, spec, dict.fromkeys(takers, mailbox), mailbox)
    try:
        if rest is not None:
            process.start_thread(feed, (session, rest, mailbox))
        expired = collect(session, mailbox, takers, timeout, spec["grace"])
    except OutputTooLarge as error:
        error.args = ("%r in %s wrote more than %d bytes to its %s" % (args, context.name, max_output, error),)
        error.cmd = args  # type: ignore[attr-defined]  # a field
        error.stdout, error.stderr = (got(takers, letter) for letter in (OUT, ERR))  # type: ignore[attr-defined]
        raise
    finally:
        session.close()
    out, err = got(takers, OUT), got(takers, ERR)
    if expired:
        raise subprocess.TimeoutExpired(args, timeout, output=out, stderr=err)
    if text:
        out, err = (data if data is None else newlines(data.decode(encoding, errors)) for data in (out, err))
    if session.status is None:
        raise session.unclean()
    done = subprocess.CompletedProcess(args, session.status, out, err)
    if check:
        done.check_returncode()
    return done


def constant(value) -> bool:
    """Is it PIPE, STDOUT or DEVNULL?"""
    return type(value) is int and value < 0


def got(takers, letter):
    """What was collected of an output, or None."""
    taker = takers.get(letter)
    return b"".join(taker.parts) if isinstance(taker, Collected) else None


def newlines(text):
    """As subprocess has it in text mode."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class Collected:
    """An output that is kept in memory."""

    def __init__(self, most, name) -> None:
        self.parts = []
        self.left = most
        self.name = name

    def __call__(self, data) -> None:
        if self.left is not None:
            if len(data) > self.left:
                self.parts.append(data[:self.left])
                raise OutputTooLarge(self.name)
            self.left -= len(data)
        self.parts.append(data)


def sink(given, text, encoding, errors) -> "Callable[[Any], object]":
    """A function that takes the bytes of an output, for what the caller gave: a function, a file object or descriptor.
    b"" is the end of file."""
    if isinstance(given, int):
        def write(data):
            while len(data):
                data = data[os.write(given, data):]

        return write
    function = given.write if hasattr(given, "write") else given
    if not callable(function):
        raise UsageError("an output goes to a file object, a descriptor or a function, not to %r" % (given,))
    if function is not given:
        text = isinstance(given, io.TextIOBase) or isinstance(getattr(given, "encoding", None), str)
    if not text:
        return lambda data: function(bytes(data)) if len(data) else None
    import codecs

    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(errors), True)

    def decode(data):
        piece = decoder.decode(bytes(data), not len(data))
        if piece:
            function(piece)

    return decode


def prepare(source, text, encoding, errors):
    """What stdin is to get: (bytes that go with the call, None) or (None, an iterator of bytes)."""
    def encoded(piece):
        if isinstance(piece, str) != text:
            raise TypeError("input is %s, and with%s text=, encoding= or errors= it must be %s" % (
                type(piece).__name__, "" if text else "out", "str" if text else "bytes"))
        return piece.encode(encoding, errors) if text else piece

    if isinstance(source, (str, bytes, bytearray, memoryview)):
        data = encoded(source)
        return (bytes(data), None) if memoryview(data).nbytes <= WRITE else (None, iter([data]))
    if isinstance(source, int):
        return None, iter(lambda: os.read(source, WRITE), b"")
    if not hasattr(source, "read"):
        return None, (encoded(piece) for piece in source)
    return None, pieces(source, encoding, errors)


def pieces(file, encoding, errors):
    """What a file holds, as bytes; it may be a text file where bytes are wanted, as its descriptor would do for
    subprocess."""
    read = getattr(file, "read1", file.read)
    while True:
        piece = read(WRITE)
        if not piece:
            return
        yield piece.encode(encoding, errors) if isinstance(piece, str) else piece


def feed(session, source, mailbox) -> None:
    """Write what ``source`` yields to stdin. On a thread of its own, since what the program writes must be taken
    meanwhile; it ends with the program, but for a source that blocks."""
    try:
        for piece in source:
            session.write(piece)
        session.end_input()
    except BrokenPipeError:
        pass  # the program has read enough
    except BaseException as error:
        try:
            mailbox.put((None, error))
        except ContextreeError:
            pass  # it is over
    finally:
        if hasattr(source, "close"):
            source.close()


def collect(session, mailbox, takers, timeout, grace) -> bool:
    """Hand on what comes until all is over. True: the deadline was over first, and the program has been ended."""
    end = None if timeout is None else monotonic() + timeout
    expired = False
    while True:
        session.engine.check_fork()
        try:
            letter, data = mailbox.get(None if end is None else max(0.0, end - monotonic()))
        except CallTimeout:
            if expired:  # it was asked to end it and says nothing: the link is slow, or it lies
                return True
            expired = True
            session.end(grace)
            end = monotonic() + grace + PATIENCE
            continue
        if letter is END:
            session.check()
            return expired or session.expired
        if letter is None:
            raise data
        takers[letter](data)
        session.consumed(letter, len(data))
