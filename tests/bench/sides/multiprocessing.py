"""multiprocessing, with forked processes."""

import contextlib
import multiprocessing
import os

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
