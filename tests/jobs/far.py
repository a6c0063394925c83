"""What the tests of jobs call in other contexts. Standard library and contextree only, and Python 3.6."""

import asyncio
import logging
import os
import resource
import sys
import time

kept = {}
begun = []  # names of functions that wait for a file


def pid():
    return os.getpid()


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)  # sleeps: nothing else tells of a file that comes


def busy(path, value=None):
    """Print, tell that it has begun, wait until the file ``path`` is there, print, return."""
    begun.append("busy")
    print("working", flush=True)
    with open(path + ".begun", "w"):
        pass
    wait_for(path)
    print("done", value, flush=True)
    return [value, os.getpid()]


def fail(path):
    begun.append("fail")
    wait_for(path)
    raise LookupError("nothing", 5)


def unsendable(path):
    wait_for(path)
    return sys.stdout


class Point:
    def __init__(self, x):
        self.x = x


def point(path):
    wait_for(path)
    return Point(3)


async def later(path):
    while not os.path.exists(path):
        await asyncio.sleep(0.01)  # sleeps: nothing else tells of a file that comes
    return "async"


def write(count, line):
    for number in range(count):
        print(line % number)
    sys.stdout.flush()
    sys.stderr.write("error\n")
    sys.stderr.flush()


def limit_files(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def log(text):
    logging.getLogger("far").warning(text)


def log_soon(path, text):
    wait_for(path)
    logging.getLogger("far").warning(text)
    print("logged", flush=True)


def all_begun():
    return sorted(begun)


def remember(value):
    kept["value"] = value


def recall():
    return kept.get("value")


def with_child(path):
    """Keep a child of our own busy while the master goes; call it again afterwards."""
    import contextree

    child = contextree.current_router().fork(name="below")
    first = child.call(os.getpid)
    with open(path + ".begun", "w") as file:
        file.write(str(first))
    wait_for(path)
    second = contextree.current_router().local(name="new")
    return [first, child.call(os.getpid), second.call(os.getpid)]


def start_child(path):
    """A first child of our own, when nobody is there to be asked for modules."""
    import contextree

    wait_for(path)
    router = contextree.current_router()
    return [router.local(name="new").call(os.getpid), router.fork(name="other").call(len, "four"),
            router.context_by_id(0).state]


def group():
    """(session is its own, group is its own, has a terminal)"""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
        tty = True
    except OSError:
        tty = False
    return os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid(), tty


def look_often():
    from contextree.parent import job

    job.LOOK = 0.02


def cancelled():
    import contextree

    return contextree.current_call().cancelled


def watch_cancel(path):
    import contextree

    call = contextree.current_call()
    told = []
    call.on_cancel(lambda: told.append(1))
    with open(path + ".begun", "w"):
        pass
    wait_for(path)
    return [call.cancelled, told]


def attach(token):
    import contextree

    with contextree.current_router().attach(token) as job:
        return job.call(os.getpid)


def waiting():
    """How many wait here for the end of the first call that is kept."""
    from contextree.core import main

    return len(main.child.keeper.records[1].waiters)
