"""Interpreters that lack modules, run with odd options, or find themselves in odd places."""

import os
import subprocess
import sys

import pytest

from tests.lab import processes
from tests.lab.pythons import ROOT
from tests.matrix import lab, remote
from tests.matrix.test_bundle_matrix import LABEL, NOTE, SHARE

# what Debian's python3-minimal is without, and what a builder may leave out
LEFT_OUT = (
    "_asyncio _bz2 _ctypes _curses _dbm _decimal _elementtree _gdbm _hashlib _json _lzma _multiprocessing "
    "_pydecimal _posixshmem _pyio _queue _sqlite3 _ssl _tkinter _uuid _zoneinfo asyncio bdb bz2 cProfile cmd code "
    "codeop concurrent contextvars ctypes curses dbm decimal difflib distutils doctest fileinput fractions ftplib "
    "getpass gettext graphlib gzip hmac html http imaplib json lzma mimetypes mmap multiprocessing netrc numbers "
    "pdb pickletools pprint profile pty pydoc queue readline sched secrets shelve shlex shutil smtplib "
    "socketserver sqlite3 ssl statistics symtable tarfile timeit tomllib tty unittest uuid venv wave xml xmlrpc "
    "zipapp zoneinfo "
).split()
SITE = """
import sys
left_out = frozenset(%r)
class Minimal:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in left_out else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Minimal(finder) for finder in sys.meta_path]
for name in list(sys.modules):
    if name.split(".")[0] in left_out:
        del sys.modules[name]
"""
OPTIONS = {
    "no site": (["-S"], {}), "isolated": (["-I"], {}), "no environment": (["-E"], {}), "optimised": (["-O"], {}),
    "no docstrings": (["-OO"], {}), "unbuffered": (["-u"], {}), "bytes are errors": (["-bb"], {}),
    "optimised by environment": ([], {"PYTHONOPTIMIZE": "2"}), "no bytecode": ([], {"PYTHONDONTWRITEBYTECODE": "1"}),
    "C locale": ([], {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "ASCII": ([], {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}),
    "no HOME": ([], {"HOME": None}), "empty environment": ([], dict.fromkeys(set(os.environ) - {"PATH"})),
}  # fmt: skip
NEWS = ["3.6", "3.13", "3.15"]  # where the interpreter's start changed
SOME = pytest.mark.parametrize("minor", [minor for minor in NEWS if minor in lab.MINORS])


@pytest.fixture
def said():
    with lab.recorded() as records:
        yield records


def whole(child):
    """A round through everything that a child does."""
    assert child.call(remote.parcel) == (LABEL, NOTE)
    assert child.call(remote.echo, ["\u20ac", "x\udcff", b"\0", 1.5]) == ["\u20ac", "x\udcff", b"\0", 1.5]
    with pytest.raises(KeyError) as caught:
        child.call(remote.fail, "key")
    assert "deliberate" in caught.value.__cause__.traceback
    with child.stream(remote.count, 300) as stream:
        assert sum(stream) == 44850
    child.call(remote.speak)
    assert "MainThread" in child.dump()
    found = child.call(remote.nest, "local")
    assert found[0][0] == child.facts["version"][:2]
    assert found[1:3] == [True, (LABEL, NOTE)]


@pytest.mark.parametrize("minor", lab.MINORS)
def test_python_without_most_of_the_standard_library(minor, pythons, said):
    python = pythons[minor]
    with lab.directory(python) as (path, inside):
        with open(os.path.join(path, "sitecustomize.py"), "w") as file:
            file.write(SITE % (LEFT_OUT,))
        with lab.grown(python.argv, {"PYTHONPATH": inside}, share=SHARE) as child:
            assert child.call(remote.parcel)[0] == LABEL
            names = ["ctypes", "ssl", "json", "asyncio", "lzma", "multiprocessing", "concurrent.futures", "shutil"]
            assert sorted(child.call(remote.attempt, names)) == sorted(names)
            whole(child)
            assert child.call(remote.submit).startswith("submit() needs concurrent.futures, which the Python of target")
            assert {name for name in child.call(remote.modules) if name.split(".")[0] in LEFT_OUT} == set()


def test_leaf_without_posixsubprocess(pythons, said):
    python = pythons["3.11"]
    with lab.directory(python) as (path, inside):
        with open(os.path.join(path, "sitecustomize.py"), "w") as file:
            more = ["_posixsubprocess", "subprocess", "socket", "_socket", "signal", "selectors", "fcntl"]
            file.write(SITE % (LEFT_OUT + more,))
        with lab.grown(python.argv, {"PYTHONPATH": inside}, share=SHARE) as child:
            assert child.call(remote.parcel)[0] == LABEL
            with pytest.raises(FileNotFoundError):
                child.call(remote.fail, "os")
            assert list(child.stream(remote.count, 3)) == [0, 1, 2]
            assert "_posixsubprocess" in child.call(remote.attempt, ["_posixsubprocess"])


@SOME
@pytest.mark.parametrize("name", OPTIONS)
def test_python_with(name, minor, pythons, said):
    words, env = OPTIONS[name]
    with lab.grown([*pythons[minor].argv, *words], env, share=SHARE) as child:
        state = child.call(remote.state)
        assert state["optimize"] == {"optimised": 1, "no docstrings": 2, "optimised by environment": 2}.get(name, 0)
        assert not (state["bytecode"] and name == "no bytecode")
        assert state["isolated"] == (name == "isolated")
        if name == "no HOME":
            assert state["home"] is None
        whole(child)


@SOME
def test_umask_of_the_login_stays(minor, pythons, said):
    with lab.grown(lab.shell(pythons[minor], 'umask 077; exec "$@"'), share=SHARE) as child:
        whole(child)
        assert child.call(remote.state)["umask"] == 0o77


@SOME
def test_working_directory_that_was_deleted(minor, pythons, said):
    python = pythons[minor]
    with lab.directory(python) as (path, inside):
        gone = inside + "/gone"
        os.mkdir(path + "/gone")
        script = "import os, sys; os.chdir(sys.argv[1]); os.rmdir(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"
        start = [*python.argv, "-c", script, gone, python.argv[-1]]
        with lab.grown(start, share=SHARE) as child:
            assert child.call(remote.state)["cwd"] is None
            whole(child)


def test_master_whose_working_directory_was_deleted(tmp_path):
    """``python -c`` has '' on its path, and that is a directory that is gone."""
    script = (
        "import os, sys; os.rmdir(os.getcwd())\n"
        "import contextree\n"
        "with contextree.Router() as router:\n"
        "    children = router.local(), router.fork(), router.fork(direct=True)\n"
        "    print(*[child.call(sum, [number, 1]) for number, child in enumerate(children)])\n"
    )
    gone = tmp_path / "gone"
    gone.mkdir()
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=gone, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 2 3\n", "")


def test_safe_path_is_for_the_start_alone(said, monkeypatch):
    """Programs that the child starts find nothing of ours in their environment, and what the user has set stays."""
    ask = "import os; print(os.environ.get('PYTHONSAFEPATH'))"
    for value in (None, "1"):
        with lab.grown([sys.executable], {"PYTHONSAFEPATH": value}, share=SHARE) as child:
            out = child.call(subprocess.check_output, [sys.executable, "-c", ask])
            assert out == b"%s\n" % str(value).encode()


def test_leaf_child_imports_little(said):
    """What a child that serves plain calls has imported, beside what a bare interpreter of the same version has, and
    what its pickle, in C, imports, and Python itself where it may warn."""
    script = "import _pickle, sys, warnings; print(*sys.modules)"
    bare = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    with lab.grown([sys.executable]) as child:
        child.call(os.getpid)
        names = set(child.call(eval, "list(__import__('sys').modules)")) - set(bare.stdout.split())
        assert {name for name in names if name.split(".")[0] != "contextree"} <= {
            "zlib", "binascii", "select", "_struct", "_heapq"}
        assert "contextree.parent" not in names
        assert processes.alive(processes.identity(child.pid))
