"""The leak guard, seen failing: each kind of leak planted in a test of an inner pytest run."""

import os
import re
import subprocess
import sys
import textwrap

import pytest

from tests import guard
from tests.lab.pythons import ROOT

CONFTEST = """
import pytest
from tests import guard

@pytest.fixture(autouse=True)
def guarded(request):
    with guard.watch(request.node.nodeid, grace=0.2):
        yield
"""


@pytest.fixture
def inner(tmp_path):
    """Run a test file under the guard in a pytest of its own; returns its output."""

    def run(body, *options):
        (tmp_path / "conftest.py").write_text(CONFTEST)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        (tmp_path / "test_inner.py").write_text(textwrap.dedent(body))
        environ = {key: value for key, value in os.environ.items() if key != guard.MARK}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *options],
            cwd=tmp_path, env=dict(environ, PYTHONPATH=str(ROOT)), stdout=subprocess.PIPE, text=True, timeout=50,
            check=False,
        )  # fmt: skip
        return done.stdout

    return run


PLANTED = """
import _thread, os, subprocess, threading
stop = threading.Event()
def test_fd(tmp_path): os.open(str(tmp_path / "kept"), os.O_CREAT)
def test_reopened_fd():
    os.close(spare)
    os.pipe()
def test_thread(): threading.Thread(target=stop.wait, name="lost", daemon=True).start()
def test_bare_thread(): _thread.start_new_thread(stop.wait, ())
def test_child(): os.spawnlp(os.P_NOWAIT, "tail", "tail", "-f", "/dev/null")
def test_zombie(): os.spawnlp(os.P_NOWAIT, "true", "true")
def test_orphan(): subprocess.run(["sh", "-c", "setsid tail -f /dev/null >/dev/null 2>&1 &"])
spare = os.open("/dev/null", os.O_RDONLY)
"""
LEAKS = {
    "fd": r"fd \d+ -> .*/kept",
    "reopened_fd": r"fd \d+ -> pipe:\[",
    "thread": r"thread 'lost' at .*threading\.py:\d+ in wait",
    "bare_thread": r"thread 'without a name' at .*threading\.py:\d+ in wait",
    "child": r"child \d+: tail -f /dev/null",
    "zombie": r"zombie \d+: ",
    "orphan": r"orphan \d+: tail -f /dev/null",
}


def test_guard_names_every_kind_of_leak(inner):
    output = inner(PLANTED)
    for kind, said in LEAKS.items():
        assert re.search(r"left behind by test_inner.py::test_%s:\nE? +%s" % (kind, said), output), (kind, output)
    assert "7 passed, 7 errors" in output, output


def test_guard_kills_what_leaked(inner):
    output = inner("""
        import os
        def test_one(): global pid; pid = os.spawnlp(os.P_NOWAIT, 'tail', 'tail', '-f', '/dev/null')
        def test_two(): assert not os.path.exists('/proc/%d' % pid)
    """)
    assert "2 passed, 1 error" in output, output


def test_guard_passes_clean_tests_and_waits_for_late_ends(inner):
    output = inner("""
        import subprocess, sys, threading
        def test_clean(tmp_path):
            with open(tmp_path / 'x', 'w'): subprocess.run(['true'])
        def test_late_end():
            release = threading.Event()
            threading.Thread(target=lambda: release.wait(0.05)).start()
    """)
    assert "2 passed" in output, output
    assert "error" not in output, output


def test_guard_ignores_plugins_own(inner):
    body = """
        import pytest
        @pytest.mark.parametrize('i', range(4))
        def test_it(i): pass
    """
    output = inner(body, "--timeout=20", "-o", "timeout_method=thread", "-n2")
    assert "4 passed" in output, output
    assert "error" not in output, output
