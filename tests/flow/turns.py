"""What runs in the contexts of test_b_nested."""

import threading

begun, go = threading.Event(), threading.Event()


def bounce(me, other, depth):
    return 1 + other.call(bounce, other, me, depth - 1) if depth else 0


def bounce_by_future(me, other, depth):
    return 1 + other.submit(bounce_by_future, other, me, depth - 1).result() if depth else 0


def bounce_by_stream(me, other, depth):
    yield depth
    if depth:
        yield from other.stream(bounce_by_stream, other, me, depth - 1)


def hold(other):
    return other.call(wait)


def wait():
    begun.set()
    return "released" if go.wait(30) else "late"


def held():
    return begun.wait(30)


def release():
    go.set()


def on_main_thread():
    return threading.current_thread() is threading.main_thread()
