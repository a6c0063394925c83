"""execnet."""

import contextlib
import inspect
import sys

import execnet
from execnet import gateway_base

from tests.bench.measure import clock, each, median, pss, rate, windowed

SERVE = """
blobs = {}
for what, value in channel:
    if what == "echo":
        channel.send(value)
    elif what == "pid":
        import os
        channel.send(os.getpid())
    elif what == "result":
        if value not in blobs:
            blobs[value] = b"Z" * value
        channel.send(blobs[value])
    elif what == "argument":
        channel.send(len(value))
    elif what == "stream":
        data = b"Z" * value[0]
        for _ in range(value[1]):
            channel.send(data)
"""


class Side:
    """Gateways, each with a loop there that does what a message says."""

    def close(self):
        """Nothing is left open."""
        execnet.default_group.terminate(timeout=5)

    @contextlib.contextmanager
    def gateway(self):
        """A channel to the loop in a new interpreter."""
        gateway = execnet.makegateway("popen//python=%s" % sys.executable)
        channel = gateway.remote_exec(SERVE)
        try:
            yield channel
        finally:
            channel.close()
            gateway.exit()
            gateway._group.terminate(timeout=5)

    @contextlib.contextmanager
    def round_trip(self):
        """A message there and back."""
        with self.gateway() as channel:

            def one():
                channel.send(("echo", 1))
                channel.receive()

            yield lambda count: median(each(one, count))

    @contextlib.contextmanager
    def pipelined(self, outstanding):
        """Messages there and back."""
        with self.gateway() as channel:
            yield lambda count: windowed(
                lambda: channel.send(("echo", 1)), lambda _: channel.receive(), count, outstanding
            )

    @contextlib.contextmanager
    def bulk(self, direction, size):
        """A message with that many bytes."""
        with self.gateway() as channel:
            data = b"\x5a" * size

            def go():
                channel.send((direction, size if direction == "result" else data))
                channel.receive()

            yield lambda count: rate(lambda: [go() for _ in range(count)], size * count)

    @contextlib.contextmanager
    def stream(self, chunk, total):
        """Messages of that size."""
        with self.gateway() as channel:

            def go():
                channel.send(("stream", (chunk, total // chunk)))
                for _ in range(total // chunk):
                    channel.receive()

            yield lambda count: rate(lambda: [go() for _ in range(count)], total * count)

    @contextlib.contextmanager
    def start_local(self):
        """A popen gateway until its first answer."""

        def one():
            start = clock()
            gateway = execnet.makegateway("popen//python=%s" % sys.executable)
            gateway.remote_exec("import os; channel.send(os.getpid())").receive()
            took = clock() - start
            gateway.exit()
            gateway._group.terminate(timeout=5)
            return took

        yield lambda count: median([one() for _ in range(count)])

    @contextlib.contextmanager
    def bundle(self):
        """Its source as it is sent: not compressed."""
        yield lambda count: len(inspect.getsource(gateway_base).encode())

    @contextlib.contextmanager
    def idle_child(self):
        """The memory of a child that has answered."""
        with self.gateway() as channel:
            channel.send(("pid", 0))
            pid = channel.receive()
            yield lambda count: pss(pid)
