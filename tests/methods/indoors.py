"""What the tests of containers call in them. It imports little: each child gets this file, and that, from here."""

import os
import signal
import sys


def leave_at_term(status):
    """Wait for a SIGTERM, and end this process then."""
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(status))
    signal.pause()


def waits_for_term():
    """Does something here wait for a SIGTERM?"""
    return callable(signal.getsignal(signal.SIGTERM))


def read_stdin():
    """All that is on stdin."""
    return sys.stdin.read()


def read(path):
    """The text of a file."""
    with open(path) as file:
        return file.read()


def running(word):
    """How many processes have this in their command line, which is a word or the first words of it."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = read("/proc/%s/cmdline" % name).split("\0")
            except OSError:
                continue
            count += word in words or " ".join(words).startswith(word)
    return count


def stop():
    """Stop this process, as ^Z does."""
    os.kill(os.getpid(), signal.SIGSTOP)


def hostname():
    """The name of the machine."""
    return os.uname()[1]


def executable():
    """The interpreter."""
    return sys.executable


def environ():
    """The environment."""
    return dict(os.environ)


def owners(fds):
    """(mode, uid, gid) of descriptors."""
    return [(facts.st_mode, facts.st_uid, facts.st_gid) for facts in map(os.fstat, fds)]


def who():
    """(uid, gid, groups, HOME, working directory)."""
    return os.getuid(), os.getgid(), sorted(os.getgroups()), os.environ.get("HOME"), os.getcwd()


def orphan():
    """Have a process whose parent ends at once; returns its pid, once it has been handed on and has ended."""
    reader, writer = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid:
            os.write(writer, b"%d" % pid)
            os._exit(0)
        while os.getppid() != 1:
            pass
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        pid = int(file.read())  # until both have ended
    os.waitpid(between, 0)  # what is left is the orphan's
    return pid


def children():
    """(pid, state letter) of all children of this process."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with open("/proc/%s/stat" % name) as file:
                fields = file.read().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                found.append((int(name), fields[0]))
    return sorted(found)
