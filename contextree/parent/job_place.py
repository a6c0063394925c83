"""Where jobs keep what is theirs: one directory for each, of mode 0700, and what can be read there without its process.

A job's directory holds its socket and lock (``place``), the file ``job`` (what it is, as JSON), its output in one or
two files ``output.N`` that begin at byte N of all that it wrote, and ``result.N`` for each call that has ended. Whoever
lists jobs tells a living one by its lock, which the kernel drops with the process. All of this is the same user's, so
nothing of it is believed more than that user is.

Not under $XDG_RUNTIME_DIR: systemd removes that when the user's last session ends, which is what a job is to survive.
"""

import json
import os
import stat
import time

from contextree.core.wire.errors import UsageError
from contextree.parent import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

FOLDERS = "contextree", "jobs"  # below the user's state directory
TEMPORARY = "ctxjob-"  # where there is none
SOCKET, FACTS, OUTPUT, RESULT = "socket", "job", "output.", "result."
KEYS = {"pid", "machine", "started", "name", "python", "time_to_live", "held", "calls"}  # of the file ``job``
MAX_FACTS = 1 << 20
OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def home() -> str:
    """The home of the user that this process runs as; sudo may have left another's in the environment."""
    found = os.environ.get("HOME", "")
    if os.path.isabs(found):
        try:
            if os.stat(found).st_uid == os.geteuid():
                return found
        except OSError:
            pass
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/nonexistent"


def state_directory() -> str:
    """$XDG_STATE_HOME, or ~/.local/state."""
    found = os.environ.get("XDG_STATE_HOME", "")
    return found if os.path.isabs(found) else os.path.join(home(), ".local", "state")


def usual() -> str:
    """Where jobs lie when nobody says otherwise."""
    return os.path.join(state_directory(), *FOLDERS)


def make_folders(path: str) -> None:
    """Make ``path`` and what is missing above it, 0700 each. Raises OSError."""
    if not os.path.isdir(path):
        make_folders(os.path.dirname(path))
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):
                raise


def open_usual() -> int:
    """A descriptor of the usual place, made if need be: ours alone, no step below the state directory being a link.
    Raises OSError or UsageError."""
    path = state_directory()
    make_folders(path)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in ("",) + FOLDERS:
        if name:
            path = os.path.join(path, name)
            try:
                try:
                    os.mkdir(name, 0o700, dir_fd=fd)
                except FileExistsError:
                    pass
                below = os.open(name, OPEN | os.O_DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or found.st_mode & (0o077 if name == FOLDERS[-1] else 0o022):
            os.close(fd)
            raise UsageError("%s must belong to user %d and be writable by nobody else (mode 0700)"
                             % (path, os.geteuid()))
    return fd


def make(directory: "str | None") -> str:
    """A new directory for one job: in ``directory``, else in the usual place, else where temporary files are.

    Raises UsageError where ``directory`` is not ours alone or cannot be made."""
    name = os.urandom(5).hex()
    if directory is not None:
        base = os.path.abspath(os.path.expanduser(directory))
        try:
            make_folders(base)
            fd = place.open_directory(base)
        except OSError as error:
            raise UsageError("%s cannot be made: %s" % (base, error.strerror)) from None
    else:
        try:
            base, fd = usual(), open_usual()
        except (OSError, UsageError):
            return temporary()
    try:
        os.mkdir(name, 0o700, dir_fd=fd)
    except OSError as error:
        if directory is None:
            return temporary()
        raise UsageError("no directory can be made in %s: %s" % (base, error.strerror)) from None
    finally:
        os.close(fd)
    return os.path.join(base, name)


def temporary() -> str:
    """A new directory where temporary files are."""
    import tempfile

    try:
        return tempfile.mkdtemp(prefix=TEMPORARY)
    except OSError as error:
        raise UsageError("there is no place for the files of a job, neither in %s nor where temporary files are (%s): "
                         "name one by directory=" % (usual(), error)) from None


# -- what can be read there


def alive(fd: int) -> bool:
    """Whether the job whose directory ``fd`` is has a process."""
    import fcntl

    try:
        lock = os.open(SOCKET + ".lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(lock)


def read_file(fd: int, name: str, start: int = 0, count: int = MAX_FACTS) -> "bytes | None":
    """At most ``count`` bytes of a file of ours from ``start`` on, or None."""
    try:
        file = os.open(name, OPEN, dir_fd=fd)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        parts = []
        while count > 0:
            part = os.pread(file, min(count, 1 << 20), start)
            if not part:
                break
            parts.append(part)
            start += len(part)
            count -= len(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(file)


def segments(fd: int) -> "list[tuple[int, int]]":
    """(start, end) of each file of output, in order."""
    found = []
    for name in os.listdir(fd):
        if name.startswith(OUTPUT) and name[len(OUTPUT):].isdigit():
            try:
                size = os.stat(name, dir_fd=fd, follow_symlinks=False).st_size
            except OSError:
                continue  # it has just been dropped
            start = int(name[len(OUTPUT):])
            found.append((start, start + size))
    return sorted(found)


def look(directory: str) -> "dict[str, Any] | None":
    """What is known of the job in ``directory`` without asking it; None where there is none."""
    try:
        fd = place.open_directory(directory)
    except UsageError:
        return None
    try:
        living = alive(fd)  # before what it wrote: of one that ends meanwhile all is read
        data = read_file(fd, FACTS)
        facts = json.loads(data.decode("utf-8")) if data else None
        if type(facts) is not dict or not set(facts) >= KEYS:
            return None
        parts = segments(fd)
        facts.update(directory=directory, alive=living, held=bool(living and facts.get("held")),
                     output=[parts[0][0], parts[-1][1]] if parts else [0, 0])
        return facts
    except (OSError, ValueError):
        return None
    finally:
        os.close(fd)


def read_output(directory: str, offset: int, count: int) -> "tuple[int, bytes]":
    """(where it begins, up to ``count`` bytes) of the output from ``offset`` on, or from the first byte behind it that
    is still there. UsageError where there is no such job."""
    fd = place.open_directory(directory)
    try:
        for start, end in segments(fd):
            if end > offset:
                offset = max(offset, start)
                return offset, read_file(fd, OUTPUT + str(start), offset - start, count) or b""
        return offset, b""
    finally:
        os.close(fd)


def read_result(directory: str, number: int) -> "bytes | None":
    """The answer of call ``number`` as it is sent, or None where there is none. UsageError where there is no such
    job."""
    fd = place.open_directory(directory)
    try:
        return read_file(fd, RESULT + str(number), 0, 1 << 30)
    finally:
        os.close(fd)


def bases(directory: "str | None") -> "Iterator[str]":
    """The directories that may be those of jobs."""
    if directory is not None:
        folders = [(os.path.abspath(os.path.expanduser(directory)), "")]
    else:
        import tempfile

        folders = [(usual(), ""), (tempfile.gettempdir(), TEMPORARY)]
    for folder, prefix in folders:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            if name.startswith(prefix):
                yield os.path.join(folder, name)


def scan(directory: "str | None" = None) -> "list[dict[str, Any]]":
    """What ``look`` finds, oldest first. Those that died longer ago than they were to live are removed."""
    found = []
    for path in bases(directory):
        facts = look(path)
        if facts is not None and not (expired(facts) and remove(path)):
            found.append(facts)
    return sorted(found, key=lambda facts: facts.get("started") or 0)


def expired(facts: "dict[str, Any]") -> bool:
    """Whether a dead job of this machine is too old to be kept."""
    limit = facts.get("time_to_live")
    if facts["alive"] or limit is None or facts.get("machine") != os.uname()[1]:
        return False
    try:
        return bool(time.time() > os.stat(os.path.join(facts["directory"], FACTS)).st_mtime + limit)
    except OSError:
        return False


def clear(fd: int) -> None:
    """Remove what a job keeps, but for its socket and lock."""
    for name in os.listdir(fd):
        if name.startswith((FACTS, OUTPUT, RESULT)):
            try:
                os.unlink(name, dir_fd=fd)
            except OSError:
                pass  # somebody of this user was faster


def remove(directory: str) -> bool:
    """Remove the directory of a dead job; False where it lives or there is none."""
    import fcntl

    try:
        fd = place.open_directory(directory)
    except UsageError:
        return False
    lock = None
    try:
        if read_file(fd, FACTS) is None:
            return False
        try:
            lock = os.open(SOCKET + ".lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            pass
        clear(fd)
        for name in (SOCKET, SOCKET + ".lock"):
            try:
                os.unlink(name, dir_fd=fd)
            except FileNotFoundError:
                pass
        place.remove_directory(directory, fd)
        return True
    except OSError:
        return False  # it lives
    finally:
        os.close(fd)
        if lock is not None:
            os.close(lock)
