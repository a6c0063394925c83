"""What tests of files share, and functions that run in contexts."""

import contextlib
import os
import stat


def census(folder):
    """{path below ``folder``: what is there}, hidden and temporary names too; not what goes away meanwhile."""
    found = {}
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            found[str(path.relative_to(folder))] = content(path)
    return found


def content(path):
    """What is there: a link's target, None for a folder, the bytes of a file."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "-> " + os.readlink(path)
    if stat.S_ISDIR(mode):
        return None
    return path.read_bytes() if stat.S_ISREG(mode) else "special"


def there_is(path):
    """{name: content} of a folder."""
    found = {}
    for name in os.listdir(path):
        with open(os.path.join(path, name), "rb") as file:
            found[name] = file.read()
    return found


def allocated(path):
    """Bytes that a file takes up on its disk."""
    return os.stat(path).st_blocks * 512


def without_tmpfile():
    """Have this process's new files named from the start, as on a file system without O_TMPFILE."""
    from contextree.parent import filewrite

    filewrite.TMPFILE = 0


def become(uid, gid):
    """Be another user from now on: one who may not read where this Python lies, so what is needed is imported first."""
    import grp
    import pwd
    import traceback

    from contextree.parent import files

    assert grp and pwd and traceback and files
    os.setgroups([])
    os.setegid(gid)
    os.seteuid(uid)


def limit_files(size):
    """No file may be longer than ``size`` bytes."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def peak():
    """The most memory that this process has ever had, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Gated:
    """A source that gives ``first``, then calls ``gate()``, then gives ``second``."""

    def __init__(self, first, gate, second=b""):
        self.parts = [first, second]
        self.gate = gate
        self.calls = 0

    def read(self, size):
        if self.parts[0]:
            piece, self.parts[0] = self.parts[0][:size], self.parts[0][size:]
            return piece
        if self.calls == 0:
            self.calls = 1
            self.gate()
        piece, self.parts[1] = self.parts[1][:size], self.parts[1][size:]
        return piece
