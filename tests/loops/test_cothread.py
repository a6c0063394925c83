"""cothread, the real one: every wait on its thread is a cooperative one. Rows A-01 to A-03, A-06, A-07, A-12, CT-06,
CT-20, GI-08; the checks are in in_cothread.py, where each row has a function named after it."""

import ast
from pathlib import Path

import pytest

from tests.loops.greens_tools import run

CHECKS = [node.name for node in ast.parse(Path(__file__).with_name("in_cothread.py").read_text()).body
          if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")]


@pytest.mark.parametrize("check", CHECKS)
def test_in_cothread(check):
    run("tests.loops.in_cothread", check, quiet="without" not in check)  # glibc tells of what it aborts for
