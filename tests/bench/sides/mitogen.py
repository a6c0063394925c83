"""mitogen."""

import contextlib
import os
import sys
import threading
import time

import mitogen.core
import mitogen.master
import mitogen.parent
import mitogen.service

from tests.bench import far
from tests.bench.measure import clock, each, median, pss, quantile, rate, windowed


class Side:
    """A broker and a router."""

    def __init__(self):
        self.broker = mitogen.master.Broker()
        self.router = mitogen.master.Router(self.broker)

    def close(self):
        """End its broker."""
        self.broker.shutdown()
        self.broker.join()

    @contextlib.contextmanager
    def local(self):
        """A child that has been called once."""
        context = self.router.local(python_path=sys.executable)
        context.call(far.echo, 1)
        try:
            yield context
        finally:
            context.shutdown(wait=True)

    @contextlib.contextmanager
    def round_trip(self):
        """One call after the other."""
        with self.local() as context:
            yield lambda count: median(each(lambda: context.call(far.echo, 1), count))

    @contextlib.contextmanager
    def pipelined(self, outstanding):
        """call_async()."""
        with self.local() as context:
            yield lambda count: windowed(
                lambda: context.call_async(far.echo, 1), lambda receiver: receiver.get().unpickle(), count, outstanding
            )

    @contextlib.contextmanager
    def bulk(self, direction, size):
        """A call with that many bytes as its result or its argument."""
        with self.local() as context:
            data = b"\x5a" * size
            go = {"result": lambda: context.call(far.blob, size), "argument": lambda: context.call(far.size_of, data)}[
                direction
            ]
            yield lambda count: rate(lambda: [go() for _ in range(count)], size * count)

    @contextlib.contextmanager
    def stream(self, chunk, total):
        """A Sender there and a Receiver here."""
        with self.local() as context:

            def go():
                receiver = mitogen.core.Receiver(self.router)
                answer = context.call_async(far.send_to, receiver.to_sender(), chunk, total // chunk)
                for message in receiver:
                    message.unpickle()
                answer.get().unpickle()

            yield lambda count: rate(lambda: [go() for _ in range(count)], total * count)

    @contextlib.contextmanager
    def ping(self, what):
        """Calls with the link idle and with messages of 64 KiB on it, which a thread there sends. It has no ping."""
        with self.local() as context:

            def run(count):
                idle = each(lambda: context.call(far.echo, 1), count)
                receiver = mitogen.core.Receiver(self.router)
                number = 200 + count * 10
                context.call(far.send_beside, receiver.to_sender(), 65536, number)
                done = threading.Event()

                def take():
                    for message in receiver:
                        message.unpickle()
                    done.set()

                thread = threading.Thread(target=take)
                thread.start()
                busy = []
                while not busy or (len(busy) < count and not done.is_set()):
                    busy += each(lambda: context.call(far.echo, 1), 1)
                thread.join()
                return {
                    "idle": quantile(idle, 0.99),
                    "busy": quantile(busy, 0.99),
                    "idle p50": median(idle),
                    "busy p50": median(busy),
                }

            yield run

    def first_result(self, grow):
        """Seconds until the first result of a child, which is ended afterwards."""
        start = clock()
        context = grow()
        context.call(os.getpid)
        took = clock() - start
        context.shutdown(wait=True)
        return took

    @contextlib.contextmanager
    def start_local(self):
        """exec'd."""
        yield lambda count: median(
            [self.first_result(lambda: self.router.local(python_path=sys.executable)) for _ in range(count)]
        )

    @contextlib.contextmanager
    def start_ssh(self, host, config):
        """By the system's ssh."""

        def grow():
            return self.router.ssh(
                hostname=host, ssh_args=["-F", config], check_host_keys="ignore", python_path="python3"
            )

        yield lambda count: median([self.first_result(grow) for _ in range(count)])

    @contextlib.contextmanager
    def start_fork(self):
        """From its fork parent."""

        def grow():
            return self.router.fork()

        self.first_result(grow)
        yield lambda count: median([self.first_result(grow) for _ in range(count)])

    @contextlib.contextmanager
    def far_import(self, delay, script, folder, module):
        """As contextree's."""
        sys.path.insert(0, folder)

        def run(count):
            start = clock()
            context = self.router.local(python_path=[sys.executable, "-ES", script, str(delay), sys.executable])
            try:
                context.call(os.getpid)
                up = clock() - start
                plain = median(each(lambda: context.call(os.getpid), 3))
                start = clock()
                context.call(__import__(module, fromlist=["work"]).work)
                return {"start": up, "plain": plain, "import": clock() - start}
            finally:
                context.shutdown(wait=True)

        yield run
        sys.path.remove(folder)

    @contextlib.contextmanager
    def bundle(self):
        """Its core as it is sent: minified and compressed; the configuration behind it not counted."""
        yield lambda count: len(mitogen.parent.get_core_source_partial().append(b""))

    @contextlib.contextmanager
    def idle_child(self):
        """The memory of a child that has answered one call."""
        with self.local() as context:
            pid = context.call(os.getpid)
            yield lambda count: pss(pid)

    @contextlib.contextmanager
    def slow_reader(self, total, pause):
        """Peak memory of this end with a Receiver that is read slowly."""
        with self.local() as context:

            def run(count):
                here = far.reset_peak()
                receiver = mitogen.core.Receiver(self.router)
                answer = context.call_async(far.send_to, receiver.to_sender(), 65536, total // 65536)
                for number, message in enumerate(receiver):
                    message.unpickle()
                    if number % 16 == 0:
                        time.sleep(pause)  # sleeps: it is a slow reader
                answer.get().unpickle()
                return {"here": far.peak() - here}

            yield run

    @contextlib.contextmanager
    def ssh_stream(self, host, config, direction, size):
        """A Sender there and a Receiver here; or a call with an argument of that size."""
        context = self.router.ssh(
            hostname=host, ssh_args=["-F", config], check_host_keys="ignore", python_path="python3"
        )
        piece = min(size, 1 << 18)
        data = b"\x5a" * size

        def down():
            receiver = mitogen.core.Receiver(self.router)
            answer = context.call_async(far.send_to, receiver.to_sender(), piece, size // piece)
            for message in receiver:
                message.unpickle()
            answer.get().unpickle()

        def up():
            context.call(far.size_of, data)

        go = down if direction == "down" else up
        go()
        yield lambda count: rate(lambda: [go() for _ in range(count)], size * count)
        context.shutdown(wait=True)

    @contextlib.contextmanager
    def move_file(self, source, folder):
        """Its FileService."""
        service = mitogen.service.FileService(router=self.router)
        pool = mitogen.service.Pool(self.router, [service], size=2)
        try:
            service.register(source)
            size = os.stat(source).st_size
            target = os.path.join(folder, "fetched")
            with self.local() as context:
                home = self.router.myself()
                yield lambda count: rate(
                    lambda: [context.call(far.fetch, home, source, target) for _ in range(count)], size * count
                )
        finally:
            pool.stop(join=True)
