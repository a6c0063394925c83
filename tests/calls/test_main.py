"""Functions of the main program, however it was started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = str(Path(__file__).resolve().parents[2])

DEFINITIONS = """\
import os, sys
import contextree
base = 40

class Point:
    def __init__(self, x):
        self.x = x
    def __eq__(self, other):
        return type(self) is type(other) and self.x == other.x
    def shifted(self, by):
        return Point(self.x + by)

class Odd(Exception):
    pass

def add(number):
    return base + number

def outer(number):
    return add(number) + 1

def numbers(count):
    for number in range(count):
        yield number + base

def fail():
    raise Odd("odd")
"""

BY_NAME = """\
def check(place):
    assert place.call(add, 2) == 42
    assert place.call(outer, 2) == 43
    assert place.call(Point, 3) == Point(3)
    assert place.call(Point(3).shifted, 4) == Point(7)
    assert place.call(Point.shifted, Point(3), 4) == Point(7)
    assert list(place.stream(numbers, 2)) == [40, 41]
    try:
        place.call(fail)
    except Odd as error:
        assert "in fail" in error.__cause__.traceback and "raise Odd" in error.__cause__.traceback
    else:
        raise AssertionError

def main():
    with contextree.Router() as router:
        for place in [router.local(), router.local(python=[sys.executable]), router.fork(), router.fork(direct=True),
                      router.local(via=router.local(python=[sys.executable]), python=[sys.executable]),
                      *(router.local(python=path) for path in sys.argv[1:])]:
            check(place)
        print("good", flush=True)
"""

GUARD = """
if __name__ == "__main__":
    main()
"""

UNGUARDED = """\
with contextree.Router() as router:
    for place in router.local(), router.fork(), router.local(python=[sys.executable]):
        assert place.call(add, 2) == 42
        assert place.call(outer, 2) == 43
        assert list(place.stream(numbers, 2)) == [40, 41]
        assert place.call(lambda: outer(base)) == 81
    base = 0
    direct = router.fork(direct=True)
    assert direct.call(add, 2) == 2
    base = 1
    assert direct.call(add, 2) == 2 and router.local().call(add, 2) == 3
    for path in sys.argv[1:]:
        try:
            router.local(python=path).call(add, 2)
        except contextree.NotSendable as error:
            assert "if __name__ == '__main__'" in str(error), error
        else:
            raise AssertionError
    print("good", flush=True)
"""


def run(*words, text="", folder=None):
    """The output of a Python that must succeed and say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, *words], input=text, capture_output=True, text=True, timeout=50, cwd=folder, check=False,
        env=dict(os.environ, PYTHONPATH=ROOT),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def other(pythons):
    return pythons["3.8"].argv[0]


def test_p_29_guarded_script(tmp_path, other):
    (tmp_path / "script.py").write_text(DEFINITIONS + BY_NAME + GUARD)
    assert run("script.py", other, folder=tmp_path) == ("good\n", "")


def test_p_29_unguarded_script_goes_by_dill(tmp_path, other):
    (tmp_path / "script.py").write_text(DEFINITIONS + UNGUARDED)
    assert run("script.py", other, folder=tmp_path) == ("good\n", "")


def test_module_of_a_package_run_as_main(tmp_path, other):
    package = tmp_path / "place"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("base = 40\n")
    (package / "tool.py").write_text(DEFINITIONS.replace("base = 40", "from .helper import base") + BY_NAME + GUARD)
    assert run("-m", "place.tool", other, folder=tmp_path) == ("good\n", "")


def test_python_c():
    assert run("-c", DEFINITIONS + UNGUARDED) == ("good\n", "")


def test_standard_input():
    assert run("-", text=DEFINITIONS + UNGUARDED) == ("good\n", "")


def test_interactive():
    lines = ["import contextree", "router = contextree.Router()", "place = router.local()",
             "def add(x): return x + 40\n", "place.call(add, 2)",
             "place.call(lambda: add(3))", "print(router.tree().count('local'))"]  # fmt: skip
    out, _prompts = run("-i", "-q", text="\n".join(lines) + "\n")
    assert out.split() == ["42", "43", "2"]


def test_a_package_with_a_main_module(tmp_path):
    package = tmp_path / "place"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(DEFINITIONS + BY_NAME + GUARD)
    assert run("-m", "place", folder=tmp_path) == ("good\n", "")
