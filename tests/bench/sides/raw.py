"""The raw limit: what the system's own calls cost, without anything that a library is for."""

import contextlib
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tempfile

from tests.bench.measure import clock, each, median, pin, pss, rate

LENGTH = struct.Struct("!Q")


@contextlib.contextmanager
def other(function):
    """A forked process that runs ``function(socket)``; our end of its socket pair."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            function(theirs)
        finally:
            os._exit(0)
    theirs.close()
    with ours:
        yield ours
    os.waitpid(pid, 0)


def forked_byte():
    """Seconds from a fork to the first byte on a pipe from the child; the child is reaped afterwards."""
    start = clock()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write_end, b"x")
        os._exit(0)
    os.close(write_end)
    os.read(read_end, 1)
    took = clock() - start
    os.close(read_end)
    os.waitpid(pid, 0)
    return took


def read_all(fd, buffer):
    """Fill ``buffer`` from a descriptor."""
    view = memoryview(buffer)
    while view:
        count = os.readv(fd, [view])
        if not count:
            raise EOFError
        view = view[count:]
    return buffer


def serve_bulk(sock, up, down):
    """(size, direction) in, bytes out; or bytes in, one out. ``up``, ``down``: where bytes go to and come from."""
    data = {}
    while True:
        head = sock.recv(16)
        if not head:
            return
        size, outwards = struct.unpack("!QQ", head)
        if outwards:
            if size not in data:
                data[size] = b"\x5a" * size
            view = memoryview(data[size])
            while view:
                view = view[os.write(up, view) :]
        else:
            sock.send(b"g")
            read_all(down, bytearray(size))
            sock.send(b"x")


class Side:
    """Of system calls and pickle alone."""

    def close(self):
        """Nothing is left open."""

    @contextlib.contextmanager
    def round_trip(self, apart=False):
        """A pickle there and back on a socket pair; ``apart``: between two processors."""
        cpus = os.sched_getaffinity(0)

        def serve(sock):
            if apart:
                pin({max(cpus)})
            while True:
                data = sock.recv(65536)
                if not data:
                    return
                _name, args, _kwargs = pickle.loads(data)
                sock.send(pickle.dumps(args[0], 5))

        with other(serve) as sock:

            def one():
                sock.send(pickle.dumps(("tests.bench.far.echo", (1,), {}), 5))
                pickle.loads(sock.recv(65536))

            if apart:
                pin({min(cpus)})
            yield lambda count: median(each(one, count))
            pin(cpus)

    @contextlib.contextmanager
    def pipelined(self, outstanding):
        """Groups of pickles: one system call for as many as may be on their way (1,000 at most)."""

        def frames(sock, rest, count=None):
            """At least one message (or ``count``), and what is left over."""
            found = []
            while True:
                at = 0
                while len(rest) - at >= 8:
                    end = at + 8 + LENGTH.unpack_from(rest, at)[0]
                    if end > len(rest):
                        break
                    found.append(rest[at + 8 : end])
                    at = end
                rest = rest[at:]
                if found and (count is None or len(found) >= count):
                    return found, rest
                data = sock.recv(1 << 18)
                if not data:
                    return None, b""
                rest += data

        def pack(value):
            data = pickle.dumps(value, 5)
            return LENGTH.pack(len(data)) + data

        def serve(sock):
            rest = b""
            while True:
                found, rest = frames(sock, rest)
                if found is None:
                    return
                sock.sendall(b"".join([pack(pickle.loads(data)[1][0]) for data in found]))

        group = min(outstanding or 1000, 1000)
        with other(serve) as sock:

            def go(count):
                rest = b""
                for start in range(0, count, group):
                    many = min(group, count - start)
                    sock.sendall(b"".join([pack(("tests.bench.far.echo", (1,), {})) for _ in range(many)]))
                    found, rest = frames(sock, rest, many)
                    for data in found:
                        pickle.loads(data)

            yield lambda count: rate(lambda: go(count), count)

    @contextlib.contextmanager
    def bulk(self, direction, size, by="socket", keep=True):
        """Bytes a second: one message into one object (``keep``), or as it comes into a buffer of 256 KiB."""
        up_r, up_w = os.pipe()
        down_r, down_w = os.pipe()

        def serve(sock):
            if by == "pipe":
                serve_bulk(sock, up_w, down_r)
            else:
                serve_bulk(sock, sock.fileno(), sock.fileno())

        with other(serve) as sock:
            source, sink = (up_r, down_w) if by == "pipe" else (sock.fileno(), sock.fileno())
            data = b"\x5a" * size
            buffer = bytearray(1 << 18)

            def result():
                sock.send(struct.pack("!QQ", size, 1))
                if keep:
                    return read_all(source, bytearray(size))
                left = size
                while left:
                    left -= os.readv(source, [buffer])
                return None

            def argument():
                sock.send(struct.pack("!QQ", size, 0))
                sock.recv(1)
                view = memoryview(data)
                while view:
                    view = view[os.write(sink, view) :]
                sock.recv(1)

            go = argument if direction == "argument" else result
            yield lambda count: rate(lambda: [go() for _ in range(count)], size * count)
        for fd in (up_r, up_w, down_r, down_w):
            os.close(fd)

    @contextlib.contextmanager
    def stream(self, chunk, total):
        """Bytes a second: messages of ``chunk`` bytes, each an object of its own for a moment."""

        def serve(sock):
            data = b"\x5a" * chunk
            while sock.recv(1):
                for _ in range(total // chunk):
                    sock.sendall(data)

        with other(serve) as sock:

            def go():
                sock.send(b"g")
                for _ in range(total // chunk):
                    read_all(sock.fileno(), bytearray(chunk))

            yield lambda count: rate(lambda: [go() for _ in range(count)], total * count)

    @contextlib.contextmanager
    def start_local(self):
        """``python -c pass`` from start to end."""
        yield lambda count: median(each(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True), count))

    @contextlib.contextmanager
    def start_ssh(self, host, config):
        """``ssh host python3 -c pass`` from start to end."""
        words = ["ssh", "-F", config, "-o", "BatchMode=yes", host, "python3 -c pass"]
        yield lambda count: median(each(lambda: subprocess.run(words, check=True, stdin=subprocess.DEVNULL), count))

    @contextlib.contextmanager
    def start_fork(self, ballast=0):
        """fork, and a byte on a pipe from the child."""
        kept = [bytes(1000) for _ in range(ballast // 1000)]
        yield lambda count: median([forked_byte() for _ in range(count)])
        del kept

    @contextlib.contextmanager
    def idle_child(self):
        """The memory of an interpreter that does nothing."""
        with subprocess.Popen(
            [sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as child:
            child.stdout.readline()
            yield lambda count: pss(child.pid)
            child.stdin.close()

    @contextlib.contextmanager
    def ssh_stream(self, host, config, direction, size):
        """``ssh host dd``, or ``dd | ssh host cat``; from the moment that it is connected."""
        words = ["ssh", "-F", config, "-o", "BatchMode=yes", host]
        blocks = "dd if=/dev/zero bs=65536 count=%d status=none" % (size // 65536)

        def down():
            script = "echo; read line; " + blocks
            with subprocess.Popen([*words, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ssh:
                os.read(ssh.stdout.fileno(), 1)
                yield
                ssh.stdin.write(b"go\n")
                ssh.stdin.flush()
                while os.read(ssh.stdout.fileno(), 1 << 18):
                    pass
                yield

        def up():
            script = "echo; cat >/dev/null; echo"
            with subprocess.Popen([*words, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ssh:
                ssh.stdout.readline()
                yield
                subprocess.run(blocks.split(), stdout=ssh.stdin, check=True)
                ssh.stdin.close()
                ssh.stdout.readline()
                yield

        def run(count):
            times = []
            for _ in range(count):
                going = down() if direction == "down" else up()
                next(going)
                times += each(lambda going=going: next(going), 1)
                going.close()
            return size * count / sum(times)

        yield run

    @contextlib.contextmanager
    def copy_file(self, source, folder):
        """A copy, synced."""
        target = os.path.join(folder, "copy")

        def go():
            shutil.copyfile(source, target)
            fd = os.open(target, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)

        size = os.stat(source).st_size
        yield lambda count: rate(lambda: [go() for _ in range(count)], size * count)

    @contextlib.contextmanager
    def ssh_file(self, host, config, direction, source, by):
        """scp, or sftp, from start to end."""
        size = os.stat(source).st_size
        with tempfile.TemporaryDirectory() as folder:
            there = "/tmp/%s.copy" % os.path.basename(folder)
            here, far_end = (source, there) if direction == "put" else (folder + "/target", source)

            def go():
                if by == "scp":
                    ends = [here, "%s:%s" % (host, far_end)]
                    words = ["scp", "-q", "-F", config, *(ends if direction == "put" else ends[::-1])]
                    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
                else:
                    line = "put %s %s" % (here, far_end) if direction == "put" else "get %s %s" % (far_end, here)
                    subprocess.run(["sftp", "-q", "-F", config, "-b", "-", host], input=line.encode(), check=True,
                                   stdout=subprocess.DEVNULL)

            yield lambda count: rate(lambda: [go() for _ in range(count)], size * count)
            if direction == "put":
                subprocess.run(["ssh", "-F", config, host, "rm -f " + there], check=True, stdin=subprocess.DEVNULL)
