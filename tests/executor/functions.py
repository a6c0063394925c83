"""What the executors under test run."""

import os
import signal
import sys
import threading
import time

from tests.lab.poll import until

begun = []
state = []


def add(first, second=1):
    return first + second


def fail(kind, *args):
    raise kind(*args)


def until_gone(path):
    until(lambda: not os.path.exists(path), "%s to be removed" % path, 50)


def nap(seconds):
    time.sleep(seconds / 3)  # sleeps: the task that somebody else's test calls slow


def pid(*args):
    return os.getpid()


def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)


def crash_with(data):
    os._exit(5)


def note(path, text=""):
    """Append a line to a file, so that what ran and how often can be counted from outside."""
    with open(path, "a") as file:
        file.write(f"{text}\n")
    return text


def hold(gate, text=""):
    """Say that it runs by ``gate``.started, and run until the file ``gate`` is there."""
    note(gate + ".started", os.getpid())
    until(lambda: os.path.exists(gate), "the gate", 50, 0.005)
    return text


def begin(value):
    state.append(value)


def begun_with():
    return list(state)


_here = threading.Condition()
_present = {}


def meet(turn, here):
    """Return (process, thread) once ``here`` calls of that turn are in this process."""
    with _here:
        _present[turn] = _present.get(turn, 0) + 1
        _here.notify_all()
        assert _here.wait_for(lambda: _present[turn] >= here, 20)
    return os.getpid(), threading.current_thread().name + str(threading.get_ident())


def thread_name():
    return threading.current_thread().name


def threads():
    return len(sys._current_frames())


def grow_and_ask():
    import contextree

    router = contextree.current_router()
    with router.fork() as child:
        return router.name, child.call(add, 2)


def apply(function, *args):
    return function(*args)


def no_odd_ones(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def until_told(path):
    """Run until the call is cancelled, and note that."""
    import contextree

    call = contextree.current_call()
    note(path + ".started", os.getpid())
    until(lambda: call.cancelled, "to be told", 40, 0.005)
    note(path, "told")


def note_and_die_at(path, number, every, only_in=None):
    """Note that it ran; die at every so manieth number (in one context only)."""
    import contextree

    note(path, number)
    if number % every == every - 1 and only_in in (None, contextree.current_router().name):
        die()
    return number


async def nearly(number):
    import asyncio

    await asyncio.sleep(0)
    return number


async def die_soon():
    import asyncio

    await asyncio.sleep(0.01)  # sleeps: long enough to be under way
    die()
