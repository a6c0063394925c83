"""Which interpreter is started in another account where none is asked for."""

import os
import sys

import pytest

from ansible_plugin.target import seats
from contextree.connect import discover, plan

WAYS = {"su": ("su", True), "sudosu": ("sudosu", True), "sudo -i": ("sudo", True), "sudo": ("sudo", False)}


def way(name):
    method, login = WAYS[name]
    argv = "/bin/sh", "-c", method + ' "$0"', "exec " + plan.PYTHON_QUOTED
    return seats.Way(method, "somebody", argv, "", None, None, login, 10)


@pytest.mark.parametrize("name", WAYS)
def test_a_python_of_ours_alone_is_not_asked_for(tmp_path, monkeypatch, name):
    """It is one that the account finds itself, in words that can be handed through the shells in between."""
    tmp_path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    words = list(seats.any_python(way(name)))
    assert not any(str(tmp_path) in word for word in words)
    assert words == ["python3"] if name == "sudo -i" else words == list(discover.WORDS)
    argv = plan.command(seats.plan_of(way(name), words), ["-c", "pass"])
    assert argv[-1].startswith("exec ") and argv[:2] == ["/bin/sh", "-c"]
    if name == "sudo -i":
        assert "$" not in argv[-1]


def test_one_that_others_may_run_is_asked_for(monkeypatch):
    found = os.path.realpath("/bin/sh")
    monkeypatch.setattr(sys, "executable", found)
    assert seats.any_python(way("su")) == [found]
