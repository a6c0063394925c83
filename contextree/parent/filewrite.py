"""One file put in place: all of it or nothing, under its name only once it is whole, checked and on the disk.

Where the file system has them the new file has no name at all until then (O_TMPFILE), so that not even SIGKILL leaves
anything behind. It gets its name by one link where there was nothing, else by a link under a temporary name and a
rename. Elsewhere, and for a transfer that can be resumed, it has a name from the start: opened by O_EXCL and
O_NOFOLLOW, for its owner alone. Whoever dies of the loss of the parent waits a moment for those to be removed
(``live``).

What is replaced is a regular file or a symlink (the link itself, not where it leads), never a device or a folder.
"""

import errno
import hashlib
import os
import stat
from binascii import hexlify

from contextree.core import process
from contextree.core.wire.errors import UsageError
from contextree.parent.filepipe import stop_all
from contextree.parent.transfer import TransferError, prefix_hash, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from contextree.parent.transfer import Options

TMPFILE = getattr(os, "O_TMPFILE", 0)
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
PATIENCE = 200  # times 10 ms that the end of this process waits for transfers to remove what they had begun
live = set()  # type: set[object]  # what has a temporary name now


def guard(owner: "Any") -> None:
    """Have the end of this process, if it is a child, wait until ``owner`` has left ``live``. Any thread."""
    from contextree.core import main as life

    live.add(owner)
    child = life.child
    if child is not None and "leave" not in child.__dict__:
        leave = child.leave

        def later(tries: int = 200, patience: int = PATIENCE) -> None:
            if live and patience:
                stop_all()
                child.broker.timer(0.01, later, tries, patience - 1)
            else:
                leave(tries)

        child.leave = later  # type: ignore[method-assign]  # looked up when the time comes


process.after_fork.append(live.clear)


def umask() -> int:
    """This process's umask."""
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    mask = os.umask(0o077)  # the only other way to read it; what is made meanwhile is for its owner alone
    os.umask(mask)
    return mask


def number_of(name: "Any", module: str) -> int:
    """The number of a user (``pwd``) or a group (``grp``) given by name or number; -1 for None."""
    if name is None:
        return -1
    if isinstance(name, int) and not isinstance(name, bool) and 0 <= name < 1 << 32:
        return name
    if isinstance(name, str):
        table = __import__(module)
        try:
            return int((table.getpwnam if module == "pwd" else table.getgrnam)(name)[2])
        except KeyError:
            if name.isdigit():
                return int(name)
    raise UsageError("there is no %s %r" % ("user" if module == "pwd" else "group", name))


class Attributes:
    """Mode, owner and time that files and folders get, from the options of a transfer.

    ``mode``, ``owner``, ``group``: given by the caller, or None. ``preserve``: False, True or "owner". ``mask``: the
    bits of the source's mode that may be kept: no set-user-id bits from somebody else's machine."""

    def __init__(self, options: "Options") -> None:
        self.mode = options.get("mode")
        self.preserve = options.get("preserve", False)
        self.mask = options.get("mask", 0o777)
        self.uid = number_of(options.get("owner"), "pwd")
        self.gid = number_of(options.get("group"), "grp")
        self.umask = umask()

    def apply(self, fd: int, head: "dict[str, Any]", old: "os.stat_result | None", folder: bool = False) -> None:
        """Set them on ``fd``; ``head`` is what the source said, ``old`` the file that is replaced."""
        uid, gid = self.owner(head)
        if (uid, gid) != (-1, -1):
            os.fchown(fd, uid, gid)
        elif old is not None:
            now = os.fstat(fd)
            if (now.st_uid, now.st_gid) != (old.st_uid, old.st_gid):
                try:
                    os.fchown(fd, old.st_uid, old.st_gid)
                except OSError:
                    old = None  # another's file may not lend its mode to ours
        os.fchmod(fd, self.bits(head, old, folder))
        if self.preserve and head.get("mtime") is not None:
            os.utime(fd, ns=(head["mtime"], head["mtime"]))

    def bits(self, head: "dict[str, Any]", old: "os.stat_result | None", folder: bool) -> int:
        """The mode."""
        if self.mode is not None:
            return int(self.mode | (self.mode & 0o444) >> 2 if folder else self.mode)
        mode = head.get("mode")
        if self.preserve and mode is not None:
            return int(mode & self.mask)
        if old is not None:
            return stat.S_IMODE(old.st_mode) & 0o777
        if mode is None:
            mode = 0o777 if folder else 0o666
        return int(mode & 0o777 & ~self.umask)

    def owner(self, head: "dict[str, Any]") -> "tuple[int, int]":
        """(uid, gid), -1 for whatever is not asked for."""
        uid, gid = self.uid, self.gid
        theirs = head.get("owner") if self.preserve == "owner" else None
        if theirs:
            if uid < 0:
                uid = known(theirs[2], theirs[0], "pwd")
            if gid < 0:
                gid = known(theirs[3], theirs[1], "grp")
        return uid, gid


def known(name: "str | None", number: int, module: str) -> int:
    """The number that a name has here, or else the one that it has there."""
    if name is not None:
        try:
            return number_of(name, module)
        except UsageError:
            pass
    return number


def temporary(name: bytes, token: "bytes | None" = None) -> bytes:
    """A hidden name for what will be ``name``: short enough for any file system; random, without ``token``."""
    return b".%s.%s.part" % (name[:200], token or hexlify(os.urandom(8)))


def open_folder(path: bytes) -> int:
    """A descriptor of the folder ``path``: of one that may not be read, one that can be used and not synced."""
    try:
        return os.open(path or b".", FOLDER)
    except PermissionError:
        if not hasattr(os, "O_PATH"):
            raise
        return os.open(path or b".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def sync_folder(fd: int) -> None:
    """Have the names in a folder on the disk."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.EINVAL):  # opened by O_PATH; a file system that does not do that
            raise


class NewFile:
    """A file that will be ``name`` in the folder ``folder`` (a descriptor that outlives it); ``path`` for messages.

    ``write`` and ``skip`` make its content; then either ``place`` or ``drop``. For one thread."""

    def __init__(self, folder: int, name: bytes, path: bytes, resume: bool = False) -> None:
        self.folder = folder
        self.name = name
        self.path = path
        self.at = 0
        self.temp = None  # type: bytes | None
        self.fd = -1
        self.keep = resume
        self.partial = (0, b"")  # what is there of a broken transfer
        self.old = self.look()
        try:
            if resume:
                self.open_partial()
            else:
                self.open()
        except BaseException:
            self.drop()
            raise

    def look(self) -> "os.stat_result | None":
        """What is there under the name now, if it is a regular file. OSError or TransferError if it must stay."""
        try:
            info = os.lstat(self.name, dir_fd=self.folder)
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(info.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), shown(self.path))
        if stat.S_ISLNK(info.st_mode):
            return None
        if not stat.S_ISREG(info.st_mode):
            raise TransferError("%s is neither a regular file nor a symlink: it is not replaced" % shown(self.path))
        return info

    def open(self) -> None:
        """Open a new file, without a name if that can be."""
        if TMPFILE:
            try:
                self.fd = os.open(".", TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=self.folder)
                if os.path.exists("/proc/self/fd/%d" % self.fd):
                    return
                os.close(self.fd)  # without /proc it could not get a name
                self.fd = -1
            except OSError as error:
                if error.errno in (errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EDQUOT):
                    raise  # with a name it would be the same
        guard(self)
        self.temp = temporary(self.name)
        self.fd = os.open(self.temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600,
                          dir_fd=self.folder)

    def open_partial(self) -> None:
        """Open what a broken transfer has left, or a new file under that name."""
        import fcntl

        self.temp = temp = temporary(self.name, hexlify(hashlib.sha256(self.name).digest()[:4]))
        while True:
            fd = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600,
                         dir_fd=self.folder)
            self.fd = fd
            info = os.fstat(fd)
            if (not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid() or info.st_nlink > 1
                    or info.st_mode & 0o77):
                self.temp = None  # it is not ours to remove
                raise TransferError("%s is not what a broken transfer of ours has left: remove it first"
                                    % shown(os.path.join(os.path.dirname(self.path), temp)))
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self.temp = None
                raise TransferError("another transfer to %s is under way" % shown(self.path)) from None
            try:
                if os.stat(temp, dir_fd=self.folder, follow_symlinks=False).st_ino == info.st_ino:
                    break
            except FileNotFoundError:
                pass  # another transfer has just put it in place
            self.fd = -1
            os.close(fd)
        if info.st_size:
            self.partial = info.st_size, prefix_hash(fd, info.st_size)

    def start(self, at: int) -> None:
        """The content comes from ``at`` on; what was there before is the same."""
        if at or self.partial[0]:
            os.ftruncate(self.fd, at)
            os.lseek(self.fd, at, os.SEEK_SET)
        self.at = at

    def write(self, data: bytes) -> None:
        """Append data. A full disk is an OSError about ``path``."""
        done = os.write(self.fd, data)
        self.at += done
        if done < len(data):
            view = memoryview(data)
            while done < len(data):
                count = os.write(self.fd, view[done:])
                done += count
                self.at += count

    def skip(self, size: int) -> None:
        """Append a hole."""
        self.at += size
        os.lseek(self.fd, self.at, os.SEEK_SET)

    def place(self, attributes: Attributes, head: "dict[str, Any]", fsync: bool) -> None:
        """Give it its attributes and its name; with ``fsync`` it is on the disk first, and its name after."""
        fd = self.fd
        if os.fstat(fd).st_size != self.at:
            os.ftruncate(fd, self.at)  # a hole at its end
        attributes.apply(fd, head, self.old)
        if fsync:
            os.fsync(fd)
        if self.temp is None:
            self.link()
        if self.temp is not None:
            os.rename(self.temp, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
            self.temp = None
        if fsync:
            sync_folder(self.folder)
        self.drop()

    def link(self) -> None:
        """Name a file that has no name: its own, if that is free, or a temporary one."""
        path = "/proc/self/fd/%d" % self.fd
        for name in [self.name, temporary(self.name)]:
            try:
                # with a dir_fd, else Python calls link(), which would make a link to the symlink in /proc
                os.link(path, name, src_dir_fd=self.folder, dst_dir_fd=self.folder, follow_symlinks=True)
            except FileExistsError:
                continue
            if name != self.name:
                guard(self)
                self.temp = name
            return
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), shown(self.path))

    def drop(self) -> None:
        """Close it, and remove it unless it was put in place, or is a part that is worth keeping. Idempotent."""
        fd, self.fd = self.fd, -1
        temp, self.temp = self.temp, None
        try:
            if temp is not None and fd >= 0 and not (self.keep and os.fstat(fd).st_size):
                try:
                    os.unlink(temp, dir_fd=self.folder)
                except FileNotFoundError:
                    pass
        finally:
            live.discard(self)
            if fd >= 0:
                os.close(fd)
