"""What the tests of this folder call in other contexts. Standard library and contextree only, and Python 3.6."""

import os
import signal
import sys
import threading
import time

kept = {}


def me():
    return os.getpid()


def ppid():
    return os.getppid()


def add(a, b=0):
    return a + b


def name():
    import contextree

    return contextree.current_router().name


def descriptors():
    """{fd: target} of this process, without the listing's own."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[int(number)] = os.readlink("/proc/self/fd/" + number)
        except OSError:
            pass
    return found


def fdinfo(fd):
    with open("/proc/self/fdinfo/%d" % fd) as file:
        return file.read()


def command_line():
    with open("/proc/self/cmdline", "rb") as file:
        return file.read().strip(b"\0").decode()


def signals():
    """Names of fields of /proc/self/status and their sets of signals."""
    found = {}
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("Sig") and ":" in line and not line.startswith("SigQ"):
                key, value = line.split(":")
                found[key] = {number for number in range(1, 65) if int(value, 16) >> (number - 1) & 1}
    return found


def wakeup_fd():
    return signal.set_wakeup_fd(-1)


def memory_has(canary):
    """Whether the bytes whose reverse is ``canary`` are anywhere in the writable memory of this process."""
    wanted = canary[::-1]
    hits = 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            span, mode = line.split()[:2]
            if mode.startswith("rw") and "[v" not in line:
                start, end = (int(part, 16) for part in span.split("-"))
                try:
                    memory.seek(start)
                    data = memory.read(end - start)
                except (OSError, ValueError, OverflowError):
                    continue
                hits += data.count(wanted)
                del data
    return hits - 1  # the one in ``wanted``


def grow(method, *path, **options):
    """Grow a child of this context, and its descendants by the methods in ``path``; the ids, from the top."""
    import contextree

    router = contextree.current_router()
    direct = method == "direct"
    context = router.fork(direct=True, **options) if direct else getattr(router, method)(**options)
    return [context.id] + (context.call(grow, *path) if path else [])


def grow_where_remembered():
    """Fork this process directly; what the child remembers, and what it asked its parent for."""
    import contextree

    kept["here"] = os.getpid()
    child = contextree.current_router().fork(direct=True)
    return child.id, child.call(remembered), child.call(me)


def remembered():
    return kept.get("here"), kept.get("log")


def note(what):
    kept.setdefault("log", []).append(what)


def fail():
    raise ValueError("a start that fails")


def sleep(seconds=60.0):
    time.sleep(seconds)  # sleeps: it is what it is for


def busy_until(path):
    """Come back when the file ``path`` is there (or after a minute), then leave a mark beside it."""
    end = time.monotonic() + 60
    open(path + ".begun", "w").close()
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.01)  # sleeps: this file runs where tests.lab is not
    print("to whom it may concern", flush=True)
    print("and an error", file=sys.stderr, flush=True)
    with open(path + ".done", "w") as file:
        file.write(str(os.getpid()))


def say_at_the_end_of(parent, path):
    """Kill the parent, and write to the standard error before any other thread here can have heard of it."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # the loop gets on when this thread waits for something, which it first does in print
    os.kill(parent, signal.SIGKILL)
    while os.getppid() == parent:
        pass
    print("last words", file=sys.stderr, flush=True)
    sys.setswitchinterval(interval)
    with open(path, "w") as file:
        file.write(str(os.getpid()))


def threads():
    return threading.active_count()


def chance():
    """Things that must not be the same in two processes."""
    import random
    import ssl
    import tempfile
    import uuid

    return (random.random(), ssl.RAND_bytes(8), uuid.uuid4().hex, next(tempfile._get_candidate_names()),
            os.urandom(8))


def start_1():
    note("on_fork")


def start_2():
    note("on_start")


def start_3():
    note("on_start again")


def given():
    return kept.get("given", (None, None))[1]


def filters():
    import warnings

    return [item[0] for item in warnings.filters]


lock = threading.Lock()


def try_lock():
    return lock.acquire(False)


def log():
    import logging

    logging.getLogger("some").info("one line")


def say():
    sys.stdout.write("y\n")
    sys.stdout.flush()


def import_slow():
    import slow_module

    assert slow_module.held is not None or slow_module.over is None


def import_any(wanted):
    return __import__(wanted).__name__


def grow_one():
    import contextree

    with contextree.current_router().fork(direct=True) as child:
        assert child.call(add, 1, 1) == 2


def own_pool():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(add, 1).result() == 1


def resolve():
    import socket

    try:
        socket.getaddrinfo("localhost", 80)
    except OSError:
        pass


def importer():
    from contextree.core import main

    return main.child.importer


def requests():
    return importer().requests


def module_parent():
    return importer().parent


def loader_is_inherited(wanted):
    return sys.modules[wanted].__loader__ is importer()


def package_file():
    import contextree

    return contextree.__dict__.get("__file__")


class Slow:
    """Finds ``slowly_shipped``, but never in the thread and process that asked first."""

    def __init__(self):
        self.begun = threading.Event()
        self.pid = os.getpid()

    def find_spec(self, wanted, path=None, target=None):
        if wanted != "slowly_shipped":
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(wanted, self)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        self.begun.set()
        if os.getpid() == self.pid:
            time.sleep(3)  # sleeps: an import that takes its time


def fork_while_importing():
    slow = Slow()
    sys.meta_path.insert(0, slow)
    worker = threading.Thread(target=__import__, args=("slowly_shipped",))
    worker.daemon = True
    worker.start()
    assert slow.begun.wait(20)
    import contextree

    return contextree.current_router().fork(direct=True).id


def use_processes():
    import subprocess
    from concurrent.futures import ProcessPoolExecutor

    assert subprocess.call([sys.executable, "-c", "raise SystemExit(9)"]) == 9
    with ProcessPoolExecutor(2) as pool:
        return list(pool.map(add, range(3)))


def ask(*contexts):
    """Call the contexts from here."""
    return [context.call(me) for context in contexts]


def door():
    """What Router says here, what an unknown name gives, whether ``from contextree import`` gives the same errors."""
    import contextree
    from contextree import ContextDied, current_router

    text = ""
    if "contextree.master" not in sys.modules:
        try:
            contextree.Router()
        except contextree.UsageError as error:
            text = str(error)
    try:
        unknown = str(contextree.no_such_name)
    except AttributeError as error:
        unknown = type(error).__name__
    from contextree.core.wire import errors

    return [text, unknown, ContextDied is errors.ContextDied and current_router().name == name()]


def use_asyncio():
    """What asyncio thinks of the present loop, and a value out of a loop of our own."""
    import asyncio

    try:
        asyncio.get_running_loop()
        loop = "a loop"
    except RuntimeError:
        loop = "no loop"

    async def work():
        await asyncio.sleep(0.001)  # sleeps: so that the loop has something to wait for
        return 43

    return loop, asyncio.run(work())


def collect():
    import gc
    import warnings

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        gc.collect()
    return len(seen)


def kinds_of_stdio():
    """What descriptors 0, 1 and 2 are, also for a program that is started here; each can be used."""
    import stat
    import subprocess

    os.write(1, b"to one\n")
    os.write(2, b"to two\n")
    done = subprocess.run("echo one; echo two >&2; read line; exit 7", shell=True)
    assert done.returncode == 7, done
    kinds = {stat.S_IFCHR: "char", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return [kinds.get(stat.S_IFMT(os.fstat(fd).st_mode)) for fd in (0, 1, 2)]


def lose_the_importer():
    """Take the finders of contextree away; how many there were."""
    from contextree.core.importer import Finder

    kept = [finder for finder in sys.meta_path if type(finder) is not Finder]
    count = len(sys.meta_path) - len(kept)
    sys.meta_path[:] = kept
    return count
