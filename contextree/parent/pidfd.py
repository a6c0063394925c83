"""The system calls behind the reaper: wait for one child, and the pidfd family where Python has no name for it.

``P_ALL`` and negative pids are used nowhere: they would take statuses that belong to others in this process.
On Python 3.6 to 3.8 (and builds against old headers) the calls go through ctypes; where that is missing they raise
ENOSYS and the reaper polls by timers. Numbers above 423 are the same on every architecture that Python runs on but
alpha.
"""

import errno
import os
import signal
import struct
import sys

from contextree.parent.child_state import from_siginfo, from_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextree.parent.child_state import ChildState

P_PID = getattr(os, "P_PID", 1)
P_PIDFD = getattr(os, "P_PIDFD", 3)  # Linux 5.4
WEXITED, WSTOPPED, WCONTINUED = getattr(os, "WEXITED", 4), getattr(os, "WSTOPPED", 2), getattr(os, "WCONTINUED", 8)
WNOWAIT = getattr(os, "WNOWAIT", 0x1000000)
PROCESS_GROUP = 4  # flag of pidfd_send_signal, Linux 6.9
_open, _send_signal = getattr(os, "pidfd_open", None), getattr(signal, "pidfd_send_signal", None)  # Python 3.9
_SEND_SIGNAL, _OPEN = 424, 434
_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes); a larger struct of a later kernel is compatible
_INFO_EXIT = 8
_INFO = struct.Struct("=QQ11Ii")  # mask, cgroup id, pid, tgid, ppid, eight ids, exit code


def wait(idtype: int, ident: int, flags: int, command: str = "", pid: int = 0) -> "ChildState | None":
    """The next state of this one child, or None; never blocks. Raises ChildProcessError when there is no such child.

    Where Python has no ``waitid`` (macOS before 3.13) WNOWAIT sees nothing, and a death may be returned instead of a
    stop."""
    if hasattr(os, "waitid"):
        info = os.waitid(idtype, ident, flags | os.WNOHANG)
        return info and from_siginfo(info, command)
    if flags & WNOWAIT:
        return None
    flags = (os.WUNTRACED if flags & WSTOPPED else 0) | (flags & WCONTINUED) | os.WNOHANG
    seen, status = os.waitpid(pid, flags)
    return from_status(pid, status, command) if seen else None


def open_pidfd(pid: int) -> int:
    """A descriptor (close-on-exec) that becomes readable when ``pid`` ends. Raises OSError; ENOSYS where there is
    none."""
    if _open:
        return _open(pid)  # type: ignore[no-any-return]  # os.pidfd_open
    fd = _syscall(_OPEN, pid, 0)
    os.set_inheritable(fd, False)
    return fd


def send_signal(fd: int, number: int, flags: int = 0) -> None:
    """Signal the process of a pidfd, or with ``PROCESS_GROUP`` the group that it leads. Raises OSError."""
    if _send_signal:
        _send_signal(fd, number, None, flags)
    else:
        _syscall(_SEND_SIGNAL, fd, number, 0, flags)


def exit_status(fd: int) -> "int | None":
    """The status word of a process that somebody reaped (Linux 6.15), or None while the kernel has none.

    Raises OSError where the kernel keeps none. The pidfd must have been opened before the process was reaped."""
    import fcntl

    buffer = bytearray(_INFO.pack(_INFO_EXIT, *[0] * 13))
    fcntl.ioctl(fd, _GET_INFO, buffer)
    fields = _INFO.unpack(buffer)
    return fields[-1] if fields[0] & _INFO_EXIT else None


def birth(pid: int) -> "bytes | None":
    """When ``pid`` was started, in the kernel's ticks; None where nobody tells. A reused pid has another birth: pids
    do not come round within one tick (10 ms)."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return file.read().rpartition(b")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _syscall(number: int, *args: int) -> int:
    if not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, "no pidfds on %s" % sys.platform)
    try:
        import ctypes

        function = ctypes.CDLL(None, use_errno=True).syscall
    except (ImportError, OSError, AttributeError):
        raise OSError(errno.ENOSYS, "this Python has no ctypes") from None
    result = int(function(ctypes.c_long(number), *[ctypes.c_long(arg) for arg in args]))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
