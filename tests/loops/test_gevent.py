"""gevent: every wait is a cooperative one, in patched programs and in others. Rows A-01 to A-09, A-12, CT-06, CT-07,
GI-08 to GI-10, RM-10, 4.1; the checks are in in_gevent.py, where each row has a function named after it."""

import ast
from pathlib import Path

import pytest

from tests.fork.tools import ROOT, program
from tests.loops.greens_tools import run

PATCH = "from gevent import monkey; monkey.patch_all()"
CHECKS = [node.name for node in ast.parse(Path(__file__).with_name("in_gevent.py").read_text()).body
          if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")]


@pytest.mark.parametrize("patched", [False, True], ids=["plain", "patched"])
@pytest.mark.parametrize("check", CHECKS)
def test_in_gevent(check, patched):
    quiet = "ctrl_c" not in check  # gevent tells of every KeyboardInterrupt
    run("tests.loops.in_gevent", check, before=PATCH if patched else "", quiet=quiet,
        options=("-W", "error") if not patched else ())


def test_contextree_imports_neither():
    """Who does not name them pays nothing; who does gets contextree's modules, not the libraries of the same name."""
    text = """
import sys
import contextree
assert not {"gevent", "cothread", "greenlet", "asyncio", "trio"} & set(sys.modules), set(sys.modules)
import contextree.gevent, contextree.cothread, gevent
assert contextree.gevent.Router is not contextree.cothread.Router and contextree.gevent is not gevent
assert issubclass(contextree.gevent.Router, contextree.Router)
print("good")
"""
    assert program(text) == "good\n"
    assert (ROOT / "contextree/gevent.py").exists()


def test_both_in_one_program():
    """Each kind of greenlet cooperates with its own, whoever came first, and however often."""
    text = """
import time
import cothread, gevent
import contextree.cothread, contextree.gevent
ticks = []
def tick(sleep, mark):
    while True:
        ticks.append(mark)
        sleep(0.005)
for Router in [contextree.gevent.Router, contextree.cothread.Router] * 2:
    with Router(grace=1.0) as router:
        assert router.fork().call(abs, -1) == 1
cothread.Spawn(tick, cothread.Sleep, "cothread")
with contextree.gevent.Router(grace=1.0) as router:
    worker = router.fork()
    worker.call(time.sleep, 0.2)
    seen = len(ticks)
    other = []
    def elsewhere():
        gevent.spawn(tick, gevent.sleep, "gevent")
        other.append(gevent.spawn(worker.call, time.sleep, 0.2).get())
        gevent.get_hub().destroy()
    import threading
    thread = threading.Thread(target=elsewhere)
    thread.start()
    while thread.is_alive():
        cothread.Sleep(0.01)
    assert other == [None]
print(seen > 10 and ticks.count("gevent") > 10)
"""
    assert program(text) == "True\n"


@pytest.mark.parametrize("module", ["gevent", "cothread"])
def test_examples_in_docstrings(module):
    text = f"""
import doctest
import contextree.{module}
found = doctest.DocTestFinder(exclude_empty=True).find(contextree.{module}, extraglobs={{"contextree": contextree}})
runner = doctest.DocTestRunner()
for test in found:
    runner.run(test)
print(runner.summarize(verbose=False))
"""
    assert program(text) == "TestResults(failed=0, attempted=2)\n"
