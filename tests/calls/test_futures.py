"""Calls without waiting, timeouts, threads."""

import concurrent.futures
import sys
import threading
from types import SimpleNamespace

import pytest

import contextree
from contextree.core.calls import Calls
from contextree.core.mailbox import Mailbox
from tests.calls import functions as f
from tests.lab.poll import until


@pytest.fixture
def gate(tmp_path, local):
    """Keeps the context busy with a call that ends when the gate opens."""

    class Gate:
        path = str(tmp_path / "gate")

        def close(self):
            self.call = local.submit(f.wait_for_file, self.path, "opened")
            until((tmp_path / "gate.started").exists, "the call to start")

        def open(self):
            (tmp_path / "gate").touch()
            return self.call.result(10)

    gate = Gate()
    yield gate
    gate.open()


def test_futures_are_futures(local):
    future = local.submit(f.add, 1, 2)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(10) == 3 and future.exception() is None
    assert future.done() and not future.running() and not future.cancelled()
    failed = local.submit(f.fail, ValueError, "no")
    assert type(failed.exception(10)) is ValueError
    with pytest.raises(ValueError, match="no"):
        failed.result()
    with pytest.raises(ValueError, match="no"):
        failed.result()
    assert not future.cancel() and not failed.cancel()


def test_as_completed_wait_and_many(local):
    futures = [local.submit(f.add, number) for number in range(2000)]
    assert sorted(each.result() for each in concurrent.futures.as_completed(futures, 20)) == list(range(1, 2001))
    again = [local.submit(f.add, number) for number in range(10)]
    done, left = concurrent.futures.wait(again, 20)
    assert len(done) == 10 and not left
    assert [each.result() for each in again] == list(range(1, 11))


def test_wait_ends_with_the_first_exception(local, gate):
    gate.close()
    failing = local.with_options(threads=2).submit(f.fail, ValueError, "no")
    done, left = concurrent.futures.wait([gate.call, failing], 20, concurrent.futures.FIRST_EXCEPTION)
    assert (done, left) == ({failing}, {gate.call})
    late = local.with_options(timeout=0.01).submit(f.add, 1)
    assert concurrent.futures.wait([gate.call, late], 20, concurrent.futures.FIRST_EXCEPTION).done == {late}


def test_result_times_out_and_comes_later(local, gate):
    gate.close()
    future = local.submit(f.add, 1)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(0.01)
    assert concurrent.futures.wait([future], 0).not_done == {future}
    assert gate.open() == "opened"
    assert future.result(10) == 2


def test_cancelled_before_the_start_never_runs(local, gate):
    gate.close()
    future = local.submit(f.mark, "cancelled")
    kept = local.submit(f.mark, "kept")
    told = []
    future.add_done_callback(told.append)
    assert future.cancel() and future.cancel() and future.cancelled() and told == [future]
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    assert concurrent.futures.wait([future], 0).done == {future}
    gate.open()
    assert kept.result(10) == "kept" and local.call(f.marked) == ["kept"]


def test_cancelled_while_it_runs_is_given_up(router, local, gate):
    gate.close()
    assert gate.call.cancel()
    (call, gate.call) = (gate.call, local.submit(f.add, 1))
    assert gate.open() == 2
    with pytest.raises(concurrent.futures.CancelledError):
        call.result()
    assert local.call(f.add, 1) == 2


def test_callbacks_never_run_on_the_loop_thread(router, local):
    seen = []
    enough = threading.Event()

    def callback(future):
        seen.append((threading.get_ident(), future.result()))
        enough.set()
        raise LookupError("for the log")

    with pytest.MonkeyPatch.context() as patch:
        errors = []
        patch.setattr(router.broker, "on_error", errors.append)
        local.submit(f.add, 1).add_done_callback(callback)
        assert enough.wait(10)
    assert seen[0][1] == 2 and seen[0][0] != router.broker.thread


def test_waiting_on_the_loop_thread_is_refused(router, local):
    with pytest.raises(contextree.WouldBlockLoop):
        router.broker.call(local.call, f.add, 1)
    future = router.broker.call(local.submit, f.add, 1)
    assert future.result(10) == 2


def test_timeouts_are_timeouts_and_late_answers_are_dropped_and_counted(router, local, gate):
    gate.close()
    with pytest.raises(contextree.CallTimeout, match=r"local did not answer add within 0\.05 s") as info:
        local.with_options(timeout=0.05).call(f.add, 1)
    assert isinstance(info.value, TimeoutError)
    future = local.with_options(timeout=0.05).submit(f.add, 1)
    with pytest.raises(contextree.CallTimeout, match=r"did not answer add"):
        future.result(10)
    assert type(future.exception()) is contextree.CallTimeout
    with pytest.raises(contextree.CallTimeout):
        next(local.with_options(timeout=0.05).stream(f.count, 3))
    gate.open()
    assert local.with_options(timeout=20).call(f.add, 1) == 2
    assert local.with_options(timeout=20).submit(f.add, 1).result() == 2


def test_late_answers_are_counted(router, local, tmp_path):
    """The answer leaves before the child hears that nobody waits: it is dropped, counted, and nothing else happens."""
    count = router.engine.core.count
    before = count["late"]
    hasty = local.with_options(timeout=0.2)
    with pytest.raises(contextree.CallTimeout):
        hasty.call(f.answer_before_listening, str(tmp_path / "answer"), str(tmp_path / "listen"))
    (tmp_path / "answer").touch()
    until(lambda: count["late"] > before, "the late answer")
    (tmp_path / "listen").touch()
    assert local.call(f.add, 1) == 2


def test_a_deadline_that_is_over_before_the_start(local, gate):
    gate.close()
    future = local.with_options(timeout=0.02).submit(f.mark, "late")
    with pytest.raises(contextree.CallTimeout):
        future.result(10)
    gate.open()
    assert local.call(f.marked) == []


def test_one_at_a_time_on_the_main_thread(local):
    assert local.call(f.on_main_thread)
    futures = [local.submit(f.mark, number) for number in range(100)]
    assert [each.result(10) for each in futures] == list(range(100))
    assert local.call(f.marked) == list(range(100)), "in the order in which they were sent"


def test_threads_run_calls_at_once(router, local):
    threaded = local.with_options(threads=4)
    futures = [threaded.submit(f.name_of_thread, 4) for _ in range(4)]
    assert len({each.result(20) for each in futures}) == 4, "all four were in the function at the same time"
    assert local.call(f.on_main_thread) and not threaded.call(f.on_main_thread)
    born = router.local(threads=3)
    assert len({each.result(20) for each in [born.submit(f.name_of_thread, 3) for _ in range(3)]}) == 3
    assert not born.with_options(timeout=20).call(f.on_main_thread), "other options stay as they are"
    assert born == born.with_options(timeout=1) and len({born, born.with_options(timeout=1)}) == 1
    with pytest.raises(TypeError, match="no option 'treads'"):
        local.with_options(treads=3)


def test_a_thread_of_a_pool_serves_that_pool_even_if_it_is_empty(router):
    """An empty mailbox is false: a thread that came too late for the first call of its pool served the main thread's
    calls from then on, and the pool had one thread too few."""

    class Service:
        work = Mailbox()

    ran = []
    Service.router = router.engine.core
    Service.work.put(SimpleNamespace(run=lambda: ran.append("by the wrong thread")))
    pool = Mailbox()
    pool.close()
    Calls.run(Service, pool)
    assert not ran and len(Service.work) == 1


def test_futures_are_imported_when_somebody_submits(router):
    """``concurrent.futures`` brings ``logging`` along, 1 MB: not for a context that merely has children."""
    parent = router.local(python=[sys.executable])
    assert parent.call(f.grow_and_submit) == ([], ["concurrent.futures", "logging"], True, 3)


def test_p_28_pipelined_failures_stay_what_they_were_and_concern_nobody_else(router, local):
    """Every third call fails; others, before, between and behind it, there and in another context, go on."""
    other = router.fork()
    futures = []
    for number in range(90):
        failing = number % 3 == 1
        futures.append((number, failing, local.submit(f.fail, ValueError, number) if failing else
                        local.submit(f.add, number)))
        futures.append((number, False, other.submit(f.add, number)))
    for number, failing, future in futures:
        if not failing:
            assert future.result(20) == future.result(20) == number + 1
            continue
        errors = [future.exception(20)]
        for _ in range(2):
            with pytest.raises(ValueError) as caught:  # noqa: PT011  its arguments are looked at below
                future.result()
            errors.append(caught.value)
        assert errors[0].args == (number,) and all(error is errors[0] for error in errors)


def test_p_28_all_that_were_under_way_get_the_first_reason(router):
    first, second = router.local(name="first"), router.local(name="second")
    kept = second.submit(f.add, 1)
    first.submit(f.die, 9)
    futures = [first.submit(f.add, number) for number in range(50)]
    texts = {str(future.exception(20)) for future in futures}
    assert len(texts) == 1 and "exited with status 9" in texts.pop()
    with pytest.raises(contextree.ContextDied, match="exited with status 9"):
        first.call(f.add, 1)
    assert kept.result(20) == 2 and second.call(f.add, 2) == 3
