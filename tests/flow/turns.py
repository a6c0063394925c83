"""What runs in the contexts of test_b_nested."""

import threading

begun, go = threading.Event(), threading.Event()


def bounce(me, other, depth):
    return 1 + other.call(bounce, other, me, depth - 1) if depth else 0


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
