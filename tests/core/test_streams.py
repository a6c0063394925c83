"""Links: what an interrupt of the main thread may do to them."""

import os

import pytest

from contextree.core import streams
from contextree.core.wire.frames import CALLS, DATA, frame
from contextree.parent.loop import Loop
from contextree.testing import joined_pair


@pytest.fixture
def link():
    """A link whose loop this test drives, the other end of its socket, and why it was lost."""
    loop = Loop()
    ours, theirs = joined_pair()
    fd = ours.detach()
    lost = []
    one = streams.Link(loop, fd, fd, None, lambda link, why: lost.append(why))
    yield one, theirs, lost
    one.close("the test is over")
    theirs.close()
    loop.stop()


def test_ctrl_c_in_the_one_direct_write_closes_the_link(link, monkeypatch):
    one, _theirs, lost = link
    write = os.write

    def interrupted(fd, data):
        write(fd, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(streams.os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.send(CALLS, frame(DATA, 0, CALLS, 1, 2, 3, b"x"))
    monkeypatch.undo()
    assert not one.lock.locked()
    assert one.send(CALLS, b"more") is False
    one.broker.poll_once(0)
    assert lost == ["an interrupt came while it was written to: what has been sent is not known"]


def test_what_is_queued_is_written_by_the_loop_alone(link, monkeypatch):
    one, theirs, lost = link
    with one.lock:
        one.send_locked(CALLS, b"first", flush=False)
    monkeypatch.setattr(streams.os, "write", None)
    monkeypatch.setattr(streams.os, "writev", None)
    one.send(CALLS, b"second")  # would fail in a write
    monkeypatch.undo()
    one.broker.poll_once(0)
    assert os.read(theirs.fileno(), 100) == b"firstsecond"
    assert lost == []
