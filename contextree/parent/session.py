"""A program somewhere else, as a conversation: what ``command.run`` and ``running.Process`` talk through.

The loop thread takes the messages of the far side apart (``program`` has the table) and puts them where they are waited
for: output into the mailbox of its reader, which is one for all in ``run``. It decodes nothing and calls nobody's
code. What a hostile far side can do is to say nonsense (the channel is reset, ``ProtocolError``) or nothing (the
deadline).

An adapter for an event loop needs no more than this: it waits in the same mailboxes, in its own way.
"""

import errno
import struct

from contextree.core import calls as core_calls
from contextree.core import process
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import CallTimeout, Closed, ContextreeError, ProtocolError, UncleanExit, WouldBlockLoop
from contextree.core.wire.frames import BROKEN, CALL, SERVICE
from contextree.parent import calls, program, waits
from contextree.parent.child_state import lost
from contextree.parent.program import GRACE, STATUS, TAKEN, WINDOW, WRITE, WRITES
from contextree.parent.pumps import BUDGET, COUNT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, Optional

    from contextree.core.router import Channel
    from contextree.parent.context import Context
    from contextree.parent.engine import Engine

SLACK = 1 << 17  # bytes by which an honest far side may go beyond a budget: what it had read already
SHORT = 4096  # bytes: a piece of input that may wait for the loop
END = "end"  # the item that stands for the end of all


def may_wait(engine: "Engine") -> None:
    """Raise WouldBlockLoop on a thread that must not wait."""
    if process.get_ident() == engine.broker.thread:
        raise WouldBlockLoop("the loop thread may not wait for a program: the program waits for the loop")
    waits.check(engine)


class Session:
    """One program somewhere, as a conversation. ``sinks``: the mailbox for each output, by its letter; items are
    (letter, bytes), with b"" for the end of file. ``main`` gets (END, None) at last; both are closed then.

    After the end: ``status`` (or ``reason``, why there is none), ``expired`` (the deadline ended it), ``error``."""

    def __init__(self, context: "Context", args: "Any", spec: "Dict[str, Any]", sinks: "Dict[bytes, Mailbox]",
                 main: Mailbox) -> None:
        engine = context.engine
        engine.check_fork()
        self.engine = engine
        self.context = context
        self.args = args
        self.ahead = bool(spec["input"])  # a message for stdin that went with the call
        self.sinks = sinks
        self.main = main
        self.came = dict.fromkeys(sinks, 0)  # bytes of each output; the loop's
        self.taken = dict.fromkeys(sinks, 0)  # bytes that its reader took since they were last counted back
        self.returned = dict.fromkeys(sinks, 0)  # bytes counted back; the reader's
        self.writes = Mailbox()  # an item for each message that stdin may be sent, from the start on
        self.early = []  # type: List[bytes]  # what is to be said once it was started: before, the far side is a call, which hears nothing
        self.lock = process.allocate_lock()
        self.pieces = bytearray()  # what was written in short pieces and not yet sent
        self.flushing = self.at_end = False
        self.started, self.exited = Mailbox(), Mailbox()  # closed when it is so
        self.pid = None  # type: Optional[int]
        self.status = None  # type: Optional[int]
        self.reason = None  # type: Optional[str]
        self.failure = None  # type: Any
        self.error = None  # type: Optional[ContextreeError]
        self.expired = self.over = False
        engine.share_package(context, start=program.__name__)
        self.channel = context.open_call(CALL, program.start, (spec,), {}, {}, self.message, self.ended,
                                         service=SERVICE, fin=False)
        calls.opened(self.channel)  # the end of the call that runs here may be the end of this

    # -- the loop thread

    def message(self, channel: "Channel", data: "Any", fin: bool, cost: int) -> None:
        """The far side says something."""
        if not fin:
            channel.taken(cost)
        try:
            self.hear(bytes(data[:1]), data)
        except (LookupError, ValueError, ContextreeError, struct.error) as error:
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

    def hear(self, letter: bytes, data: "Any") -> None:
        """Put what was said where it is waited for. Raises what it must not be."""
        if letter in self.sinks:
            self.came[letter] += len(data) - 1
            if self.came[letter] - self.returned[letter] > BUDGET + SLACK or len(data) == 1:
                raise ValueError("more output than it may send")
            self.sinks[letter].put((letter, memoryview(data)[1:]))
        elif letter.upper() in self.sinks and len(data) == 1:
            self.sinks[letter.upper()].put((letter.upper(), b""))
        elif data[0] == core_calls.ERROR and self.pid is None:
            self.failure = data
        else:
            HEARD[letter](self, data[1:])

    def on_start(self, rest: bytes) -> None:
        """It runs."""
        if self.pid is not None:
            raise ValueError("it was started twice")
        with self.lock:
            self.pid = COUNT.unpack(rest)[0]
            early, self.early = self.early, []
            for data in early:
                self.channel.send(data)
        self.on_written(COUNT.pack(WRITES - self.ahead))
        self.started.close()

    def on_written(self, rest: bytes) -> None:
        """So many messages have gone into its stdin."""
        count = COUNT.unpack(rest)[0]
        if len(self.writes) + count > WRITES:
            raise ValueError("it wrote more than it was sent")
        if self.writes.closed is None:
            for _ in range(count):
                self.writes.put(None)
        if self.pieces or self.at_end:
            self.flush()

    def on_deaf(self, rest: bytes) -> None:
        """Nobody reads its stdin any more."""
        self.writes.items.clear()
        self.writes.close(BrokenPipeError(errno.EPIPE, "the program reads its stdin no more"))

    def on_exit(self, rest: bytes) -> None:
        """It has ended."""
        self.status = STATUS.unpack(rest)[0]
        self.exited.close()

    def on_lost(self, rest: bytes) -> None:
        """It has ended, and nobody knows how."""
        self.reason = calls.visible(str(rest[:4096], "utf-8", "replace"))
        self.exited.close()

    def on_deadline(self, rest: bytes) -> None:
        """Its time is over: it is being ended."""
        self.expired = True

    def ended(self, channel: "Channel", error: "Optional[ContextreeError]") -> None:
        """Nothing more comes: all is over, or ``error``."""
        if self.over:
            return
        self.over = True
        self.error = error
        why = error or Closed("the program has ended")
        self.writes.items.clear()
        self.writes.close(error or BrokenPipeError(errno.EPIPE, "the program has ended"))
        self.main.put((END, None))
        for mailbox in [self.started, self.exited, self.main] + list(self.sinks.values()):
            mailbox.close(why)

    # -- any thread

    def check(self) -> None:
        """Raise what went wrong, if it is over and something did."""
        if self.failure is not None:
            calls.unpack(self.engine, self.channel.pickles, self.failure, self.context.id)
        if self.error is not None:
            raise calls.told(calls.copied(self.error))

    def consumed(self, letter: bytes, size: int) -> None:
        """The reader of an output has taken ``size`` bytes of it. For one thread at a time for each output."""
        self.taken[letter] += size
        if self.taken[letter] >= BUDGET >> 1:
            count, self.taken[letter] = self.taken[letter], 0
            self.returned[letter] += count
            self.say(b"C" + TAKEN.pack(letter, count))

    def send(self, data: bytes) -> None:
        """``say``, holding the lock."""
        if self.pid is None:
            self.early.append(data)
            return
        try:
            self.channel.send(bytes(data))
        except ContextreeError:
            pass  # it is over

    def unclean(self) -> UncleanExit:
        """The error for an end without a status."""
        reason = self.reason or "it could not be ended, even by KILL"
        return UncleanExit("%r in %s: how it ended is lost: %s" % (self.args, self.context.name, reason),
                           state=lost(self.pid or 0, str(self.args)[:300], reason), command=str(self.args)[:300])

    def say(self, data: bytes) -> None:
        """Tell the far side something, if it still listens."""
        with self.lock:
            self.send(data)

    def write(self, data: "Any", timeout: "Optional[float]" = None) -> None:
        """Send ``data`` to stdin; wait while too much is on its way. BrokenPipeError when nobody reads it.

        Short pieces are sent by the loop, at once, which makes one message of those that come meanwhile."""
        may_wait(self.engine)
        for _ in self.writing(data):
            self.writes.get(timeout)

    def writing(self, data: "Any") -> "Iterator[None]":
        """``write`` but for the waiting: whenever this yields, an item of ``writes`` is to be taken."""
        self.engine.check_fork()
        view = memoryview(data).cast("B")
        if self.writes.closed is not None:
            self.writes.get(0)  # raises what it was closed with
        if len(view) < SHORT:
            with self.lock:
                self.pieces += view
                enough = len(self.pieces) >= WRITE
            self.flush_soon()
            if not enough:
                return
            view = memoryview(b"")
        while view or len(self.pieces) >= WRITE:
            yield
            with self.lock:
                room = max(0, WRITE - len(self.pieces))
                self.send(b"I" + self.pieces[:WRITE] + view[:room])
                del self.pieces[:WRITE]
            view = view[room:]

    def flush_soon(self) -> None:
        """Have the loop send what waits in ``pieces``."""
        if not self.flushing:
            self.flushing = True
            self.engine.broker.defer_nowait(self.flush)

    def flush(self) -> None:
        """Send what waits, if it may be sent, and the end of file behind it. Loop thread."""
        self.flushing = False
        while self.pieces:
            try:
                self.writes.get(0)
            except (CallTimeout, ContextreeError, OSError):
                return  # again when the far side has written what it has; or never
            with self.lock:
                if self.pieces:
                    self.send(b"I" + self.pieces[:WRITE])
                    del self.pieces[:WRITE]
                else:  # the writer was quicker
                    self.writes.put(None)
        if self.at_end:
            self.at_end = False
            self.say(b"i")

    def end_input(self) -> None:
        """End of file for stdin, behind what was written. Never waits."""
        self.at_end = True
        try:
            self.flush_soon()
        except ContextreeError:
            pass  # the tree has ended

    def signal(self, number: int, group: bool) -> None:
        """Signal the program or its group; nothing happens when it has ended."""
        self.say(b"K" + bytes((number, group)))

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal."""
        self.say(b"W" + WINDOW.pack(rows, columns))

    def end(self, grace: float) -> None:
        """Have the program and its group ended; the news of it come as ever."""
        self.say(b"E" + GRACE.pack(grace))

    def discard(self, letter: bytes) -> None:
        """Take no more of an output."""
        if letter in self.sinks:
            self.say(b"c" + letter)

    def close(self) -> None:
        """Leave without waiting: what still runs is ended there. Idempotent; in a forked child it does
        nothing."""
        if not self.over and self.engine.core.generation == process.generation:
            self.channel.cancel()


HEARD = {b"S": Session.on_start, b"C": Session.on_written, b"B": Session.on_deaf, b"X": Session.on_exit,
         b"L": Session.on_lost, b"T": Session.on_deadline, b"D": lambda session, rest: None}  # type: Dict[bytes, Callable[[Session, bytes], None]]
