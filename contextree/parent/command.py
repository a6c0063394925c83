"""``Context.run``: ``subprocess.run`` in another context.

Everything that the program writes comes into one mailbox, and the thread that called hands it on: to memory, to a file
object, to a function. What the program reads goes with the call where it is short; else a thread of its own writes it,
since output must be taken meanwhile. Leaving early in any way closes the session, and the far side ends the program.
"""

import io
import os
import subprocess
from time import monotonic

from contextree.core import process
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import CallTimeout, ContextreeError, PeerError, UsageError
from contextree.parent import calls
from contextree.parent.program import WRITE
from contextree.parent.session import END, Session, may_wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

    from contextree.parent.context import Context

    Text = Optional[Tuple[str, str]]

PATIENCE = 3.0  # seconds beyond the grace that the far side has to tell of an end that was asked for
OUT, ERR = b"O", b"E"
POPEN_OPTIONS = ("shell", "cwd", "executable", "user", "group", "extra_groups", "umask")


class OutputTooLarge(PeerError):
    """A program wrote more than ``max_output`` bytes to one of its outputs, and was ended for it. Fields ``cmd``,
    ``stdout`` and ``stderr`` (what had come, as bytes).

    >>> web.run(["yes"], max_output=1000)
    Traceback (most recent call last):
    OutputTooLarge: ['yes'] in web wrote more than 1000 bytes to its stdout
    """


def specify(args: "Any", stdin: "Any" = None, stdout: "Any" = subprocess.PIPE, stderr: "Any" = subprocess.PIPE,
            env: "Any" = None, add_env: "Any" = None, timeout: "Optional[float]" = None, grace: float = 2.0,
            pty: "Any" = False, until: str = "eof", input: "Optional[bytes]" = None,
            **options: "Any") -> "Dict[str, Any]":
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
        args = [portable(word) for word in args]
    else:
        args = portable(args)
    for name in ("cwd", "executable"):
        if name in options:
            options[name] = portable(options[name])
    kinds = {subprocess.PIPE: "pipe", subprocess.DEVNULL: "null", subprocess.STDOUT: "stdout", None: "inherit"}
    if pty:
        if "executable" in options:
            raise UsageError("executable= cannot be had with pty=")
        pty = (24, 80) if pty is True else (int(pty[0]), int(pty[1]))
    return {"args": args, "options": options, "env": variables(env), "add_env": variables(add_env), "pty": pty,
            "timeout": timeout, "grace": float(grace), "until": until, "input": input,
            "stdin": "null" if stdin is None else kinds[stdin], "stdout": kinds[stdout], "stderr": kinds[stderr]}


class Run:
    """One ``run``, but for the waiting, so that adapters of event loops can wait in their own way: take items out of
    ``mailbox`` and hand them to ``take`` until that says that all is over; call ``late`` whenever none came within
    ``left()`` seconds; then ``result``. In any case ``close``, which ends what still runs."""

    def __init__(self, context: "Context", args: "Any", input: "Any" = None, stdin: "Any" = None, stdout: "Any" = None,
                 stderr: "Any" = None, capture_output: bool = True, timeout: "Optional[float]" = None,
                 check: bool = False, text: "Optional[bool]" = None, encoding: "Optional[str]" = None,
                 errors: "Optional[str]" = None, universal_newlines: "Optional[bool]" = None,
                 max_output: "Optional[int]" = None, **options: "Any") -> None:
        self.args = args
        self.check = check
        self.text = None  # type: Text
        if text or universal_newlines or encoding or errors:
            self.text = encoding or "utf-8", errors or "strict"
        self.max_output = max_output
        self.timeout = timeout = calls.time_limit(
            {"timeout": context.options.get("timeout") if timeout is None else timeout})
        self.expired = False
        first, rest = prepare(input, stdin, self.text)
        self.takers, files = prepare_outputs(stdout, stderr, subprocess.PIPE if capture_output else None, self.text,
                                             max_output, options.get("pty"))
        fed = subprocess.DEVNULL if first is None and rest is None else subprocess.PIPE
        spec = specify(args, stdin=fed, timeout=timeout, input=first, **dict(options, **files))
        self.grace = spec["grace"]
        self.mailbox = Mailbox()
        self.end = None if timeout is None else monotonic() + timeout
        self.session = Session(context, args, spec, dict.fromkeys(self.takers, self.mailbox), self.mailbox)
        if rest is not None:
            try:
                process.start_thread(feed, (self.session, rest, self.mailbox))
            except BaseException:
                self.session.close()
                raise

    def left(self) -> "Optional[float]":
        """Seconds until ``late`` is to be called; None: never."""
        return None if self.end is None else max(0.0, self.end - monotonic())

    def late(self) -> bool:
        """The time is over: have the program ended. True: it was to be ended, and no answer came; wait no longer."""
        if self.expired:
            return True
        self.expired = True
        self.session.end(self.grace)
        self.end = monotonic() + self.grace + PATIENCE
        return False

    def take(self, item: "Tuple[Any, Any]") -> bool:
        """Deal with an item of the mailbox. True: it was the last. Raises what functions that were given raise."""
        letter, data = item
        if letter is END:
            self.session.check()
            self.expired = self.expired or self.session.expired
            return True
        if letter is None:
            raise data
        try:
            self.takers[letter](data)
        except OutputTooLarge as error:
            error.args = ("%r in %s wrote more than %d bytes to its %s" % (
                self.args, self.session.context.name, self.max_output or 0, error),)
            error.__dict__.update(cmd=self.args, stdout=self.collected(OUT), stderr=self.collected(ERR))
            raise
        self.session.consumed(letter, len(data))
        return False

    def close(self) -> None:
        """Leave. Idempotent."""
        self.session.close()

    def collected(self, letter: bytes) -> "Optional[bytes]":
        """What was collected of an output, if it was."""
        taker = self.takers.get(letter)
        return b"".join(taker.parts) if isinstance(taker, Collected) else None

    def result(self) -> "subprocess.CompletedProcess[Any]":
        """What became of it, or the exception that stands for it."""
        out = self.collected(OUT)  # type: Any
        err = self.collected(ERR)  # type: Any
        if self.expired:
            raise subprocess.TimeoutExpired(self.args, self.timeout or 0, output=out, stderr=err)
        if self.text:
            out, err = (data if data is None else newlines(data.decode(*self.text)) for data in (out, err))
        if self.session.status is None:
            raise self.session.unclean()
        done = subprocess.CompletedProcess(self.args, self.session.status, out, err)
        if self.check:
            done.check_returncode()
        return done


def run(context: "Context", args: "Any", **options: "Any") -> "subprocess.CompletedProcess[Any]":
    """See ``Context.run``."""
    may_wait(context.engine)
    job = Run(context, args, **options)
    try:
        calls.waiting(job.session.engine, collect, job)
    finally:
        job.close()
    return job.result()


def collect(job: Run) -> None:
    """Hand on what comes until all is over."""
    over = False
    while not over:
        job.session.engine.check_fork()
        try:
            item = job.mailbox.get(job.left())
        except CallTimeout:
            over = job.late()
        else:
            over = job.take(item)


def prepare_outputs(stdout: "Any", stderr: "Any", default: "Optional[int]", text: "Text", max_output: "Optional[int]",
                    pty: "Any") -> "Tuple[Dict[bytes, Any], Dict[str, Any]]":
    """What is to be done with the outputs: ({letter: a function that takes its bytes}, options for ``specify``)."""
    takers = {}  # type: Dict[bytes, Any]
    files = {}  # type: Dict[str, Any]
    for letter, name, given in ((OUT, "stdout", stdout), (ERR, "stderr", stderr)):
        if given is None:
            given = default
        taker = Collected(max_output, name)  # type: Any
        if pty and letter == ERR:  # a terminal has one output
            given = None
        elif pty and given in (None, subprocess.DEVNULL):
            taker, given = ignore, subprocess.PIPE
        elif given is not None and not constant(given):
            taker, given = sink(given, text), subprocess.PIPE
        files[name] = given
        if given == subprocess.PIPE:
            takers[letter] = taker
    return takers, files


def ignore(data: "Any") -> None:
    """An output that nobody wants."""


def portable(word: "Any") -> "Any":
    """A str, bytes or path as it should arrive: in our encoding, whatever that there is."""
    word = os.fspath(word)
    if isinstance(word, str) and any(ord(character) > 127 for character in word):
        return os.fsencode(word)
    return word


def variables(env: "Any") -> "Optional[Dict[Any, Any]]":
    """The same for an environment, or None."""
    return env if env is None else {portable(name): value if value is None else portable(value)
                                    for name, value in env.items()}


def constant(value: object) -> bool:
    """Is it PIPE, STDOUT or DEVNULL?"""
    return type(value) is int and value < 0


def newlines(text: str) -> str:
    """As subprocess has it in text mode."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class Collected:
    """An output that is kept in memory."""

    def __init__(self, most: "Optional[int]", name: str) -> None:
        self.parts = []  # type: List[Any]
        self.left = most
        self.name = name

    def __call__(self, data: "Any") -> None:
        if self.left is not None:
            if len(data) > self.left:
                self.parts.append(data[:self.left])
                raise OutputTooLarge(self.name)
            self.left -= len(data)
        self.parts.append(data)


def sink(given: "Any", text: "Text") -> "Callable[[Any], object]":
    """A function that takes the bytes of an output, for what the caller gave: a function, a file object or descriptor.
    b"" is the end of file. ``text``: (encoding, errors), or None for bytes."""
    if isinstance(given, int):
        def write(data: "Any") -> None:
            while len(data):
                data = data[os.write(given, data):]

        return write
    function = given.write if hasattr(given, "write") else given
    if not callable(function):
        raise UsageError("an output goes to a file object, a descriptor or a function, not to %r" % (given,))
    if function is not given:  # a file: what it takes is its own business, as for subprocess
        is_text = isinstance(given, io.TextIOBase) or isinstance(getattr(given, "encoding", None), str)
        text = (text or ("utf-8", "strict")) if is_text else None
    if not text:
        return lambda data: function(bytes(data)) if len(data) else None
    import codecs

    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(text[0])(text[1]), True)

    def decode(data: "Any") -> None:
        piece = decoder.decode(bytes(data), not len(data))
        if piece:
            function(piece)

    return decode


def prepare(input: "Any", stdin: "Any", text: "Text") -> "Tuple[Optional[bytes], Optional[Iterator[Any]]]":
    """What stdin is to get: (bytes that go with the call, None), (None, an iterator of bytes), or two Nones."""
    if input is not None and stdin is not None:
        raise ValueError("stdin and input arguments may not both be used.")
    source = input if input is not None else stdin
    if source is None or (constant(source) and source == subprocess.DEVNULL):
        return None, None
    if constant(source):
        raise UsageError("stdin=PIPE is for popen(): give run() what the program is to read")

    def encoded(piece: "Any") -> "Any":
        if isinstance(piece, str) != bool(text):
            raise TypeError("input is %s, and with%s text=, encoding= or errors= it must be %s" % (
                type(piece).__name__, "" if text else "out", "str" if text else "bytes"))
        return piece.encode(*text) if text else piece

    if isinstance(source, (str, bytes, bytearray, memoryview)):
        data = encoded(source)
        return (bytes(data), None) if memoryview(data).nbytes <= WRITE else (None, iter([data]))
    if isinstance(source, int):
        return None, iter(lambda: os.read(source, WRITE), b"")
    if not hasattr(source, "read"):
        return None, (encoded(piece) for piece in source)
    return None, pieces(source, text or ("utf-8", "strict"))


def pieces(file: "Any", text: "Tuple[str, str]") -> "Iterator[Any]":
    """What a file holds, as bytes; it may be a text file where bytes are wanted, as its descriptor would do for
    subprocess."""
    read = getattr(file, "read1", file.read)
    while True:
        piece = read(WRITE)
        if not piece:
            return
        yield piece.encode(*text) if isinstance(piece, str) else piece


def feed(session: Session, source: "Any", mailbox: Mailbox) -> None:
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
