"""How a job is reached: its socket, and the exchange by which both ends show that they know the token's secret.

    job     ->  magic, a nonce
    master  ->  magic, a nonce of its own, flags, HMAC of all that with the secret
    job     ->  "+", HMAC of both nonces and of the facts that follow     or  "-", a sentence
    master  ->  the configuration of a child; from here on the socket is a link

The secret itself is never on the wire, and what is there is good for this once. Outside of that stand, as for those who
join (``listen``): a directory that is this user's alone, the kernel's word who is at the other end, a deadline, and a
bound on those who have not shown anything yet.
"""

import os

from contextree.core import process
from contextree.core.wire import values
from contextree.core.wire.errors import (
    AuthenticationError,
    ConnectError,
    ConnectTimeout,
    UnsupportedPlatform,
    UsageError,
)
from contextree.core.wire.frames import NUMBER
from contextree.parent import knock, place
from contextree.parent.job_place import SOCKET
from contextree.parent.knock import Knock, same
from contextree.parent.listen import Listener
from contextree.parent.values import decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from contextree.parent.job import Keeper

MAGIC = b"ctxjob01"
NONCE = MAC = 32
FORCE = 1
GREETING = len(MAGIC) + NONCE
ANSWER = GREETING + 1 + MAC
MAX_CONFIG = 1 << 20
MAX_WORD = 1 << 16
DEADLINE = 5.0


def mac(secret: bytes, *parts: bytes) -> bytes:
    """What only those can make who know the secret."""
    import hmac  # with hashlib 5 ms to import

    return hmac.new(secret, b"".join(NUMBER.pack(len(part)) + part for part in parts), "sha256").digest()


class JobKnock(Knock):
    """A connection to a job that is not a link yet. Loop thread."""

    __slots__ = ("nonce", "wanted", "shown")

    def __init__(self, listener: "Door", fd: int, pid: int) -> None:
        self.nonce = os.urandom(NONCE)
        self.wanted = ANSWER
        self.shown = False  # has it shown that it knows the secret?
        Knock.__init__(self, listener, fd, pid)
        try:
            os.write(fd, MAGIC + self.nonce)
        except OSError:
            pass  # it has gone: reading will tell

    def read(self) -> None:
        """More has come; never beyond what belongs to the exchange: frames follow."""
        try:
            data = os.read(self.fd, self.wanted - len(self.data))
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            return self.drop("left")
        self.data = data = self.data + data
        if not self.shown and data[:len(MAGIC)] != MAGIC[:len(data)]:
            return self.refuse("this is no greeting of a master")
        if len(data) < self.wanted:
            return None
        if not self.shown:
            return self.check(data)
        if self.wanted == 4:
            self.wanted += NUMBER.unpack(data)[0]
            if not 4 < self.wanted <= MAX_CONFIG:
                return self.refuse("the configuration is too long")
            return None
        door = self.listener  # type: Any
        return door.keeper.take(self.release(), data[4:], self.pid)  # type: ignore[no-any-return]

    def check(self, data: bytes) -> None:
        """The other end has said what it can."""
        door = self.listener  # type: Any
        head, shown = data[:-MAC], data[-MAC:]
        theirs = head[len(MAGIC):-1]
        if not same(shown, mac(door.keeper.secret, b"to the job", self.nonce, head)):
            return self.refuse("the token is not that of this job")
        why = door.keeper.may_come(self, bool(head[-1] & FORCE))
        if why:
            return self.decline(why)
        facts = values.encode(door.keeper.facts())
        proof = mac(door.keeper.secret, b"from the job", theirs, self.nonce, facts)
        self.data, self.wanted, self.shown = b"", 4, True
        try:
            os.write(self.fd, b"+" + proof + NUMBER.pack(len(facts)) + facts)
        except OSError:
            self.drop("left")

    def decline(self, text: str) -> None:
        """Say why not now, and hang up; there is nothing wrong with it."""
        try:
            data = text.encode("utf-8", "replace")
            os.write(self.fd, b"-" + NUMBER.pack(len(data)) + data)
        except OSError:
            pass  # it does not want to know
        self.drop("refused")


class Door(Listener):
    """The socket of a job. Where the tree's listeners let clients in, this hands the process over."""

    _knocking = JobKnock

    def __init__(self, keeper: "Keeper", engine: "Any", where: "place.Place", sock: "Any") -> None:
        Listener.__init__(self, engine, where, sock, 1, DEADLINE)
        self.keeper = keeper

    def security(self, text: str) -> None:
        """Tell the log of the job, at a bounded rate."""
        if self.complaints.take(self.engine.broker.clock()):
            self.keeper.note("somebody wanted to take this job up: %s" % text)


def open_socket(where: "place.Place") -> "Any":
    """The listening socket in a job's directory."""
    import _socket

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        where.take_lock()
        sock.bind(where.through())
        where.socket = place.identity(where.name, where.fd)
        os.chmod(where.name, 0o600, dir_fd=where.fd)
        sock.listen(1024)
    except BaseException:
        sock.close()
        raise
    return sock


def check_platform() -> None:
    """Raise UnsupportedPlatform where there can be no jobs."""
    import _socket

    if not hasattr(_socket, "SO_PEERCRED") or not os.path.isdir("/proc/self/fd"):
        raise UnsupportedPlatform("jobs need a kernel that says who connects (SO_PEERCRED), and /proc: Linux")


# -- the other end


def connect(directory: str, secret: bytes, force: bool, timeout: float) -> "tuple[int, int, dict[str, Any]]":
    """Reach the job in ``directory``: (descriptor, its pid, its facts). Waits up to ``timeout`` seconds for each step.

    Raises ConnectError where nobody listens, AuthenticationError where one end does not know the secret or the job is
    held, ConnectTimeout."""
    import _socket

    from contextree.parent.join import TIME

    check_platform()
    try:
        folder = place.open_directory(directory)
    except UsageError as error:
        if os.path.lexists(directory):
            raise
        raise ConnectError("there is no job in %s (any more): %s" % (directory, error), phase="connect") from None
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        limit = TIME.pack(int(timeout), int(timeout % 1 * 1e6) + 1)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, limit)  # of connect, too
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, limit)
        sock.setblocking(True)
        sock.connect(place.through(folder, SOCKET))
        pid, uid = knock.peer(sock.fileno())
        if uid != os.geteuid():
            raise AuthenticationError("a process of user %d listens in %s" % (uid, directory), phase="connect")
        facts = shake_hands(sock.fileno(), directory, secret, force)
        return process.own(sock.detach()), pid, facts
    except BlockingIOError:
        raise ConnectTimeout("the job in %s did not answer within %s s" % (directory, timeout),
                             phase="connect") from None
    except (OSError, EOFError) as error:
        raise ConnectError("the process of the job in %s does not answer: %s"
                           % (directory, getattr(error, "strerror", None) or error), phase="connect") from None
    finally:
        os.close(folder)
        sock.close()


def shake_hands(fd: int, directory: str, secret: bytes, force: bool) -> "dict[str, Any]":
    """Show the secret and see it shown; the job's facts."""
    greeting = receive(fd, GREETING)
    if greeting[:len(MAGIC)] != MAGIC:
        raise AuthenticationError("what listens in %s is no job of contextree" % directory, phase="login")
    theirs, ours = greeting[len(MAGIC):], os.urandom(NONCE)
    head = MAGIC + ours + bytes((FORCE if force else 0,))
    os.write(fd, head + mac(secret, b"to the job", theirs, head))
    verdict = receive(fd, 1)
    if verdict == b"-":
        raise AuthenticationError("%s: %s" % (directory, sized(fd).decode("utf-8", "replace")), phase="login")
    proof = receive(fd, MAC)
    facts = sized(fd)
    if verdict != b"+" or not same(proof, mac(secret, b"from the job", ours, theirs, facts)):
        raise AuthenticationError("what listens in %s does not know the token" % directory, phase="login")
    return decode(facts)  # type: ignore[no-any-return]  # it has shown that it is ours


def receive(fd: int, count: int) -> bytes:
    """Exactly so many bytes. EOFError."""
    data = b""
    while len(data) < count:
        part = os.read(fd, count - len(data))
        if not part:
            raise EOFError("it hung up")
        data += part
    return data


def sized(fd: int) -> bytes:
    """So many bytes as the number before them says."""
    count = NUMBER.unpack(receive(fd, 4))[0]
    if count > MAX_WORD:
        raise EOFError("it says too much")
    return receive(fd, count)
