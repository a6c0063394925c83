"""A child whose every byte the test chooses: what a hostile, broken or dead context looks like to its parent.

A real process is started by a real Plan, anywhere in the tree. It hands its end of the link to the test over a Unix
socket and then does nothing, so the test reads what the parent sent and writes whatever it wants, from its own thread
and with no protocol in between, while spawning, reaping and the loss of the link are the real thing.
"""

import array
import os
import pickle
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from contextree.connect.plan import Plan
from contextree.core import process
from contextree.core.first_stage import ALIVE
from contextree.core.wire import frames, values

# Passes descriptor 0, the link, to the socket named by the first argument; lives until that is closed. What it is told
# there is written to its stderr.
BRIDGE = """
import array, os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
null = os.open(os.devnull, os.O_RDWR)
os.dup2(null, 0)
os.dup2(null, 1)
while True:
    data = s.recv(65536)
    if not data:
        os._exit(0)
    os.write(2, data)
"""
HELLO = {"pid": 1, "version": [3, 11, 7], "magic": b"", "executable": "scripted", "uid": 0, "platform": "linux"}


class Frame(NamedTuple):
    """One frame that came: as in ``contextree.core.wire.frames``."""

    kind: int
    flags: int
    cls: int
    channel: int
    dst: int
    src: int
    payload: bytes


class ScriptedChild:
    """A child of ``router`` (or of the context ``via``) played by the test. A context manager: it ends with the block.

    ``boot``     True: the handshake is done by this class on entry, so that the parent holds it for a good child.
                 False: nothing was sent; the test speaks first.
    ``trusted``  whether the parent may take it for the same user's.
    ``options``  of the Plan: ``phases`` (limits), ``tty``, ``dialogue`` ...

    ``id``, ``name``, ``parent``, ``nonce`` and ``config`` are what the parent gave it. ``context`` is the handle, once
    it is up (``result()`` waits for that, and raises the parent's error otherwise). Not thread-safe: one test thread
    plays it, but a second one may read while the first writes."""

    def __init__(self, router: Any, name: str = "scripted", *, via: Any = None, boot: bool = True,
                 trusted: bool = False, timeout: float = 10.0, **options: Any) -> None:
        self.timeout = timeout
        self._rest = b""
        self._grown: list[Any] = []
        self.sock: socket.socket | None = None
        self.side: socket.socket | None = None
        with tempfile.TemporaryDirectory(prefix="scripted") as folder, socket.socket(socket.AF_UNIX) as door:
            door.bind(os.path.join(folder, "door"))
            door.listen(1)
            door.settimeout(timeout)
            plan = Plan([sys.executable, "-I", "-S", "-c", BRIDGE, os.path.join(folder, "door")], name, "scripted",
                        trusted=trusted, **options)
            self._thread = threading.Thread(target=self._grow, args=(router, plan, via), name="scripted child",
                                            daemon=True)
            self._thread.start()
            self.side, _ = door.accept()
        self.side.settimeout(timeout)
        self.sock = socket.socket(fileno=self._receive_fd())
        process.own(self.sock.fileno())  # a fork of the test's process must not keep the link open
        self.sock.settimeout(timeout)
        bundle = self.read(frames.NUMBER.unpack(self.read(4))[0])
        self.bundle = bundle
        self.config: dict[str, Any] = pickle.loads(self.read(frames.NUMBER.unpack(self.read(4))[0]))  # our own
        self.id: int = self.config["id"]
        self.name: str = self.config["name"]
        self.parent: int = self.config["parent"]
        self.nonce: bytes = self.config["nonce"]
        if boot:
            self.hello()
            self.context = self.result()

    def _grow(self, router: Any, plan: Plan, via: Any) -> None:
        try:
            self._grown.append((router.grow(plan, via), None))
        except BaseException as error:
            self._grown.append((None, error))

    def _receive_fd(self) -> int:
        assert self.side is not None
        _, ancillary, _, _ = self.side.recvmsg(1, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        fds.frombytes(ancillary[0][2])
        return process.high(fds[0])

    def result(self) -> Any:
        """The Context that the parent made of this child; raises the error that growing it ended with, or
        TimeoutError."""
        self._thread.join(self.timeout)
        if self._thread.is_alive():
            raise TimeoutError("the parent neither took this child nor refused it")
        context, error = self._grown[0]
        if error is not None:
            raise error
        return context

    # -- writing

    def write(self, data: bytes) -> bool:
        """Write raw bytes to the link; False when the parent has closed it. TimeoutError when it does not read."""
        assert self.sock is not None
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def hello(self, alive: bytes = ALIVE, nonce: bytes | None = None, src: int | None = None, **changes: Any) -> bool:
        """Say hello as a good child does, with ``changes`` of its fields (None: left out)."""
        fields = {key: value for key, value in {**HELLO, "pid": os.getpid(), **changes}.items() if value is not None}
        return self.write(alive + (self.nonce if nonce is None else nonce)
                          + self.frame(frames.HELLO, values.encode(fields), dst=self.parent, src=src))

    def frame(self, kind: int, payload: bytes = b"", *, flags: int = 0, cls: int = frames.CONTROL, channel: int = 0,
              dst: int | None = None, src: int | None = None, length: int | None = None,
              version: int = frames.VERSION) -> bytes:
        """The bytes of a frame; its fields may be anything that fits. By default from this child to its parent."""
        return frames.HEADER.pack(version | kind, flags, cls, 0, channel, self.parent if dst is None else dst,
                                  self.id if src is None else src, len(payload) if length is None else length) + payload

    def send(self, kind: int, payload: bytes = b"", **fields: Any) -> bool:
        """Write one frame, see ``frame``; False when the parent has closed the link."""
        return self.write(self.frame(kind, payload, **fields))

    def open(self, kind: int, data: bytes = b"", *, channel: int = 1, flags: int = frames.FIN, options: int = 0,
             threads: int = 0,
             window: int = 1 << 18, deadline: int = 0, cls: int = frames.CALLS, **fields: Any) -> bool:
        """Write an OPEN."""
        head = frames.OPEN_HEAD.pack(kind, options, threads, window, deadline)
        return self.send(frames.OPEN, head + data, flags=flags | frames.OPENER, channel=channel, cls=cls, **fields)

    def answer(self, call: Frame, data: bytes, flags: int = frames.FIN, **fields: Any) -> bool:
        """Write one DATA frame on the channel that ``call`` opened."""
        fields = {"dst": call.src, "channel": call.channel, "cls": frames.CALLS, **fields}
        return self.send(frames.DATA, data, flags=flags, **fields)

    def complain(self, data: bytes) -> None:
        """Have ``data`` written to the stderr of the child's process."""
        assert self.side is not None
        self.side.sendall(data)

    # -- reading

    def read(self, count: int) -> bytes:
        """Exactly ``count`` bytes from the parent. EOFError at the end, TimeoutError when they do not come."""
        assert self.sock is not None
        parts = [self._rest[:count]]
        self._rest = self._rest[count:]
        left = count - len(parts[0])
        while left:
            try:
                data = self.sock.recv(min(left, 1 << 20))
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError("the parent closed the link")
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def receive(self) -> Frame:
        """The next frame from the parent. EOFError when it has closed the link."""
        kind, flags, cls, _hops, channel, dst, src, length = frames.HEADER.unpack(self.read(frames.SIZE))
        return Frame(kind & 15, flags, cls, channel, dst, src, self.read(length))

    def frames(self) -> Iterator[Frame]:
        """Frames until the parent closes the link."""
        while True:
            try:
                yield self.receive()
            except EOFError:
                return

    def wait_for(self, kind: int, test: Callable[[Frame], bool] = lambda frame: True) -> Frame:
        """The next frame of ``kind`` for which ``test`` holds; others are dropped. EOFError when the link was closed
        before."""
        while True:
            frame = self.receive()
            if frame.kind == kind and test(frame):
                return frame

    def closed(self) -> bool:
        """Read until the parent has closed the link: True. TimeoutError when it has not."""
        for _ in self.frames():
            pass
        return True

    # -- the end

    def exit(self) -> None:
        """Have the process exit; the link stays open, in the hands of the test."""
        assert self.side is not None
        self.side.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the process and the link; the parent has reaped it on return, if it was up. Idempotent."""
        sock, self.sock = self.sock, None
        side, self.side = self.side, None
        if sock is not None:
            process.disown(sock.fileno())
            sock.close()
        if side is not None:
            side.close()
        if sock is not None or side is not None:
            self._thread.join(self.timeout)
        if self._grown and self._grown[0][0] is not None and not self._grown[0][0].engine.core.closed:
            self._grown[0][0].wait(self.timeout)

    def __enter__(self) -> "ScriptedChild":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
