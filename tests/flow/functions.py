"""What the contexts of these tests do."""

import os
import signal


def echo(value):
    return value


def chunks(count, size=65536):
    """``count`` pieces of ``size`` bytes."""
    data = bytes(size)
    for _ in range(count):
        yield data


def endless(size=65536):
    data = bytes(size)
    while True:
        yield data


def length(data):
    return len(data)


def nap():
    """Do not come back before the caller has gone."""
    from contextree.core import process

    process.Waiter().wait(60)


def stop_myself():
    os.kill(os.getpid(), signal.SIGSTOP)


def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def open_channels():
    from contextree.core.calls import here

    return sorted(number for _, number, _ in here.router.channels)


def rare_import():
    import wsgiref.simple_server

    return wsgiref.simple_server.__name__


def mixed_size(number):
    return (10, 300000, 5000, 17000, 1)[number % 5]


def mixed(count):
    for number in range(count):
        yield bytes(mixed_size(number))
