"""Checks that run inside a gevent program, each in a process of its own (see test_gevent.py): rows A, GI, CT, 4.1.

Each ``check_*`` is run twice: in a program that is monkey-patched and in one that is not.

Why this file is long: it is a list of checks, each a program of its own.
"""

import concurrent.futures
import gc
import os
import random
import threading
import time

import gevent
import gevent.event
import gevent.subprocess

import contextree
import contextree.gevent
from contextree import processes
from contextree.core import process
from contextree.core.mailbox import Mailbox
from contextree.loops import gevent as adapter
from tests.loops import greens_far as far
from tests.loops.greens_tools import Ticker, interrupt_me, patched, raises, wait_for

Router = contextree.gevent.Router


def native(function, *args):
    """Run ``function`` on a real thread; returns when to call to wait for its end."""
    over = process.waiter()

    def work():
        try:
            function(*args)
        finally:
            over.wake()

    process.start_thread(work, ())
    return lambda: over.wait(40)


def make_ticker():
    return Ticker(gevent.spawn, gevent.sleep)


def idle_hub():
    """Nobody waits in the hub of this thread any more."""
    nest = adapter.nest_here()
    assert nest.held == 0


def check_a_01_storm():
    """20,000 items, four consumers that are killed and timed out at random, two foreign producers: none lost, none
    twice."""
    adapter.install()
    box, out, total = Mailbox(), [], 20_000

    def consume():
        while True:
            try:
                with gevent.Timeout(random.choice((None, 0.0005, 0.002))):
                    item = box.get(random.choice((None, 0.001, 0)))
            except contextree.CallTimeout:
                gevent.sleep(0)
            except gevent.Timeout:
                pass
            except contextree.Closed:
                return
            else:
                out.append(item)

    def produce(start):
        for item in range(start, total, 2):
            box.put(item)

    consumers = [gevent.spawn(consume) for _ in range(4)]
    makers = [native(produce, start) for start in (0, 1)]
    while len(out) < total - 100:
        gevent.sleep(0.001)  # sleeps: other greenlets run meanwhile
        victim = random.randrange(4)
        consumers[victim].kill()
        consumers[victim] = gevent.spawn(consume)
    assert all(over() for over in makers)
    box.close()
    gevent.joinall(consumers, timeout=30)
    assert sorted(out) == list(range(total)), len(out)
    assert not box.waiters
    idle_hub()


def check_a_02_gi_08_everything_cooperates():
    """Other greenlets run during every wait that there is. What is waited for ends when the ticker has ticked
    so often; where it ends at a time, two ticks show that the loop went on."""
    ticker = make_ticker()
    with Router(grace=1.0) as router:
        with ticker.ticks(1):
            worker, local = router.fork(), router.local()
        with ticker.ticks(40):
            worker.call(far.until_there, ticker.after(40))
        with ticker.ticks(20):
            local.submit(far.until_there, ticker.after(20)).result()
        with ticker.ticks(20):
            assert local.submit(far.until_there, ticker.after(20)).exception(30) is None
        with ticker.ticks(2):
            assert list(local.stream(far.count, 0, 5, 0.1)) == [0, 1, 2, 3, 4]
        with ticker.ticks(2):
            raises(contextree.CallTimeout, local.wait, 0.3)  # GI-09
        with ticker.ticks(2):
            raises(contextree.CallTimeout, local.with_options(timeout=0.3).call, far.nap, 30)
        local.kill()
        with ticker.ticks(40):
            ended = gevent.spawn(worker.wait)
            napping = gevent.spawn(worker.call, far.until_there, ticker.after(40))
            napping.join()
        assert not ended.ready()
        worker.shutdown()
        assert isinstance(ended.get(timeout=10), contextree.ContextDied)
        with ticker.ticks(10):
            assert processes.start(["sh", "-c", "until rm %s 2>/dev/null; do sleep 0.02; done" % ticker.after(10)],
                                   reaper=processes.Reaper(router.broker)).wait(30).clean()
        with ticker.ticks(1):
            for child in [gevent.spawn(router.fork) for _ in range(10)]:
                assert child.get().ping() > 0
        with ticker.ticks(5):  # hundreds of calls
            pool = [gevent.spawn(context.call, far.nap, 0.01) for context in router.contexts for _ in range(30)]
            gevent.joinall(pool, raise_error=True)
    ticker.stop()


def check_a_03_cancelled_anywhere():
    """A thousand calls, each timed out or killed at some point: nothing is left of them anywhere."""
    with Router(grace=1.0) as router:
        worker = router.fork()
        raises(gevent.Timeout, lambda: gevent.with_timeout(0.05, worker.call, far.nap, 0.1))
        worker.call(far.me)
        before = router.stats()["router"]["channels"]
        lost = 0
        for number in range(1000):
            job = gevent.spawn(worker.call, abs, -number)
            if number & 1:
                gevent.sleep(random.random() * 0.0004)  # sleeps: other greenlets run meanwhile
                job.kill()
                lost += job.value != number
            else:
                try:
                    with gevent.Timeout(random.random() * 0.0004):
                        assert job.get() == number
                except gevent.Timeout:
                    lost += 1
                    job.kill()
        assert lost, "nothing was cancelled"
        assert worker.call(abs, -5) == 5
        wait_for(lambda: router.stats()["router"]["channels"] <= before, gevent.sleep, "the channels to go")
        idle_hub()
        path = "/tmp/contextree-gevent-%d" % os.getpid()
        reader = gevent.spawn(lambda: [None for _ in worker.stream(far.endless, path)])
        gevent.sleep(0.05)  # sleeps: other greenlets run meanwhile
        reader.kill()
        del reader
        gc.collect()
        wait_for(lambda: os.path.exists(path), gevent.sleep, "the generator to be closed")
        os.unlink(path)


def check_a_04_a_hub_that_is_destroyed():
    """Greenlets of another thread wait; its hub is destroyed: items go to who is left, and the tree lives on."""
    adapter.install()
    box = Mailbox()

    def elsewhere():
        for _ in range(5):
            gevent.spawn(box.get)
        gevent.sleep(0.01)  # sleeps: other greenlets run meanwhile
        assert len(box.waiters) == 5
        gevent.get_hub().destroy()

    with Router(grace=1.0) as router:
        worker = router.fork()
        assert native(elsewhere)()
        mine = [gevent.spawn(box.get) for _ in range(5)]
        wait_for(lambda: len(box.waiters) == 10, gevent.sleep, "ten waiters")
        router.broker.call(lambda: [box.put(number) for number in range(5)])
        assert sorted(one.get(timeout=10) for one in mine) == [0, 1, 2, 3, 4]
        assert not box.waiters and worker.call(abs, -2) == 2


def check_a_06_ct_06_ctrl_c():
    """KeyboardInterrupt reaches the main greenlet while that waits, and everything goes on."""
    ticker = make_ticker()
    with Router(grace=1.0) as router:
        worker = router.fork()
        for wait in (lambda one: one.call(far.nap, 30), lambda one: one.submit(far.nap, 30).result(),
                     lambda one: one.wait(), lambda one: next(one.stream(far.count, 0, 5, 30.0)),
                     lambda one: router.channel().receive()):
            over = native(lambda: (far.nap(0.1), interrupt_me()))
            raises(KeyboardInterrupt, wait, worker)
            assert over()
            worker.kill()
            worker = router.fork()
            assert worker.call(abs, -3) == 3
        with ticker.ticks(10):
            worker.call(far.until_there, ticker.after(10))
        idle_hub()
    ticker.stop()


def check_ct_07_ctrl_c_races_with_delivery():
    """An interrupt beside an item, 500 times: the item comes, once."""
    adapter.install()
    box, go = Mailbox(), process.Waiter()
    rounds, got, interrupts = 500, [], 0

    def deliver():
        for item in range(rounds):
            go.wait()
            for action in random.sample((interrupt_me, lambda item=item: box.put(item)), 2):
                action()

    over = native(deliver)
    expected = 0
    while len(got) < rounds:
        try:
            if len(got) == expected:
                expected += 1
                go.wake()
            while len(got) < expected:
                got.append(box.get(20))
        except KeyboardInterrupt:
            interrupts += 1
    while True:
        try:
            assert over()
            break
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts > rounds / 4
    assert got == list(range(rounds))


def check_a_08_two_hubs():
    """Greenlets of two threads share a router."""
    gevent.sleep(0)  # gevent itself cannot have its first two hubs made at the same time
    results = []
    with Router(grace=1.0) as router:
        worker = router.fork().with_options(threads=4)

        def work(base):
            jobs = [gevent.spawn(worker.call, abs, -base - number) for number in range(100)]
            gevent.joinall(jobs, raise_error=True)
            results.append(sum(job.get() for job in jobs) - 100 * base)
            if base:
                gevent.get_hub().destroy()

        over = native(work, 1000)
        work(0)
        assert over()
        assert results == [4950, 4950]


def check_a_09_many_contexts_beside_subprocesses():
    """50 contexts, gevent's subprocesses and real statuses, all at once."""
    with Router(grace=1.0) as router:
        programs = [gevent.subprocess.Popen(["sh", "-c", "sleep 0.2; exit %d" % (number % 7)]) for number in range(10)]
        jobs = [gevent.spawn(router.fork) for _ in range(50)]
        contexts = [job.get(timeout=40) for job in jobs]
        calls = [gevent.spawn(context.call, far.me) for context in contexts]
        assert len({call.get(timeout=30) for call in calls}) == 50
        assert [one.wait(timeout=20) for one in programs] == [number % 7 for number in range(10)]
        assert gevent.subprocess.call(["false"]) == 1
        died = raises(contextree.ContextDied, contexts[0].call, os._exit, 7)
        assert died.status.exit_status == 7
        assert contexts[1].call(abs, -1) == 1


def check_a_12_no_busy_wake():
    """A thousand items before the consumer gets to run: it is woken at most twice."""
    adapter.install()
    gevent.sleep(0)  # now there is a hub
    box, nest, wakes = Mailbox(), adapter.nest_here(), []
    post = nest.post
    nest.post = lambda *args: wakes.append(args) or post(*args)
    taker = gevent.spawn(lambda: [box.get() for _ in range(1000)])
    gevent.sleep(0)
    assert len(box.waiters) == 1
    assert len([box.put(number) for number in range(1000)]) == 1000
    assert taker.get(timeout=20) == list(range(1000))
    assert 1 <= len(wakes) <= 2


def check_futures():
    """Waited for as gevent's own things are, and as those of concurrent.futures."""
    ticker = make_ticker()
    with Router(grace=1.0) as router:
        worker = router.fork().with_options(threads=8)
        jobs = [worker.submit(far.nap, 0.1 * number) for number in range(3)]
        with ticker.ticks(2):
            assert set(gevent.wait(jobs, timeout=20)) == set(jobs)
        assert gevent.wait(jobs, timeout=20, count=1) and [job.result() for job in jobs] == [0.0, 0.1, 0.2]
        slow = worker.submit(far.nap, 30)
        first = list(gevent.iwait([slow, worker.submit(abs, -1)], count=1))
        assert first[0].result() == 1
        assert not gevent.wait([slow], timeout=0.05)
        idle_hub()
        raises(concurrent.futures.TimeoutError, slow.result, 0.05)
        raises(gevent.Timeout, gevent.with_timeout, 0.05, slow.result)
        waiting = [gevent.spawn(raises, concurrent.futures.CancelledError, slow.result) for _ in range(3)]
        gevent.sleep(0.02)  # sleeps: other greenlets run meanwhile
        assert slow.cancel() and slow.cancelled()
        gevent.joinall(waiting, raise_error=True)
        assert slow._parked == ()
        many = [worker.submit(pow, 2, number) for number in range(100)]
        sharing = [gevent.spawn(job.result) for job in many for _ in range(2)]
        gevent.joinall(sharing, raise_error=True)
        if patched():  # else the standard library's own wait stops the thread: use gevent.wait
            more = [worker.submit(far.nap, 0.2) for _ in range(5)]
            with ticker.ticks(2):
                assert not concurrent.futures.wait(more, 20).not_done
            assert len(list(concurrent.futures.as_completed([worker.submit(far.nap, 0.05) for _ in range(5)], 20))) == 5
        called = gevent.event.Event()
        worker.submit(abs, -1).add_done_callback(lambda future: called.set())
        assert called.wait(20)
        failed = worker.submit(divmod, 1, 0)
        gevent.wait([failed])
        assert isinstance(failed.exception(), ZeroDivisionError)
    ticker.stop()


def check_channels():
    """Channels, both ways: back-pressure stops one greenlet and no other (GI-10)."""
    ticker = make_ticker()
    path = "/tmp/contextree-gevent-%d" % os.getpid()
    with Router(grace=1.0) as router:
        worker = router.fork().with_options(threads=4)
        with worker.channel() as channel:
            answer = worker.submit(far.echo, channel)
            for number in range(50):
                channel.send(number)
            channel.send_eof()
            assert list(channel) == list(range(50))
            answer.result(10)
        with worker.channel() as channel:
            answer = worker.submit(far.slow_reader, channel, path)
            sent = []

            def send():
                for _ in range(160):
                    channel.send(b"x" * 65536)
                    sent.append(1)
                channel.send_eof()

            sender = gevent.spawn(send)
            wait_for(lambda: sent, gevent.sleep, "something to be sent")
            with ticker.ticks(2):
                gevent.sleep(0.5)  # sleeps: other greenlets run meanwhile
            assert not sender.ready() and 0 < len(sent) < 160, "nothing held it back"
            open(path, "w").close()
            with ticker.ticks(1):
                assert channel.receive(20) == 160 * 65536
            os.unlink(path)
            sender.get(timeout=10)
        one, two = worker.channel(), worker.channel()
        done = worker.submit(far.echo, two)
        two.send("hello")
        with ticker.ticks(0):
            assert contextree.select([one, two], 20) == [two]
        raises(gevent.Timeout, gevent.with_timeout, 0.05, contextree.select, [one])
        assert two.receive() == "hello"
        two.send_eof()
        done.result(10)
        two.close()
        one.close()
    ticker.stop()


def check_a_05_in_the_hub():
    """A callback of the hub must not wait: it would freeze all greenlets."""
    with Router(grace=1.0) as router:
        worker = router.fork()
        seen = gevent.event.AsyncResult()

        def callback():
            try:
                seen.set(worker.call(abs, -1))
            except contextree.WouldBlockLoop as error:
                seen.set(str(error))

        gevent.get_hub().loop.run_callback(callback)
        assert "gevent.spawn" in seen.get(timeout=10)


def check_growing_is_cancelled():
    """A greenlet that is killed while its child starts: there is no such child. Other greenlets may grow meanwhile."""
    with Router(grace=1.0) as router:
        router.fork()
        job = gevent.spawn(router.local, python="sh -c 'exec sleep 30' #")
        gevent.sleep(0.1)  # sleeps: other greenlets run meanwhile
        others = [gevent.spawn(router.fork) for _ in range(5)]
        job.kill(timeout=10)
        assert isinstance(job.value, gevent.GreenletExit)
        gevent.joinall(others, raise_error=True)
        wait_for(lambda: len(router.contexts) == 6, gevent.sleep, "the child to be gone")


def check_closing():
    """Several greenlets close; one that is timed out leaves the rest of it to the others."""
    ticker = make_ticker()
    router = Router(grace=0.5)
    worker = router.fork()
    begun = worker.channel()
    worker.submit(far.nap_and_say, begun, 30)
    assert begun.receive(20) == "begun"
    with ticker.ticks(1):
        raises(gevent.Timeout, gevent.with_timeout, 0.05, router.close)
        closers = [gevent.spawn(router.close) for _ in range(3)]
        gevent.joinall(closers, raise_error=True)
    router.close()
    assert router.broker.closed and router.broker.thread is None
    raises(contextree.Closed, router.fork)
    idle_hub()
    ticker.stop()


def check_rm_10_check_of_a_process_is_cancelled():
    """Who waits with ``check`` is killed: the child gets TERM."""
    with Router(grace=1.0) as router:
        child = processes.start(["sleep", "30"], reaper=processes.Reaper(router.broker))
        job = gevent.spawn(child.check)
        gevent.sleep(0.05)  # sleeps: other greenlets run meanwhile
        job.kill()
        assert child.wait(10).killed_with() == 15


def check_logs_flow():
    """Children's log records and our own, both in plenty, while greenlets work."""
    import logging

    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())
            gevent.sleep(0)

    logging.getLogger().addHandler(Keep())
    with Router(grace=1.0, log_level=logging.WARNING) as router:
        workers = [router.fork() for _ in range(3)]
        jobs = [gevent.spawn(worker.call, far.chatter, 50) for worker in workers]
        mine = [gevent.spawn(far.chatter, 50) for _ in range(3)]
        gevent.joinall(jobs + mine, timeout=30, raise_error=True)
    assert len(lines) >= 200


def check_threads_without_a_hub():
    """A real thread of the program that has no hub sleeps as ever, and gets none."""
    from gevent._hub_local import get_hub_if_exists

    with Router(grace=1.0) as router:
        worker = router.fork()
        seen = []
        assert native(lambda: seen.extend([worker.call(far.nap, 0.05), get_hub_if_exists()]))()
        assert seen == [0.05, None]
        hubs = []
        assert router.broker.call(lambda: hubs.append(get_hub_if_exists())) is None
        assert hubs == [None]


def check_unpatched_threads():
    """Threads of the standard library beside greenlets (patched: those are greenlets)."""
    with Router(grace=1.0) as router:
        worker = router.fork().with_options(threads=4)
        got = []
        threads = [threading.Thread(target=lambda: got.append(worker.call(far.nap, 0.02))) for _ in range(8)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 20
        while any(thread.is_alive() for thread in threads) and time.monotonic() < end:
            gevent.sleep(0.005)  # sleeps: other greenlets run meanwhile
        assert got == [0.02] * 8
