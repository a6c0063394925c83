"""Checks of children of gevent programs, each in a process of its own (see test_gevent_children.py).

Each is run in a program that is monkey-patched and in one that is not.
"""

import os
import signal
import socket

import gevent
import gevent.event
import gevent.subprocess

import contextree
import contextree.gevent
from contextree.core import process
from contextree.parent import fork
from tests.fork.far import signals
from tests.gi.gevent_far import GOOD, collect, hub_facts, use_gevent
from tests.loops import greens_far as far
from tests.loops.greens_tools import raises

PID = os.getpid()


def Router(**options):  # noqa: N802  it stands for the class
    """One whose children may import what gevent imports: zope.interface looks for zope.schema."""
    return contextree.gevent.Router(share=["zope.*"], **options)


class Witness:
    """A pipe into which whatever runs says where: ``seen()`` is {(what, "here" or "in a child")}."""

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def say(self, what):
        os.write(self.writer, b"%s %s\n" % (what.encode(), b"here" if os.getpid() == PID else b"in a child"))

    def seen(self):
        os.set_blocking(self.reader, False)
        text = b""
        try:
            while part := os.read(self.reader, 65536):
                text += part
        except BlockingIOError:
            pass
        return {tuple(line.split(" ", 1)) for line in text.decode().splitlines()}


def children(router):
    """Forked every way: from the main greenlet, another greenlet, the template."""
    yield router.fork(direct=True)
    yield gevent.spawn(router.fork, direct=True).get(timeout=20)
    yield router.fork()
    yield gevent.spawn(router.fork).get(timeout=20)


def check_gi_01_a_fresh_hub():
    """Another hub, another loop, the default one; no event poll that is the parent's."""
    gevent.sleep(0.001)  # sleeps: other greenlets run meanwhile
    mine = hub_facts()
    with Router(grace=1.0) as router:
        for child in children(router):
            hub, default, fileno, polls = child.call(hub_facts)
            assert default and len(polls) == 2 and fileno in polls, polls  # the other one is contextree's
            own = set(child.call(os.listdir, "/proc/self/fd"))
            assert all(str(fd) in own for watched in polls.values() for fd in watched)
            assert hub != mine[0] or child.parent is None
    assert hub_facts()[0] == mine[0]


def check_a_07_children_use_gevent():
    """Greenlets, timers, threads' wakes, subprocesses and resolver work there, and still do here."""
    assert gevent.subprocess.call(["true"]) == 0  # so that libev has its handler of SIGCHLD
    with Router(grace=1.0) as router:
        for child in children(router):
            for _ in range(2):
                assert child.call(use_gevent) == (GOOD, child.pid)
        assert use_gevent()[0] == GOOD
        woken = gevent.event.Event()
        loop = gevent.get_hub().loop
        process.start_thread(loop.run_callback_threadsafe, (woken.set,))
        assert woken.wait(10)


def check_gi_19_no_handler_of_libev():
    """libev's handler of SIGCHLD, and one of the program's: neither is the child's."""
    assert gevent.subprocess.call(["true"]) == 0
    loop = gevent.get_hub().loop
    watcher = loop.signal(signal.SIGUSR2)
    watcher.start(lambda: None)
    with Router(grace=1.0) as router:
        for child in children(router):
            assert child.call(signals)["SigCgt"] - {32, 33} == {signal.SIGINT}
    watcher.stop()


def check_gi_02_gi_04_gi_05_nothing_inherited_runs():
    """Greenlets that sleep, wait, are ready or not begun; timers, io, signal and async watchers: all run here alone,
    and no ``finally`` runs there, whatever is collected."""
    witness = Witness()
    loop = gevent.get_hub().loop
    event, channel = gevent.event.Event(), socket.socketpair()

    def sleeper():
        try:
            gevent.sleep(0.05)  # sleeps: other greenlets run meanwhile
            witness.say("slept")
        finally:
            witness.say("finally")

    def waiter():
        try:
            event.wait()
            witness.say("waited")
        finally:
            witness.say("finally")

    def ready():
        try:
            gevent.sleep(0)
            gevent.sleep(0)
            witness.say("ready")
        finally:
            witness.say("finally")

    jobs = [gevent.spawn(sleeper), gevent.spawn(waiter), gevent.spawn_later(0.05, witness.say, "later")]
    watchers = [loop.timer(0.05), loop.io(channel[0].fileno(), 1), loop.async_(), loop.signal(signal.SIGUSR1)]
    for watcher, what in zip(watchers, ("timer", "io", "async", "signal"), strict=True):
        watcher.start(lambda what=what, watcher=watcher: (watcher.stop(), witness.say(what)))
    gevent.sleep(0)
    with Router(grace=1.0) as router:
        router.fork(name="warm").shutdown()
        late = [gevent.spawn(ready), gevent.spawn(witness.say, "new")]
        for child in list(children(router)):
            assert child.call(use_gevent, 0.2) == (GOOD, child.pid)
            assert child.call(collect) == 0
            assert child.call(use_gevent)[0] == GOOD
        channel[1].send(b"x")
        watchers[2].send()
        os.kill(PID, signal.SIGUSR1)
        event.set()
        gevent.joinall(jobs + late, timeout=10)
        gevent.sleep(0.05)  # sleeps: other greenlets run meanwhile
    expected = {"slept", "finally", "waited", "ready", "later", "new", "timer", "io", "async", "signal"}
    for end in channel:
        end.close()
    assert witness.seen() == {(what, "here") for what in expected}


def about_to_send():
    """(where a message comes out, the greenlet that is about to send it)."""
    reader, writer = os.pipe()

    def send():
        gevent.sleep(0.1)  # sleeps: other greenlets run meanwhile
        os.write(writer, b"message ")
        os.close(writer)

    sender = gevent.spawn(send)
    gevent.sleep(0)
    return reader, sender


def seed():
    """The messages that come out where a greenlet is about to send one while its process forks."""
    reader, sender = about_to_send()
    with Router(grace=1.0) as router:
        child = router.fork(direct=True)
        assert child.call(use_gevent, 0.3)[1] == child.pid
        sender.join()
    return os.read(reader, 100)


def check_gi_03_exactly_one_message():
    assert seed() == b"message "


def check_gi_03_without_the_reset_there_are_two():
    """What the reset is for: the example's fault shows in a plain fork. (A context would be no measure: its fork shares
    the event poll of its parent, and takes away what wakes that.)"""
    assert plain_fork(fork.forget_loops) == b"message "
    assert plain_fork(lambda: None) == b"message message "


def plain_fork(reset):
    """As ``seed``, by the fork of the system, after which ``reset`` is called in the child."""
    reader, sender = about_to_send()
    pid = process.unpatched("os", "fork")()
    if pid == 0:
        status = 1
        try:
            reset()
            gevent.sleep(0.2)  # sleeps: what was inherited would run now
            status = 0
        finally:
            os._exit(status)
    assert process.unpatched("os", "waitpid")(pid, 0)[1] == 0  # nothing runs here meanwhile
    sender.join()
    message = os.read(reader, 100)
    os.close(reader)
    return message


def check_gi_06_garbage_of_generations():
    """20 generations of direct forks: what each leaves to the next is less than 1 MB."""
    gevent.sleep(0.001)  # sleeps: other greenlets run meanwhile
    with Router(grace=2.0) as router:
        top = router.fork(direct=True).with_options(timeout=40)
        sizes = [size for _, size in top.call(far.grow_direct, 19)]
        assert len(sizes) == 20
        assert sizes[-1] - sizes[0] < 19 * 1024, sizes


def check_gi_14_handles_in_a_fork_of_the_user():
    """Contexts, channels, streams, futures: ForkedError there, and nothing happened here."""
    with Router(grace=1.0) as router:
        worker = router.fork().with_options(threads=4)
        channel, stream = worker.channel(), worker.stream(far.count, 0, 1000)
        echo = worker.submit(far.echo, channel)
        channel.send("before")
        assert channel.receive(10) == "before" and next(stream) == 0
        reader, writer = os.pipe()
        pid = process.unpatched("os", "fork")()
        if pid == 0:
            try:
                uses = [lambda: worker.call(abs, -1), lambda: worker.submit(abs, -1), lambda: next(stream),
                        lambda: channel.send("no"), lambda: channel.receive(1), lambda: echo.result(1),
                        lambda: contextree.select([channel], 1), router.fork, router.close, worker.shutdown]
                for use in uses:
                    raises(contextree.ForkedError, use)
                channel.close()
                stream.close()
                os.write(writer, b"refused")
            except BaseException as error:
                os.write(writer, repr(error).encode())
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert os.read(reader, 1000) == b"refused"
        channel.send("after")
        assert channel.receive(10) == "after" and next(stream) == 1
        channel.send_eof()
        echo.result(10)
        channel.close()
        stream.close()


def check_gi_16_locks_held_at_the_fork():
    """Greenlets and threads are in the middle of using handles when the process forks: the child is free."""
    with Router(grace=1.0) as router:
        worker = router.fork().with_options(threads=8)
        channel = worker.channel()
        readers = [gevent.spawn(channel.receive) for _ in range(2)]
        stop = []

        def busy():
            while not stop:
                worker.call(far.nap, 0.001)

        over = process.Waiter()
        process.start_thread(lambda: (busy(), over.wake()), ())
        for _ in range(5):
            child = router.fork(direct=True)
            assert child.call(far.grow_direct, 1)
            child.shutdown()
        stop.append(True)
        assert over.wait(20)
        gevent.killall(readers)
        channel.close()


def check_gi_20_the_resolver_is_busy_at_the_fork():
    """Threads of gevent's pool are resolving when the process forks: the child resolves all the same."""
    pool = gevent.get_hub().threadpool
    busy = [pool.spawn(process.unpatched("time", "sleep"), 1.0) for _ in range(5)]
    jobs = [gevent.spawn(gevent.get_hub().resolver.getaddrinfo, "localhost", 80) for _ in range(10)]
    gevent.sleep(0)
    with Router(grace=1.0) as router:
        for child in children(router):
            assert child.with_options(timeout=20).call(use_gevent)[0] == GOOD
    gevent.joinall(jobs, timeout=10, raise_error=True)
    for one in busy:
        one.get()


def check_gi_23_beside_libev():
    """libev waits for any child: our statuses are right, recovered or LOST with a reason, never an invented 0; gevent's
    are right."""
    assert gevent.subprocess.call(["true"]) == 0
    with Router(grace=1.0) as router:
        for _ in range(5):
            for how in ({"direct": True}, {}):
                child = router.fork(**how)
                program = gevent.subprocess.Popen(["sh", "-c", "exit 5"])
                died = raises(contextree.ContextDied, child.call, os._exit, 7)
                assert died.status.exit_status == 7 or died.status.reason, died.status
                assert not died.status.clean()
                assert program.wait(timeout=10) == 5


def check_forked_by_a_thread():
    """A real thread forks directly: the child's greenlets are its own, on that thread; the old hub never runs."""
    witness = Witness()

    def tick():
        while True:
            witness.say("tick")
            gevent.sleep(0.005)  # sleeps: other greenlets run meanwhile

    ticker = gevent.spawn(tick)
    gevent.sleep(0.01)  # sleeps: other greenlets run meanwhile
    with Router(grace=1.0) as router:
        box = []
        over = process.waiter()
        process.start_thread(lambda: (box.append(router.fork(direct=True)), over.wake()), ())
        assert over.wait(20)
        assert box[0].call(greenlets_alone) == [0, 1, 2]
        assert not ticker.dead
    ticker.kill()
    assert witness.seen() == {("tick", "here")}


def greenlets_alone():
    """Three greenlets of this process."""
    done = []
    jobs = [gevent.spawn_later(0.02 * number, done.append, number) for number in range(3)]
    gevent.joinall(jobs, timeout=10)
    gevent.sleep(0.2)  # sleeps: what was inherited would run now
    return done
