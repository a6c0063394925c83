"""Functions that tests have run elsewhere."""

import os
import select
import socket


def one_then_wait():
    """A generator that yields once, then never again."""
    yield 1
    select.select([], [], [])


def hang_up():
    """Close this context's link to its parent, as a broken process would."""
    from contextree.core import main as life

    with socket.socket(fileno=os.dup(life.child.link.wfd)) as link:
        link.shutdown(socket.SHUT_RDWR)


def flood_stderr(count):
    """Write so many bytes to stderr."""
    line = b"x" * 99 + b"\n"
    for _ in range(count // 100):
        os.write(2, line)
    return count
