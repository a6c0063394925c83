"""What children say, in the ways that there are."""

import logging
import os
import stat
import subprocess
import sys


def say(level, text, *args):
    """One record."""
    logging.getLogger("far.away").log(level, text, *args)


def fail():
    """A record with an exception."""
    try:
        raise ValueError("the reason")
    except ValueError:
        logging.getLogger("far").exception("it failed")


def is_imported(name):
    """Whether a module has been imported here."""
    return name in sys.modules


def import_late():
    """Import logging, and log at once."""
    import logging as late

    late.getLogger("late").warning("from a late import")


def basic_config():
    """What scripts do first."""
    logging.basicConfig(level=logging.DEBUG, format="mine: %(message)s")
    logging.getLogger("configured").info("after basicConfig")


def odd_records():
    """Records that are hard to send."""
    log = logging.getLogger("x" * 1000)
    log.warning("%d", "not a number")
    log.warning("bad %s", Unprintable())
    log.log(10 ** 9, "level of a billion")
    log.warning("a\x1b[31mred\nsecond line\x00\x85")
    log.warning("long %s", "y" * 100000)


class Unprintable:
    """Its text cannot be made."""

    def __str__(self):
        raise RuntimeError("no text")


def write(fd, data):
    """Bytes straight to a descriptor."""
    while data:
        data = data[os.write(fd, data):]


def start_program(text):
    """Run a shell command that inherits what we have."""
    subprocess.run(["sh", "-c", text], check=True)


def flags(fd):
    """Is it open and blocking?"""
    return os.get_blocking(fd)


def flood(count):
    """Log a lot."""
    log = logging.getLogger("flood")
    for number in range(count):
        log.warning("line %d", number)


def print_lines(count):
    """So many lines of 100 bytes."""
    for number in range(count):
        print("%099d" % number)
    sys.stdout.flush()
    return count


def peak():
    """The most MiB that this process ever had in memory."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def is_pipe(fd):
    """Is it one?"""
    return stat.S_ISFIFO(os.fstat(fd).st_mode)
