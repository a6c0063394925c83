"""Checks that run inside a cothread program, each in a process of its own (see test_cothread.py): rows A, CT, GI."""

import concurrent.futures
import contextlib
import os
import random
import threading

import cothread

import contextree
import contextree.cothread
from contextree import processes
from contextree.core import process
from contextree.core.mailbox import Mailbox
from contextree.loops import cothread as adapter
from tests.loops import greens_far as far
from tests.loops.cothread_far import GOOD, use_cothread
from tests.loops.greens_tools import Ticker, interrupt_me, raises, wait_for

Router = contextree.cothread.Router


def spawn(function, *args):
    """A cothread whose exception is for ``Wait``."""
    return cothread.Spawn(function, *args, raise_on_wait=True)


def native(function, *args):
    """Run ``function`` on a real thread; returns what to call to wait for its end."""
    over = process.waiter()

    def work():
        try:
            function(*args)
        finally:
            over.wake()

    process.start_thread(work, ())
    return lambda: over.wait(40)


def check_a_01_storm():
    """20,000 items, four consumers with random timeouts, two foreign producers: none lost, none twice."""
    adapter.install()
    box, out, total = Mailbox(), [], 20_000

    def consume():
        while True:
            try:
                out.append(box.get(random.choice((None, 0.001, 0.0001, 0))))
            except contextree.CallTimeout:
                cothread.Yield()
            except contextree.Closed:
                return

    def produce(start):
        for item in range(start, total, 2):
            box.put(item)

    consumers = [spawn(consume) for _ in range(4)]
    assert all(over() for over in [native(produce, start) for start in (0, 1)])
    box.close()
    cothread.WaitForAll(consumers, 30)
    assert sorted(out) == list(range(total))
    assert not box.waiters


def check_a_02_gi_08_everything_cooperates():
    """Other cothreads run during every wait that there is. What is waited for ends when the ticker has ticked
    so often; where it ends at a time, two ticks show that the loop went on."""
    ticker = Ticker(cothread.Spawn, cothread.Sleep)
    with Router(grace=1.0) as router:
        with ticker.ticks(1):
            worker, local = router.fork(), router.local()
        with ticker.ticks(40):
            worker.call(far.until_there, ticker.after(40))
        with ticker.ticks(20):
            local.submit(far.until_there, ticker.after(20)).result()
        with ticker.ticks(2):
            assert list(local.stream(far.count, 0, 5, 0.1)) == [0, 1, 2, 3, 4]
        with ticker.ticks(2):
            raises(contextree.CallTimeout, local.wait, 0.3)
        with ticker.ticks(2):
            raises(contextree.CallTimeout, local.with_options(timeout=0.3).call, far.nap, 30)
        local.kill()
        with ticker.ticks(10):
            assert processes.start(["sh", "-c", "until rm %s 2>/dev/null; do sleep 0.02; done" % ticker.after(10)],
                                   reaper=processes.Reaper(router.broker)).wait(30).clean()
        with worker.channel() as channel:
            answer = worker.submit(far.echo, channel)
            for number in range(50):
                channel.send(number)
            channel.send_eof()
            with ticker.ticks(0):
                assert list(channel) == list(range(50))
            answer.result(10)
        with ticker.ticks(1):
            for child in cothread.WaitForAll([spawn(router.fork) for _ in range(10)]):
                assert child.ping() > 0
        with ticker.ticks(5):  # hundreds of calls
            cothread.WaitForAll([spawn(one.call, far.nap, 0.01) for one in router.contexts for _ in range(30)])
    ticker.stop()


def check_a_03_timed_out_anywhere():
    """Calls that time out at random points leave nothing behind."""
    with Router(grace=1.0) as router:
        worker = router.fork()
        worker.call(far.me)
        before = router.stats()["router"]["channels"]
        lost = 0
        for number in range(500):
            limited = worker.with_options(timeout=random.random() * 0.003)
            try:  # cothread's shortest sleep is 1 ms: a quick answer is always in time
                assert limited.call(far.nap, number % 5 * 0.001) == number % 5 * 0.001
            except contextree.CallTimeout:
                lost += 1
        assert lost
        assert worker.call(abs, -5) == 5
        wait_for(lambda: router.stats()["router"]["channels"] <= before, cothread.Sleep, "the channels to go")


def check_a_06_ct_06_ctrl_c():
    """KeyboardInterrupt reaches the main cothread while that waits, and everything goes on."""
    ticker = Ticker(cothread.Spawn, cothread.Sleep)
    with Router(grace=1.0) as router:
        worker = router.fork()
        for wait in (lambda one: one.call(far.nap, 30), lambda one: one.submit(far.nap, 30).result(),
                     lambda one: one.wait(), lambda one: router.channel().receive()):
            over = native(lambda: (far.nap(0.1), interrupt_me()))
            raises(KeyboardInterrupt, wait, worker)
            assert over()
            worker.kill()
            worker = router.fork()
            assert worker.call(abs, -3) == 3
        with ticker.ticks(10):
            worker.call(far.until_there, ticker.after(10))
    ticker.stop()


def check_a_12_no_busy_wake():
    """A thousand items before the consumer gets to run: it is woken at most twice."""
    adapter.install()
    box, wakes = Mailbox(), []
    taker = spawn(lambda: [box.get() for _ in range(1000)])
    cothread.Yield()
    waiter = box.waiters[0]
    queue = waiter.queue
    waiter.queue = lambda *args: wakes.append(args) or queue(*args)
    assert native(lambda: [box.put(number) for number in range(1000)])()
    assert taker.Wait(20) == list(range(1000))
    assert 1 <= len(wakes) <= 2


def check_futures():
    """``result`` lets others run, also with several who wait, and after a cancel."""
    with Router(grace=1.0) as router:
        worker = router.fork().with_options(threads=8)
        slow = worker.submit(far.nap, 30)
        raises(concurrent.futures.TimeoutError, slow.result, 0.05)
        waiting = [spawn(raises, concurrent.futures.CancelledError, slow.result) for _ in range(3)]
        cothread.Sleep(0.02)
        assert slow.cancel()
        cothread.WaitForAll(waiting, 10)
        many = [worker.submit(pow, 2, number) for number in range(100)]
        assert cothread.WaitForAll([spawn(job.result) for job in many], 20) == [2**number for number in range(100)]


def check_callbacks_may_wait():
    """cothread's own callback queue runs on one cothread: it may call, too."""
    with Router(grace=1.0) as router:
        worker = router.fork()
        done = cothread.Event()
        cothread.Callback(lambda: done.Signal(worker.call(abs, -3)))
        assert done.Wait(10) == 3
        from_thread = []
        assert native(lambda: from_thread.append(cothread.CallbackResult(worker.call, abs, -4)))()
        assert from_thread == [4]


def check_other_threads():
    """Real threads of the program sleep as ever, and cothreads run meanwhile."""
    with Router(grace=1.0) as router:
        worker = router.fork().with_options(threads=4)
        got = []
        threads = [threading.Thread(target=lambda: got.append(worker.call(far.nap, 0.02))) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(got) == 8, cothread.Sleep, "the threads")
        for thread in threads:
            thread.join()
        assert got == [0.02] * 8


def check_ct_20_one_of_five_fails():
    """Who waits for all lets the rest go when one fails: no waiter stays, and later items go to new ones."""
    with Router(grace=1.0) as router:
        worker = router.fork().with_options(threads=8)
        jobs = [spawn(worker.call, far.nap, 0.02) for _ in range(2)]
        jobs += [spawn(worker.call, divmod, 1, 0)] + [spawn(worker.call, far.nap, 0.05) for _ in range(2)]
        raises(ZeroDivisionError, cothread.WaitForAll, jobs, 10)
        box = Mailbox()
        raises(contextree.CallTimeout, box.get, 0.01)
        assert not box.waiters
        taker = spawn(box.get)
        cothread.Yield()
        box.put("for the new one")
        assert taker.Wait(10) == "for the new one"
        wait_for(lambda: not router.engine.core.channels, cothread.Sleep, "the channels to go")


def check_closing():
    """Two cothreads close: both come back when all is gone."""
    router = Router(grace=0.5)
    worker = router.fork()
    begun = worker.channel()
    worker.submit(far.nap_and_say, begun, 30)
    assert begun.receive(20) == "begun"
    cothread.WaitForAll([spawn(router.close) for _ in range(2)], 20)
    assert router.broker.closed and router.broker.thread is None


def fork_and_use(how):
    """Children of all kinds use cothread; the cothreads of this process run here alone, and are woken as before."""
    reader, writer = os.pipe()
    pid = os.getpid()

    def tell():
        try:
            while running:
                os.write(writer, b"h" if os.getpid() == pid else b"x")
                cothread.Sleep(0.005)
        finally:
            os.write(writer, b"f" if os.getpid() == pid else b"y")

    running = [True]
    teller = spawn(tell)
    cothread.Timer(0.1, lambda: os.write(writer, b"t" if os.getpid() == pid else b"z"))
    cothread.Yield()
    with Router(grace=1.0) as router:
        for direct in (True, False, True):
            child = how(lambda direct=direct: router.fork(direct=direct))
            for _ in range(2):
                assert child.call(use_cothread) == (GOOD, child.pid)
        event = cothread.Event()
        assert native(cothread.Callback, event.Signal, "still woken")()
        assert event.Wait(10) == "still woken"
    running.clear()
    teller.Wait(10)
    seen = os.read(reader, 65536)
    os.close(reader)
    os.close(writer)
    return seen


def check_a_07_fork_in_the_main_cothread():
    assert set(fork_and_use(lambda fork: fork())) == set(b"htf")


def check_a_07_fork_in_another_cothread():
    assert set(fork_and_use(lambda fork: spawn(fork).Wait(20))) == set(b"htf")


def check_a_07_fork_in_a_thread():
    """Forked by a real thread the child's cothread belongs to that thread, which is its main one."""

    def how(fork):
        box = []
        assert native(lambda: box.append(fork()))()
        return box[0]

    assert set(fork_and_use(how)) == set(b"htf")


def check_a_07_without_the_reset():
    """What the reset is for: without it cothreads of the parent run in the child as well, or it aborts."""
    from contextree.parent import fork

    fork.forget_cothread = lambda module: None
    with contextlib.suppress(contextree.ContextDied):
        assert {ord("x"), ord("z")} & set(fork_and_use(lambda fork: fork()))
