"""An interpreter that hangs hears no end of its stdin: it is ended all the same, wherever it runs."""

import secrets

import pytest

from tests.lab import processes
from tests.lab.poll import until
from tests.methods import indoors
from tests.methods.way_namespaces import NAMES


def stopped(mark):
    """The processes with this word that are stopped."""
    return [pid for pid in running(mark) if processes.stat(pid)[1] == "T"]


def running(mark):
    """The living processes with this word on their command line."""
    return [pid for pid in processes.every() if mark in processes.command_line(pid)
            and processes.alive(processes.identity(pid))]


@pytest.mark.parametrize("way", NAMES, indirect=True)
def test_it_is_ended(router, way):
    mark = "ctxt-" + secrets.token_hex(4)
    context = way.open(router, python=["env", "MARK=" + mark, "python3", "-X", mark])
    context.submit(indoors.stop)
    until(lambda: stopped(mark), "it to be stopped")
    context.shutdown(timeout=0.1)
    until(lambda: not running(mark), "it to end", 5)
