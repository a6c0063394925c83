"""The reading end of a transfer: a file, a folder or an object becomes messages (see ``transfer``).

A path is opened once, and read by that descriptor whatever becomes of its name. Below a folder nothing is opened by a
path of more than one part, and symlinks are never followed: who swaps a folder for a link while we walk makes the
transfer fail and not read something else. What is no regular file is refused before a byte is read.

A file that grows while it is read is sent as long as it was when it was opened; if its time of change moved, it is
read once more, and what was sent has to be what is there.
"""

import errno
import os
import stat

from contextree.core.wire.errors import UsageError
from contextree.parent.transfer import (
    CHUNK,
    MAX_DEPTH,
    SMALL,
    Digest,
    Naming,
    TransferError,
    check_link,
    prefix_hash,
    shown,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

    from contextree.parent.transfer import Message, Options

FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # a FIFO must not hold us up before we refuse it
ENDLESS = 1 << 62
KINDS = {stat.S_IFIFO: "FIFO", stat.S_IFCHR: "device", stat.S_IFBLK: "device", stat.S_IFSOCK: "socket"}


def special(path: bytes, mode: int) -> TransferError:
    """The error for what is neither file nor folder nor symlink."""
    return TransferError("%s is a %s: only regular files, folders and symlinks are transferred"
                         % (shown(path), KINDS.get(stat.S_IFMT(mode), "special file")))


def has_holes(fd: int, info: os.stat_result) -> bool:
    """Whether a file has holes: it takes up less than its length, and not because it is compressed or no real file."""
    if info.st_blocks * 512 >= info.st_size or not hasattr(os, "SEEK_HOLE"):
        return False
    try:
        return os.lseek(fd, 0, os.SEEK_HOLE) < info.st_size
    except OSError:
        return False


def pieces(fd: int, start: int, end: int, sparse: bool) -> "Iterator[bytes | int]":
    """The content of ``fd`` from ``start`` to ``end``: bytes, and ints for holes. It stops where the file does."""
    pos = start
    data_end = 0
    while pos < end:
        size = min(CHUNK, end - pos)
        if sparse:
            if pos >= data_end:
                data, data_end = next_data(fd, pos, end)
                if data > pos:
                    yield data - pos
                    pos = data
                    continue
            size = min(size, data_end - pos)
        block = os.pread(fd, size, pos)
        if not block:
            return
        yield block
        pos += len(block)


def next_data(fd: int, pos: int, end: int) -> "tuple[int, int]":
    """Where the next data begins and where it ends; both are ``end`` if there are only holes."""
    try:
        data = os.lseek(fd, pos, os.SEEK_DATA)
        return (data, os.lseek(fd, data, os.SEEK_HOLE)) if data < end else (end, end)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return end, end


class Opened:
    """One regular file, open; its descriptor is closed by ``close``."""

    def __init__(self, fd: int, path: bytes, sparse: bool) -> None:
        self.fd = fd
        self.path = path
        self.info = info = os.fstat(fd)
        # a file of /proc has no length and content all the same
        self.size = info.st_size or None
        self.sparse = sparse and has_holes(fd, info)
        if hasattr(os, "posix_fadvise") and info.st_size > CHUNK:
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)  # reads ahead twice as far
            except OSError:
                pass

    def close(self) -> None:
        """Close it; idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def same_prefix(self, size: int, wanted: bytes) -> bool:
        """Whether the file begins with ``size`` bytes of hash ``wanted``."""
        return self.size is not None and 0 < size <= self.size and prefix_hash(self.fd, size) == wanted

    def messages(self, head: "dict[str, Any]", start: int = 0) -> "Iterator[Message]":
        """Announce the file by ``head``, and send it from ``start``."""
        head["size"] = self.size
        digest = Digest()
        if self.size is None or (self.size <= SMALL and not self.sparse and not start):
            data = os.pread(self.fd, SMALL if self.size is None else self.size, 0)
            if self.size is None and len(data) < SMALL and not os.pread(self.fd, 1, len(data)):
                head["size"] = len(data)
            elif self.size is not None and len(data) < self.size and self.unmoved():
                head["size"] = len(data)  # a file of /sys: all of them say that they are a page long
            if head["size"] is not None:
                digest.add(data)
                if head["size"] == self.size:
                    self.check(0, len(data), digest.value())
                head["data"] = data
                head["hash"] = digest.value()
                yield head
                return
        if start:
            head["start"] = start
        yield head
        pos = start
        for piece in pieces(self.fd, start, ENDLESS if self.size is None else self.size, self.sparse):
            digest.add(piece)
            yield piece
            pos += len(piece) if isinstance(piece, bytes) else piece
        self.check(start, pos, digest.value())
        yield {"is": "done", "hash": digest.value()}

    def unmoved(self) -> bool:
        """Whether nobody wrote to it since it was opened, as far as its times and its length tell."""
        now = os.fstat(self.fd)
        return (now.st_mtime_ns, now.st_size) == (self.info.st_mtime_ns, self.info.st_size)

    def check(self, start: int, end: int, digest: bytes) -> None:
        """Raise TransferError unless what was read, from ``start`` to ``end``, is what the file holds or once held."""
        if self.size is None:
            return
        same = end == self.size
        if same and not self.unmoved():
            again = Digest()
            for piece in pieces(self.fd, start, self.size, self.sparse):
                again.add(piece)
            same = again.value() == digest
        if not same:
            raise TransferError("%s changed while it was read" % shown(self.path))


class PathSource:
    """What lies at ``path``: a file or a folder. Opens it, or raises what the system says of it.

    ``options``: ``sparse``, ``links`` (keep, all, skip), ``special`` (error, skip), ``owners`` (send the owners'
    names)."""

    def __init__(self, path: bytes, options: "Options") -> None:
        self.path = path
        self.options = options
        self.sparse = options.get("sparse", True)
        self.links = options.get("links", "keep")
        self.bounded = False  # no more than ``size`` will be sent
        self.folders = []  # type: list[Any]  # open ones, outermost first: (fd, path, parts, names to come)
        with Naming(path):
            mode = os.stat(path).st_mode  # before it is opened: to open a tape drive is to rewind it
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise special(path, mode)
            fd = os.open(path, FLAGS)
            mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode):
            self.file = Opened(fd, path, self.sparse)  # type: Opened | None
            self.size = self.file.size
            self.bounded = self.size is not None
        else:
            self.file = self.size = None
            self.folders.append((fd, path, [], None))
            if not stat.S_ISDIR(mode):
                self.close()
                raise special(path, mode)

    def close(self) -> None:
        """Close what is open; idempotent."""
        if self.file is not None:
            self.file.close()
        while self.folders:
            os.close(self.folders.pop()[0])

    def head(self, kind: str, parts: "list[bytes]", info: os.stat_result) -> "dict[str, Any]":
        """What is said of every entry."""
        head = {"is": kind, "path": parts, "mode": stat.S_IMODE(info.st_mode), "mtime": info.st_mtime_ns}
        if self.options.get("owners"):
            head["owner"] = [info.st_uid, info.st_gid, name_of("pwd", info.st_uid), name_of("grp", info.st_gid)]
        return head

    def messages(self, partial: "tuple[int, bytes] | None" = None) -> "Iterator[Message]":
        """All messages. ``partial``: what the sink has of a broken transfer, as (size, hash)."""
        if self.file is not None:
            start = 0
            if partial and self.file.same_prefix(*partial):
                start = partial[0]
            with Naming(self.path):
                for message in self.file.messages(self.head("file", [], self.file.info), start):
                    yield message
        else:
            for message in self.walk():
                yield message
        yield {"is": "end"}

    def walk(self) -> "Iterator[Message]":
        """The messages of a folder and all that is in it: each folder before its content, names in rising order."""
        fd, path, parts, names = self.folders[0]
        with Naming(path):
            yield self.head("dir", [], os.fstat(fd))
            self.folders[0] = fd, path, parts, sorted(map(os.fsencode, os.listdir(fd)), reverse=True)
        while self.folders:
            fd, path, parts, names = self.folders[-1]
            if not names:
                os.close(fd)
                self.folders.pop()
                continue
            name = names.pop()
            with Naming(os.path.join(path, name)):
                for message in self.entry(fd, name, parts + [name], os.path.join(path, name)):
                    yield message

    def entry(self, folder: int, name: bytes, parts: "list[bytes]", path: bytes) -> "Iterator[Message]":
        """The messages of one name in a folder; a folder in it is left open as the last of ``folders``."""
        info = os.lstat(name, dir_fd=folder)
        if stat.S_ISLNK(info.st_mode):
            if self.links == "skip":
                return
            target = os.readlink(name, dir_fd=folder)
            check_link(parts, target, path, self.links)
            head = self.head("link", parts, info)
            head["target"] = target
            yield head
            return
        if not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode):
            if self.options.get("special") == "skip":
                return
            raise special(path, info.st_mode)
        try:
            fd = os.open(name, FLAGS | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise TransferError("%s was replaced by a symlink while it was read" % shown(path)) from None
        mode = os.fstat(fd).st_mode
        if stat.S_IFMT(mode) != stat.S_IFMT(info.st_mode):
            os.close(fd)
            raise TransferError("%s was replaced by something else while it was read" % shown(path))
        if stat.S_ISDIR(mode):
            if len(parts) > MAX_DEPTH:
                os.close(fd)
                raise TransferError("more than %d folders in one another: %s" % (MAX_DEPTH, shown(path)))
            self.folders.append((fd, path, parts, sorted(map(os.fsencode, os.listdir(fd)), reverse=True)))
            yield self.head("dir", parts, os.fstat(fd))
            return
        self.file = Opened(fd, path, self.sparse)
        try:
            for message in self.file.messages(self.head("file", parts, self.file.info)):
                yield message
        finally:
            self.file.close()


class ObjectSource:
    """A binary file object, from where it stands to its end, or bytes. It is not closed."""

    def __init__(self, source: "Any") -> None:
        self.data = None  # type: memoryview | None
        self.size = None  # type: int | None
        self.bounded = False  # what a file object says of its length is a hint: /dev/zero says 0
        self.object = source
        if isinstance(source, (bytes, bytearray, memoryview)):
            self.data = memoryview(source).cast("B")
            self.size = len(self.data)
            self.bounded = True
        elif not hasattr(source, "read"):
            raise UsageError("a source is a path (str or PathLike), bytes or a binary file object, not %r"
                             % type(source).__name__)
        elif getattr(source, "seekable", bool)():
            here = source.tell()
            self.size = max(0, source.seek(0, 2) - here)
            source.seek(here)

    def close(self) -> None:
        """The object stays open: it is its owner's."""

    def read(self, pos: int) -> bytes:
        """The next bytes, ``pos`` bytes from where it began; empty at the end."""
        if self.data is not None:
            return bytes(self.data[pos:pos + CHUNK])
        block = self.object.read(CHUNK)
        if isinstance(block, (bytearray, memoryview)):
            block = bytes(block)
        if type(block) is not bytes:
            raise UsageError("the file object gave %s: it has to be a binary one, and a blocking one"
                             % type(block).__name__)
        return block

    def messages(self, partial: "tuple[int, bytes] | None" = None) -> "Iterator[Message]":
        """All messages; what a sink has of a broken transfer is sent anew."""
        digest = Digest()
        pos = 0
        yield {"is": "file", "path": [], "size": len(self.data) if self.data is not None else None}
        while True:
            block = self.read(pos)
            if not block:
                break
            digest.add(block)
            yield block
            pos += len(block)
        yield {"is": "done", "hash": digest.value()}
        yield {"is": "end"}


def name_of(module: str, number: int) -> "str | None":
    """The name of a user (``pwd``) or a group (``grp``), or None."""
    try:
        table = __import__(module)
        return str((table.getpwuid if module == "pwd" else table.getgrgid)(number)[0])
    except (KeyError, ImportError):
        return None
