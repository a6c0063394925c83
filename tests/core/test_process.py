"""What a process owns: descriptors by identity, a generation, real primitives; and what a fork leaves of that.

Why this file is long: each promise of ``core.process`` is asked of this process, of its fork, and of a fork of that.
"""

import errno
import fcntl
import os
import sys
from pathlib import Path

import pytest

from contextree.core import process

from .conftest import run_script

FORK = """
import os, sys, threading, _thread, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # this very test forks with threads
from contextree.core import process
from contextree.parent.loop import Loop as Broker
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import ForkedError

def census():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink("/proc/self/fd/" + name)
        except OSError:
            pass
    return found

def child(function):
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        try:
            function()
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0

"""


def flags(fd):
    return fcntl.fcntl(fd, fcntl.F_GETFD)


def test_own_close_disown():
    read, write = process.pipe()
    assert set(process._own) == {read, write}
    assert not os.get_blocking(read) and not os.get_blocking(write)
    process.close(read)
    process.close(read)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)
    assert process.disown(write) == write
    process.close(write)
    os.fstat(write)
    os.close(write)


def test_mt_05_close_spares_another_s_descriptor():
    user = os.open("/dev/null", os.O_RDONLY)
    read, write = process.pipe()
    os.dup2(user, read)
    process.close(read)
    os.fstat(read)
    for fd in (read, user):
        os.close(fd)
    process.close(write)


def test_close_of_what_was_closed_behind_our_back():
    read, write = process.pipe()
    os.close(read)
    process.close(read)
    process.close(write)


def test_failed_pipe_leaves_nothing(monkeypatch):
    calls = []

    def own(fd, real=process.own):
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(errno.EMFILE, "planned")
        return real(fd)

    monkeypatch.setattr(process, "own", own)
    with pytest.raises(OSError, match="planned"):
        process.pipe()
    assert not process._own


def test_waiter_wakes_once_and_can_be_used_again():
    waiter = process.Waiter()
    for _ in range(2):
        assert waiter.wait(0) is False
        assert waiter.wake() is True
        assert waiter.wake() is False
        assert waiter.wait(1e12) is True
    assert waiter.wait(-5) is False


class FakeLock:
    """Its time runs out at once, as if somebody had set the clock; at the fourth try it is free."""

    def __init__(self):
        self.naps = []

    def acquire(self, block, timeout):
        self.naps.append(timeout)
        return len(self.naps) == 4


@pytest.mark.parametrize("timeout", [None, 1000])
def test_ct_05_p_75_a_wait_naps_and_does_not_end_before_its_time(timeout):
    """A signal that slips in before the first nap is heard after it; a clock that was set ends no wait."""
    waiter = process.Waiter()
    waiter.lock = FakeLock()
    assert waiter.wait(timeout) is True
    assert waiter.lock.naps == [0.1, 0.2, 0.4, 0.8]


def test_high_moves_stdio_numbers_and_sets_cloexec():
    read, write = os.pipe()
    os.set_inheritable(read, True)
    assert process.high(read) == read and flags(read) & fcntl.FD_CLOEXEC
    for fd in (read, write):
        os.close(fd)


def test_mt_14_mt_16_own_descriptors_are_high_and_cloexec_with_stdio_closed():
    for closed in ("<&-", ">&-", "<&- >&- 2>&-"):
        run_script("""
import subprocess, sys
code = '''
import fcntl, os
from contextree.core import process
from contextree.parent.loop import Loop as Broker
from contextree.testing import joined_pair
b = Broker(); b.start()
pair = joined_pair()
assert b.call(int, "7") == 7
own = list(process._own)
assert len(own) == 5 and min(own) >= 3, own
for fd in own:
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    with open("/proc/self/fdinfo/%%d" %% fd) as info:
        assert int(info.read().split("flags:")[1].split()[0], 8) & os.O_CLOEXEC
assert b.fileno() in own
for end in pair: end.close()
b.stop()
assert not process._own
'''
done = subprocess.run(["sh", "-c", '"$0" -c "$1" %s', sys.executable, code])
assert done.returncode == 0, done
""" % closed)


def test_mt_01_mt_02_mt_03_fork_leaves_none_of_our_descriptors():
    """64 threads wait in get(); a child has not one descriptor of ours, however many threads there were."""
    out = run_script(FORK + """
before = set(census())
loops = [Broker() for _ in range(3)]
for b in loops[:2]:
    b.start()
boxes = [Mailbox() for _ in range(64)]
threads = [threading.Thread(target=box.get, daemon=True) for box in boxes]
for t in threads:
    t.start()
while not all(box.waiters for box in boxes):
    pass

def look():
    left = set(census()) - before
    assert not left, left
    assert not process._own and process.generation == 1
    print("clean")

child(look)
assert loops[0].call(int, "1") == 1
for box in boxes:
    box.put(None)
for b in loops:
    b.stop()
assert set(census()) == before
print("parent works")
""")
    assert out == "clean\nparent works\n"


def test_mt_04_mt_05_the_user_s_descriptors_survive_a_fork():
    out = run_script(FORK + """
import select, socket, tempfile
b = Broker(); b.start()
file = tempfile.TemporaryFile()
file.write(b"0123456789"); file.flush(); file.seek(4)
near, far = socket.socketpair()
r, w = os.pipe()
ep = select.epoll(); ep.register(r, select.EPOLLIN)
mem = os.memfd_create("user")
# the user's file took the number of a descriptor of ours that someone closed behind our back
ours, other = process.pipe()
os.dup2(file.fileno(), ours)

def look():
    assert file.tell() == 4 and os.read(ours, 3) == b"456"
    near.send(b"x"); assert far.recv(1) == b"x"
    os.write(w, b"y"); assert ep.poll(5) == [(r, select.EPOLLIN)] and os.read(r, 1) == b"y"
    os.write(mem, b"z")
    assert other not in census()
    print("all usable")

child(look)
os.close(ours)
process.close(ours); process.close(other)
b.stop()
for thing in (file, near, far, ep):
    thing.close()
""")
    assert out == "all usable\n"


def test_rm_24_an_inherited_loop_raises_forkederror():
    """Also where the child's thread has the identity of the loop's thread, and inside of a turn."""
    out = run_script(FORK + """
threaded = Broker(); threaded.start()
driven = Broker(); driven.poll_once(0)

def refused(b):
    for use in (lambda: b.defer(int), lambda: b.call(int), lambda: b.watch(0, int), lambda: b.forget(b._wake_r),
                lambda: b.timer(0, int), lambda: b.on_end(int), b.poll_once, b.fileno, b.start, b.check_thread):
        try:
            use()
        except ForkedError:
            pass
        else:
            raise AssertionError("not refused")
    b.stop()
    b.wake()

def look():
    refused(threaded)
    refused(driven)
    fresh = Broker(); fresh.start()
    assert fresh.call(int, "5") == 5
    fresh.stop()
    assert not process._own
    print("refused")

child(look)
driven.defer(child, lambda: refused(driven))
driven.poll_once(0)
assert driven.count["errors"] == 0
child(lambda: child(look))
driven.stop(); threaded.stop()
""")
    assert out == "refused\nrefused\n"


def test_mt_01_inherited_objects_close_nothing_of_the_child_s():
    """Objects of the parent die in the child after their numbers were taken by the child's own descriptors."""
    out = run_script(FORK + """
import gc
holder = [Broker()]
holder[0].start()

def look():
    fresh = Broker()
    fds = set(census())
    holder.clear()
    gc.collect()
    assert set(census()) == fds
    fresh.defer(print, "child's loop works")
    fresh.poll_once(0)
    fresh.stop()

child(look)
holder[0].stop()
""")
    assert out == "child's loop works\n"


def test_a_parent_s_loop_is_not_disturbed_by_its_child():
    out = run_script(FORK + """
b = Broker(); b.start()
for i in range(20):
    child(lambda: b.stop())
    assert b.call(int, str(i), timeout=20) == i
b.stop()
print("ok")
""")
    assert out == "ok\n"


def test_forking_while_threads_defer():
    out = run_script(FORK + """
b = Broker(); b.start()
stop = []
def flood():
    while not stop:
        b.call(int, "1")
threads = [threading.Thread(target=flood) for _ in range(3)]
for t in threads:
    t.start()
def look():
    c = Broker(); c.start()
    assert c.call(int, "2", timeout=20) == 2
    c.stop()
for _ in range(20):
    child(look)
stop.append(1)
for t in threads:
    t.join()
b.stop()
print("ok")
""")
    assert out == "ok\n"


def test_after_fork_functions_run_in_order():
    out = run_script(FORK + """
process.after_fork += [lambda: print("first", process.generation), lambda: print("second", bool(process._own))]
ends = process.pipe()
child(lambda: None)
print(process.generation)
for fd in ends: process.close(fd)
""")
    assert out == "first 1\nsecond False\n0\n"


GEVENT = """
from gevent import monkey
monkey.patch_all()
import _thread, gevent, os, select, threading, time
from contextree.core import process
from contextree.parent.loop import Loop as Broker
from contextree.core.mailbox import Mailbox
assert not hasattr(select, "epoll")
tasks = len(os.listdir("/proc/self/task"))
b = Broker(); b.start()
assert len(os.listdir("/proc/self/task")) == tasks + 1, "not a real thread"
assert b.thread != process.get_ident() and b.fileno() >= 3
box = Mailbox()
b.call(b.timer, 0.01, box.put, "timer")
assert box.get(20) == "timer"
ticks = []
def ticker():
    while True:
        ticks.append(1)
        gevent.sleep(0.001)
t = gevent.spawn(ticker)
assert [b.call(int, str(i)) for i in range(100)] == list(range(100))
got = []
threads = [threading.Thread(target=lambda i=i: got.append(b.call(int, str(i)))) for i in range(10)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert sorted(got) == list(range(10))
gevent.sleep(0.01)
assert ticks
t.kill()
b.stop()
assert not process._own
print("works")
"""


def test_gevent_patched_program_has_a_real_loop_thread():
    assert run_script(GEVENT, "-Wdefault") == "works\n"


TRIO = """
import os, random, sys, threading, time
from contextree.core import process
from contextree.parent.loop import Loop as Broker
from contextree.core.mailbox import Mailbox
from contextree.core.wire.errors import CallTimeout, Closed, ForkedError

b = Broker(); b.start()
assert b.call(int, "5") == 5
box = Mailbox()
b.call(b.timer, 0.01, box.put, "timer")
assert box.get(20) == "timer"
r, w = process.pipe()
b.call(b.watch, r, lambda: box.put(os.read(r, 1)))
os.write(w, b"x")
assert box.get(20) == b"x"
b.call(b.forget, r)

out = [[] for _ in range(3)]
def consume(mine):
    try:
        while True:
            try:
                mine.append(box.get(random.choice((None, 0, 1e-5))))
            except CallTimeout:
                pass
    except Closed:
        pass
threads = [threading.Thread(target=consume, args=(mine,)) for mine in out]
for t in threads: t.start()
for i in range(3000):
    b.defer(box.put, i)
b.call(box.close)
for t in threads: t.join()
assert sorted(sum(out, [])) == list(range(3000))

driven = Broker(clock=time.monotonic)
driven.poll_once(0)
thread = threading.Thread(target=driven.defer, args=(print, "driven"))
thread.start(); thread.join()
driven.poll_once()
driven.stop()

import warnings
warnings.simplefilter("ignore", DeprecationWarning)
sys.stdout.flush()
pid = os.fork()
if not pid:
    if sys.version_info < (3, 7):
        process.forked()
    try:
        b.defer(int)
    except ForkedError:
        c = Broker(); c.start()
        os._exit(c.call(int, "7"))
    os._exit(1)
assert os.waitpid(pid, 0)[1] == 7 << 8
b.stop()
for fd in (r, w): process.close(fd)
assert not process._own and not process.keep
print("done")
"""


def interpreters() -> list[str]:
    """This one, and every python3.N, 3.6 or later, that is on PATH or beside this one's installation."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    places = [Path(place) for place in os.environ.get("PATH", "").split(os.pathsep) if place and "shims" not in place]
    places += Path(sys.base_prefix).parent.glob("*/bin")
    for minor in range(6, 16):
        for place in places:
            for name in (f"python3.{minor}", f"python3.{minor}t"):
                if (place / name).is_file() and os.access(place / name, os.X_OK):
                    found.setdefault(name[6:], str(place / name))
    return sorted(found.values())


@pytest.mark.parametrize("python", interpreters())
def test_the_three_work_on_every_python(python):
    assert run_script(TRIO, python=python) == "driven\ndone\n"
