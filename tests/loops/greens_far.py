"""What the tests of greenlets call in other contexts. Standard library and contextree only."""

import os
import time


def nap(seconds):
    time.sleep(seconds)  # sleeps: it is what it is for
    return seconds


def until_there(path, seconds=30.0):
    """Wait until the file is there, and remove it; not for ever."""
    end = time.monotonic() + seconds
    while not os.path.exists(path) and time.monotonic() < end:
        nap(0.01)
    os.unlink(path)


def nap_and_say(channel, seconds):
    channel.send("begun")
    nap(seconds)


def count(start, end, seconds=0.0):
    for number in range(start, end):
        if seconds:
            nap(seconds)
        yield number


def endless(path):
    """Count until somebody closes this generator; then leave a mark."""
    number = 0
    try:
        while True:
            number += 1
            yield number
    finally:
        with open(path, "w") as file:
            file.write("closed")


def echo(channel):
    """Send everything back."""
    for item in channel:
        channel.send(item)
    channel.close()


def slow_reader(channel, path):
    """Take nothing until ``path`` is there; then all of it, and send how much that was."""
    while not os.path.exists(path):
        nap(0.01)
    channel.send(sum(len(item) for item in channel))
    channel.close()


def me():
    return os.getpid()


def chatter(lines):
    import logging

    for number in range(lines):
        logging.getLogger("chatter").warning("line %d", number)


def grow_direct(depth):
    """As many levels of direct forks below this one: a list of (id, resident kilobytes), from here down."""
    import contextree

    with open("/proc/self/status") as file:
        size = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    router = contextree.current_router()
    below = []
    if depth:
        below = router.fork(direct=True).call(grow_direct, depth - 1)
    return [(router.id, size), *below]


def call_in_a_loop():
    """What the synchronous API says on the thread of a running loop, and a module imported there."""
    import asyncio

    import contextree as door

    async def main():
        import colorsys

        router = door.current_router()
        try:
            router.fork()
        except door.WouldBlockLoop as error:
            return str(error), colorsys.__name__
        return "it waited", colorsys.__name__

    return asyncio.run(main())


kept = []  # handles that stay


def use_and_keep(channel):
    """``use``, and the handle stays here."""
    kept.append(channel)
    return use(channel)


def use(channel):
    """Send there and back, with the word for success."""
    channel.send("taken")
    return channel.receive(10)
