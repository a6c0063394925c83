"""Async functions as targets: awaited on a loop of the context's own, many at once, streamed at the reader's pace."""

import sys
import threading

import pytest

import contextree
from contextree.core.wire.errors import RemoteError
from tests.calls import async_functions as f
from tests.calls import running
from tests.calls.conftest import grow, run_out_of_time
from tests.lab.poll import until


@pytest.fixture(params=["local", "direct", "3.8", "3.6"])
def place(request, router, pythons):
    """The most different kinds of contexts; others are no different here."""
    return grow(router, pythons, request.param)


def start(place, function, *args, **options):
    """Submit it where its module is there already, and wait until it says that it has begun."""
    place.call(f.marked)
    future = place.with_options(**options).submit(function, *args)
    until(lambda: "begun" in place.call(f.marked), "the function to begin")
    return future


class TestCalls:
    def test_everything_that_can_be_awaited(self, place):
        assert place.call(f.add, 1) == 2 and place.submit(f.add, 1, second=5).result(20) == 6
        assert place.call(f.plus_five, 1) == 6
        assert place.call(f.Async().method, 1) == 2
        assert place.call(f.Async.of_class, 3) == ("Async", 3)
        assert place.call(f.Async.static, 3) == 6
        assert place.call(f.Async(), 1) == 101
        assert place.call(f.Awaitable) == "awaited"
        assert place.call(abs, -1) == 1

    def test_lambdas_that_give_coroutines(self, router):
        for place in (router.local(), router.fork(direct=True)):
            assert place.call(lambda: f.add(4, 5)) == 9

    def test_errors(self, place):
        with pytest.raises(ValueError, match="no luck") as info:
            place.call(f.fail, "no luck")
        remote = info.value.__cause__
        assert type(remote) is RemoteError and remote.context == place.name and "in fail" in remote.traceback
        assert "coroutines.py" not in remote.traceback, "none of our own frames"
        with pytest.raises(contextree.NotSendable, match="lock"):
            place.call(f.return_lock)
        with pytest.raises(TypeError, match="missing 1 required"):
            place.call(f.fail)
        assert place.call(f.add, 1) == 2

    def test_p_76_exits_are_errors_of_the_call(self, place):
        with pytest.raises(RemoteError, match="SystemExit"):
            place.call(f.exit_now, 3)
        with pytest.raises(RemoteError, match="KeyboardInterrupt"):
            place.call(f.interrupt)
        assert place.call(f.exit_in_a_task) == "SystemExit"
        assert place.call(f.add, 1) == 2

    def test_from_a_stranger_plain_data_comes(self, stranger):
        assert stranger.call(f.add, 1) == 2
        with pytest.raises(ValueError, match="no luck"):
            stranger.call(f.fail, "no luck")
        assert list(stranger.stream(f.produce, None, 3)) == [0, 1, 2]

    def test_many_run_at_once_beside_the_main_thread(self, place):
        assert place.call(f.on_main_thread)
        futures = [place.submit(f.meet, 200) for _ in range(199)]
        assert place.call(f.on_main_thread), "the main thread is free"
        futures.append(place.submit(f.meet, 200))
        results = [future.result(30) for future in futures]
        assert {count for count, _ in results} == {200}
        (loop_thread,) = {thread for _, thread in results}
        assert place.with_options(threads=3).call(f.off_main_thread) == (True, loop_thread), "one loop, whoever asks"

    def test_nothing_is_imported_or_started_before_the_first(self, router):
        place = router.local(python=[sys.executable])
        assert place.call(running.has_asyncio) == (False, 1)
        assert place.call(f.add, 1) == 2
        assert place.call(running.has_asyncio)[0]

    def test_current_call(self, router, place):
        mine, left, caller, name = place.with_options(timeout=30).call(f.call_of_task)
        assert 0 < left <= 30 and (caller, name) == (router.id, place.name)
        assert mine, "also in a task that it has made"

    def test_a_deadline_goes_on_with_the_calls_of_a_task(self, router):
        place = router.local()
        other = router.local(via=place)
        own, nested = place.with_options(timeout=30).call(f.ask, other)
        assert 30 >= own >= nested > 0
        assert place.call(f.ask, other) == (None, None)


class TestCancel:
    def test_a_cancel_is_one_of_the_task(self, place):
        future = start(place, f.until_cancelled)
        assert future.cancel()
        until(lambda: place.call(f.marked) == ["begun", "CancelledError", "cleaned up"], "the task to end")
        assert place.call(f.add, 1) == 2

    def test_so_is_a_deadline(self, place):
        place.call(f.add, 1)
        text = run_out_of_time(lambda: place.call(f.marked), place, f.until_cancelled)
        assert "did not answer until_cancelled within" in text
        until(lambda: place.call(f.marked) == ["begun", "CancelledError", "cleaned up"], "the task to end")

    @pytest.mark.parametrize("cancel", ["raise", "kill"])
    def test_with_the_other_ways_to_cancel(self, local, cancel, tmp_path):
        marker = tmp_path / "marker"
        assert local.with_options(cancel=cancel).call(f.add, 1) == 2
        assert list(local.with_options(cancel=cancel).stream(f.produce, None, 3)) == [0, 1, 2]
        future = local.with_options(cancel=cancel).submit(f.write_when_cancelled, str(marker))
        until((tmp_path / "marker.begun").exists, "the function to begin")
        future.cancel()
        if cancel == "raise":
            until(marker.exists, "it to end in good order")
        else:
            until(lambda: local.children == [], "its process to be gone")
            assert not marker.exists()

    def test_one_that_never_began(self, local):
        for _ in range(50):
            assert local.submit(f.add, 1).cancel() in (True, False)
        local.call(f.add, 1)
        assert local.call(running.errors_of_loop) == 0

    def test_ten_thousand_cancels_leave_nothing(self, local):
        """Many tasks that wait, all cancelled: the loop has no more tasks than before."""
        future = start(local, f.until_cancelled)
        futures = [local.submit(f.until_cancelled, clean_up=False) for _ in range(500)]
        for each in [future, *futures]:
            each.cancel()
        until(lambda: local.call(f.count_tasks) == 1, "the tasks to end")


class TestStreams:
    def test_order_and_end(self, place):
        assert list(place.stream(f.produce, None, 2000)) == list(range(2000))
        assert list(place.stream(f.produce, None, 0)) == []
        assert list(place.stream(f.Iterable, 3)) == [2, 1, 0]
        assert list(place.stream(f.give, 3)) == [2, 1, 0], "a coroutine that gives an async iterable"
        assert list(place.stream(f.give, "abc")) == ["a", "b", "c"], "or a plain one"

    def test_errors_come_in_their_turn(self, place):
        stream = place.stream(f.produce, None, 10, 3)
        assert [next(stream) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(LookupError, match="at 3"):
            next(stream)
        assert place.call(f.get_made)["closed"] == 1
        with pytest.raises(TypeError, match="int"):
            next(place.stream(f.add, 1))
        stream = place.stream(f.yield_lock)
        assert next(stream) == 1
        with pytest.raises(contextree.NotSendable, match="lock"):
            next(stream)

    def test_closing_closes_the_generator_there(self, place):
        with place.stream(f.produce, "item") as stream:
            assert [next(stream) for _ in range(5)] == ["item"] * 5
        until(lambda: place.call(f.get_made)["closed"] == 1, "the generator to be closed")
        with place.stream(f.yield_then_sleep) as stream:
            assert next(stream) == 1
        until(lambda: place.call(f.get_made)["closed"] == 2, "the one that sleeps to be closed")

    def test_b_05_it_waits_for_the_reader_while_others_run(self, place):
        stream = place.stream(f.produce, b"x" * 1000)
        next(stream)
        last = [0]

        def settled():
            last.append(place.call(f.get_made)["count"])
            return last[-1] == last[-2]

        until(settled, "the generator to wait")
        assert 1 < last[-1] < 5000, "at most 4 MiB ahead"
        assert place.call(f.add, 1) == 2 and list(place.stream(f.give, "ab")) == ["a", "b"]
        for _ in range(last[-1]):
            next(stream)
        until(lambda: place.call(f.get_made)["count"] > last[-1], "it to go on")
        stream.close()

    def test_large_items_through_every_pause(self, local):
        streams = [local.stream(f.of_sizes, [20_000, 100_000, 17_000, 5] * 50) for _ in range(4)]
        assert [[len(item) for item in stream] for stream in streams] == [[20_000, 100_000, 17_000, 5] * 50] * 4

    def test_a_flood_of_items_lets_other_tasks_run(self, local):
        """A generator that never really waits, with a reader that keeps up."""
        with local.stream(f.produce, 1) as stream:
            thread = threading.Thread(target=lambda: [None for _ in stream])
            thread.start()
            try:
                assert [local.call(f.add, n) for n in range(20)] == list(range(1, 21))
            finally:
                stream.close()
                thread.join(10)


class TestEnds:
    @pytest.mark.parametrize("how", ["shutdown", "close"])
    def test_tasks_are_cancelled_and_given_their_time(self, tmp_path, how):
        marker = tmp_path / "marker"
        with contextree.Router() as router:
            place = router.local()
            future = place.submit(f.write_when_cancelled, str(marker))
            until((tmp_path / "marker.begun").exists, "the function to begin")
            if how == "shutdown":
                place.shutdown()
                assert type(future.exception(5)) is contextree.ContextDied
        assert marker.read_text() == "ended in good order"

    def test_one_that_refuses_to_end_holds_nothing_up_for_long(self, router):
        place = router.local()
        start(place, f.refuse_to_end)
        place.shutdown(timeout=0.3)
        assert place.state == "died"

    @pytest.mark.parametrize("function", [f.add, abs])
    def test_a_call_that_comes_too_late_hears_of_the_end(self, router, function, caplog):
        """While the tasks that run there have their last time, what comes is neither run nor an error there."""
        place = router.local()
        start(place, f.refuse_to_end)
        thread = threading.Thread(target=place.shutdown, kwargs={"timeout": 0.5})
        thread.start()
        errors = []
        while thread.is_alive():
            try:
                errors.append(place.submit(function, 1).exception(20))
            except contextree.ContextDied as error:
                errors.append(error)
        thread.join()
        assert {type(error) for error in errors} <= {type(None), contextree.ContextDied}
        assert type(errors[-1]) is contextree.ContextDied and "error in" not in caplog.text

    def test_gi_01_a_direct_fork_from_a_task_has_a_loop_of_its_own(self, local):
        assert local.call(f.fork_and_use) == (None, 3, 2, 7)
        assert local.call(f.add, 1) == 2

    def test_gi_04_what_runs_here_does_not_run_in_a_direct_fork(self, local):
        future = start(local, f.until_cancelled)
        child = local.call(f.fork_direct)
        assert child.call(f.count_tasks) == 1 and child.call(f.marked) == ["begun"]
        child.shutdown()
        assert local.call(f.count_tasks) == 2
        future.cancel()
        until(lambda: local.call(f.marked)[-1] == "cleaned up", "the task to end")
