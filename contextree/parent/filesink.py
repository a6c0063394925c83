"""The writing end of a transfer: messages (see ``transfer``) become files.

What comes may come from an enemy. It only ever says what lies below the destination, and the destination is chosen by
who asked for the transfer. Names are single parts; each folder on the way is opened by its one name in the folder above
it, and never through a symlink; a file is created, never opened; there is no message for devices, and set-user-id bits
are not kept. A folder that is not there yet is made under a temporary name and put in place whole; into one that is
there each file is put by itself.
"""

import os
import stat

from contextree.core.wire.errors import ProtocolError, UsageError
from contextree.parent.filewrite import FOLDER, Attributes, NewFile, guard, live, open_folder, sync_folder, temporary
from contextree.parent.transfer import (
    CHUNK,
    MAX_DEPTH,
    Digest,
    Naming,
    TransferError,
    Transferred,
    check_link,
    shown,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KINDS = {"file": ("path", "size"), "dir": ("path",), "link": ("path", "target"), "done": ("hash",), "end": ()}
TYPES = {"path": list, "size": (int, type(None)), "target": bytes, "hash": bytes, "mode": int, "mtime": int,
         "data": bytes, "start": int, "owner": list}


def check(message: "Any") -> str:
    """The kind of a message that is a dict of the right form; ProtocolError for all others."""
    kind = message.get("is") if type(message) is dict else None
    if type(kind) is not str or kind not in KINDS:
        raise ProtocolError("a transfer has no message %.80r" % (message,))
    if not all(field in TYPES or field == "is" for field in message):
        raise ProtocolError("a message with fields %.200r" % (sorted(map(str, message)),))
    types = None  # type: Any
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


def check_owner(owner: "Any") -> None:
    """Raise ProtocolError unless it is [uid, gid, name or None, name or None]."""
    if (len(owner) != 4 or [type(number) for number in owner[:2]] != [int, int]
            or not all(0 <= number < 1 << 32 for number in owner[:2])
            or not all(name is None or type(name) is str for name in owner[2:])):
        raise ProtocolError("an owner that is none: %.80r" % (owner,))


class Sink:
    """What all sinks do: check what comes, count it, hash it. ``take`` each message, then ``done`` is True; or
    ``abort``. Subclasses say what becomes of it.

    ``max_size``: bytes in all, holes too. ``progress(done, total)`` is called after each part of a file, with None as
    total where that is not known."""

    partial = (0, b"")  # what is there of a broken transfer: size, hash

    def __init__(self, options: "dict[str, Any]", progress: "Any" = None) -> None:
        self.options = options
        self.max_size = options.get("max_size")
        self.progress = progress
        self.files = self.size = self.resumed = 0
        self.head = None  # type: Any  # of the file that is being written
        self.at = 0
        self.digest = Digest()
        self.last = None  # type: Any
        self.done = False
        self.total = None  # type: int | None

    def take(self, message: "Any") -> None:
        """Deal with one message."""
        kind = type(message)
        if kind is bytes or kind is int:
            return self.piece(message)
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
            if what == "file":
                self.file(message)
            elif what == "dir":
                self.folder(message)
            else:
                self.link(message)

    def file(self, message: "Any") -> None:
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

    def piece(self, piece: "Any") -> None:
        """Data, or the length of a hole."""
        size = len(piece) if type(piece) is bytes else piece
        head = self.head
        if head is None or not 0 < size < 1 << 62 or (type(piece) is bytes and size > 4 * CHUNK):
            raise ProtocolError("%d bytes of no file" % size)
        self.at += size
        self.size += size
        if head["size"] is not None and self.at > head["size"]:
            raise ProtocolError("%s is longer than the %d bytes that were announced" % (self.show(), head["size"]))
        self.check_size(self.size)
        self.digest.add(piece)
        if type(piece) is bytes:
            self.write(piece)
        else:
            self.skip(piece)  # pyright: ignore[reportArgumentType]  # an int
        if self.progress is not None:
            self.progress(self.size, self.total)

    def check_size(self, size: int) -> None:
        """Raise TransferError if that is more than is wanted."""
        if self.max_size is not None and size > self.max_size:
            raise TransferError("%s is larger than max_size=%d" % (self.show(), self.max_size))

    def file_done(self, digest: "Any") -> None:
        """All of a file has come."""
        head, self.head = self.head, None
        if head["size"] is not None and self.at != head["size"]:
            raise ProtocolError("%s has %d bytes, and %d were announced" % (self.show(), self.at, head["size"]))
        if digest != self.digest.value():
            raise self.mismatch()
        self.close(head)
        if self.progress is not None and not self.at:
            self.progress(self.size, self.total)

    def mismatch(self) -> "Any":
        """The error for content that is not what was sent."""
        return TransferError("what arrived of %s is not what was read: its hash is another" % self.show())

    def result(self) -> Transferred:
        """What was transferred."""
        return Transferred(self.files, self.size, self.resumed)

    # -- for subclasses

    def show(self) -> str:
        """The present file, for messages."""
        return "/".join(shown(part) for part in self.last or ()) or "the file"

    def open(self, head: "dict[str, Any]", start: "Any") -> None:
        """Begin a file of which ``start`` bytes are there."""

    def write(self, data: "Any") -> None:
        """Append ``data``."""

    def skip(self, size: int) -> None:
        """Append a hole."""

    def close(self, head: "dict[str, Any]") -> None:
        """The present file is whole."""

    def folder(self, head: "dict[str, Any]") -> None:
        """Make a folder."""
        raise UsageError("a folder can only be written to a path")

    link = folder

    def finish(self) -> None:
        """Everything has come."""

    def abort(self) -> None:
        """Remove what is not in place. Idempotent, and after the end nothing."""


class ObjectSink(Sink):
    """Writes to a binary file object; what has been written when something fails stays there. Holes become zeros."""

    def __init__(self, target: "Any", options: "dict[str, Any]", progress: "Any" = None) -> None:
        Sink.__init__(self, options, progress)
        if not hasattr(target, "write"):
            raise UsageError("a destination is a path (str or PathLike) or a binary file object, not %r"
                             % type(target).__name__)
        self.target = target

    def write(self, data: "Any") -> None:
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


class PathSink(Sink):
    """Puts what comes at ``path``: a file, or a folder with all that is in it.

    ``options``: ``mode``, ``owner``, ``group``, ``preserve``, ``mask`` (see ``Attributes``), ``resume``, ``links``,
    ``fsync``, ``max_size``."""

    def __init__(self, path: bytes, options: "dict[str, Any]", progress: "Any" = None) -> None:
        Sink.__init__(self, options, progress)
        self.attributes = Attributes(options)
        self.fsync = options.get("fsync", True)
        stripped = path.rstrip(b"/") or b"/"
        self.path = path
        self.name = os.path.basename(stripped)
        self.slash = stripped != path
        self.new = None  # type: Any
        self.stack = []  # type: list[Any]  # open folders, outermost first: (fd, head, whether it is new)
        self.temp = None  # type: bytes | None  # the name of the root folder until it is put in place
        with Naming(path):
            self.parent = open_folder(os.path.dirname(stripped))
            try:
                if options.get("resume"):
                    self.new = self.make(self.parent, True)
                    self.partial = self.new.partial
            except BaseException:
                os.close(self.parent)
                raise

    def make(self, folder: "Any", resume: bool = False) -> "Any":
        """The new file for the present entry, in ``folder``."""
        if self.last:
            return NewFile(folder, self.last[-1], self.full())
        if self.slash or self.name in (b"", b".", b".."):
            raise IsADirectoryError(21, os.strerror(21))
        return NewFile(folder, self.name, self.path, resume)

    def full(self) -> "Any":
        """The path of the present entry."""
        return os.path.join(self.path, *(self.last or ()))

    def show(self) -> str:
        """The present file, for messages."""
        return shown(self.full())

    # -- files

    def open(self, head: "dict[str, Any]", start: "Any") -> None:
        """Begin a file."""
        with Naming(self.full()):
            if self.new is None:
                self.new = self.make(self.above())
            self.new.start(start)

    def write(self, data: "Any") -> None:
        """Append ``data``."""
        try:
            self.new.write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.show()) from None

    def skip(self, size: int) -> None:
        """Append a hole."""
        with Naming(self.full()):
            self.new.skip(size)

    def close(self, head: "dict[str, Any]") -> None:
        """Put the present file in place."""
        with Naming(self.full()):
            self.new.place(self.attributes, head, self.fsync)
        self.new = None

    def mismatch(self) -> "Any":
        """The error for content that is not what was sent; of no use for going on later either."""
        self.new.keep = False
        return Sink.mismatch(self)

    # -- folders

    def above(self) -> "Any":
        """The descriptor of the folder that the present entry lies in; folders that are complete are finished."""
        while len(self.stack) > len(self.last):
            self.leave()
        if not self.last:
            return self.parent
        if len(self.stack) != len(self.last) or self.stack[-1][1]["path"] != self.last[:-1]:
            raise ProtocolError("%.200r lies in no folder that was announced" % (self.last,))
        return self.stack[-1][0]

    def folder(self, head: "dict[str, Any]") -> None:
        """Make a folder, or go into the one that is there."""
        if self.new is not None:
            raise UsageError("%s is to be resumed, and a folder cannot be: only a file" % self.show())
        above = self.above()
        with Naming(self.full()):
            if not self.last:
                fd, new = self.root(above)
            else:
                fd, new = self.enter(self.last[-1], above)
        self.stack.append((fd, head, new))

    def root(self, parent: "Any") -> "Any":
        """The outermost folder: (descriptor, whether it is new)."""
        if self.name in (b"", b".", b".."):
            return os.open(self.path, FOLDER), False
        try:
            return os.open(self.name, FOLDER, dir_fd=parent), False  # a symlink there is our own side's
        except FileNotFoundError:
            guard(self)
            self.temp = temporary(self.name)
            return self.enter(self.temp, parent)

    def enter(self, name: bytes, above: "Any") -> "Any":
        """Make a folder of that name, or open the one that is there: (descriptor, whether it is new)."""
        new = True
        try:
            os.mkdir(name, 0o700, dir_fd=above)
        except FileExistsError:
            new = False
        return os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=above), new

    def leave(self) -> None:
        """The innermost folder is complete."""
        fd, head, new = self.stack.pop()
        try:
            with Naming(os.path.join(self.path, *head["path"])):
                if new:
                    self.attributes.apply(fd, head, None, True)
                elif self.attributes.preserve:
                    self.attributes.apply(fd, head, os.fstat(fd), True)
                if self.fsync:
                    sync_folder(fd)
        finally:
            os.close(fd)

    def link(self, head: "dict[str, Any]") -> None:
        """Make a symlink; one that is there is replaced, and so is a file."""
        above = self.above()
        if not self.last:
            raise ProtocolError("a symlink is no root")
        check_link(self.last, head["target"], self.full(), self.options.get("links", "keep"))
        name = self.last[-1]
        with Naming(self.full()):
            try:
                os.symlink(head["target"], name, dir_fd=above)
            except FileExistsError:
                if stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
                    raise IsADirectoryError(21, os.strerror(21)) from None
                temp = temporary(name)
                os.symlink(head["target"], temp, dir_fd=above)
                os.rename(temp, name, src_dir_fd=above, dst_dir_fd=above)
        self.files += 1

    # -- the end

    def finish(self) -> None:
        """Put the folder in place, if it was one."""
        while self.stack:
            self.leave()
        if self.temp is not None:
            with Naming(self.path):
                os.rename(self.temp, self.name, src_dir_fd=self.parent, dst_dir_fd=self.parent)
                self.temp = None
                if self.fsync:
                    sync_folder(self.parent)
        self.abort()

    def abort(self) -> None:
        """Remove what is not in place. Idempotent, and after the end nothing."""
        new, self.new = self.new, None
        temp, self.temp = self.temp, None
        parent, self.parent = self.parent, -1
        try:
            if new is not None:
                new.drop()
            while self.stack:
                os.close(self.stack.pop()[0])
            if temp is not None:
                remove_tree(temp, parent)
        finally:
            live.discard(self)
            if parent >= 0:
                os.close(parent)


def remove_tree(name: bytes, above: int) -> None:
    """Remove a folder that we made, with all that is in it."""
    try:
        os.chmod(name, 0o700, dir_fd=above)
        fd = os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=above)
    except FileNotFoundError:
        return
    try:
        for each in os.listdir(fd):
            if stat.S_ISDIR(os.lstat(each, dir_fd=fd).st_mode):
                remove_tree(os.fsencode(each), fd)
            else:
                os.unlink(each, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=above)
