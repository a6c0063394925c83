"""What the tests run in other contexts."""

import select

import contextree


def hang(channel=None):
    """Say that it runs, and wait for ever."""
    if channel is not None:
        channel.send("running")
    select.select([], [], [])


def hang_there(context, channel):
    """Call ``hang`` in another context; what came of it: the name of the error's class, and its text."""
    try:
        context.with_options(threads=9).call(hang, channel)
    except contextree.ContextreeError as error:
        return type(error).__name__, str(error)


def numbers(release):
    """Numbers without end; after the first hundred it waits until it is told to go on."""
    yield from range(100)
    release.receive()
    yield from range(100, 10**9)


def echo(channel):
    """Send back what comes."""
    for item in channel:
        channel.send(item)


def stop_and_go(path):
    """Wait for ``path`` in C, holding the GIL: an interpreter that can do nothing else."""
    import ctypes

    libc = ctypes.PyDLL(None)  # keeps the GIL in its calls
    while libc.access(path.encode(), 0):
        for _ in range(100):
            libc.usleep(1000)


def periods():
    """The heartbeats of the children of this context, by the last part of their names."""
    engine = contextree.current_router().engine
    beats = engine.heart.beats if engine.heart else []
    return {beat.branch.name.rpartition(".")[2]: beat.period * 8 for beat in beats}
