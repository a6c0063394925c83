"""What the tests of the matrix call in children: text that Python 3.6 reads."""

import os
import sys


class OwnError(Exception):
    """An exception that the master knows and no contract names."""


def where():
    """(version, optimisation, pid) of this interpreter."""
    return tuple(sys.version_info[:2]), sys.flags.optimize, os.getpid()


def parcel():
    """What an import of the package gives, and its data file."""
    from tests.matrix import parcel

    with parcel.__loader__.get_resource_reader(parcel.__name__).open_resource("note.txt") as file:
        return parcel.LABEL, file.read()


def echo(value):
    """The value itself."""
    return value


def has_zone(name):
    """Can this Python make the zone ``name``?"""
    try:
        import zoneinfo

        zoneinfo.ZoneInfo(name)
    except Exception:
        return False
    return True


def fail(kind):
    """Raise one of several exceptions."""
    if kind == "key":
        raise KeyError("deliberate", 5)
    if kind == "os":
        os.stat("/nowhere/at all")
    try:
        raise ValueError("the cause")
    except ValueError as error:
        raise OwnError("the effect") from error


def count(number):
    """The numbers up to ``number``."""
    yield from range(number)


def speak():
    """A log record and a line on standard output."""
    import logging

    logging.getLogger("app").warning("a record from %d.%d", *sys.version_info[:2])
    print("a line from %d.%d" % sys.version_info[:2])


def warm():
    """Have this context do for the first time what is done in another way for the first time."""
    parcel()
    speak()
    router().fork().shutdown()


def router():
    """The router of this context."""
    from contextree.parent.router import current_router

    return current_router()


def nest(method, python=None):
    """Grow a child by ``method`` here; what it says of itself, what a child of it says, and whether all ended."""
    if method == "direct":
        context = router().fork(direct=True)
    elif method == "fork":
        context = router().fork()
    else:
        context = router().local(python=python)
    try:
        found = [context.call(where), context.call(echo, "x" * 100000) == "x" * 100000, context.call(parcel)]
        if method == "fork":
            found.append(context.call(nest, "fork of fork"))
        return found
    finally:
        context.shutdown()


def submit():
    """Why submit cannot be used here, or None."""
    from contextree.core.wire.errors import UnsupportedPlatform

    with router().fork() as context:
        try:
            return context.submit(where).result(20) and None
        except UnsupportedPlatform as error:
            return str(error)


def main_thread():
    """Does ``threading`` take this thread, which runs calls, for the main one?"""
    import threading

    return threading.current_thread() is threading.main_thread()


def modules():
    """{name: file or None} of everything imported here."""
    return {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}


def attempt(names):
    """Import each of ``names``; those that cannot be, with the error."""
    failed = {}
    for name in names:
        try:
            __import__(name)
        except ImportError as error:
            failed[name] = str(error)
    return failed


def path():
    """sys.path."""
    return sys.path


def state():
    """Of the process: umask, HOME, working directory or None, encoding of files, whether bytecode is written."""
    mask = os.umask(0)
    os.umask(mask)
    try:
        here = os.getcwd()
    except OSError:
        here = None
    return {"umask": mask, "home": os.environ.get("HOME"), "cwd": here, "filesystem": sys.getfilesystemencoding(),
            "bytecode": not sys.dont_write_bytecode, "isolated": sys.flags.isolated, "site": "site" in sys.modules,
            "doc": where.__doc__ is not None, "optimize": sys.flags.optimize}
