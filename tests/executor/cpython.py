"""Finds CPython's own test cases for executors (``test.test_concurrent_futures``), to be run against ours.

Of this Python where it has them; else the file of another Python of this machine, of a version where they still were
one file that needs nothing but ``test.support``. Nothing of them is kept here.
"""

import importlib
import importlib.util
import sys
import warnings
from pathlib import Path

from tests.lab import pythons

PARTS = ("executor", "test_as_completed", "test_deadlock", "test_init", "test_process_pool", "test_shutdown",
         "test_wait", "util")
NAME = "test_concurrent_futures"


def find():
    """({name: class or function} of the test cases, where they are from); ({}, why there are none)."""
    try:
        importlib.import_module("test.support")
    except ImportError:
        return {}, "this Python was installed without its `test` package"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return _of_this_python()
        except ImportError:
            return _of_another()


def _of_this_python():
    found = importlib.import_module("test." + NAME)
    names = {}
    if hasattr(found, "__path__"):
        for part in PARTS:
            names.update(vars(importlib.import_module(f"test.{NAME}.{part}")))
    return names or vars(found), f"Python {sys.version.split()[0]}"


def _of_another():
    for python in reversed(pythons.find()):
        if len(python.argv) > 1:
            continue  # it lives in a chroot
        home = Path(python.argv[0]).resolve().parents[1]
        for file in home.glob(f"lib/python{python.minor}/test/{NAME}.py"):
            name = "{}_{}".format(NAME, python.minor.replace(".", "_"))
            spec = importlib.util.spec_from_file_location(name, file)
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
            except ImportError:  # it wants a test.support of its own version
                del sys.modules[name]
                continue
            return vars(module), f"Python {python.version}"
    return {}, f"no Python here has a test.{NAME} that this one can load"
