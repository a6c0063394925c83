"""A terminal of our own for a command that asks on /dev/tty: ssh, su, doas.

Ownership: the opener owns both descriptors of a Pty until it closes them. It keeps the slave open until the login is
over (HELLO, or the command ended): ssh opens /dev/tty anew for each question and closes it after the answer, and
whenever no slave is open the master reads EIO, as if all were over. The end of the command shows at its pipes and to
the reaper. After ``close_slave`` it shows at the master too (``read`` makes b"" of EIO). Closing the master hangs up:
the command's session leader gets SIGHUP.

How the command gets it as its controlling terminal: on Linux a session leader without one gets the first terminal
that it opens without O_NOCTTY. So the command is started in a new session (``start_new_session=True``) and behind a
line of shell that opens and closes the slave and becomes the command. ``preexec_fn`` would do it without a shell, but
it rules out vfork, and forking a large process costs more than starting sh (8.4 ms of CPU against 0.4 by vfork, at a
heap of 200 MB). Where opening is not enough (the BSDs, perhaps macOS), a line of Python asks by TIOCSCTTY.

Some commands ask on their stdin (su). They are *handed over* the terminal: it is their stdin and stderr, and their
stdout is the link, a socket that carries both directions. No login shell closes these three, whatever it does to others
(csh closes them all). stderr's pipe waits at 9, where it survives most shells; ``HANDED`` is what the interpreter does
first: it puts the link to 0, where it is expected, and the pipe to 2. Where the pipe is lost, the terminal stays
stderr; the parent logs what is written there as well.

How it is set: nothing is echoed or translated and no character has a meaning but the line end, so that any password
passes; input is still handed over by lines. Programs that ask for a password flush the input before they write
their prompt (OpenSSH, util-linux su and PAM, sudo, doas: seen by strace), so an answer to a prompt is not lost.
"""

import errno
import fcntl
import os
import struct
import sys
import termios

from contextree.core.wire.errors import ConnectError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Mapping, Sequence

# Linux ioctls by number, as termios has them only in some versions: (get number, unlock, open the peer).
_IOCTLS = {"alpha": (0x40045430, 0x80045431, 0x20005441), "mips": (0x40045430, 0x80045431, 0x20005441),
           "ppc": (0x40045430, 0x80045431, 0x20005441)}
_IOCTLS_ELSEWHERE = (0x80045430, 0x40045431, 0x5441)

# A redirection of one command leaves all descriptors as they were, so none that the command inherits is lost.
_SHELL = ': <>"$0" && exec "$@"'
_SHELL_HANDOVER = 'exec 9>&2 <>"$0" 2>&0 && exec "$@"'
_PYTHON = ("import fcntl, os, sys, termios; f = os.open(sys.argv[1], os.O_RDWR); fcntl.ioctl(f, termios.TIOCSCTTY, 0); "
           "%sos.close(f); os.execvp(sys.argv[2], sys.argv[2:])")
_PYTHON_HANDOVER = "os.dup2(2, 9); os.dup2(f, 0); os.dup2(f, 2); "

#: What an interpreter behind a handover does first. 9 is stderr's if it is a pipe. As ``first_stage`` has it: text for
#: any shell and any Python.
HANDED = ("import os;os.dup2(1,0);exec(chr(10).join([\"try:\",\" if os.fstat(9).st_mode>>12==1:\",\"  os.dup2(9,2)\","
          "\"  os.close(9)\",\"except OSError:pass\"]));")


class Pty:
    """A pseudo-terminal: descriptors ``master`` and ``slave`` (-1 once closed), and ``path``, which opens the slave."""

    __slots__ = ("master", "slave", "path")

    def __init__(self, master: int, slave: int, path: str) -> None:
        self.master = master
        self.slave = slave
        self.path = path

    def close_slave(self) -> None:
        """Close our end of the slave, once. From now on the master reads b"" when no command has the slave open."""
        fd, self.slave = self.slave, -1
        if fd >= 0:
            os.close(fd)

    def detach_master(self) -> int:
        """Hand the master's descriptor over: the caller owns it now."""
        fd, self.master = self.master, -1
        return fd

    def close(self) -> None:
        """Close what is still ours. A command that has this as its controlling terminal gets SIGHUP."""
        self.close_slave()
        fd = self.detach_master()
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> "Pty":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def open_pty(silent: bool = True) -> "Pty":
    """A new Pty, set as the module says (``silent=False``: as the system has it, for people), both descriptors
    close-on-exec and 3 or higher.

    Raises ConnectError (phase "start") when no terminal or no descriptor is to be had; nothing is left open then.
    Any thread.
    """
    try:
        try:
            master, slave = _pair(*os.openpty())
        except OSError as exc:
            if exc.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise
            master, slave = _pair(*_open_by_number())
    except OSError as exc:
        raise ConnectError(_no_pty(exc), phase="start") from exc
    try:
        if silent:
            _silence(slave)
        return Pty(master, slave, _path(slave))
    except (OSError, termios.error) as exc:
        os.close(master)
        os.close(slave)
        raise ConnectError("the new terminal cannot be used: %s" % (exc,), phase="start") from exc


def wrap(argv: "Sequence[str]", slave_path: str, handover: bool = False) -> "List[str]":
    """A command that makes the terminal its controlling one and becomes `argv`.

    Start it with ``start_new_session=True``: it must be the leader of a session that has no terminal yet. Its
    descriptors are left as they are, or handed over (see above). It ends with status 126 or 127 where argv cannot be
    run, and with another one where the terminal cannot be opened; argv is not run then.
    """
    if sys.platform.startswith("linux"):
        return ["/bin/sh", "-c", _SHELL_HANDOVER if handover else _SHELL, slave_path] + list(argv)
    return [sys.executable, "-ISc", _PYTHON % (_PYTHON_HANDOVER if handover else ""), slave_path] + list(argv)


def find(program: "str | bytes", env: "Mapping[str, Any]", cwd: "str | bytes | None") -> None:
    """Raise the OSError that ``program`` cannot be run for, if there is one that is easy to see: the shell
    that ``wrap`` puts before it would make an exit status of it."""
    program = os.fsdecode(program)
    if os.path.dirname(program):
        places = [os.path.join(os.fsdecode(cwd or ""), program)]
    else:
        places = [os.path.join(folder, program) for folder in os.get_exec_path(env)]
    if cwd is not None:
        os.stat(os.path.join(os.fsdecode(cwd), ""))
    there = [place for place in places if os.path.exists(place)]
    if not any(os.access(place, os.X_OK) and not os.path.isdir(place) for place in there):
        code = errno.EACCES if there else errno.ENOENT
        raise OSError(code, os.strerror(code), program)


def read(fd: int, size: int = 65536) -> bytes:
    """Read from a master that is ready; b"" when all have closed the slave (Linux says EIO, others end of file)."""
    try:
        return os.read(fd, size)
    except OSError as exc:
        if exc.errno == errno.EIO:
            return b""
        raise


def resize(fd: int, rows: int, columns: int) -> None:
    """Set the size of a terminal; programs on it get SIGWINCH. Either of its ends will do. Raises OSError."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _pair(*fds: int) -> "List[int]":
    """Move two descriptors to 3 or above, close-on-exec. A process started with 0 to 2 closed gets them here, and a
    child's stdio would be put over them."""
    out = []  # type: List[int]
    try:
        for fd in fds:
            out.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))  # noqa: PERF401  half a list is closed below
    except OSError:
        for fd in out:
            os.close(fd)
        raise
    finally:
        for fd in fds:
            os.close(fd)
    return out


def _open_by_number() -> "tuple[int, int]":
    """openpty() without libc, which may look the slave up by name (musl, old glibc) and so fails where /dev/pts is not
    the instance that /dev/ptmx belongs to (a chroot, a container). The kernel opens a master's peer without a name."""
    machine = os.uname().machine
    number, unlock, peer = next((row for name, row in _IOCTLS.items() if machine.startswith(name)), _IOCTLS_ELSEWHERE)
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(master, unlock, struct.pack("i", 0))
        try:
            slave = fcntl.ioctl(master, peer, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)   # Linux 4.13
        except OSError as exc:
            if exc.errno not in (errno.ENOTTY, errno.EINVAL):
                raise
            which = struct.unpack("i", fcntl.ioctl(master, number, b"\0\0\0\0"))[0]
            slave = os.open("/dev/pts/%d" % which, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        os.close(master)
        raise
    return master, slave


def _path(slave: int) -> str:
    """A path that opens this very terminal: its name, if that is right, else through our own descriptor."""
    try:
        path = os.ttyname(slave)
        if os.path.samestat(os.stat(path), os.fstat(slave)):
            return path
    except OSError:
        pass
    return "/proc/%d/fd/%d" % (os.getpid(), slave)


def _silence(fd: int) -> None:
    iflag, oflag, cflag, lflag, ispeed, ospeed, chars = termios.tcgetattr(fd)
    iflag &= ~(termios.ICRNL | termios.INLCR | termios.IGNCR | termios.ISTRIP | termios.IXON | termios.IXOFF)
    oflag &= ~termios.OPOST
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    lflag &= ~(termios.ECHO | termios.ECHOE | termios.ECHOK | termios.ECHONL | termios.ISIG | termios.IEXTEN)
    lflag |= termios.ICANON
    disabled = bytes([os.fpathconf(fd, "PC_VDISABLE")])
    chars = [disabled] * len(chars)
    chars[termios.VMIN], chars[termios.VTIME] = b"\1", b"\0"      # for a program that reads it byte by byte
    termios.tcsetattr(fd, termios.TCSANOW, [iflag, oflag, cflag, lflag, ispeed, ospeed, chars])
    resize(fd, 24, 80)


def _no_pty(exc: "OSError") -> str:
    if exc.errno in (errno.EMFILE, errno.ENFILE):
        return "no terminal for the command: this %s has too many open files; raise the limit (ulimit -n)" % (
            "process" if exc.errno == errno.EMFILE else "machine")
    try:
        with open("/proc/sys/kernel/pty/max") as limit, open("/proc/sys/kernel/pty/nr") as used:
            state = " (%s of %s are in use)" % (used.read().strip(), limit.read().strip())
    except OSError:
        state = ""
    return ("no terminal for the command: this machine gives out no further pseudo-terminal%s: %s; end what holds "
            "them, raise kernel.pty.max, or see that /dev/pts is mounted" % (state, exc))
