"""A process that gets no thread any more (a limit of processes, of memory) says so, and serves what needs none."""

import pytest

import contextree
from contextree.core import process


class Echo:
    @contextree.expose
    def same(self, value):
        return value


def spoil(how):
    """As the system does it at RLIMIT_NPROC or pids.max, whoever asks."""
    process.start_thread = how


def no_thread(*args):
    raise RuntimeError("can't start new thread")


def test_a_call_that_wants_a_thread_is_refused(local):
    start = process.start_thread
    local.call(spoil, no_thread)
    with pytest.raises(contextree.Refused, match="can't start new thread"):
        local.with_options(threads=2, timeout=20).call(abs, -1)
    assert local.call(abs, -2) == 2
    assert process.start_thread is start


def test_those_that_run_take_more(local):
    many = local.with_options(threads=5, timeout=20)
    assert many.call(abs, -1) == 1
    local.call(spoil, no_thread)
    assert [future.result(20) for future in [many.submit(abs, -number) for number in range(20)]] == list(range(20))


def test_a_service_without_a_thread_refuses(router, monkeypatch):
    echo = router.serve("echo", Echo())
    monkeypatch.setattr(process, "start_thread", no_thread)
    with pytest.raises(contextree.Refused, match="can't start new thread"):
        echo.with_options(timeout=20).call.same(1)
    monkeypatch.undo()
    assert echo.call.same(2) == 2
