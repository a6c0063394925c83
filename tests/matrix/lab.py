"""Children of any Python, for the tests of the matrix."""

import contextlib
import logging
import os
import shutil
import sys
import tempfile

import contextree
from contextree.connect.plan import PYTHON, Plan
from tests.lab.poll import until
from tests.lab.pythons import one_each

MINORS = [minor for minor in one_each() if minor != "2.7"]
HOSTILE = "raise BaseException('%s was imported from the working directory' % __name__)\n"


def plan(python, env=None, trusted=False):
    """A Plan for the words ``python``; from a context that is not trusted, values come in the strict codec."""
    return Plan([PYTHON], "target", "local", python=list(python), env=env, trusted=trusted)


@contextlib.contextmanager
def grown(python, env=None, trusted=False, **options):
    """A child by the words ``python``, whose every warning is an error; all is gone after the block."""
    with contextree.Router(**options) as router:
        yield router.grow(plan(python, dict({"PYTHONWARNINGS": "error", "PYTHONPATH": None}, **(env or {})), trusted))


class Records(logging.Handler):
    """Keeps (logger's name, message) of what contexts said."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def emit(self, record):
        self.kept.append((record.name, record.getMessage()))

    def of(self, ending):
        """The messages of loggers whose name ends so."""
        return [text for name, text in self.kept if name.endswith(ending)]

    def wait(self, ending, text):
        """Wait for a message of that logger with ``text`` in it."""
        return until(lambda: [each for each in self.of(ending) if text in each], "%r of %s" % (text, ending))


@contextlib.contextmanager
def recorded():
    """Records of the logger ``contextree``, from INFO on; whatever a context wrote to stderr fails the test."""
    handler = Records()
    logger = logging.getLogger("contextree")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert handler.of(".stderr") == []


@contextlib.contextmanager
def directory(python):
    """(path on this machine, path as ``python`` sees it) of an empty directory that lives for the block."""
    root = python.argv[1] if python.origin == "chroot" else ""
    parent = os.path.join(root, "tmp") if root else None
    if parent:
        os.makedirs(parent, exist_ok=True)
    path = tempfile.mkdtemp(dir=parent)
    try:
        yield path, path[len(root):]
    finally:
        shutil.rmtree(path)


def shell(python, script, *args):
    """The words of ``python``, started by a line of shell in which "$@" is its command line."""
    inside = 2 if python.origin == "chroot" else 0
    start = python.argv[:inside]
    return [*start, "/bin/sh", "-c", script, "sh", *args, *python.argv[inside:]]


def fill_with_hostile_modules(folder):
    """A file for every module that the standard library of any Python has, and for some that it has not."""
    names = {*sys.stdlib_module_names, *("imp", "asyncore", "distutils", "contextree", "dill", "tests")}
    for name in names - {"__main__"}:
        with open(os.path.join(folder, name + ".py"), "w") as file:
            file.write(HOSTILE)
