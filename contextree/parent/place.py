"""Where a listener's socket lies: a directory that is this user's and nobody else's, worked with by its descriptor, so
that no path can be swapped under us.

Whoever listens holds a lock on a file beside the socket, which the kernel lets go of at its death, however it died:
that tells a stale socket from one in use. Directories of our own that a killed process left behind are removed by the
next one that listens, and by clients that see its end.
"""

import os
import stat

from contextree.core import process
from contextree.core.wire.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PREFIX = "contextree-"


class Place:
    """A directory that is this user's alone, and the socket, lock and files of one listener in it."""

    def __init__(self, directory: str, name: str, made: bool) -> None:
        self.directory = directory
        self.name = name
        self.made = made  # for this listener
        self.path = os.path.join(directory, name)
        self.files = []  # type: list[str]
        self.socket = None  # type: Any  # (device, inode)
        self.lock = None  # type: Any
        self.fd = process.own(open_directory(directory))  # type: Any

    def take_lock(self) -> None:
        """Hold the lock until the end of this process. UsageError when another process does.

        In a directory of our own the file gets its name only once it is locked, so who cleans up finds none that is
        not."""
        import fcntl

        final = self.name + ".lock"
        name = final + ".new" if self.made else final
        while self.lock is None:
            try:
                fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.fd)
            except OSError as error:
                raise UsageError("%s.lock cannot be opened: %s" % (self.path, error.strerror)) from None
            try:
                here = os.fstat(fd)
                if not stat.S_ISREG(here.st_mode) or here.st_uid != os.geteuid():
                    raise UsageError("%s.lock is there already, and is no file of ours" % self.path)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self.made:
                    os.rename(name, final, src_dir_fd=self.fd, dst_dir_fd=self.fd)
                if identity(final, self.fd) == (here.st_dev, here.st_ino):
                    self.lock = process.own(fd)  # else who held it has just gone, and the file with it
            except BlockingIOError:
                raise UsageError("another process listens at %s" % self.path) from None
            finally:
                if self.lock != fd:
                    os.close(fd)

    def clear(self) -> None:
        """Remove the socket of a listener that has died. UsageError where there is something else, or one that
        lives."""
        import _socket

        try:
            found = os.stat(self.name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            raise UsageError("%s is there already, and is no socket of ours" % self.path)
        probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            probe.setblocking(False)
            probe.connect(self.through())
        except ConnectionRefusedError:
            os.unlink(self.name, dir_fd=self.fd)
            return
        except BlockingIOError:
            pass  # its backlog is full: somebody listens
        finally:
            probe.close()
        raise UsageError("another process listens at %s" % self.path)

    def through(self) -> str:
        """The path of the socket by the directory's descriptor: it cannot be swapped, and is short enough."""
        return through(self.fd, self.name)

    def write(self, name: str, text: str) -> None:
        """A new file that this user alone can read. UsageError when there is one."""
        try:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600,
                         dir_fd=self.fd)
        except FileExistsError:
            raise UsageError("%s is there already" % os.path.join(self.directory, name)) from None
        self.files.append(name)
        with open(fd, "w") as file:
            file.write(text)

    def leave(self) -> None:
        """Remove what is ours, the directory too if it was made for us; close the descriptors."""
        fd, self.fd = self.fd, None
        if fd is None:
            return
        names = list(self.files)
        if self.socket is not None and identity(self.name, fd) == self.socket:
            names.append(self.name)
        if self.lock is not None:
            names.append(self.name + ".lock")
        for name in names:
            try:
                os.unlink(name, dir_fd=fd)
            except OSError:
                pass  # somebody of this user was faster
        if self.made:
            remove_directory(self.directory, fd)
        process.close(fd)
        if self.lock is not None:
            process.close(self.lock)


def open_directory(path: str) -> int:
    """A descriptor of a directory that is this user's and nobody else's, or UsageError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError("%s is no directory that can be used: %s" % (path, error.strerror)) from None
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        os.close(fd)
        raise UsageError("%s must belong to user %d and have mode 0700; it belongs to user %d and has mode %04o"
                         % (path, os.geteuid(), found.st_uid, stat.S_IMODE(found.st_mode)))
    return fd


def through(fd: int, name: str) -> str:
    """The path of ``name`` in the directory that ``fd`` is."""
    return "/proc/self/fd/%d/%s" % (fd, name)


def identity(name: str, fd: int) -> "Any":
    """(device, inode) of a file in the directory that ``fd`` is, or None."""
    try:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def remove_directory(path: str, fd: int) -> None:
    """Remove an empty directory, if its path still is the one that ``fd`` is."""
    try:
        found, here = os.stat(path, follow_symlinks=False), os.fstat(fd)
        if (found.st_dev, found.st_ino) == (here.st_dev, here.st_ino):
            os.rmdir(path)
    except OSError:
        pass  # not empty, or gone


def sweep(path: str) -> bool:
    """Remove a directory that a listener made for itself, if that has died; whether it did."""
    import fcntl

    try:
        fd = open_directory(path)
    except UsageError:
        return False
    lock = None
    try:
        lock = os.open("socket.lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in os.listdir(fd):
            os.unlink(name, dir_fd=fd)
        remove_directory(path, fd)
        return True
    except OSError:
        return False  # it lives, or is not what we make
    finally:
        os.close(fd)
        if lock is not None:
            os.close(lock)


def make_directory() -> str:
    """A new directory for one listener, where temporary files are; those of dead listeners are removed."""
    import tempfile

    base = tempfile.gettempdir()
    for name in os.listdir(base):
        if name.startswith(PREFIX):
            sweep(os.path.join(base, name))
    return tempfile.mkdtemp(prefix=PREFIX, dir=base)
