"""contextree."""

import contextlib
import gc
import itertools
import os
import sys
import threading
import time

import contextree
from contextree.master import bundle
from tests.bench import far
from tests.bench.measure import clock, each, held, median, pss, quantile, rate, windowed
from tests.bench.sides.raw import forked_byte


class Side:
    """A router, and a local child for what needs one."""

    def __init__(self):
        self.router = contextree.Router()

    def close(self):
        """End the tree."""
        self.router.close()

    @contextlib.contextmanager
    def local(self, **options):
        """A child that has been called once."""
        with self.router.local(**options) as context:
            context.call(far.echo, 1)
            yield context

    @contextlib.contextmanager
    def round_trip(self):
        """One call after the other."""
        with self.local() as context:
            call = context.call
            self.pids = [context.pid]
            yield lambda count: median(each(lambda: call(far.echo, 1), count))

    @contextlib.contextmanager
    def pipelined(self, outstanding):
        """submit()."""
        with self.local() as context:
            submit = context.submit
            self.pids = [context.pid]
            yield lambda count: windowed(
                lambda: submit(far.echo, 1), lambda future: future.result(), count, outstanding
            )

    @contextlib.contextmanager
    def bulk(self, direction, size):
        """A call with that many bytes as its result or its argument."""
        with self.local() as context:
            data = b"\x5a" * size
            go = {"result": lambda: context.call(far.blob, size), "argument": lambda: context.call(far.size_of, data)}[
                direction
            ]
            go()
            yield lambda count: rate(lambda: [go() for _ in range(count)], size * count)

    @contextlib.contextmanager
    def stream(self, chunk, total):
        """A generator there, iterated over here."""
        with self.local() as context:

            def go():
                for _ in context.stream(far.stream, chunk, total // chunk):
                    pass

            go()
            yield lambda count: rate(lambda: [go() for _ in range(count)], total * count)

    @contextlib.contextmanager
    def ping(self, what):
        """p50 and p99 of pings, or of calls on a thread there, with the link idle and with a stream of 64 KiB on it."""
        with self.local() as context:
            twin = context.with_options(threads=2)
            twin.call(far.echo, 1)
            one = {"ping": context.ping, "call": lambda: twin.call(far.echo, 1)}[what]

            def run(count):
                idle = each(one, count)
                stop = threading.Event()
                flowing = threading.Event()

                def take():
                    with context.stream(far.stream, 65536, 10**9) as items:
                        for _ in items:
                            flowing.set()
                            if stop.is_set():
                                return

                thread = threading.Thread(target=take)
                thread.start()
                flowing.wait()
                busy = each(one, count)
                stop.set()
                thread.join()
                return {
                    "idle": quantile(idle, 0.99),
                    "busy": quantile(busy, 0.99),
                    "idle p50": median(idle),
                    "busy p50": median(busy),
                }

            yield run

    # -- starts

    def first_result(self, grow):
        """Seconds until the first result of a child, which is ended afterwards."""
        start = clock()
        context = grow()
        context.call(os.getpid)
        took = clock() - start
        context.shutdown()
        return took

    @contextlib.contextmanager
    def start_local(self):
        """exec'd."""
        yield lambda count: median([self.first_result(self.router.local) for _ in range(count)])

    @contextlib.contextmanager
    def start_ssh(self, host, config):
        """By the system's ssh."""
        yield lambda count: median(
            [self.first_result(lambda: self.router.ssh(host, ssh_config=config)) for _ in range(count)]
        )

    @contextlib.contextmanager
    def start_fork(self, direct=False, ballast=0, raw=False):
        """Forked; ``raw``: this very process by the system's calls alone, for comparison."""
        kept = [bytes(1000) for _ in range(ballast // 1000)]
        if raw:
            yield lambda count: median([forked_byte() for _ in range(count)])
        else:
            self.first_result(lambda: self.router.fork(direct=direct))
            yield lambda count: median(
                [self.first_result(lambda: self.router.fork(direct=direct)) for _ in range(count)]
            )
        del kept

    @contextlib.contextmanager
    def far_import(self, delay, script, folder, module):
        """Seconds until the first result behind a line with that delay, and of a call that imports a package."""
        sys.path.insert(0, folder)

        def run(count):
            start = clock()
            with self.router.local(python=[sys.executable, "-ES", script, str(delay), sys.executable]) as context:
                context.call(os.getpid)
                up = clock() - start
                plain = median(each(lambda: context.call(os.getpid), 3))
                start = clock()
                context.call(__import__(module, fromlist=["work"]).work)
                return {"start": up, "plain": plain, "import": clock() - start}

        yield run
        sys.path.remove(folder)

    # -- what it takes

    @contextlib.contextmanager
    def bundle(self):
        """Bytes that go to every child."""
        yield lambda count: len(bundle.build())

    @contextlib.contextmanager
    def idle_child(self, fork=False):
        """The memory of a child that has answered one call."""
        with self.router.fork() if fork else self.router.local() as context:
            context.call(far.echo, 1)
            yield lambda count: pss(context.pid)

    @contextlib.contextmanager
    def crowd(self, fork=True):
        """Many children at once: created, called, shut down; what is left in this process, and its memory."""
        self.first_result(self.router.fork)  # the template is no leak

        def run(count):
            gc.collect()
            before, memory = held(), far.status("VmRSS")
            start = clock()
            contexts = [self.router.fork() if fork else self.router.local() for _ in range(count)]
            created = clock() - start
            pids = {future.result() for future in [context.submit(os.getpid) for context in contexts]}
            assert len(pids) == count
            top = far.status("VmRSS")
            for context in contexts:
                context.shutdown()
            took = clock() - start
            del contexts, context
            gc.collect()
            after = held()
            left = {name: after[name] - before[name] for name in after}
            return {
                **left,
                "created": created,
                "all": took,
                "grown": far.status("VmRSS") - memory,
                "at its height": top - memory,
            }

        yield run

    @contextlib.contextmanager
    def slow_reader(self, total, pause):
        """A stream whose reader takes its time: peak memory of both ends above what it was, and calls meanwhile."""
        with self.local() as context, self.local() as second:
            twin = context.with_options(threads=1)
            others = {"another": lambda: second.call(far.echo, 1), "same": lambda: twin.call(far.echo, 1)}
            for _ in context.stream(far.stream, 65536, 100):
                pass

            def run(count):
                idle = {name: median(each(one, 30)) for name, one in others.items()}
                there, here = twin.call(far.reset_peak), far.reset_peak()
                done = threading.Event()

                def take():
                    for number in itertools.count():
                        item = next(items, None)
                        if item is None:
                            break
                        if number % 16 == 0:
                            time.sleep(pause)  # sleeps: it is a slow reader
                    done.set()

                items = context.stream(far.stream, 65536, total // 65536)
                thread = threading.Thread(target=take)
                thread.start()
                times = {name: [] for name in others}
                while not done.wait(0.005):
                    for name, one in others.items():
                        times[name] += each(one, 1)
                thread.join()
                found = {"here": far.peak() - here, "there": twin.call(far.peak) - there}
                for name in others:
                    found[name + " idle"] = idle[name]
                    found[name + " busy"] = median(times[name])
                return found

            yield run
