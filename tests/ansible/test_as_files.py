"""Modules that are not to go through stdin, by a variable, and what is told of commands at ``-vvv``."""

import re

import pytest

from tests.ansible import compare, cores, masks
from tests.ansible.plays import play

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(900)]
HOSTS = {"h1": {}, "here": {}}


@pytest.mark.parametrize("core", cores.PYTHONS, indirect=True)
def test_modules_are_files_where_a_variable_says_so(lab, core):
    """They are in the folder for temporary files, which goes away again; whatever the configuration says."""
    stock = play(lab, core, "as_files.yml", "stock", hosts=HOSTS)
    found = [row["result"].get("stdout_lines") for row in stock.by_host()["h1"]]
    assert found[:3] == [["AnsiballZ_command.py"], ["AnsiballZ_command.py"], ["nothing"]], found
    for mode in ("connection", "strategy"):
        ours = play(lab, core, "as_files.yml", mode, hosts=HOSTS)
        assert compare.differences(stock, ours, timed=True) == [], mode
        assert ours.left == [] and ours.stats["fallbacks"] == {} and ours.stats["module"] > 0


def told(outcome):
    """What was told of commands and files here, in turn."""
    lines = masks.text(outcome.stdout).splitlines()
    return [re.sub(r"(?<=PUT )\S+", "*", line) for line in lines if re.match(r"<\S+> (EXEC|PUT|FETCH) ", line)]


def test_commands_are_told(lab, core):
    """Each command for the controller, word by word, as in stock; those for another host at least."""
    stock = play(lab, core, "as_files.yml", "stock", hosts={"here": {}}, args=("-vvv",))
    ours = play(lab, core, "as_files.yml", "strategy", hosts={"here": {}}, args=("-vvv",))
    assert stock.status == ours.status == 0 and len(told(stock)) > 20, ours.stdout[-5000:] + ours.stderr
    assert told(ours) == told(stock)
    far = play(lab, core, "as_files.yml", "strategy", hosts={"h1": {}}, args=("-vvv",))
    assert len(told(far)) >= len(told(stock)) - 5, told(far)
