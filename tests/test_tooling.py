"""Every lint rule and contract, seen failing on a planted violation: a check that cannot fail checks nothing."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import conftest, lint, wide
from tests.lab.pythons import ROOT

CORE = "contextree/core/planted.py"
TEST = "tests/test_planted.py"
MARK = "TO" + "DO"
COLLECTION = "ansible_collections.contextree.fast.controller"
DOCUMENTED = "class A:\n    '''Doc.'''\n    def f(self):\n        '''Doc.'''\n"
VIOLATIONS = [  # (rule, path, text)
    ("waits_for_one_child", CORE, "import os\nos.wait()"),
    ("waits_for_one_child", CORE, "from os import wait as any_child\nany_child()"),
    ("waits_for_one_child", CORE, "import os\nos.waitpid(-1, 0)"),
    ("waits_for_one_child", CORE, "import os\nos.waitpid(0, os.WNOHANG)"),
    ("waits_for_one_child", CORE, "import os\nos.wait4(-group, 0)"),
    ("waits_for_one_child", TEST, "import os\nos.waitid(os.P_ALL, 0, os.WEXITED)"),
    ("waits_for_one_child", "ansible_plugin/x.py", "from os import P_PGID, waitid\nwaitid(P_PGID, 3, 4)"),
    ("blocks_in_few_places", CORE, "import select\nselect.select([0], [], [])"),
    ("blocks_in_few_places", CORE, "from select import poll\npoller = poll()"),
    ("blocks_in_few_places", CORE, "import select as s\ns.epoll().poll()"),
    ("blocks_in_few_places", CORE, "poller = process.unpatched('select', 'poll')()"),
    ("blocks_in_few_places", CORE, "import selectors\nselectors.DefaultSelector()"),
    ("blocks_in_few_places", CORE, "lock.acquire()"),
    ("blocks_in_few_places", CORE, "lock.acquire(True, 3)"),
    ("blocks_in_few_places", CORE, "self.lock.acquire(timeout=3)"),
    ("blocks_in_few_places", CORE, "from time import sleep\nsleep(1)"),
    ("blocks_in_few_places", "contextree/master/x.py", "import time\ntime.sleep(1)"),
    ("blocks_in_few_places", "contextree/master/x.py", "import threading\nthreading.Event().wait()"),
    ("waits_cooperatively", "contextree/parent/x.py", "from contextree.core import process\nprocess.Waiter().wait()"),
    ("waits_cooperatively", "contextree/master/x.py", "from contextree.core.process import Waiter as W\nW()"),
    ("blocks_in_few_places", "contextree/cli/x.py", "from queue import Queue\nQueue()"),
    ("tests_do_not_sleep", TEST, "import time\ntime.sleep(0.1)"),
    ("tests_do_not_sleep", TEST, "async def test_x():\n    await asyncio.sleep(0.1)"),
    ("tests_do_not_sleep", TEST, "time.sleep(1)  # sleeps:"),
    ("long_files_say_why", CORE, '"""One thing."""\n' + "x = 1\n" * lint.LONGEST_FILE),
    ("public_things_have_docstrings", CORE, "def run():\n    return 1"),
    ("public_things_have_docstrings", CORE, "class Thing:\n    x = 1"),
    ("public_things_have_docstrings", CORE, "class Thing:\n    '''Doc.'''\n    async def run(self):\n        return 1"),
    ("public_things_have_docstrings", CORE, DOCUMENTED + "class B(A):\n    '''Doc.'''\n    def g(self): pass"),
    ("low_floors_import_standard_library", CORE, "import msgspec"),
    ("low_floors_import_standard_library", "contextree/parent/x.py", "def _f():\n    from rich.table import Table"),
    ("low_floors_import_standard_library", CORE, "from typing import List"),
    ("target_imports_standard_library", "ansible_plugin/target/x.py", "import msgspec"),
    ("target_imports_standard_library", "ansible_plugin/target/x.py", "from typing import List"),
    ("target_imports_standard_library", "ansible_plugin/target/x.py", "def _f():\n    import ansible.plugins"),
    ("plugins_import_little", "ansible_plugin/plugins/connection/x.py", "import contextree"),
    ("plugins_import_little", "ansible_plugin/plugins/strategy/x.py", "from ...controller import fast"),
    ("words_that_do_not_land", CORE, "# %s: later" % MARK),
    ("words_that_do_not_land", "docs/x.md", "see " + "FIX" + "ME"),
    ("words_that_do_not_land", "docs/x.md", "X" * 3 + " is not done"),
    ("words_that_do_not_land", "run.sh", "cd /" + "work/main"),
    ("words_that_do_not_land", "docs/x.md", "~/" + ".pyenv/" + "versions/3.6.15"),
]
ALLOWED = [  # (path, text)
    (CORE, "import os\nos.waitpid(pid, 0)\nos.waitid(os.P_PIDFD, fd, os.WEXITED)\nwaitpid = 3"),
    (CORE, "lock.acquire(False)\nlock.acquire(blocking=False)\nwith lock:\n    pass"),
    ("contextree/core/process.py", "lock.acquire()"),
    ("contextree/core/broker.py", "import select\nselect.poll()"),
    ("contextree/loops/threads.py", "import queue\nqueue.Queue()"),
    (TEST, "import time\ntime.sleep(60)  # sleeps: the work that is cancelled\nawait_(asyncio.sleep(0))"),
    ("tests/lab/poll.py", "import time\ntime.sleep(0.1)"),
    (CORE, '"""One thing.\n\nWhy this file\nis long: a table.\n"""\n' + "x = 1\n" * lint.LONGEST_FILE),
    (CORE, "def _run():\n    def inner(): pass\nclass _Thing:\n    def f(self): pass"),
    (CORE, DOCUMENTED + "class B(A):\n    '''Doc.'''\n    def f(self): pass"),
    (CORE, "class A:\n    '''Doc.'''\n    @x.setter\n    def x(self, v): pass\n    def __len__(self): pass"),
    (CORE, "import os, dill\nfrom contextree.core import process\nif TYPE_CHECKING:\n    from typing import List"),
    ("contextree/master/x.py", "import msgspec"),
    ("ansible_plugin/target/x.py", "import os\nfrom . import y\ndef _f():\n    from ansible.module_utils import basic"),
    ("ansible_plugin/plugins/strategy/x.py", "from ansible import x\nfrom %s import ready" % COLLECTION),
    ("docs/x.md", "mktemp /tmp/x." + "X" * 6 + ", https://example.org/work/x"),
]


@pytest.mark.parametrize(("rule", "path", "text"), VIOLATIONS, ids=lambda value: value.partition("\n")[0][:40])
def test_rule_catches(rule, path, text):
    found = lint.check_source(lint.Source(path, text))
    assert found
    assert all(line.startswith(path + ":") and rule in line for line in found), found


@pytest.mark.parametrize(("path", "text"), ALLOWED, ids=lambda value: value.partition("\n")[0][:40])
def test_rules_allow(path, text):
    assert lint.check_source(lint.Source(path, text)) == []


def test_every_rule_is_seen_failing():
    assert {rule.__name__ for rule, *_ in lint.RULES} == {rule for rule, *_ in VIOLATIONS}


def test_waits_names_only_what_exists_or_is_planned():
    assert all(path.endswith((".py", "/")) and path.startswith("contextree/") for path in lint.WAITS)


@pytest.mark.wide  # the stage `lint` does just this
def test_tree_is_clean():
    assert lint.check() == []


def test_files_with_and_without_git(tmp_path, monkeypatch):
    for name in ("kept.py", ".ci/run", ".cache/venv/x.py", "contextree.egg-info/x", "__pycache__/x", "docs/a.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert lint.files(tmp_path) == ["docs/a.md", "kept.py"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lint.files(tmp_path) == ["docs/a.md", "kept.py"]
    assert "tests/test_tooling.py" in lint.files(ROOT)


def test_bundle_limit_catches(tmp_path):
    core = tmp_path / "contextree/core"
    core.mkdir(parents=True)
    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=60_000))
    (core / "small.py").write_text('"""%s"""\n# %s\ndef f():\n    """%s"""\n' % (noise, noise, noise))
    assert lint.check_bundle(tmp_path) == []
    assert lint.bundle_size(tmp_path) < 100
    (core / "large.py").write_text("x = %r\n" % noise)
    assert "at most 20000" in lint.check_bundle(tmp_path)[0]


def test_of_a_matrix_every_test_and_every_variant_stays(monkeypatch):
    class Item:
        def __init__(self, nodeid):
            self.nodeid, self.markers = nodeid, []
            self.add_marker = self.markers.append

    monkeypatch.setattr(wide, "MATRICES", {"a/test_b": ("^(two|three)$", "test_row")})
    ids = ["tests/a/test_b.py::%s%s" % (name, variant) for name in ("test_row", "test_one", "TestC::test_two")
           for variant in ("[one]", "[two]", "[three]")]
    ids += ["tests/a/test_b.py::test_plain", "tests/a/test_b.py::test_other[two]", "tests/a/test_c.py::test_x[two]"]
    items = [Item(each) for each in ids]
    wide.mark(items)
    left = [item.nodeid.partition("::")[2] for item in items if item.markers]
    assert left == ["test_one[two]", "test_one[three]", "TestC::test_two[two]", "TestC::test_two[three]"]


def test_what_orders_the_run_names_files_that_are_there():
    for name in [*wide.MATRICES, *conftest.LONG]:
        assert (ROOT / "tests" / (name + ".py")).is_file(), name
    assert len(set(conftest.LONG)) == len(conftest.LONG)


def test_every_stage_is_told_of():
    script = (ROOT / "run_tests.sh").read_text()
    stages = script.partition("case $STAGE in\n")[2].partition(") ;;")[0].strip().split("|")
    done = subprocess.run([ROOT / "run_tests.sh", "help"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          timeout=50, check=False)
    assert done.returncode == 2 and "[%s]" % "|".join(stages) in done.stdout
    for stage in stages:
        assert "  %s  " % stage in done.stdout, stage
        assert "  %s) " % stage in script, stage


# ------------------------------------------------------------------------------------ the tools, on a copied tree
TOOLS = Path(sys.executable).parent


@pytest.fixture
def tree(tmp_path):
    """A copy of the package and its configuration; ``tree(path, text)`` plants a file and the packages above it."""
    for name in ("contextree", "ansible_plugin", "ansible_collections"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    def plant(path, text):
        target = tmp_path / path
        for folder in reversed(target.relative_to(tmp_path).parents[:-1]):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / "__init__.py").touch()
        target.write_text(text)

    plant.path = tmp_path
    return plant


def run(tree, tool, *words):
    """The exit status and output of one of the tools in the copied tree."""
    done = subprocess.run(
        [TOOLS / tool, *words], cwd=tree.path, env=dict(os.environ, PYTHONPATH=str(tree.path)),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=50, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_contracts_catch_every_planted_import(tree):
    tree("contextree/core/wire/planted.py", "import os\n")
    tree("contextree/connect/planted.py", "from contextree.core import streams_planted\n")
    tree("contextree/core/streams_planted.py", "import socket\n")
    tree("contextree/parent/planted.py", "def f():\n    import contextree.master\n")
    tree("contextree/core/broker.py", "import contextree.core.router\n")
    tree("contextree/core/router.py", "")
    tree("contextree/attic/planted.py", "")
    tree("contextree/cli/planted.py", "import contextree\n")
    tree("ansible_plugin/target/planted.py", "from contextree.master import router\n")
    tree("ansible_plugin/target/higher.py", "def f():\n    from ..controller import mux\n")
    status, output = run(tree, "lint-imports", "--no-cache")
    assert status == 1
    for said in (
        "contextree.core.wire is not allowed to import os",
        "contextree.connect is not allowed to import socket",
        "contextree.parent is not allowed to import contextree.master",
        "contextree.core.broker is not allowed to import contextree.core.router",
        "contextree.attic",
        "contextree.core.streams_planted",
        "contextree.cli.planted is not allowed to import contextree:",
        "ansible_collections.contextree.fast.target is not allowed to import contextree.master",
        "ansible_collections.contextree.fast.target.higher -> ansible_collections.contextree.fast.controller.mux",
        "6 broken",
    ):
        assert said in " ".join(output.split()), output


def test_vermin_catches_what_3_6_does_not_have(tree):
    options = ("-q", "-t=3.6-", "--no-tips", "--processes=1", "--violations")
    tree("contextree/core/planted.py", "import os\nos.posix_spawn\n")
    status, output = run(tree, "vermin", *options, "contextree/core/planted.py")
    assert (status, "'os.posix_spawn' member requires !2, 3.8" in output) == (1, True), output
    tree("contextree/core/planted.py", "def f(a, /): return (n := a)\n")
    status, output = run(tree, "vermin", *options, "contextree/core/planted.py")
    assert (status, "3.8" in output) == (1, True), output


def test_ruff_holds_the_floor_of_each_folder(tree):
    text = "def f(a):\n    return (n := a)\n"
    tree("contextree/parent/planted.py", text)
    tree("contextree/master/planted.py", text)
    status, output = run(tree, "ruff", "check", "--no-cache", "--output-format=concise", ".")
    assert status == 1
    assert "parent/planted.py:2:13: invalid-syntax" in output, output
    assert "master/planted.py:2:13: invalid-syntax" not in output, output


def test_mypy_looks_into_functions_without_annotations(tree):
    tree("contextree/master/planted.py", "def f():\n    return 1 + 'a'\n")
    status, output = run(tree, "mypy", "--cache-dir", os.devnull, "contextree/master/planted.py")
    assert (status, "planted.py:2: error: Unsupported operand types" in output) == (1, True), output
