"""The far ends of the channels that the tests open. Python 3.6 runs this too."""

import os
import time

from contextree import Closed
from tests.calls import functions


def double_all(channel):
    """Twice each number, then a last word if anybody still reads."""
    count = 0
    for number in channel:
        channel.send(2 * number)
        count += 1
    try:
        channel.send("the end")
    except Closed:
        pass  # nobody does
    return count


def ready_and_double(channel):
    """The same, from the end that has to speak first."""
    channel.send("ready")
    return double_all(channel)


def send_all(channel, items):
    """Send all of them and close."""
    for item in items:
        channel.send(item)
    channel.close()


def send_and_forget(channel, count):
    """Send more than there is credit for, say that it was all, and let go of the handle."""
    for _ in range(count):
        channel.send(bytes(65536))
    channel.send_eof()
    return "sent"


def send_until_error(channel):
    """Send until it is refused; the name of the error."""
    try:
        while True:
            channel.send(bytes(1000), timeout=10)
    except Exception as error:
        return type(error).__name__


def send_and_wait(channel):
    """Send something, and wait for what the other end says to it."""
    channel.send("hello")
    return channel.receive(timeout=10)


def send_object(channel):
    """Send what is no plain data."""
    channel.receive(timeout=10)
    channel.send(functions.Adder(1))


def send_then_die(channel, count):
    """Send some, see that they have left, and end the process."""
    for number in range(count):
        channel.send(number)
    link = channel.end.channel.link
    while link.out or link.pending:
        time.sleep(0.001)  # sleeps: polls, and the helper for it is not in this context
    os._exit(3)


def lengths(channel):
    """The lengths of all bytes objects that come, the types of all else."""
    return [len(item) if type(item) is bytes else type(item).__name__ for item in channel]


def take_one(channel):
    """The type of the first value."""
    return type(channel.receive(timeout=20)).__name__


def count_after(channel, gate):
    """Count what comes, once the gate says so."""
    gate.receive(timeout=20)
    return sum(1 for _ in channel)


def read_then_write(channel):
    """Read all, then write: (how many came, the error of writing)."""
    count = sum(1 for _ in channel)
    try:
        while True:
            channel.send("is anybody there?")
            time.sleep(0.001)  # sleeps: until the news have come
    except Exception as error:
        return count, type(error).__name__


def read_to_error(channel):
    """Tell what comes, and return the name of the error that ends it."""
    while True:
        try:
            item = channel.receive(timeout=20)
        except Exception as error:
            return type(error).__name__
        channel.send("got %s" % item)


def echo_then_wait(channel):
    """One answer, then none."""
    channel.send(channel.receive(timeout=20))
    channel.receive(timeout=60)


def open_channels():
    """How many channels of the wire this context has."""
    import gc

    from contextree.core import main

    gc.collect()
    return len(main.child.router.channels)


def graves():
    """How many channels that have ended this context remembers."""
    from contextree.core import main

    return len(main.child.router.ends)


def forge_channel(acceptor):
    """A handle that nobody gave us."""
    import contextree.parent.channel as channels
    from contextree.core import main

    return channels.make(main.child.router, acceptor, 4)


def own_channel():
    """A handle of a channel whose far end is here."""
    import contextree

    return contextree.current_router().channel()


def forge_context(number):
    """The handle of a context that there is not."""
    from contextree.parent.context import Context

    return Context(None, number, "nobody")


def open_forged(acceptor):
    """Use such a handle."""
    channel = forge_channel(acceptor)
    channel.send(1)
    return channel.receive(timeout=10)
