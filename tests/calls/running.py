"""What runs in other contexts in the tests of cancelling and deadlines. Python 3.6 runs this too."""

import functools
import os
import signal
import sys
import threading
import time

import contextree

marks = []
gates = {}


def mark(value):
    marks.append(value)


def marked():
    return list(marks)


def kind(error):
    """``CallTimeout``, ``CallCancelled`` or another name."""
    for each in (contextree.CallTimeout, contextree.CallCancelled):
        if isinstance(error, each):
            return each.__name__
    return type(error).__name__


def gate(name):
    return gates.setdefault(name, threading.Event())


def open_gate(name):
    gate(name).set()


def wait_at(name):
    return gate(name).wait(30)


# -- deadlines


def time_left(path=()):
    """Of this call, and of those that it makes down ``path``."""
    own = contextree.current_call().time_left()
    return [own] + (path[0].call(time_left, path[1:]) if path else [])


def time_left_by_submit(path=()):
    own = contextree.current_call().time_left()
    return [own] + (path[0].submit(time_left_by_submit, path[1:]).result() if path else [])


def time_left_in_items(count):
    for _ in range(count):
        yield contextree.current_call().time_left()


def time_left_with(timeout, other):
    return contextree.current_call().time_left(), other.with_options(timeout=timeout).call(time_left)[0]


def time_left_on_pool(other):
    """On threads of our own: plain, and bound to this call."""
    from concurrent.futures import ThreadPoolExecutor

    def ask():
        return other.call(time_left)[0]

    with ThreadPoolExecutor(2) as pool:
        return pool.submit(ask).result(), pool.submit(contextree.current_call().bind(ask)).result()


def has_asyncio():
    return "asyncio" in sys.modules, threading.active_count()


def note_current_call():
    try:
        mark(contextree.current_call())
    except contextree.UsageError:
        mark("none")


def note_in_a_direct_fork():
    with contextree.current_router().fork(direct=True, on_start=[note_current_call]) as child:
        return child.call(marked)


def check_for_ever():
    check_in_a_loop("never")


def running_calls():
    """How many calls are in memory here, and what watches over them."""
    import gc

    from contextree.core.calls import Call

    gc.collect()
    return sum(isinstance(each, (Call, contextree.RunningCall)) for each in gc.get_objects())


def until_over():
    """Wait until nobody waits for us."""
    over = contextree.current_call().wait_cancelled(30)
    mark(("until_over", over))
    threading.Event().wait(0.1)  # its time is up some microseconds before that of its caller


def nap():
    until_over()
    yield 1


def ask_until_over(way, other):
    """Wait for ``other`` longer than there is time."""
    try:
        if way == "call":
            other.call(until_over)
        elif way == "submit":
            other.submit(until_over).result()
        else:
            list(other.stream(nap))
    except BaseException as error:
        mark((way, kind(error)))
        try:
            other.call(os.getpid)
        except BaseException as error:
            mark(("again", kind(error)))
        raise


def read_slowly(other):
    """Items come, but never the last one."""
    got = []
    try:
        got.extend(other.stream(count_for_ever))
    except BaseException as error:
        mark((kind(error), got == list(range(len(got))) and len(got) > 0))
        raise


def count_for_ever():
    number = 0
    try:
        while True:
            yield number
            number += 1
    finally:
        mark("closed")


# -- current_call


def facts():
    call = contextree.current_call()
    return (call is contextree.current_call(), call.cancelled, call.deadline, call.time_left(), call.check(),
            call.wait_cancelled(0), call.caller.id)


def caller_of_nested(other):
    return other.call(caller)


def caller():
    return contextree.current_call().caller


def on_thread_of_its_own():
    """current_call() where none runs, and bound."""
    def look():
        try:
            return contextree.current_call().cancelled
        except contextree.UsageError as error:
            return str(error)

    found = []
    for target in (look, contextree.current_call().bind(look)):
        thread = threading.Thread(target=lambda target=target: found.append(target()))
        thread.start()
        thread.join()
    return found


def check_in_a_loop(name):
    """Until the call is over."""
    mark("begun")
    try:
        while not gate(name).wait(0.001):
            contextree.current_call().check()
    except BaseException as error:
        mark((kind(error), str(error)))
        raise
    mark("ended")


def told_by_callback():
    done = threading.Event()
    thread = threading.get_ident()

    def first():
        mark(("callback", threading.get_ident() != thread))
        raise ValueError("of a callback")

    call = contextree.current_call()
    call.on_cancel(first)
    call.on_cancel(done.set)
    mark("begun")
    mark(("heard", done.wait(30)))
    call.on_cancel(lambda: mark(("at once", threading.get_ident() == thread)))
    mark("end")


def callback_that_must_not_run():
    contextree.current_call().on_cancel(functools.partial(mark, "late"))
    return True


def generate_until_over():
    call = contextree.current_call()
    mark("begun")
    yield 1
    mark(call.wait_cancelled(30))
    mark(call is contextree.current_call())


def be_called_until_over(other, function):
    other.call(function)


# -- cancel="raise"


def run_until_raised(way, other=None):
    """Spend time in some way until something is raised."""
    mark("begun")
    try:
        if way == "loop":
            while True:
                pass
        elif way == "sleep":
            time.sleep(60)  # sleeps: it is interrupted there
        elif way == "lock":
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()
        elif way == "call":
            other.call(until_over)
        elif way == "result":
            other.submit(until_over).result()
        elif way == "stream":
            list(other.stream(nap))
        elif way == "calls":
            while True:
                other.call(abs, -1)
    except BaseException as error:
        mark((way, kind(error)))
        for _ in range(20):  # nothing more is raised while we clean up
            threading.Event().wait(0.001)
        mark("cleaned up")
        raise


def swallow():
    mark("begun")
    try:
        while True:
            pass
    except contextree.CallCancelled:
        mark("swallowed")
    return "dropped"


def yield_and_spin():
    try:
        yield 1
        while True:
            pass
    except BaseException as error:
        mark(kind(error))
        raise


def spin(seconds):
    """Busy for so long; says whether it was let."""
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            time.sleep(0)  # lets the others run
    except contextree.CallCancelled:
        mark("raised")
        raise


def spin_by_calls(other, count):
    """Busy in contextree's own code, most of the time."""
    try:
        for _ in range(count):
            assert other.call(abs, -7) == 7
    except contextree.CallCancelled:
        mark("raised")
        raise


def spin_and_answer(value, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return value


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def main_thread_is_in(name):
    return sys._current_frames()[threading.main_thread().ident].f_code.co_name == name


def errors_of_loop():
    from contextree.core import main

    return main.child.broker.count["errors"]


# -- cancel="kill"


def ignore_all_and_spin(path):
    """A function that nothing but KILL ends."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def meet_at(folder, count):
    """This process's id, once as many have come here."""
    open(os.path.join(folder, str(os.getpid())), "w").close()
    while len(os.listdir(folder)) < count:
        time.sleep(0.005)  # sleeps: other processes cannot wake us
    return os.getpid()


def pids(count):
    for _ in range(count):
        yield os.getpid()
