"""The writing end of a transfer: messages (see ``transfer``) are checked, counted and hashed, and become files.

What comes may come from an enemy. It only ever says what lies below the destination, and the destination is chosen by
who asked for the transfer. Names are single parts, in rising order; there is no message for devices; nothing is longer
than was announced. How paths are written to is in ``pathsink``.
"""

from contextree.core.wire.errors import ProtocolError, UsageError
from contextree.parent.transfer import CHUNK, MAX_DEPTH, Digest, TransferError, Transferred, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from contextree.parent.transfer import Options

NAME = 512  # bytes that an entry of a folder counts for: empty files fill a disk as well
KINDS = {"file": ("path", "size"), "dir": ("path",), "link": ("path", "target"), "done": ("hash",), "end": ()}
TYPES = {"path": list, "size": (int, type(None)), "target": bytes, "hash": bytes, "mode": int, "mtime": int,
         "data": bytes, "start": int, "owner": list}  # type: dict[str, Any]


def check(message: "Any") -> str:
    """The kind of a message that is a dict of the right form; ProtocolError for all others."""
    kind = message.get("is") if type(message) is dict else None
    if type(kind) is not str or kind not in KINDS:
        raise ProtocolError("a transfer has no message %.80r" % (message,))
    if not all(field in TYPES or field == "is" for field in message):
        raise ProtocolError("a message with fields %.200r" % (sorted(map(str, message)),))
    for field, types in TYPES.items():
        if field in message:
            value = message[field]
            good = isinstance(value, types) and type(value) is not bool
            if good and type(value) is int:
                good = -(1 << 62) < value < 1 << 62 if field == "mtime" else 0 <= value < 1 << 62
            if not good:
                raise ProtocolError("a message with %s %.80r" % (field, value))
        elif field in KINDS[kind]:
            raise ProtocolError("a message without %s" % field)
    for part in message.get("path", ()):
        if type(part) is not bytes or part in (b"", b".", b"..") or b"/" in part or b"\0" in part or len(part) > 4096:
            raise ProtocolError("a name that is none: %.80r" % (part,))
    if "owner" in message:
        check_owner(message["owner"])
    return kind


def check_owner(owner: "list[Any]") -> None:
    """Raise ProtocolError unless it is [uid, gid, name or None, name or None]."""
    if (len(owner) != 4 or [type(number) for number in owner[:2]] != [int, int]
            or not all(0 <= number < 1 << 32 for number in owner[:2])
            or not all(name is None or type(name) is str for name in owner[2:])):
        raise ProtocolError("an owner that is none: %.80r" % (owner,))


class Sink:
    """What all sinks do: check what comes, count it, hash it. ``take`` each message, then ``done`` is True; or
    ``abort``. Subclasses say what becomes of it.

    ``max_size``: bytes in all, holes too, and ``NAME`` for each entry of a folder. ``progress(done, total)`` is called
    after each part of a file, with None as total where that is not known."""

    partial = (0, b"")  # what is there of a broken transfer: size, hash

    def __init__(self, options: "Options", progress: "Any" = None) -> None:
        self.options = options
        self.max_size = options.get("max_size")
        self.progress = progress
        self.files = self.size = self.resumed = 0
        self.names = 0  # what the entries of a folder count for
        self.head = None  # type: Any  # of the file that is being written
        self.at = 0
        self.digest = Digest()
        self.last = None  # type: list[bytes] | None
        self.done = False
        self.total = None  # type: int | None

    def take(self, message: "Any") -> None:
        """Deal with one message."""
        kind = type(message)
        if kind is bytes or kind is int:
            self.piece(message)
            return
        what = check(message)
        if (self.head is not None) != (what == "done") or self.done:
            raise ProtocolError("a message %r where there can be none" % what)
        if what == "end":
            if self.last is None:
                raise ProtocolError("a transfer of nothing")
            self.finish()
            self.done = True
        elif what == "done":
            self.file_done(message["hash"])
        else:
            path = message["path"]
            if self.last is not None and not self.last < path:
                raise ProtocolError("%.200r comes after %.200r: twice, or out of order" % (path, self.last))
            if len(path) > MAX_DEPTH + 1 or (self.last is None) != (not path):
                raise ProtocolError("a place that is none: %.200r" % (path,))
            self.last = path
            if path:
                self.names += NAME
                self.check_size(self.size)
            if what == "file":
                self.file(message)
            elif what == "dir":
                self.folder(message)
            else:
                self.link(message)

    def file(self, message: "dict[str, Any]") -> None:
        """A file is announced."""
        if not message["path"]:
            self.total = message["size"]
        start = message.get("start", 0)
        if start and (start != self.partial[0] or message["path"]):
            raise ProtocolError("it goes on at byte %d, and there are %d" % (start, self.partial[0]))
        if message["size"] is not None:
            self.check_size(self.size + max(message["size"], start))
        self.files += 1
        self.size += start
        self.resumed += start
        self.at = start
        self.digest = Digest()
        self.open(message, start)
        self.head = message
        if "data" in message:
            if message["data"]:
                self.piece(message["data"])
            self.file_done(message.get("hash"))

    def piece(self, piece: "bytes | int") -> None:
        """Data, or the length of a hole."""
        size = len(piece) if isinstance(piece, bytes) else piece
        head = self.head
        if head is None or not 0 < size < 1 << 62 or (type(piece) is bytes and size > 2 * CHUNK):
            raise ProtocolError("%d bytes of no file" % size)
        self.at += size
        self.size += size
        if head["size"] is not None and self.at > head["size"]:
            raise ProtocolError("%s is longer than the %d bytes that were announced" % (self.show(), head["size"]))
        self.check_size(self.size)
        self.digest.add(piece)
        if isinstance(piece, bytes):
            self.write(piece)
        else:
            self.skip(piece)
        if self.progress is not None:
            self.progress(self.size, self.total)

    def check_size(self, size: int) -> None:
        """Raise TransferError if that is more than is wanted."""
        if self.max_size is not None and size + self.names > self.max_size:
            raise TransferError("%s is larger than max_size=%d" % (self.show(), self.max_size))

    def file_done(self, digest: "bytes | None") -> None:
        """All of a file has come."""
        head, self.head = self.head, None
        if head["size"] is not None and self.at != head["size"]:
            raise ProtocolError("%s has %d bytes, and %d were announced" % (self.show(), self.at, head["size"]))
        if digest != self.digest.value():
            raise self.mismatch()
        self.close(head)
        if self.progress is not None and not self.at:
            self.progress(self.size, self.total)

    def mismatch(self) -> TransferError:
        """The error for content that is not what was sent."""
        return TransferError("what arrived of %s is not what was read: its hash is another" % self.show())

    def result(self) -> Transferred:
        """What was transferred."""
        return Transferred(self.files, self.size, self.resumed)

    # -- for subclasses

    def show(self) -> str:
        """The present file, for messages."""
        return "/".join(shown(part) for part in self.last or ()) or "the file"

    def open(self, head: "dict[str, Any]", start: int) -> None:
        """Begin a file of which ``start`` bytes are there."""

    def write(self, data: bytes) -> None:
        """Append ``data``."""

    def skip(self, size: int) -> None:
        """Append a hole."""

    def close(self, head: "dict[str, Any]") -> None:
        """The present file is whole."""

    def folder(self, head: "dict[str, Any]") -> None:
        """Make a folder."""
        raise UsageError("a folder can only be written to a path")

    def link(self, head: "dict[str, Any]") -> None:
        """Make a symlink."""
        self.folder(head)

    def finish(self) -> None:
        """Everything has come."""

    def abort(self) -> None:
        """Remove what is not in place. Idempotent, and after the end nothing."""


class ObjectSink(Sink):
    """Writes to a binary file object; what has been written when something fails stays there. Holes become zeros."""

    def __init__(self, target: "Any", options: "Options", progress: "Any" = None) -> None:
        Sink.__init__(self, options, progress)
        if not hasattr(target, "write"):
            raise UsageError("a destination is a path (str or PathLike) or a binary file object, not %r"
                             % type(target).__name__)
        self.target = target

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        view = memoryview(data)
        while view:
            count = self.target.write(view)
            if count is None or count == len(view):
                return
            view = view[count:]  # an unbuffered file

    def skip(self, size: int) -> None:
        """Append a hole."""
        zeros = bytes(min(size, CHUNK))
        while size:
            self.write(zeros[:size])
            size -= min(size, CHUNK)
