"""The public test tools do what they say."""

import fcntl
import os
import select

import pytest

from contextree.core import process
from contextree.testing import FaultyPipe, FaultyPoller, VirtualClock, joined_pair


@pytest.fixture
def pair():
    ends = joined_pair()
    yield ends
    for end in ends:
        end.close()
        end.close()
    assert not process._own


def test_joined_pair_is_owned_high_non_blocking_and_cloexec(pair):
    near, far = pair
    assert set(process._own) == {near.fileno(), far.fileno()} and min(process._own) >= 3
    for end in pair:
        assert not end.getblocking() and fcntl.fcntl(end, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    near.send(b"x")
    assert far.recv(9) == b"x"


def test_clock_goes_forward_only_and_counts_reads():
    clock = VirtualClock(5)
    clock.advance(2.5)
    assert (clock(), clock(), clock.reads) == (7.5, 7.5, 2)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


def test_virtual_poller_prefers_descriptors_to_time(pair):
    near, far = pair
    clock = VirtualClock(0)
    poller = clock.poller(patience=0.01)
    poller.register(near.fileno(), select.POLLIN)
    assert poller.poll(3600) == [] and clock.now == 3600
    far.send(b"x")
    assert poller.poll(3600) == [(near.fileno(), select.POLLIN)] and clock.now == 3600
    poller.modify(near.fileno(), select.POLLOUT)
    assert poller.poll() == [(near.fileno(), select.POLLOUT)]
    poller.unregister(near.fileno())
    with pytest.raises(RuntimeError, match="for ever"):
        poller.poll(None)
    assert poller.slept == [3600]


def test_faulty_pipe_short_reads_writes_and_end_of_file(pair):
    near, far = pair
    pipe = FaultyPipe(near, chunk=3, eof_at=5)
    assert pipe.fileno() == near.fileno()
    assert pipe.send(b"abcdef") == 3 and pipe.sendmsg([b"d", b"efg"]) == 3 and far.recv(9) == b"abcdef"
    far.send(b"0123456789")
    buffer = bytearray(8)
    assert pipe.recv_into(buffer) == 3 and buffer[:3] == b"012"
    assert (pipe.recv(9), pipe.recv(9), pipe.recv(9)) == (b"34", b"", b"")
    assert (pipe.bytes_read, pipe.bytes_written) == (5, 6)
    pipe.close()
    assert pipe.fileno() == -1


def test_faulty_pipe_eagain_and_errors(pair):
    near, far = pair
    far.send(b"0123456789")
    pipe = FaultyPipe(near, eagain=2, read_error=(4, ConnectionResetError(104, "planned")),
                      write_error=(2, BrokenPipeError(32, "planned")))
    assert pipe.recv(9) == b"0123"
    with pytest.raises(BlockingIOError):
        pipe.recv(9)
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            pipe.recv(9)
        with pytest.raises(BlockingIOError):
            pipe.send(b"x")
    assert pipe.send(b"abc") == 2
    with pytest.raises(BlockingIOError):
        pipe.send(b"c")
    with pytest.raises(BrokenPipeError):
        pipe.send(b"c")


def test_faulty_poller(pair):
    near, _ = pair
    poller = FaultyPoller()
    poller.register(near.fileno(), select.EPOLLOUT)
    poller.inject(77)
    assert poller.poll(0) == [(77, select.EPOLLIN), (near.fileno(), select.EPOLLOUT)]
    assert poller.poll(0) == [(near.fileno(), select.EPOLLOUT)]
    poller.fail(OSError(9, "planned"))
    with pytest.raises(OSError, match="planned"):
        poller.poll(None)
    assert poller.polls == 3
    os.fstat(poller.fileno())
    poller.close()
