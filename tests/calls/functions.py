"""What the tests call in other contexts. Python 3.6 runs this too."""

import functools
import os
import pickle
import sys
import threading
import time


def add(first, second=1, *rest, **named):
    """Arithmetic, of any shape of call."""
    return first + second + sum(rest) + sum(named.values())


class Adder:
    """Methods of every kind, and instances that can be called and compared."""

    def __init__(self, base):
        self.base = base

    def __eq__(self, other):
        return type(other) is Adder and other.base == self.base

    __hash__ = None

    def __call__(self, number):
        return self.base + number

    def method(self, number):
        return self.base + number

    @classmethod
    def of_class(cls, number):
        return cls.__name__, number

    @staticmethod
    def static(number):
        return number * 2

    class Inner:
        def method(self):
            return "inner"


plus_five = functools.partial(add, second=5)


def identity(value):
    return value


def make(number):
    return Adder(number)


def size(data):
    return type(data).__name__, len(data)


class Blob:
    """Bytes that travel beside the pickle, as numpy's do."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        if protocol >= 5:
            return Blob, (pickle.PickleBuffer(self.data),)
        return Blob, (bytes(self.data),)

    def __len__(self):
        return len(memoryview(self.data))


def blob(count, letter=b"z"):
    return Blob(bytearray(letter * count))


def blob_end(value):
    """The last bytes of a blob, after the very last one was written to (but where it came in a pickle of old)."""
    view = memoryview(value.data)
    if not view.readonly:
        view[-1] = 33
    return bytes(view[-3:])


# -- threads and time


def on_main_thread():
    return threading.current_thread() is threading.main_thread()


def name_of_thread(wait_for=0):
    """The thread that runs this; with ``wait_for``, once as many are in here at the same time."""
    if wait_for:
        meeting = _meetings.setdefault(wait_for, threading.Barrier(wait_for))
        meeting.wait(20)
    return threading.get_ident()


_meetings = {}
marks = []


def mark(value):
    marks.append(value)
    return value


def marked():
    return list(marks)


def wait_for_file(path, then=None):
    """Runs until ``path`` is there."""
    open(path + ".started", "w").close()
    while not os.path.exists(path):
        time.sleep(0.005)  # sleeps: the function's work is to take time
    return then


def answer_before_listening(answer, listen):
    """Returns when ``answer`` is there; the loop of this context hears nothing until ``listen`` is."""
    from contextree.core import main

    main.child.broker.defer(wait_for_file, listen)
    return wait_for_file(answer)


# -- errors


class Custom(Exception):
    """Of a module, with a constructor of its own, and more attributes than arguments."""

    def __init__(self, code, text):
        Exception.__init__(self, "%s: %s" % (code, text))
        self.code = code


class Plain(Exception):
    """Of a module, made of its args."""


class Hostile(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    def __reduce__(self):
        raise RuntimeError("no pickle")


class HoldsLock(Exception):
    """Cannot be pickled."""

    def __init__(self):
        Exception.__init__(self, threading.Lock())


def fail(kind, *args):
    raise kind(*args)


def fail_named(name, *args):
    raise globals()[name](*args)


def fail_noted():
    error = ValueError("noted")
    error.extra = {"key": 1}
    raise error


def fail_with_notes(notes):
    error = ValueError("noted")
    for note in notes:
        error.add_note(note)
    raise error


def fail_chained():
    try:
        {}["first"]
    except KeyError as error:
        raise ValueError("second") from error


def fail_long():
    raise ValueError("begin" + "x" * (10 << 20) + "end")


def recurse(depth=0):
    return recurse(depth + 1) + 1


def fail_group():
    raise ExceptionGroup("both", [ValueError(1), FileNotFoundError(2, "two", "file")])  # noqa: F821 - Python 3.11


def unpicklable():
    return [1, threading.Lock()]


class Trap:
    """Fails where it is unpickled."""

    def __reduce__(self):
        return _snap, (os.getpid(),)


def _snap(pid):
    if os.getpid() != pid:
        raise LookupError("the trap has snapped")
    return Trap()


def die_of_segfault():
    sys.stderr.write("about to fall\n")
    sys.stderr.flush()
    os.kill(os.getpid(), 11)


def die(status):
    sys.stderr.write("last words\n")
    sys.stderr.flush()
    os._exit(status)


# -- generators


def count(stop, fail_at=None):
    for number in range(stop):
        if number == fail_at:
            raise LookupError("at %d" % number)
        yield number


def of_sizes(sizes):
    """bytes of every size, in order."""
    for size in sizes:
        yield bytes(size)


progress = {"made": 0, "closed": 0}


def produce(item, stop=10**9):
    """Yields ``item`` and keeps count; says when it was closed."""
    progress["made"] = progress["closed"] = 0
    try:
        for _ in range(stop):
            progress["made"] += 1
            yield item
    finally:
        progress["closed"] += 1


def get_progress():
    return dict(progress)


def peak():
    """The most memory that this process has had, in MiB."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return None


# -- what strangers do


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def own_container():
    found = []
    found.append(found)
    return found


def answer_with_pickles(form, path):
    """From now on this context answers with pickles."""
    from contextree.core import calls

    calls.pack = lambda value, pickles: bytes([form]) + pickle.dumps(Bomb(path))


def fail_with_pickles(path):
    """From now on this context sends its exceptions with a pickle."""
    from contextree.core import calls

    honest = calls.pack_error

    def pack_error(error, context, pickles):
        calls.dumps, calls.loads = (lambda value, protocol: pickle.dumps(Bomb(path))), len
        return honest(error, context, True)

    calls.pack_error = pack_error


def grow_and_submit():
    """(which of two modules are here once this context has a child, and after a submit; is it a CallFuture; result)."""
    import contextree

    def there():
        return [name for name in ("concurrent.futures", "logging") if name in sys.modules]

    with contextree.current_router().local() as child:
        child.call(abs, -1)
        before = there()
        future = child.submit(abs, -3)
        return before, there(), isinstance(future, contextree.CallFuture), future.result(20)


def count_and_stay(stop):
    """A generator that yields numbers, then never again."""
    yield from range(stop)
    threading.Event().wait()
