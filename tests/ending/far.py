"""Functions that tests have run elsewhere."""

import os
import select
import socket

from tests.lab.poll import until


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


def read_gate(path):
    """Read a FIFO to its end."""
    with open(path) as gate:
        return gate.read()


def call_for_ever(context):
    """Call ``context``, which never answers."""
    return context.with_options(threads=4).call(select.select, [], [], [])


def count_of_calls():
    """How many threads of this process are in a call that never answers."""
    import sys

    frames = sys._current_frames().values()
    return sum(frame.f_code.co_name == "run" and "function" in frame.f_locals for frame in frames)


def be_stubborn():
    """Ignore signals, close the link, and go on: neither TERM nor the loss of the parent ends this process."""
    import signal

    from contextree.core import main as life

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    life.child.link.on_lost = lambda link, reason: None
    hang_up()
    while True:
        signal.pause()


def hold(path):
    """Say so in ``path``.held, and end when there is a file ``path``."""
    open(path + ".held", "w").close()
    until(lambda: os.path.exists(path), "the gate", 30)


def start_sleeper():
    """Start a process that stays in this context's group; its pid."""
    import subprocess

    sleeper = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    sleeper.returncode = 0  # nobody waits for it here
    return sleeper.pid
