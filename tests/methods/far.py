"""What the tests of methods have done there, where there is no pytest and any Python from 3.6 on."""

import os
import sys
import time


def version():
    return sys.version_info[:2]


def prefix():
    return sys.prefix


def variable(name):
    return os.environ.get(name)


def look():
    """What the options of a plan say there."""
    return os.getuid(), os.getcwd(), os.environ.get("PYTHONSAFEPATH"), sys.path[0]


def capabilities():
    """The effective capabilities of the interpreter."""
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("CapEff")).split()[1], 16)


def begin(path):
    """A call that has no end; the file says that it has begun."""
    with open(path, "w") as file:
        file.write("%d" % os.getpid())
    time.sleep(600)  # sleeps: it is a call that does not end


def fill():
    """More than the container may have."""
    kept = bytearray()
    while True:
        kept += bytes(1 << 20)
