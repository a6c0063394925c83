"""F-01: what hangs a child of plain ``os.fork`` in a program with threads, and does not hang ours.

Each case makes a state in which a thread holds something; the child then needs it. The control shows that the state is
real: a child of ``os.fork`` (or, where that is told, of a fork within contextree's reach) does not come through it.
"""

import pytest

from tests.fork.tools import program

FRAME = """
import logging, logging.handlers, os, queue, sys, threading
import contextree
from tests.fork import far
from tests.lab.poll import until
from tests.fork.far import kept

held, over = threading.Event(), threading.Event()

DIRECT = (True, False)

def thread(function):
    worker = threading.Thread(target=function, daemon=True)
    worker.start()
    assert held.wait(20)
    return worker

def through(work):
    '''Whether a child of plain os.fork gets through ``work`` within half a second.'''
    import signal, warnings
    warnings.simplefilter("ignore")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(writer, b"x")
        finally:
            os._exit(0)
    os.close(writer)
    import select
    done = bool(select.select([reader], [], [], 0.5)[0]) and os.read(reader, 1) == b"x"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reader)
    return done

%s

with contextree.Router() as router:
    router.fork()  # the template is there before
    state = %s()
    if CONTROL:
        print("control:", through(need))
    for direct in DIRECT:
        child = router.fork(direct=direct).with_options(timeout=20)
        print("direct:" if direct else "template:", child.call(NEED) or "through")
    over.set()
    if state is not None:
        state.join()
"""

QUEUE = """
CONTROL = True
handler = logging.handlers.QueueHandler(queue.Queue())
logging.getLogger().addHandler(handler)
def hold():
    def work():
        with handler.queue.mutex:
            held.set()
            over.wait()
    return thread(work)
def need():
    logging.getLogger("some").warning("one line")
NEED = far.log
"""

PRIVATE = """
CONTROL = True
class Handler(logging.Handler):
    private = threading.Lock()
    def emit(self, record):
        with self.private:
            pass
logging.getLogger("some").addHandler(Handler())
def hold():
    def work():
        with Handler.private:
            held.set()
            over.wait()
    return thread(work)
def need():
    logging.getLogger("some").warning("one line")
NEED = far.log
"""

STDIO = """
CONTROL = True
reader, writer = os.pipe()
sys.stdout, real = open(writer, "w"), sys.stdout
def print(*words):
    real.write(" ".join(map(str, words)) + "\\n")
def hold():
    def work():
        held.set()
        for _ in range(40):
            sys.stdout.write("x" * 10000)
        sys.stdout.flush()
    def drain():
        over.wait()
        left = 400000
        while left:
            left -= len(os.read(reader, 65536))
    drainer = threading.Thread(target=drain, daemon=True)
    drainer.start()
    worker = thread(work)
    import select
    until(lambda: not select.select([], [writer], [], 0)[1], "the pipe to be full")
    return drainer
def need():
    sys.stdout.write("y")
    sys.stdout.flush()
NEED = far.say
"""

IMPORTS = """
CONTROL = True
import tempfile
folder = tempfile.mkdtemp()
with open(folder + "/slow_module.py", "w") as file:
    file.write("from tests.fork import far\\nheld, over = far.kept.get('events', (None, None))\\n"
               "if held:\\n    held.set()\\n    over.wait()\\n")
sys.path.insert(0, folder)
def hold():
    kept["events"] = held, over
    def work():
        import slow_module
    worker = thread(work)
    kept.pop("events")
    return worker
def need():
    import slow_module
NEED = far.import_slow
"""

OWN = """
CONTROL = False
def hold():
    from contextree.parent import engine, future
    link = next(iter(router.engine.children.values())).link
    locks = [engine.making, future.making, router.engine.lock, router.engine.template_lock, link.lock]
    now, taken, forked = threading.Event(), threading.Event(), threading.Event()
    def work():
        held.set()
        now.wait()
        for lock in locks:
            lock.acquire()
        taken.set()
        forked.wait()
        for lock in locks:
            lock.release()
    def before():  # they are held at the moment of the fork, and free soon after
        now.set()
        assert taken.wait(20)
    os.register_at_fork(before=before, after_in_parent=forked.set)
    return thread(work)
NEED = far.grow_one
"""

POOL = """
CONTROL = True
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
def hold():
    pool.submit(far.add, 1).result()
def need():
    pool.submit(far.add, 1).result()
NEED = far.own_pool
"""

# A direct fork has what libc's resolver held in another thread: rarely a lock, and then for ever (docs/forking.md).
RESOLVER = """
CONTROL = False
DIRECT = (False,)
import socket
def hold():
    def work():
        held.set()
        while not over.is_set():
            try:
                socket.getaddrinfo("localhost", 80)
            except OSError:
                pass
    return thread(work)
NEED = far.resolve
"""


@pytest.mark.parametrize("case", ["QUEUE", "PRIVATE", "STDIO", "IMPORTS", "OWN", "POOL", "RESOLVER"])
def test_f_01_no_hang(case):
    text = FRAME % (globals()[case], "hold")
    lines = program(text).splitlines()
    if case not in ("OWN", "RESOLVER"):
        assert lines.pop(0) == "control: False"
    assert lines == ["direct: through", "template: through"][case == "RESOLVER":]


def test_f_01_a_busy_program():
    """Eight threads that log, import, allocate and print while contexts are forked: every one of them works."""
    text = """
import importlib, logging, os, sys, threading
import contextree
from tests.fork import far
logging.basicConfig(stream=open(os.devnull, "w"), level=10)
stop = threading.Event()
names = ["colorsys", "wave", "graphlib", "netrc", "plistlib", "stringprep", "sched", "cmd"]
def work(number):
    log = logging.getLogger("t%d" % number)
    while not stop.is_set():
        log.warning("busy %s", [object() for _ in range(100)])
        for name in (names[number], "this_is_not_there"):
            sys.modules.pop(name, None)
            try:
                importlib.import_module(name)
            except ImportError:
                pass
workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for worker in workers:
    worker.start()
with contextree.Router() as router:
    for number in range(12):
        child = router.fork(direct=bool(number % 3)).with_options(timeout=30)
        assert child.call(far.log) is None
        assert child.call(far.import_any, "colorsys") == "colorsys"
        child.shutdown()
    stop.set()
for worker in workers:
    worker.join()
"""
    assert program(text) == ""


def test_f_01_user_locks_are_the_users():
    """The exception: a lock of the program's own stays held in a direct fork, and is free in a template's child."""
    text = """
import threading
import contextree
from tests.fork import far
with contextree.Router() as router:
    with far.lock:
        direct, template = router.fork(direct=True), router.fork()
    print(direct.call(far.try_lock), template.call(far.try_lock))
"""
    assert program(text) == "False True\n"
