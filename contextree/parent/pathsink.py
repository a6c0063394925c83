"""The writing end of a transfer to a path: a file, or a folder with all that is in it.

Each folder on the way is opened by its one name in the folder above it, and never through a symlink; a file is created,
never opened; set-user-id bits are not kept. A folder that is not there yet is made under a temporary name and put in
place whole; into one that is there each file is put by itself.
"""

import errno
import os
import stat

from contextree.core.wire.errors import ProtocolError, UsageError
from contextree.parent.filesink import Sink
from contextree.parent.filewrite import FOLDER, Attributes, NewFile, guard, live, open_folder, sync_folder, temporary
from contextree.parent.transfer import Naming, TransferError, check_link, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from contextree.parent.transfer import Options


class PathSink(Sink):
    """Puts what comes at ``path``: a file, or a folder with all that is in it.

    ``options``: ``mode``, ``owner``, ``group``, ``preserve``, ``mask`` (see ``Attributes``), ``resume``, ``links``,
    ``fsync``, ``max_size``."""

    def __init__(self, path: bytes, options: "Options", progress: "Any" = None) -> None:
        Sink.__init__(self, options, progress)
        self.attributes = Attributes(options)
        self.fsync = options.get("fsync", True)
        stripped = path.rstrip(b"/") or b"/"
        self.path = path
        self.name = os.path.basename(stripped)
        self.slash = stripped != path
        self.new = None  # type: Any  # the NewFile of the present file
        # open folders, outermost first: (fd, head, whether it is new)
        self.stack = []  # type: list[tuple[int, dict[str, Any], bool]]
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

    def make(self, folder: int, resume: bool = False) -> NewFile:
        """The new file for the present entry, in ``folder``."""
        if self.last:
            return NewFile(folder, self.last[-1], self.full())
        if self.slash or self.name in (b"", b".", b".."):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return NewFile(folder, self.name, self.path, resume)

    def full(self) -> bytes:
        """The path of the present entry."""
        return os.path.join(self.path, *(self.last or ()))

    def show(self) -> str:
        """The present file, for messages."""
        return shown(self.full())

    # -- files

    def open(self, head: "dict[str, Any]", start: int) -> None:
        """Begin a file."""
        with Naming(self.full()):
            if self.new is None:
                self.new = self.make(self.above())
            self.new.start(start)

    def write(self, data: bytes) -> None:
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

    def mismatch(self) -> TransferError:
        """The error for content that is not what was sent; of no use for going on later either."""
        self.new.keep = False
        return Sink.mismatch(self)

    # -- folders

    def above(self) -> int:
        """The descriptor of the folder that the present entry lies in; folders that are complete are finished."""
        place = self.last or []
        while len(self.stack) > len(place):
            self.leave()
        if not place:
            return self.parent
        fd, head, _ = self.stack[-1] if self.stack else (-1, {}, False)
        if len(self.stack) != len(place) or head["path"] != place[:-1]:
            raise ProtocolError("%.200r lies in no folder that was announced" % (place,))
        return fd

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

    def root(self, parent: int) -> "tuple[int, bool]":
        """The outermost folder: (descriptor, whether it is new)."""
        if self.name in (b"", b".", b".."):
            return os.open(self.path, FOLDER), False
        try:
            return os.open(self.name, FOLDER, dir_fd=parent), False  # a symlink there is our own side's
        except FileNotFoundError:
            guard(self)
            self.temp = temporary(self.name)
            return self.enter(self.temp, parent)

    def enter(self, name: bytes, above: int) -> "tuple[int, bool]":
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
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
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
