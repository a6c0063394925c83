"""contextree."""

import contextlib
import gc
import itertools
import os
import shutil
import sys
import tempfile
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

    # -- over ssh, files

    @contextlib.contextmanager
    def ssh_stream(self, host, config, direction, size):
        """A stream from there, or a channel to there, in pieces of 256 KiB."""
        piece = min(size, 1 << 18)
        with self.router.ssh(host, ssh_config=config) as context:
            context.call(far.echo, 1)

            def down():
                for _ in context.stream(far.stream, piece, size // piece):
                    pass

            def up():
                with context.channel() as channel:
                    count = context.submit(far.absorb, channel)
                    for data in far.stream(piece, size // piece):
                        channel.send(data)
                    channel.send_eof()
                    assert count.result() == size

            go = down if direction == "down" else up
            go()
            yield lambda count: rate(lambda: [go() for _ in range(count)], size * count)

    @contextlib.contextmanager
    def move_file(self, direction, source, folder):
        """put, or get."""
        with self.local() as context:
            yield self.mover(context, direction, source, os.path.join(folder, "target"))

    @contextlib.contextmanager
    def ssh_file(self, host, config, direction, source):
        """put, or get, over one connection."""
        with self.router.ssh(host, ssh_config=config) as context, tempfile.TemporaryDirectory() as folder:
            if direction == "get":
                yield self.mover(context, direction, source, os.path.join(folder, "target"))
                return
            there = context.call(tempfile.mkdtemp)
            yield self.mover(context, direction, source, there + "/target")
            context.call(shutil.rmtree, there)

    def mover(self, context, direction, source, target):
        """A function that moves a file so many times; bytes a second."""
        size = os.stat(source).st_size
        move = context.put if direction == "put" else context.get
        return lambda count: rate(lambda: [move(source, target) for _ in range(count)], size * count)

    # -- executors, many

    @contextlib.contextmanager
    def executor(self, outstanding, by=""):
        """contextree.Executor of two workers."""
        with contextree.Executor(2) as pool:
            list(pool.map(far.echo, range(4)))
            yield lambda count: windowed(
                lambda: pool.submit(far.echo, 1), lambda future: future.result(), count, outstanding
            )

    @contextlib.contextmanager
    def executor_map(self, chunk, by=""):
        """Its map."""
        with contextree.Executor(2) as pool:
            list(pool.map(far.echo, range(4)))
            yield lambda count: rate(lambda: list(pool.map(far.echo, range(count), chunksize=chunk)), count)

    @contextlib.contextmanager
    def start_executor(self, by=""):
        """From nothing to the first result and to nothing again."""

        def go():
            with contextree.Executor(2) as pool:
                pool.submit(far.echo, 1).result()

        yield lambda count: median(each(go, count))

    @contextlib.contextmanager
    def fan_out(self):
        """Forks, then one call in all of them."""
        self.first_result(self.router.fork)

        def run(count):
            growing, memory = far.Growing(), far.status("VmRSS")
            start = clock()
            contexts = []
            while len(contexts) < count and growing.more():
                contexts.append(self.router.fork())
            created = clock() - start
            start = clock()
            pids = set(contextree.gather(contexts, far.pid, concurrency=len(contexts)).values())
            called = clock() - start
            assert len(pids) == len(contexts)
            found = {
                "count": len(contexts),
                "created": created / len(contexts),
                "called": called,
                "memory": growing.each(len(contexts)),
                "master": max(0, far.status("VmRSS") - memory) // len(contexts),
            }
            self.router.close()
            self.router = contextree.Router()
            return found

        yield run

    @contextlib.contextmanager
    def slow_consumer(self, what, total):
        """Something that is taken slowly: peak memory of both ends above what it was."""
        with self.local() as context:
            twin = context.with_options(threads=1)
            for _ in context.stream(far.stream, 65536, 100):
                pass

            seen = itertools.count()

            def take(data):
                if next(seen) % 64 == 0:
                    time.sleep(0.002)  # sleeps: it is slow
                return len(data)

            def go():
                if what == "channel":
                    with context.channel() as channel:
                        context.submit(far.pour, channel, 65536, total)
                        return sum(map(take, channel))
                if what == "file":
                    with tempfile.NamedTemporaryFile() as file:
                        file.truncate(total)
                        os.posix_fallocate(file.fileno(), 0, total)
                        return context.get(file.name, Slow(take), sparse=False).size
                sizes = []
                context.run(["head", "-c", str(total), "/dev/zero"], stdout=lambda data: sizes.append(take(data)))
                return sum(sizes)

            def run(count):
                there, here = twin.call(far.reset_peak), far.reset_peak()
                assert go() == total
                return {"here": far.peak() - here, "there": twin.call(far.peak) - there}

            yield run


class Slow:
    """A binary file object that only counts."""

    def __init__(self, take):
        self.write = take
