"""multiprocessing, with forked processes."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import time

from tests.bench import far
from tests.bench.measure import clock, each, median, rate, windowed

forking = multiprocessing.get_context("fork")


def serve(connection):
    """What a message says, until the other end is gone."""
    try:
        while True:
            what, value = connection.recv()
            if what == "echo":
                connection.send(value)
            elif what == "result":
                connection.send_bytes(far.blob(value))
            elif what == "argument":
                connection.send(len(connection.recv_bytes()))
            elif what == "stream":
                for data in far.stream(*value):
                    connection.send_bytes(data)
    except EOFError:
        pass


def report(connection):
    """The first result of a process."""
    connection.send(os.getpid())


class Side:
    """Pipes and pools."""

    def close(self):
        """Nothing is left open."""

    @contextlib.contextmanager
    def pipe(self):
        """A connection to a process that runs ``serve``."""
        ours, theirs = forking.Pipe()

        def target():
            ours.close()
            serve(theirs)

        process = forking.Process(target=target)
        process.start()
        theirs.close()
        yield ours
        ours.close()
        process.join()

    @contextlib.contextmanager
    def round_trip(self, pool=False):
        """A Pipe, or Pool.apply."""
        if pool:
            with forking.Pool(1) as workers:
                yield lambda count: median(each(lambda: workers.apply(far.echo, (1,)), count))
            return
        with self.pipe() as connection:

            def one():
                connection.send(("echo", 1))
                connection.recv()

            yield lambda count: median(each(one, count))

    @contextlib.contextmanager
    def pipelined(self, outstanding):
        """apply_async; all at once: imap."""
        with forking.Pool(1) as workers:
            if outstanding:
                yield lambda count: windowed(
                    lambda: workers.apply_async(far.echo, (1,)), lambda result: result.get(), count, outstanding
                )
            else:
                yield lambda count: rate(lambda: list(workers.imap(far.echo, [1] * count)), count)

    @contextlib.contextmanager
    def bulk(self, direction, size):
        """send_bytes."""
        with self.pipe() as connection:
            data = b"\x5a" * size

            def go():
                connection.send((direction, size))
                if direction == "result":
                    connection.recv_bytes()
                else:
                    connection.send_bytes(data)
                    connection.recv()

            yield lambda count: rate(lambda: [go() for _ in range(count)], size * count)

    @contextlib.contextmanager
    def stream(self, chunk, total):
        """send_bytes of each chunk."""
        with self.pipe() as connection:

            def go():
                connection.send(("stream", (chunk, total // chunk)))
                for _ in range(total // chunk):
                    connection.recv_bytes()

            yield lambda count: rate(lambda: [go() for _ in range(count)], total * count)

    @contextlib.contextmanager
    def start_fork(self, ballast=0):
        """A Process until its first message."""
        kept = [bytes(1000) for _ in range(ballast // 1000)]

        def one():
            start = clock()
            ours, theirs = forking.Pipe()
            process = forking.Process(target=report, args=(theirs,))
            process.start()
            ours.recv()
            took = clock() - start
            process.join()
            ours.close()
            theirs.close()
            return took

        yield lambda count: median([one() for _ in range(count)])
        del kept

    # -- executors, many

    def pool(self, by):
        """ProcessPoolExecutor, or loky's, of two workers."""
        if by == "loky":
            import loky

            return loky.ProcessPoolExecutor(2)
        return concurrent.futures.ProcessPoolExecutor(2, mp_context=forking)

    @contextlib.contextmanager
    def executor(self, outstanding, by):
        """submit."""
        with self.pool(by) as pool:
            list(pool.map(far.echo, range(4)))
            yield lambda count: windowed(
                lambda: pool.submit(far.echo, 1), lambda future: future.result(), count, outstanding
            )

    @contextlib.contextmanager
    def executor_map(self, chunk, by):
        """map."""
        with self.pool(by) as pool:
            list(pool.map(far.echo, range(4)))
            yield lambda count: rate(lambda: list(pool.map(far.echo, range(count), chunksize=chunk)), count)

    @contextlib.contextmanager
    def start_executor(self, by):
        """From nothing to the first result and to nothing again."""

        def go():
            with self.pool(by) as pool:
                pool.submit(far.echo, 1).result()

        yield lambda count: median(each(go, count))

    @contextlib.contextmanager
    def fan_out(self):
        """Processes of this one, each with a Pipe."""

        def run(count):
            growing, memory = far.Growing(), far.status("VmRSS")
            start = clock()
            pairs = []
            while len(pairs) < count and growing.more():
                ours, theirs = forking.Pipe()
                process = forking.Process(target=answer, args=(theirs, ours, [pair[0] for pair in pairs]))
                process.start()
                theirs.close()
                pairs.append((ours, process))
            created = clock() - start
            start = clock()
            for ours, _ in pairs:
                ours.send(None)
            assert len({ours.recv() for ours, _ in pairs}) == len(pairs)
            called = clock() - start
            found = {
                "count": len(pairs),
                "created": created / len(pairs),
                "called": called,
                "memory": growing.each(len(pairs)),
                "master": max(0, far.status("VmRSS") - memory) // len(pairs),
            }
            for ours, process in pairs:
                ours.close()
                process.join()
            return found

        yield run

    @contextlib.contextmanager
    def slow_consumer(self, total):
        """A Queue that is filled there and read slowly here: the other end's peak."""

        def run(count):
            queue, peak = forking.Queue(), forking.Queue()
            process = forking.Process(target=fill, args=(queue, peak, total))
            here = far.reset_peak()
            process.start()
            for number in range(total // 65536):
                queue.get()
                if number % 64 == 0:
                    time.sleep(0.002)  # sleeps: it is slow
            found = {"here": far.peak() - here, "there": peak.get()}
            process.join()
            return found

        yield run


def answer(connection, other, others):
    """Say who this is, when asked, until the other end is gone."""
    for each_other in (other, *others):
        each_other.close()
    try:
        while True:
            connection.recv()
            connection.send(os.getpid())
    except EOFError:
        pass


def fill(queue, peak, total):
    """Put so many bytes, then tell the most memory that this took."""
    before = far.reset_peak()
    for data in far.stream(65536, total // 65536):
        queue.put(data)
    queue.close()
    queue.join_thread()
    peak.put(far.peak() - before)
