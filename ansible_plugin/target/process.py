"""Programs on the target, run as a login by ssh would run them: without a terminal to the end of their outputs, with
one to their own end."""

import errno
import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import threading

from contextree.core.wire.errors import CallCancelled, CallTimeout, UsageError

from . import warm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Optional, Tuple

    Result = Tuple[int, bytes, bytes]  # as ssh tells it: 128 + N for signal N

LAST_WORDS = 100  # milliseconds that the kernel has, after a program's end, to bring what it has said to the terminal
#: Makes the terminal whose path is the first word that of a new session, and becomes the program in the others.
_ON_TERMINAL = 'exec "$@" <>"$0" >&0 2>&1'


def run(argv: "List[str]", data: "Optional[bytes]" = None, terminal: bool = False, cwd: "Optional[str]" = None,
        env: "Optional[Dict[str, Optional[str]]]" = None, login: bool = False) -> "Result":
    """Run a program: (status, stdout, stderr). ``env``: variables beside ours, None removes one. On a terminal both
    outputs are in stdout. Its process group is killed when nobody waits for the present call any more. ``login``: as
    sshd runs a shell, which is called by its name alone, and of whose death by a signal ssh says 255. Any thread."""
    said_of = told_by_ssh if login else told
    environment = {name: value for name, value in dict(warm.environment(), **(env or {})).items()
                   if value is not None}
    if terminal:
        return _on_terminal(by_name(argv, environment) if login else argv, cwd, environment, said_of)
    words = [os.path.basename(argv[0])] + argv[1:] if login else argv
    process = subprocess.Popen(
        words, executable=argv[0], stdin=subprocess.PIPE if data else subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=cwd, env=environment, start_new_session=True)
    kill_with_call(process.pid)
    said = talk(process, data or b"")
    status = said_of(process.wait())
    return (status,) + said if said is not None else (warm.DIED, b"", warm.TOO_MUCH)


def talk(process: "subprocess.Popen[bytes]", data: bytes) -> "Optional[Tuple[bytes, bytes]]":
    """Give a program its input, and take both outputs to their end. None: it said too much, and is killed."""
    streams = {each.fileno(): each for each in (process.stdin, process.stdout, process.stderr) if each is not None}
    said = {fd: [] for fd, each in streams.items() if each is not process.stdin}  # type: Dict[int, List[bytes]]
    left, size, poll = memoryview(data), 0, select.poll()
    for fd in streams:
        poll.register(fd, select.POLLIN if fd in said else select.POLLOUT)
        os.set_blocking(fd, False)
    while streams:
        for fd, _ in poll.poll():
            try:
                if fd in said:
                    more = os.read(fd, 1 << 18)
                    said[fd].append(more)
                    size += len(more)
                else:
                    left = left[os.write(fd, left):]
                    more = bytes(left[:1])
            except BlockingIOError:
                continue
            except OSError:  # it reads no more
                more = b""
            if size > warm.LIMIT:
                os.killpg(process.pid, signal.SIGKILL)
                for each in streams.values():
                    each.close()
                return None
            if not more:
                poll.unregister(fd)
                streams.pop(fd).close()
    out, err = (b"".join(parts) for parts in said.values())
    return out, err


def kill_with_call(group: int) -> None:
    """Kill a process group when it is said that nobody waits for the present call any more. When the link is lost, its
    work is to be finished, as it is by what ssh has started: it may be the work that took the link away."""
    def kill() -> None:
        ended = call._call.channel.ended  # type: ignore[attr-defined]
        if isinstance(ended, (CallCancelled, CallTimeout)) or call.time_left() == 0:
            try:
                os.killpg(group, signal.SIGKILL)
            except OSError:
                pass  # it has ended

    try:
        from contextree.parent.current import current_call

        call = current_call()
    except UsageError:
        return  # nobody has called
    call.on_cancel(kill)


def told(status: int) -> int:
    """What a shell says of a status as subprocess has it."""
    return status if status >= 0 else 128 - status


def told_by_ssh(status: int) -> int:
    """What ssh says of a login shell's status as subprocess has it."""
    return status if status >= 0 else 255


def by_name(argv: "List[str]", env: "Dict[str, str]") -> "List[str]":
    """The words with a name for the path of the program, if that is what a shell finds by it: it calls itself so when
    it says what is wrong."""
    name = os.path.basename(argv[0])
    for folder in env.get("PATH", "").split(os.pathsep):
        path = os.path.join(folder, name)
        if folder.startswith("/") and os.access(path, os.X_OK) and not os.path.isdir(path):
            return [name] + argv[1:] if os.path.samefile(path, argv[0]) else argv
    return argv


def _on_terminal(argv: "List[str]", cwd: "Optional[str]", env: "Dict[str, str]",
                 said_of: "Callable[[int], int]" = told) -> "Result":
    master, slave = os.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
        path = os.ttyname(slave)
        if "SSH_CONNECTION" in env:  # not where sudo has made a new environment
            env = dict(env, SSH_TTY=path)
        process = subprocess.Popen(["/bin/sh", "-c", _ON_TERMINAL, path] + argv, stdin=slave, stdout=slave,
                                   stderr=slave, cwd=cwd, env=env, start_new_session=True)
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    kill_with_call(process.pid)
    ended, end = os.pipe()
    waiter = threading.Thread(target=_wait, args=(process, end), daemon=True)
    waiter.start()
    try:
        out = _read_terminal(master, ended)
        waiter.join()
        return said_of(process.returncode), out, b""
    finally:
        os.close(master)
        os.close(ended)


def _wait(process: "subprocess.Popen[bytes]", end: int) -> None:
    process.wait()
    os.close(end)


def _read_terminal(master: int, ended: int) -> bytes:
    """What the program says until it has ended; what it has left running may still hold the terminal."""
    parts = []
    poll = select.poll()
    poll.register(master, select.POLLIN)
    poll.register(ended, select.POLLIN)
    held = running = True
    while held or running:
        ready = [fd for fd, _ in poll.poll(None if running else LAST_WORDS)]
        if master in ready:
            try:
                parts.append(os.read(master, 65536))
            except OSError as error:  # nobody has the other end open
                if error.errno != errno.EIO:
                    raise
                poll.unregister(master)
                held = False
        elif ended in ready:
            poll.unregister(ended)
            running = False
        elif not running:
            break
    return b"".join(parts)
