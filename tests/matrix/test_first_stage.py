"""The text for ``python -c``, given to real interpreters by hand: its looks, early ends, non-blocking input."""

import socket
import subprocess

import pytest

from contextree.core import first_stage
from contextree.master import bundle
from contextree.parent.boot import opening
from tests.lab.poll import until
from tests.lab.pythons import one_each
from tests.matrix import lab

ALL = pytest.mark.parametrize("minor", lab.MINORS)
CONFIG = {
    "id": 1, "name": "target", "parent": 0, "nonce": b"\nhere it is\n", "trusted": False, "max_message": 1 << 20,
    "window": 1 << 18, "level": 0, "ids": [], "above": [0], "hooks": [],
}  # fmt: skip


def start(python, **options):
    """The first stage in a process of ``python``."""
    return subprocess.Popen([*python.argv, "-W", "error", "-c", first_stage.text()], **options)


def test_text_suits_every_shell():
    text = first_stage.text()
    assert len(text) < 3000
    assert text.isascii() and text.isprintable()
    assert not set(text) & set("'\\!\n\r\t")


@pytest.mark.parametrize("minor", list(one_each()))
def test_text_is_compiled_by(minor, pythons):
    done = pythons[minor].run("-c", "import sys; compile(sys.stdin.read(), 'stage', 'exec')", input=first_stage.text())
    assert done.stdout == ""


@ALL
@pytest.mark.parametrize("written", [0, 2, 4, 1000, 19000])
def test_p_55_the_child_ends_when_its_input_ends_early(minor, pythons, written):
    first = opening(bundle.build(), CONFIG)
    if written == 19000:  # within the configuration
        written = len(first) - 20
    done = subprocess.run(
        [*pythons[minor].argv, "-W", "error", "-c", first_stage.text()], input=first[:written], timeout=30,
        capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (90, first_stage.ALIVE, b"")


@ALL
def test_p_55_the_child_ends_when_its_input_ends_after_the_configuration(minor, pythons):
    first = opening(bundle.build(), CONFIG)
    done = subprocess.run(
        [*pythons[minor].argv, "-W", "error", "-c", first_stage.text()], input=first, timeout=30,
        capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert CONFIG["nonce"] in done.stdout


def asleep(pid):
    """Does it sleep? One that spins never does."""
    with open("/proc/%d/stat" % pid, "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] == b"S"


@ALL
def test_p_56_the_child_waits_for_input_that_does_not_block(minor, pythons):
    """One descriptor for both directions that does not block, as some callers give; the bundle comes in pieces."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, start(pythons[minor], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE) as child:
        theirs.close()
        ours.settimeout(30)
        data = opening(bundle.build(), CONFIG)
        answer = b""
        for at in range(0, len(data), 6000):
            while first_stage.ALIVE not in answer:
                answer += ours.recv(1000)
            until(lambda: asleep(child.pid), "the child to wait")
            ours.sendall(data[at:at + 6000])
        while CONFIG["nonce"] not in answer:
            answer += ours.recv(1000)
        ours.shutdown(socket.SHUT_RDWR)
        assert child.wait(30) == 0
        assert child.stderr.read() == b""
