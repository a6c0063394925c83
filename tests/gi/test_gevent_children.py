"""Children of gevent programs: rows GI-01 to GI-06, GI-14, GI-16, GI-20, GI-23, A-07 and 4.3; the checks are in
in_gevent.py, where each row has a function named after it."""

import ast
from pathlib import Path

import pytest

from tests.loops.greens_tools import run
from tests.loops.test_gevent import PATCH

CHECKS = [node.name for node in ast.parse(Path(__file__).with_name("in_gevent.py").read_text()).body
          if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")]


@pytest.mark.parametrize("patched", [False, True], ids=["plain", "patched"])
@pytest.mark.parametrize("check", CHECKS)
def test_in_gevent(check, patched):
    run("tests.gi.in_gevent", check, before=PATCH if patched else "", options=("-W", "ignore::DeprecationWarning"))


@pytest.mark.parametrize("check", ["check_gi_02_gi_04_gi_05_nothing_inherited_runs", "check_gi_03_exactly_one_message"])
def test_a_loop_of_libev_through_cffi(check):
    run("tests.gi.in_gevent", check, env={"GEVENT_LOOP": "libev-cffi"})
