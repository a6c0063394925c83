"""Functions that the tests call in other contexts. No import here but of small modules: each goes there with it."""

import os
import pwd
import select
import signal

import contextree


def start_anew(environment):
    """Have this environment and no other, and stand in the root directory."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir("/")


def who():
    """The account that we are, by its number."""
    return pwd.getpwuid(os.getuid()).pw_name


def squares(count):
    """A stream."""
    for number in range(count):
        yield number * number


def leave(status):
    """End this process at once."""
    os._exit(status)


def kill_self():
    """End it by a signal."""
    os.kill(os.getpid(), signal.SIGKILL)


def router_name():
    """What we are called."""
    return contextree.current_router().name


def kind_of(fd):
    """What a descriptor is: "pipe", "socket", "terminal" or another number."""
    if os.isatty(fd):
        return "terminal"
    return {1: "pipe", 12: "socket"}.get(os.fstat(fd).st_mode >> 12, "other")


def write_to(path, data):
    """Write to a file that is there; all of it."""
    with open(path, "wb", 0) as file:
        while data:
            data = data[file.write(data):]


def ask_on_terminal(prompt, seconds):
    """Write a prompt to our terminal, and return what is answered in this time."""
    fd = os.open("/dev/tty", os.O_RDWR)
    try:
        os.write(fd, prompt)
        return os.read(fd, 1000) if select.select([fd], [], [], seconds)[0] else b""
    finally:
        os.close(fd)


def ignore_everything():
    """No TERM, no HUP."""
    for sig in signal.SIGTERM, signal.SIGHUP, signal.SIGINT:
        signal.signal(sig, signal.SIG_IGN)


def stop_self():
    """Stop, all threads."""
    os.kill(os.getpid(), signal.SIGSTOP)


def write_and_leave(path, data):
    """Write, and end at once."""
    write_to(path, data)
    os._exit(0)
