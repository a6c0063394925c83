"""A tree without a thread: the program drives it, from its own loop or whenever it waits. Rows CT-02, CT-03, CT-04."""

import logging
import os
import selectors
import signal
import threading
import time

import pytest

import contextree
from contextree.master import driving
from tests.fork.tools import program
from tests.lab.poll import until
from tests.loops import far


@pytest.fixture
def router():
    """A tree that this thread drives."""
    with contextree.Router(thread=False, grace=1.0) as tree:
        yield tree
    assert not driving._driven


def threads():
    """The threads of this process, whoever made them; pytest's own timer is none of ours."""
    return {thread for thread in os.listdir("/proc/self/task") if "pytest_timeout" not in comm(thread)}


def comm(thread):
    with open("/proc/self/task/%s/comm" % thread) as file:
        return file.read()


def test_ct_02_a_twenty_line_selectors_loop():
    """100 calls with a loop of the program's own: no thread is there, and it sleeps while there is nothing to do."""
    text = """
import os, selectors, threading
import contextree
from tests.loops import far

with contextree.Router(thread=False) as router:
    web = router.local()
    turns = 0
    with selectors.DefaultSelector() as selector:
        selector.register(router, selectors.EVENT_READ)
        futures = [web.submit(far.add, number) for number in range(100)]
        while not all(future.done() for future in futures):
            turns += 1
            selector.select(router.next_delay())
            router.poll_once(0)
    assert [future.result() for future in futures] == list(range(1, 101))
    assert threading.active_count() == 1 and len(os.listdir("/proc/self/task")) == 1
    assert turns < 1000, turns
print("good")
"""
    assert program(text, "-W", "error") == "good\n"


def test_ct_02_who_waits_drives(router, tmp_path):
    """The whole synchronous API on the driving thread, without a thread: what waits drives the loop meanwhile."""
    before = threads()
    web, worker = router.local(name="web"), router.fork()
    assert [web.call(far.add, number) for number in range(100)] == list(range(1, 101))
    assert web.call(len, b"x" * 3000000) == 3000000
    below = web.fork()
    assert below.call(far.add, 1) == 2
    assert list(web.stream(range, 1000)) == list(range(1000))
    with web.stream(far.count, str(tmp_path / "closed")) as numbers:
        assert next(numbers) == 0
    with web.channel() as channel:
        echoing = web.with_options(threads=1).submit(far.echo, channel)
        for number in range(50):
            channel.send(number)
            assert channel.receive(20) == number
        assert contextree.select([channel], 0.01) == []
        channel.send_eof()
        assert echoing.result(20) is None
    with pytest.raises(contextree.CallTimeout):
        web.with_options(timeout=0.05).call(far.nap, 0.2)
    with pytest.raises(ValueError, match="no luck"):
        web.call(far.fail, "no luck")
    assert web.ping(20) > 0 and "Thread" in web.dump()
    direct = router.fork(direct=True)
    assert direct.call(far.me) == direct.pid
    worker.shutdown()
    assert "shut down" in str(worker.wait(20))
    below.kill()
    assert router.stats()["loop"]["turns"] > 100
    assert threads() <= before  # none is new; one of an earlier test may have been about to end


def test_modules_logs_and_callbacks_without_a_thread(router, caplog):
    """What contextree has threads for elsewhere is done by the driver, between two turns."""
    before = threads()
    web = router.local()
    called = []
    future = web.submit(far.add, 1)
    future.add_done_callback(lambda future: called.append((future.result(), web.call(far.add, 5))))
    with caplog.at_level(logging.WARNING):
        web.call(logging.getLogger("far").warning, "heard")
        until(lambda: router.poll_once(0.01) or "heard" in caplog.text, "the record")
    until(lambda: router.poll_once(0.01) or called, "the callback")
    assert called == [(2, 6)]
    assert threads() <= before


def test_ct_03_turns_do_not_nest(router):
    """A turn inside a turn is refused, and so is waiting there; both leave the loop as it was."""
    web = router.local()
    said = []

    def inside():
        waits = (lambda: web.call(far.add, 1), lambda: web.ping(1), lambda: web.channel().receive(1))
        for wrong in (router.poll_once, *waits):
            with pytest.raises(contextree.UsageError) as caught:
                wrong()
            said.append(type(caught.value))

    router.broker.defer(inside)
    until(lambda: router.poll_once(0.01) or len(said) == 4, "the turn")
    assert said == [contextree.UsageError] + [contextree.WouldBlockLoop] * 3
    assert web.call(far.add, 1) == 2


def test_ct_04_idle_turns_change_nothing(router):
    """A hundred turns with nothing to do: nothing changes, and nothing is waited for."""
    web = router.local()
    web.call(far.add, 1)
    until(lambda: router.poll_once(0.01) or router.next_delay() != 0, "quiet")

    def state():
        stats = router.stats()
        loop = {key: value for key, value in stats["loop"].items() if key not in ("turns", "slowest", "late")}
        return loop, stats["router"]

    before = state()
    for _ in range(100):
        router.poll_once(0)
    assert state() == before


def test_other_threads_may_call_while_it_is_driven(router):
    web = router.local()
    results = []

    def work():
        results.extend(web.call(far.add, number) for number in range(100))

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        router.poll_once(0.05)
    assert results == list(range(1, 101))


def test_only_its_own_thread_drives(router):
    caught = []

    def wrong():
        try:
            router.poll_once(0)
        except contextree.WrongThread as error:
            caught.append(error)

    thread = threading.Thread(target=wrong)
    thread.start()
    thread.join()
    assert len(caught) == 1
    with contextree.Router() as other, pytest.raises(contextree.UsageError, match="thread=False"):
        other.poll_once()


def test_two_trees_on_one_thread(router):
    """Who waits in one drives both: calls of one that wait for the other come to their end."""
    with contextree.Router(thread=False, name="second") as second:
        first, other = router.local(), second.local()
        futures = [other.submit(far.nap, 0.05), first.submit(far.nap, 0.05)]
        assert first.call(far.add, 1) == 2
        assert [future.result(20) for future in futures] == [0.05, 0.05]
        assert other.call(far.add, 2) == 3
    assert first.call(far.add, 3) == 4


def test_ct_06_ctrl_c_while_it_drives(router):
    """Ctrl-C ends the wait; the loop goes on, and the next call works."""
    web = router.local()
    timer = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        web.with_options(threads=2).call(far.nap, 30)
    timer.join()
    assert web.with_options(threads=2).call(far.add, 1) == 2


def test_a_timer_of_the_loop_is_in_time(router):
    """``next_delay`` says when the next turn is due; not before, and not much later."""
    fired = []
    start = time.monotonic()
    router.broker.timer(0.05, fired.append, 1)
    with selectors.DefaultSelector() as selector:
        selector.register(router, selectors.EVENT_READ)
        while not fired:
            assert router.next_delay() is not None
            selector.select(router.next_delay())
            router.poll_once(0)
    assert time.monotonic() - start >= 0.05


def test_the_driver_ends_and_the_program_with_it():
    """A tree that a thread drove which has ended: the program ends all the same, and its contexts with it."""
    text = """
import threading
import contextree
from tests.loops import far

def work():
    global router, web
    router = contextree.Router(thread=False)
    web = router.local()
    print(web.call(far.add, 1), flush=True)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    assert program(text) == "2\n"
