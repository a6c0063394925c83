"""Is a socket in the file system ours alone? Asked before a program is sent there that does not ask itself.

Whoever listens at ssh's control socket sees all that is sent, and answers as the host would. ssh takes what it finds
at the path. So the folder has to be the user's with no right for anybody else, no folder above it may be one in which
others can put something in its place, and what stands at the path has to be the user's socket.
"""

import os
import stat

from contextree.core.wire.errors import ConnectError


def check(path: str) -> None:
    """Raise ConnectError (phase "start") unless the socket ``path``, which need not be there, is safe: see above.

    Symbolic links count for what they lead to. Any thread."""
    me = os.geteuid()
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    try:
        status = os.stat(folder)
        if status.st_uid != me or status.st_mode & 0o077:
            refuse(path, "%s is not the user's alone (owner %d, mode %04o): chmod 700, or a folder of your own" % (
                folder, status.st_uid, stat.S_IMODE(status.st_mode)))
        above = folder
        while above != os.path.dirname(above):
            above = os.path.dirname(above)
            status = os.stat(above)
            if status.st_uid not in (0, me) or (status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX):
                refuse(path, "others can put another folder in the place of one below %s" % above)
    except OSError as error:
        refuse(path, "its folder cannot be looked at: %s" % error)
    try:
        status = os.lstat(os.path.join(folder, os.path.basename(path)))
    except OSError:
        return  # nobody listens
    if not stat.S_ISSOCK(status.st_mode):
        refuse(path, "it is no socket")
    if status.st_uid != me:
        refuse(path, "it belongs to the user %d" % status.st_uid)


def refuse(path: str, why: str) -> None:
    """Raise the error."""
    raise ConnectError("the control socket %s is not used: %s" % (path, why), phase="start")
