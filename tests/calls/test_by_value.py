"""What goes by value takes the modules that it names by their names."""

import importlib
import sys
import threading

import pytest

import contextree

MODULE = """
import threading
lock = threading.Lock()  # nothing that could be sent
count = 0

def double(x):
    return x * 2
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of a project, somewhere on sys.path."""
    (tmp_path / "project_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("project_module")
    del sys.modules["project_module"]


def test_a_lambda_may_use_a_module_of_the_project(module):
    """Dill sends the whole of a module that does not lie where Python is installed, and fails on the lock in it."""
    module.count = 7
    lock = threading.Lock()
    with contextree.Router() as router:
        worker = router.local().with_options(timeout=20)
        assert worker.call(lambda: module.double(21)) == 42
        assert worker.call(lambda: module.count) == 0  # it was imported there
        assert worker.call(lambda: contextree.current_router().name) == worker.name
        with pytest.raises(contextree.NotSendable, match="cannot be sent"):
            worker.call(lambda: lock)
