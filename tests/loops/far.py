"""What the tests run in other contexts."""

import logging
import os
import threading
import time

import contextree

gates = {}
seen = []


def add(first, second=1):
    return first + second


def same(value):
    return value


def fail(text):
    raise ValueError(text)


def hold(name):
    """Wait until ``release(name)``, which comes in another thread."""
    gate = gates.setdefault(name, threading.Event())
    seen.append(name)
    return gate.wait(50) and name


def release(name):
    gates.setdefault(name, threading.Event()).set()


def held(name):
    """Whether somebody waits in ``hold``."""
    return name in seen


def count(path, number=10**9):
    """Numbers; writes to ``path`` when it is closed."""
    try:
        yield from range(number)
    finally:
        with open(path, "w") as file:
            file.write("closed")


def echo(channel):
    """Send back what comes."""
    for value in channel:
        channel.send(value)


def send_numbers(channel, total):
    for number in range(total):
        channel.send(number)


def me():
    return os.getpid()


def nap(seconds):
    time.sleep(seconds)  # sleeps: the work of a function that takes its time
    return seconds


def until_cancelled():
    """Go on until the caller gives it up; that is then told to whoever holds for it."""
    call = contextree.current_call()
    seen.append("until_cancelled")
    while not call.cancelled:
        time.sleep(0.005)  # sleeps: a function that looks now and then whether it should go on
    release("cancelled")


def log_later(text, seconds):
    time.sleep(seconds)  # sleeps: the work of a function that takes its time
    logging.getLogger("far").warning(text)
