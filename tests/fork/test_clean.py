"""What a forked child has of its parent, and what not: signals, descriptors, exit functions, text, names in ps."""

import os
import select
import signal
import socket
import sys
import threading

import pytest

import contextree
from tests.fork import far
from tests.fork.tools import program

BOTH = pytest.mark.parametrize("direct", [False, True])


@pytest.fixture
def signals():
    """Dispositions, mask and wake-up descriptor are as before when the test is over."""
    before = {number: signal.getsignal(number) for number in range(1, 65) if number not in (9, 19, 32, 33)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@BOTH
@pytest.mark.parametrize("hup", [signal.SIG_DFL, signal.SIG_IGN])
def test_gi_19_signals_are_fresh(router, signals, direct, hup):
    """Handlers, ignored and blocked signals of the parent are not the child's; nohup's HUP and SIGPIPE stay ignored."""
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        signal.signal(signal.SIGHUP, hup)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, lambda *args: None)
        signal.signal(signal.SIGCHLD, lambda *args: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR2, signal.SIGTERM))
        child = router.fork(direct=direct)
        seen = child.call(far.signals)
        assert seen["SigBlk"] == set()
        assert seen["SigCgt"] - {32, 33} == {signal.SIGINT}
        expected = {signal.SIGPIPE, signal.SIGXFSZ}
        assert seen["SigIgn"] in (expected | {signal.SIGHUP}, expected) if not direct else True
        if direct:
            assert seen["SigIgn"] == expected | ({signal.SIGHUP} if hup == signal.SIG_IGN else set())
        assert child.call(far.wakeup_fd) == -1
        with pytest.raises(contextree.ContextDied) as caught:
            child.call(os.kill, child.pid, signal.SIGTERM)
        assert caught.value.status.killed_with() == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        assert not select.select([reader], [], [], 0)[0] or set(reader.recv(100)) <= {signal.SIGCHLD}
        signal.set_wakeup_fd(-1)


@pytest.mark.parametrize("how", ["handled", "ignored", "blocked"])
@BOTH
def test_rm_25_whoever_owns_sigchld(router, signals, direct, how):
    """Statuses come whatever the program does with SIGCHLD, and that stays as it was."""
    if how == "blocked":
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
    else:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN if how == "ignored" else lambda *args: None)
    before = signal.getsignal(signal.SIGCHLD), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    child = router.fork(direct=direct)
    assert child.call(far.add, 1) == 1
    with pytest.raises(contextree.ContextDied) as caught:
        child.call(os._exit, 5)
    status = caught.value.status
    assert status.exit_status == 5 or (how == "ignored" and direct and "SIGCHLD is ignored" in str(status))
    assert (signal.getsignal(signal.SIGCHLD), signal.pthread_sigmask(signal.SIG_BLOCK, ())) == before


@BOTH
def test_a_thread_that_blocks_signals_forks(router, direct):
    """The mask is that of the forking thread; the child's is empty all the same."""
    box = []

    def work():
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        box.append(router.fork(direct=direct))

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert box[0].call(far.signals)["SigBlk"] == set()


def test_rm_23_s_33_descriptors_of_children(router):
    """stdio and what is the child's own; nothing that leads to the parent's loop or to other contexts."""
    local = router.local()
    first = router.fork()
    with open("/etc/passwd") as users:
        users_own = set(far.descriptors()) - contextree_descriptors()
        second, direct = router.fork(), router.fork(direct=True)
        ours = {target for target in far.descriptors().values() if "socket" in target or "pipe" in target}
        for child in (first, second):
            found = child.call(far.descriptors)
            check_descriptors(child, found, ours)
            assert users.name not in found.values()
        found = direct.call(far.descriptors)
        assert users.name in found.values()
        check_descriptors(direct, {fd: target for fd, target in found.items() if fd not in users_own}, ours)
    assert local.call(far.add, 1) == 1


def contextree_descriptors():
    """The descriptors that contextree holds in this process."""
    from contextree.core import process

    return set(process._own)


def check_descriptors(child, found, ours):
    """An epoll with its own descriptors in it, a socket to the parent, pipes for output and wake-ups."""
    kinds = sorted(target.partition(":")[0] for fd, target in found.items() if fd > 2)
    assert kinds == ["anon_inode", "pipe", "pipe", "pipe", "socket"], (found, kinds)
    epoll = next(fd for fd, target in found.items() if "eventpoll" in target)
    watched = {int(line.split()[1]) for line in child.call(far.fdinfo, epoll).splitlines() if line.startswith("tfd")}
    assert watched <= set(found)
    shared = {target for fd, target in found.items() if fd > 2} & ours
    assert not shared


def test_mt_03_mt_02_descriptors_do_not_depend_on_threads(router):
    """64 threads that wait for answers leave nothing in the child."""
    few = router.fork(direct=True)
    count = len(few.call(far.descriptors))
    sleeper = router.fork()
    waiting = threading.Barrier(65)

    def work():
        waiting.wait()
        with pytest.raises(contextree.ContextDied):
            sleeper.call(far.sleep)

    workers = [threading.Thread(target=work) for _ in range(64)]
    for worker in workers:
        worker.start()
    waiting.wait()
    assert len(router.fork(direct=True).call(far.descriptors)) == count
    sleeper.kill()
    for worker in workers:
        worker.join()


def test_mt_04_descriptors_of_the_user_stay(router, tmp_path):
    """File, socket, pipe, epoll, memfd: usable in the child of a direct fork, with the same offset and flags."""
    path = tmp_path / "data"
    path.write_text("0123456789")
    left, right = socket.socketpair()
    reader, writer = os.pipe()
    memory = os.memfd_create("user")
    epoll = select.epoll()
    with open(path) as file, left, right, epoll:
        try:
            os.lseek(file.fileno(), 4, 0)
            os.set_blocking(reader, False)
            os.write(memory, b"memory")
            epoll.register(reader, select.EPOLLIN)
            child = router.fork(direct=True)
            assert child.call(os.read, file.fileno(), 3) == b"456"
            assert os.read(file.fileno(), 3) == b"789"
            assert not child.call(os.get_blocking, reader)
            assert child.call(os.pread, memory, 10, 0) == b"memory"
            assert child.call(os.write, right.fileno(), b"x") == 1 and left.recv(5) == b"x"
            assert child.call(os.write, writer, b"y") == 1
            assert epoll.poll(10) == [(reader, select.EPOLLIN)]
            child.shutdown()
            assert epoll.poll(10) == [(reader, select.EPOLLIN)] and os.read(reader, 5) == b"y"
        finally:
            for fd in (reader, writer, memory):
                os.close(fd)


def test_mt_05_a_number_that_was_taken_over_survives(router):
    """A descriptor of contextree that somebody closed, its number the user's now, is not closed in the child."""
    from contextree.core import process

    with open("/dev/zero", "rb") as file:
        mine = process.own(os.open("/dev/null", os.O_RDONLY))
        os.close(mine)
        os.dup2(file.fileno(), mine)
        child = router.fork(direct=True)
        assert child.call(os.read, mine, 2) == b"\0\0"
        os.close(mine)
        process.disown(mine)


@BOTH
def test_mt_14_own_descriptors_are_close_on_exec(router, direct):
    child = router.fork(direct=direct)
    parent = {fd for fd in contextree_descriptors() if os.get_inheritable(fd)}
    theirs = {fd for fd in child.call(far.descriptors) if fd > 2 and fd not in far.descriptors()
              and child.call(os.get_inheritable, fd)}
    assert not parent and not theirs


def test_mt_27_gi_05_nothing_of_the_parent_ends_in_the_child(tmp_path):
    """No exit function, finaliser, ``finally`` or buffered text of the program runs or appears twice."""
    path = tmp_path / "ended"
    text = f"""
import atexit, os, sys, tempfile, threading, weakref
import contextree
from tests.fork import far
def say(what):
    fd = os.open({str(path)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, (what + "\\n").encode())
    os.close(fd)
class Thing: pass
thing = Thing()
folder = tempfile.TemporaryDirectory()
atexit.register(say, "atexit")
weakref.finalize(thing, say, "finalize")
def work(ready, over):
    try:
        ready.set()
        over.wait()
    finally:
        say("thread")
ready, over = threading.Event(), threading.Event()
worker = threading.Thread(target=work, args=(ready, over))
worker.start()
ready.wait()
sys.stdout.write("unflushed text ")
kept = open({str(path)!r} + ".buffered", "w")
kept.write("once ")
with contextree.Router() as router:
    try:
        children = [router.fork(direct=True), router.fork(), router.fork(direct=True)]
        assert [child.call(far.add, 1) for child in children] == [1, 1, 1]
        try:
            children[2].call(sys.exit, 3)
        except SystemExit: pass
        except contextree.RemoteError: pass
        for child in children:
            child.shutdown()
        assert os.path.isdir(folder.name)
        assert not os.path.exists({str(path)!r})
    finally:
        say("finally")
over.set()
worker.join()
folder.cleanup()
"""
    assert program(text) == "unflushed text "
    assert sorted(path.read_text().split()) == ["atexit", "finalize", "finally", "thread"]
    assert (tmp_path / "ended.buffered").read_text() == "once "


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "<&-", ">&- 2>&-", "2>&-"])
def test_mt_16_stdio_closed(tmp_path, closed):
    """A program without standard descriptors: all own ones are above 2, and every kind of child works."""
    script, result = tmp_path / "script.py", tmp_path / "result"
    script.write_text(f"""
import contextree, os, sys
from contextree.core import process
from tests.fork import far
with contextree.Router() as router:
    a, b, c = router.fork(), router.fork(direct=True), router.local()
    ids = a.call(far.grow, "direct") + b.call(far.grow, "fork")
    all = [a, b, c] + [router.context_by_id(number) for number in ids]
    good = [child.call(far.add, 2, 3) for child in all] == [5] * 5
    low = [fd for fd in process._own if fd < 3]
    opened = [set(child.call(far.descriptors)) >= {{0, 1, 2}} for child in all]
with open({str(result)!r}, "w") as file:
    file.write(repr((good, low, opened)))
""")
    program(f"import os; os._exit(os.system('{sys.executable} {script} {closed}') >> 8)")
    assert result.read_text() == "(True, [], [True, True, True, True, True])"


@BOTH
def test_p_73_s_25_name_in_ps(router, direct):
    child = router.fork(direct=direct)
    assert child.call(far.command_line) == "contextree:%d@%d" % (child.id, os.getpid())
    below = router.context_by_id(child.call(far.grow, "direct")[0])
    assert below.call(far.command_line) == "contextree:%d@%d" % (below.id, child.pid)
    assert far.command_line() != child.call(far.command_line)


def test_s_32_no_secret_in_the_template(router):
    """What the program knows is not in the memory of children forked from the template."""
    secret = os.urandom(16).hex().encode()
    router.secret = {"password": secret, "more": contextree.Secret(secret.decode())}
    plain, direct = router.fork(), router.fork(direct=True)
    backward = secret[::-1]
    assert plain.call(far.memory_has, backward) == 0
    assert direct.call(far.memory_has, backward) > 0  # which shows that the search finds it


def test_direct_children_have_the_memory(router):
    far.kept["given"] = object(), 42
    try:
        assert router.fork(direct=True).call(far.given) == 42
        assert router.fork().call(far.given) is None
    finally:
        del far.kept["given"]


def test_warnings_are_filtered_as_before(router):
    """The filter that hides the interpreter's own warning of forks does not stay in the child."""
    import warnings

    before = [item[0] for item in warnings.filters]
    child = router.fork(direct=True)
    assert [item[0] for item in warnings.filters] == before
    assert child.call(far.filters) == before


def test_mt_17_sockets_of_the_user_on_0_1_and_2(tmp_path):
    """Every kind of child starts with open standard descriptors; the sockets of the program stay what they are."""
    script, result = tmp_path / "script.py", tmp_path / "result"
    script.write_text(f"""
import contextree, os, socket
from tests.fork import far
for fd in (0, 1, 2):
    os.close(fd)
one, two = socket.socketpair()
three = socket.socket(socket.AF_UNIX)
low = [one.fileno(), two.fileno(), three.fileno()]
with contextree.Router() as router:
    a, b, c = router.fork(), router.fork(direct=True), router.local()
    ids = a.call(far.grow, "direct") + b.call(far.grow, "fork") + c.call(far.grow, "local")
    all = [a, b, c] + [router.context_by_id(number) for number in ids]
    good = [child.call(far.add, 2, 3) for child in all]
    kinds = {{tuple(child.call(far.kinds_of_stdio)) for child in all}}
    one.sendall(b"mine")
    mine = two.recv(9)
with open({str(result)!r}, "w") as file:
    file.write(repr((low, good, kinds, mine)))
""")
    program(f"import os; os._exit(os.system('{sys.executable} {script}') >> 8)")
    assert eval(result.read_text()) == ([0, 1, 2], [5] * 6, {("char", "pipe", "pipe")}, b"mine")  # noqa: S307
