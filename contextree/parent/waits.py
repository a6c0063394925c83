"""Where the synchronous API may wait, and with what.

``process.Waiter`` puts the thread to sleep. ``process.waiter`` makes what the synchronous API waits with: the same, or
in a program of greenlets what puts the present greenlet to sleep (``contextree.loops``). Short waits for the loop
thread, which never blocks, stay with ``process.Waiter``: no other greenlet runs in the middle, and none is killed
there. So do imports: the locks of the import system belong to threads, so a second greenlet would get a half-made
module.

On the thread of an event loop that is running nothing may wait: all its tasks would.
"""

import sys

from contextree.core import process
from contextree.core.wire.errors import WouldBlockLoop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from contextree.core.broker import Broker
    from contextree.parent.engine import Engine

ADVICE = {
    "asyncio": "the asyncio loop that runs on this thread: use contextree.aio, or asyncio.to_thread()",
    "trio": "the trio run that is in progress on this thread: use contextree.trio, or trio.to_thread.run_sync()",
}
others = []  # type: list[Callable[[], str | None]]  # each: what waiting on this thread would freeze now, with advice


def check(engine: "Any" = None) -> None:
    """Raise WouldBlockLoop on a thread where an event loop is running, unless ``engine`` allows it, or a person at an
    IPython prompt or in a notebook does: cells run inside a running loop. In a program without loops that costs two
    looks at ``sys.modules``."""
    modules = sys.modules
    if "asyncio.events" not in modules and "trio" not in modules and not others:
        return
    found = None  # type: str | None
    events = modules.get("asyncio.events")  # type: Any
    if events is not None and getattr(events, "_get_running_loop", no_loop)() is not None:
        found = ADVICE["asyncio"]
    elif "trio" in modules and in_trio():
        found = ADVICE["trio"]
    else:
        for other in others:
            found = found or other()
    if found is None or (engine is not None and engine.allow_blocking) or at_a_prompt():
        return
    raise WouldBlockLoop("this would freeze %s; Router(allow_blocking=True) has it wait all the same" % found)


def waiter(engine: "Any" = None) -> "process.Waiter":
    """What to wait with, here and now, for something that may take long; raises as ``check``."""
    check(engine)
    return process.waiter()


def inside(broker: "Any") -> bool:
    """Whether this thread is in the middle of a turn of contextree's loop, so that it must wait for nothing."""
    return bool(broker._inside and process.get_ident() == broker.thread)


def no_loop() -> None:
    """While asyncio is being imported by another thread."""


def in_trio() -> bool:
    """Whether a trio run is in progress on this thread, of whatever version of trio."""
    low = getattr(sys.modules["trio"], "lowlevel", None)  # type: Any
    if hasattr(low, "in_trio_run"):
        return bool(low.in_trio_run())
    try:
        low.current_trio_token()
    except (AttributeError, RuntimeError):
        return False
    return True


def at_a_prompt() -> bool:
    """Whether this is an IPython shell or kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", no_loop)()  # type: Any
    return shell is not None
