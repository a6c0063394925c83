"""Calls whose answers a job keeps.

From the moment at which a context becomes a job its calls are ``KeptCall``: each has a ``Record`` that gets the answer
when there is one, before it is sent. When the master goes, those that run or wait are cut off from it without being
told; they go on, and what they give is in their record. So is an answer of which nobody knows whether it has arrived
(``Keeper.confirm``). Streams, and what contextree itself runs there (programs, files), end with the master as ever.

The main thread of the process goes on with one and the same mailbox, whoever is master.
"""

import re
import sys
import time

from contextree.core import calls as core_calls
from contextree.core import process
from contextree.core.calls import PROTOCOL, Call, Calls, pack, pack_error
from contextree.core.wire.errors import NotSendable
from contextree.core.wire.frames import SERVICE, STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Container

    from contextree.core.importer import Importer
    from contextree.core.router import Channel, Router
    from contextree.parent.job import Keeper

# how a pickle of protocol 4 or 5 names a function: module, name
NAMED = re.compile(rb"\x8c.([\w.]{1,200})\x94?\x8c.([\w.<>]{1,200})\x94?\x93", re.DOTALL)
HEAD = 512  # bytes of a call in which its function is named


class Record:
    """What is known of one call. ``data``: its answer, as it is sent, until it is in a file."""

    __slots__ = ("number", "keeper", "call", "head", "name", "started", "finished", "failed", "data", "size", "saved",
                 "listed", "adrift", "settled", "peer", "waiters")

    def __init__(self, keeper: "Keeper", call: "Call", head: bytes = b"") -> None:
        self.number = 0  # once it is listed
        self.keeper = keeper
        self.call = call  # type: Any
        self.peer = call.channel.peer
        self.head = head
        self.name = None  # type: str | None
        self.started = time.time()
        self.finished = None  # type: float | None
        self.failed = self.saved = self.listed = False
        self.adrift = False  # nobody waits for it
        self.settled = False  # it has ended, and what it wrote before has been read
        self.data = None  # type: bytes | None
        self.size = 0
        self.waiters = []  # type: list[Callable[[], object]]

    @property
    def done(self) -> bool:
        """It has ended."""
        return self.finished is not None or self.given

    @property
    def given(self) -> bool:
        """It has ended, and its answer was not kept: the master of then has it, or wanted it no more."""
        call = self.call
        return call is not None and (call.cancelled or call.channel.sent_fin)

    @property
    def over(self) -> bool:
        """It has ended, and what it wrote before that is in the output."""
        return self.settled or self.given

    def finish(self, data: "Any", failed: bool) -> None:
        """Its answer is there: bytes, a memoryview of bytes, or buffers. Any thread."""
        if type(data) is list:
            data = b"".join(data)
        elif type(data) is memoryview:
            data = bytes((core_calls.RAW,)) + data.obj
        self.describe()
        self.data = data
        self.size = len(data)
        self.failed = failed
        self.finished = time.time()
        self.call = None
        self.keeper.ended(self)

    def describe(self) -> str:
        """The function's name, as far as it can be known."""
        if self.name is None:
            named = NAMED.search(self.head)
            if named:
                self.name = b".".join(named.groups()).decode("utf-8", "replace")
                if self.name.startswith("dill."):
                    self.name = "a function that came by value"
            elif self.call is not None:
                self.name = running_name(self.call)
        return self.name or "?"


def running_name(call: "Call") -> "str | None":
    """The name of the function that runs in ``call``, which began before anybody kept its name."""
    for frame in list(sys._current_frames().values()):
        above = frame  # type: Any
        while above is not None:
            if above.f_code is Call.run.__code__ and above.f_locals.get("self") is call:
                function = above.f_locals.get("function")
                return "%s.%s" % (getattr(function, "__module__", "?"), getattr(function, "__qualname__", "?"))
            above = above.f_back
    return None


class KeptCall(Call):
    """A call of a job."""

    record = None  # type: Any  # None for a stream

    def run(self) -> None:
        """As ever; the main thread serves one master after the other."""
        core_calls.here.router = self.service.router
        Call.run(self)

    def ended(self, channel: "Channel", error: BaseException) -> None:
        """The caller does not wait any more: then nothing is kept."""
        Call.ended(self, channel, error)
        if self.record is not None:
            waiters, self.record.waiters = self.record.waiters, []
            for wake in waiters:
                wake()

    def answer(self, result: object, fin: bool) -> None:
        """Keep it, then send it."""
        record = self.record
        if record is None or not fin or self.cancelled:
            return Call.answer(self, result, fin)
        if record.adrift:
            return record.finish(kept(result), False)  # type: ignore[no-any-return]
        try:
            data = pack(result, self.pickles)
        except NotSendable:
            raise
        except Exception as error:
            raise NotSendable("the result cannot be sent: %s: %s" % (type(error).__name__, error)) from error
        record.finish(data, False)
        return self.channel.send(data, True, not self.work.items)

    def failed(self, error: BaseException) -> None:
        """Keep it, then send it."""
        record = self.record
        if record is not None and not self.cancelled and not record.done:
            try:
                data = pack_error(error, self.service.router.name, 4)
            except BaseException as second:
                data = pack_error(NotSendable("%s, and that cannot be kept: %s"
                                              % (type(error).__name__, type(second).__name__)),
                                  self.service.router.name, False)
            record.finish(data, True)
            if record.adrift:
                return
        Call.failed(self, error)


def kept(result: object) -> "Any":
    """A result as bytes that are kept: plain data where it is that, so that whoever comes may read it; else a
    pickle."""
    try:
        return pack(result, 0)
    except Exception:
        pass  # it is no plain data
    try:
        return pack(result, min(PROTOCOL, 4))
    except Exception as error:
        raise NotSendable("the result cannot be kept: %s: %s" % (type(error).__name__, error)) from error


class JobCalls(Calls):
    """The calls of one life of a job. ``first``: those of the process, whose mailbox its main thread serves."""

    def __init__(self, keeper: "Keeper", router: "Router", importer: "Importer", first: Calls) -> None:
        Calls.__init__(self, router, importer)
        self.keeper = keeper
        self.first = first
        self.work = first.work
        self.main = first.main
        if first.router is router:
            self.pools = first.pools

    def opened(self, kind: int, channel: "Channel", options: int, threads: int, deadline: int, data: bytes,
               fin: bool) -> None:
        """A call has come. Loop thread. As in Calls."""
        work = self.work
        if work.closed:
            return
        if options & SERVICE or threads or self.nested(channel) or self.first.nested(channel):
            pool = self.pool(options & SERVICE, threads or 64)
            work = pool[0]
        call = (Call if options & SERVICE else KeptCall)(self, channel, kind, options, deadline, data, work)
        if kind != STREAM and not options & SERVICE:
            call.record = Record(self.keeper, call, bytes(data[:HEAD]))  # type: ignore[attr-defined]
        work.put(call)
        if work is not self.work and pool[1] < pool[2] and len(work) > len(work.waiters):
            pool[1] += 1
            process.start_thread(self.run, (work,))

    def adopt(self) -> "list[Record]":
        """Make calls that came before this was there into calls of a job. Loop thread."""
        found = []
        for channel in list(self.router.channels.values()):
            call = call_of(channel)
            if type(call) is Call and not call.options & SERVICE:
                call.__class__ = KeptCall
                channel.on_end = call.ended  # KeptCall's
                shown = getattr(call, "shown", None)
                if shown is not None and shown._watched:  # somebody looks at it, maybe since a moment ago
                    channel.on_end = shown._ended
                if call.kind != STREAM:
                    record = call.record = Record(self.keeper, call,  # type: ignore[attr-defined]
                                                  bytes(call.data[:HEAD]) if call.data else b"")
                    found.append(record)
        return found

    def cut(self, below: "Container[int]") -> "list[Record]":
        """Take what runs or waits away from its caller, who is gone, without telling it. Calls of contexts ``below``
        stay as they are. Loop thread."""
        found = []
        for channel in list(self.router.channels.values()):
            call = call_of(channel)
            record = getattr(call, "record", None)
            if (record is not None and channel.peer not in below and not call.cancelled
                    and not channel.sent_fin):
                record.adrift = True
                found.append(record)
                self.router.forget(channel)
        return found

    def close_pools(self) -> None:
        """Let the threads of this life's pools go once they have done what waits."""
        for pool in list(self.pools.values()):
            pool[0].close()


def call_of(channel: "Channel") -> "Any":
    """The call that was opened by ``channel``, if it is one that runs or waits here."""
    if channel.mine:
        return None
    owner = getattr(channel.on_end, "__self__", None)
    owner = getattr(owner, "_call", owner)  # a RunningCall, once somebody looked at it
    return owner if isinstance(owner, Call) else None
