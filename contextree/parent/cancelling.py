"""What a cancel does to the function, where the caller asked for more than that it be told: ``with_options(cancel=)``.

The caller sends the functions below, with the user's as their first argument; so nothing of this is in a child that
does not need it.

``"raise"``: CallCancelled (CallTimeout at the deadline) is raised in the function, by ``PyThreadState_SetAsyncExc``. It
must hit nothing else, hence:

* The ``Region`` of a call has one owner at its end: its own thread, when the function has ended, and then nothing is
  raised; or the loop, in order to raise. A thread that finds the loop to be the owner waits until the exception was
  sent, and then takes back what has not come yet. So the exception is raised before ``close`` returns, or not at all;
  that it is one alone, and ``close`` is tried twice, makes it harmless wherever it is raised until then.
* Nothing is raised while the function is in contextree's own code or in the machinery of imports, which may hold a lock
  or be in the middle of a change: the loop looks at the stack of the thread, and comes back later. An exception is
  raised in the frame that runs next, so what the loop saw must still hold when it sends: the last look and the sending
  are one chain of C functions, in which no other thread gets the interpreter's lock.
* What the function waits for in other contexts is cancelled, so that its wait ends by the same error. One is enough: a
  function that has heard so hears nothing more.

A thread that is asleep in C code hears of an exception when it comes back from there. The main thread is woken by a
signal (SIGURG, which nobody minds); others are not.

``"kill"``: the function runs in a process forked for it, and that is killed.
"""

import _signal  # type: ignore[import-not-found]  # signal makes enums of what it returns
import sys
from functools import partial
from itertools import compress, islice, repeat
from operator import is_, itemgetter

from contextree.core import calls as core_calls
from contextree.core import process
from contextree.core.wire.errors import CallCancelled, CallTimeout, UnsupportedPlatform
from contextree.core.wire.frames import CANCEL, STREAM, TIMEOUT
from contextree.parent import current
from contextree.parent.router import current_router

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

    from contextree.core.router import Channel
    from contextree.parent.context import Context

# Before 3.13 an exception that is taken back leaves a note in the interpreter that one may be pending. Until the next
# one is raised every thread is the slower for it, and 3.11 never gets on where it is traced opcode by opcode.
NOTED = sys.version_info < (3, 13)
AGAIN = 0.002  # seconds until the loop looks again whether the function may be interrupted now
FUNCTION, LOOP = "the function's thread", "the loop"  # who owns the end of a region
TEXT = "this call is over: its caller waits no longer"


class Cancelled(CallCancelled):
    """As it is raised: by its class alone."""

    def __init__(self, message: str = TEXT, **fields: "Any") -> None:
        CallCancelled.__init__(self, message, **fields)


class TimedOut(CallTimeout):
    """Likewise."""

    def __init__(self, message: str = TEXT, **fields: "Any") -> None:
        CallTimeout.__init__(self, message, **fields)


class Note(BaseException):
    """See ``Region.tidy``."""


def wrapped(how: str, kind: int, function: "Callable[..., Any]",
            args: "tuple[Any, ...]") -> "tuple[Any, tuple[Any, ...]]":
    """What the caller sends in the place of ``function`` and ``args``, for ``cancel=how``."""
    if how == "raise":
        return (raising_items if kind == STREAM else raising), (function,) + args
    return (alone_items if kind == STREAM else alone), (function,) + args


# -- raise


def raising(*args: "Any", **kwargs: "Any") -> "Any":
    """Call ``args[0]`` with the others; what ends the call is raised in it."""
    region = Region(core_calls.here.call)
    try:
        try:
            region.open(sys._getframe())
            return args[0](*args[1:], **kwargs)
        finally:
            region.close()
    finally:
        region.close()  # once more: the exception, or Ctrl-C, may have cut the first one short


def raising_items(*args: "Any", **kwargs: "Any") -> "Any":
    """The same for a generator: each of its steps. What is async is cancelled as the task that it becomes."""
    items = raising(*args, **kwargs)
    return items if hasattr(items, "__aiter__") or hasattr(items, "__await__") else Steps(iter(items))


class Steps:
    """An iterator, each of whose steps may be interrupted."""

    def __init__(self, items: "Any") -> None:
        self.items = items

    def __iter__(self) -> "Steps":
        return self

    def __next__(self) -> "Any":
        return raising(next, self.items)

    def close(self) -> None:
        """Close the generator, if it is one."""
        if hasattr(self.items, "close"):
            self.items.close()


class Region:
    """The time in which the function of ``call`` may be interrupted, on the thread that makes this."""

    def __init__(self, call: "Any") -> None:
        self.call = call
        self.broker = call.service.router.broker
        self.thread = process.get_ident()
        self.raise_in, self.take_back = _senders()
        self.owner = {}  # type: dict[None, str]  # of its end; ``setdefault`` decides once, whoever is interrupted
        self.sent = False
        self.due = None  # type: Any  # the class of what is to be raised, once it is
        self.nested = []  # type: list[Any]  # channels that the function has opened
        self.base = None  # type: Any
        self.before = None  # type: Any

    # -- the function's thread

    def open(self, base: "Any") -> None:
        """From now on; ``base`` is the frame that calls the function. Raises what has ended the call already."""
        self.base = base
        if self.thread == self.call.service.main and _signal.getsignal(_signal.SIGURG) == _signal.SIG_DFL:
            self.before = _signal.signal(_signal.SIGURG, _awake)
        self.call.region = self
        shown = current.of(self.call)
        if not shown._watch(self.over):
            raise shown._reason()

    def close(self) -> None:
        """No more: when it returns, nothing will be raised. Idempotent."""
        self.settle()
        self.call.region = None
        current.of(self.call)._forget(self.over)
        if self.before is not None:
            _signal.signal(_signal.SIGURG, self.before)
            self.before = None
        self.base = None

    def settle(self) -> None:
        """Raise nothing from now on."""
        while self.owner.setdefault(None, FUNCTION) is LOOP:
            if self.sent:
                self.take_back(self.thread, None)
                if NOTED:
                    self.tidy()
                return
            process.Waiter().wait(0.001)  # it is about to send it, or to give it up

    def tidy(self) -> None:
        """Raise one exception here and catch it, so that the interpreter has no note of the one that was taken back."""
        try:
            self.raise_in(self.thread, Note)
            for _ in range(1000):  # it comes with the first of these at the latest
                pass
        except Note:
            pass
        except BaseException:  # Ctrl-C came before it
            self.take_back(self.thread, None)
            raise

    def opened(self, channel: "Channel") -> None:
        """The function has opened ``channel``, for something that it may wait for."""
        if len(self.nested) >= 64:
            self.nested[:] = [each for each in self.nested if not (each.ended or each.over)]
        self.nested.append(channel)
        if self.due is not None and not self.owner:  # the loop has been through ``nested`` just before
            self.cut(channel)

    def cut(self, channel: "Channel") -> None:
        """End what the function waits for. Any thread."""
        channel.cancel(TIMEOUT if self.due is TimedOut else CANCEL, "the call that waits for it is over")

    def check(self) -> None:
        """The function is about to make a call: raise what is due, if it was not raised yet."""
        if self.due is not None and not self.owner:
            self.settle()
            raise self.due()

    def heard(self) -> None:
        """The function is about to be told by an error that it gets anyway."""
        if current.of(self.call).cancelled:
            self.settle()

    # -- the loop

    def over(self) -> None:
        """The call is over. Any thread."""
        self.broker.defer_nowait(self.end_waits)

    def end_waits(self) -> None:
        """End what it waits for, then interrupt it. Loop thread."""
        late = isinstance(current.of(self.call)._reason(), CallTimeout)
        self.due = TimedOut if late else Cancelled
        for channel in list(self.nested):
            self.cut(channel)
        self.interrupt()

    def interrupt(self) -> None:
        """Raise what is due in the function now, or soon. Loop thread."""
        if self.owner:
            return
        top = sys._current_frames().get(self.thread)
        if self.may(top) and self.owner.setdefault(None, LOOP) is LOOP:
            if _raise_at(top, self.thread, self.raise_in, self.due):
                self.sent = True
                if self.before is not None:
                    _signal.pthread_kill(self.thread, _signal.SIGURG)
                return
            del self.owner[None]
        self.broker.timer(AGAIN, self.interrupt)

    def may(self, frame: "Any") -> bool:
        """Whether an exception in ``frame`` would hit the function alone."""
        base = self.base
        while frame is not None and frame is not base:
            name = frame.f_globals.get("__name__") or ""
            if name.partition(".")[0] == "contextree" or name[:20] == "importlib._bootstrap":
                return False
            frame = frame.f_back
        return frame is not None


def _raise_at(frame: "Any", thread: int, raise_in: "Any", kind: "type[BaseException]") -> bool:
    """Raise ``kind`` in ``thread`` if ``frame`` is what runs there at this moment. True: it was sent.

    ``list`` drives C functions alone, so no other thread runs between the look and the sending."""
    now = map(itemgetter(thread), islice(iter(sys._current_frames, None), 1))
    still = map(partial(is_, frame), now)
    return bool(list(map(raise_in, compress((thread,), still), repeat(kind))))


def _senders() -> "tuple[Any, Any]":
    """(function that raises a class in a thread, function that takes back what was not raised yet)."""
    try:
        import ctypes

        name = "PyThreadState_SetAsyncExc", ctypes.pythonapi
        plain = ctypes.c_int, ctypes.c_ulong
        return (ctypes.PYFUNCTYPE(*plain + (ctypes.py_object,))(name),
                ctypes.PYFUNCTYPE(*plain + (ctypes.c_void_p,))(name))
    except (ImportError, AttributeError) as error:
        raise UnsupportedPlatform("cancel='raise' needs CPython with ctypes, use 'kill': %s" % error) from None


def _awake(number: int, frame: "Any") -> None:
    """The handler of SIGURG: it is enough that it runs."""


# -- kill


def alone(*args: "Any", **kwargs: "Any") -> "Any":
    """Call ``args[0]`` with the others in a process forked for it, which ends with the call."""
    with Alone() as child:
        return child.call(*args, **kwargs)


def alone_items(*args: "Any", **kwargs: "Any") -> "Iterator[Any]":
    """The same for a generator."""
    with Alone() as child:
        for item in child.stream(*args, **kwargs):
            yield item


class Alone:
    """A forked child of this context that lives as long as the present call."""

    def __init__(self) -> None:
        self.running = current.current_call()
        self.child = current_router().fork(name="call.{id}", wait=False)
        self.running.on_cancel(self.child.kill)

    def __enter__(self) -> "Context":
        return self.child

    def __exit__(self, *exc_info: object) -> None:
        engine = self.child.engine

        def end() -> None:
            branch = engine.children.get(self.child.id)
            if branch is not None:
                branch.shutdown(*((0.0, 0.0) if self.running.cancelled else (3.0, 2.0)))

        engine.broker.defer(end)  # nobody waits for that
