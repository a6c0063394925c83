"""What the function of a call hears of who waits for it, and what a cancel does to it."""

import itertools
import os
import random
import sys
import threading
import time

import pytest

import contextree
from contextree.core import calls as core_calls
from contextree.core import process
from contextree.parent import cancelling, current
from tests.calls import running as f
from tests.calls.conftest import grow, run_out_of_time
from tests.lab import processes
from tests.lab.poll import until


@pytest.fixture(params=["local", "direct", "3.6", "nested"])
def place(request, router, pythons):
    """The most different kinds of contexts; others are no different here."""
    return grow(router, pythons, request.param)


def start(place, function, *args):
    """Submit it where its module is there already: Python 3.6 lets two threads import it at once, and one gets half."""
    place.with_options(threads=0, cancel="tell", timeout=None).call(f.marked)
    future = place.submit(function, *args)
    begun(place)
    return future


def begun(place, count=1):
    """Wait until the function says so."""
    threaded = place.with_options(threads=1, cancel="tell", timeout=None)
    until(lambda: threaded.call(f.marked).count("begun") == count, "the function to begin")


def marks(place):
    return place.with_options(threads=0, cancel="tell", timeout=None).call(f.marked)


class TestCurrentCall:
    def test_what_it_knows(self, router, place):
        assert place.call(f.facts) == (True, False, None, None, None, False, router.id)
        assert place.with_options(threads=2).call(f.facts) == place.call(f.facts)
        same, cancelled, deadline, left, _, over, _ = place.with_options(timeout=30).call(f.facts)
        assert (same, cancelled, over) == (True, False, False) and deadline > left > 0

    def test_who_called(self, router):
        first = router.local()
        second = router.local(via=first)
        assert first.call(f.caller_of_nested, second) is first
        assert router.context_by_id(0).name == "master"

    def test_outside_of_a_call(self, local):
        with pytest.raises(contextree.UsageError, match=r"no call runs here: .* bind"):
            contextree.current_call()
        plain, bound = local.call(f.on_thread_of_its_own)
        assert "no call runs here" in plain and bound is False

    def test_outside_of_a_call_after_a_direct_fork_in_one(self, local):
        assert local.call(f.note_in_a_direct_fork) == ["none"]


class TestTell:
    def test_check_ends_a_function_that_is_cancelled(self, place):
        future = start(place, f.check_in_a_loop, "never")
        assert future.cancel()
        assert marks(place) == ["begun", (
            "CallCancelled", "this call was cancelled, its caller waits no longer")]

    def test_check_ends_a_function_whose_time_is_up(self, place):
        place.call(f.marked)
        run_out_of_time(lambda: marks(place), place, f.check_in_a_loop, "never")
        begun_, (kind, text) = marks(place)
        assert begun_ == "begun" and kind == "CallTimeout" and "time of this call is over" in text

    def test_a_function_that_does_not_ask_runs_on(self, local):
        future = local.submit(f.wait_at, "gate")
        assert future.cancel()
        later = local.submit(f.marked)
        assert local.with_options(threads=1).call(f.open_gate, "gate") is None
        assert later.result(20) == []

    def test_the_death_of_the_caller_is_a_cancel(self, router):
        first, second = router.local(name="first"), router.local(name="second")
        router.grant(first, second)
        first.submit(f.be_called_until_over, second, f.check_for_ever)
        begun(second)
        first.kill()
        (_, (kind, text)) = marks(second)
        assert kind == "CallCancelled" and "] ended: its process (local)" in text

    def test_callbacks(self, place):
        future = start(place, f.told_by_callback)
        future.cancel()
        assert marks(place) == ["begun", ("callback", True), ("heard", True), ("at once", True), "end"]

    def test_a_callback_of_a_call_that_ended_never_runs(self, local):
        local.call(f.marked)
        assert local.with_options(timeout=0.7).call(f.callback_that_must_not_run)
        run_out_of_time(lambda: marks(local), local, f.until_over)
        assert marks(local) == [("until_over", True)]

    def test_a_generator_whose_stream_is_closed(self, place):
        stream = place.stream(f.generate_until_over)
        assert next(stream) == 1
        stream.close()
        assert marks(place) == ["begun", True, True]

    def test_s_35_nothing_is_kept_of_many_calls_that_waited(self, local):
        """What watches for a cancel is gone when the call is."""
        hasty = local.with_options(timeout=60)
        for _ in range(200):
            assert hasty.call(f.facts)[0]
        assert local.call(f.running_calls) <= 3


WAYS = ["loop", "sleep", "lock", "call", "result", "stream", "calls"]


class TestRaise:
    @pytest.mark.parametrize("way", WAYS)
    def test_on_the_main_thread(self, router, way):
        place = router.local().with_options(cancel="raise")
        other = router.local(via=place)
        other.call(f.marked)
        future = start(place, f.run_until_raised, way, other)
        assert future.cancel()
        assert marks(place) == ["begun", (way, "CallCancelled"), "cleaned up"]
        assert other.call(abs, -1) == place.call(abs, -1) == 1

    @pytest.mark.parametrize("way", ["loop", "call", "result", "stream", "calls"])
    def test_on_a_thread_of_the_pool(self, router, way):
        place = router.local().with_options(cancel="raise", threads=3)
        other = router.local(via=place)
        other.call(f.marked)
        future = start(place, f.run_until_raised, way, other)
        assert future.cancel()
        until(lambda: len(marks(place)) == 3, "the function to end")
        assert marks(place) == ["begun", (way, "CallCancelled"), "cleaned up"]

    @pytest.mark.parametrize("way", ["loop", "sleep", "call", "calls"])
    def test_at_the_deadline(self, router, way):
        place = router.local()
        other = router.local(via=place)
        assert other.call(f.marked) == place.call(f.marked) == []
        run_out_of_time(lambda: marks(place), place.with_options(cancel="raise"), f.run_until_raised, way, other)
        assert marks(place) == ["begun", (way, "CallTimeout"), "cleaned up"]

    def test_everywhere(self, place):
        with_raise = place.with_options(cancel="raise")
        assert with_raise.call(f.facts)[:2] == (True, False)
        assert with_raise.call(dict, function=1, args=2) == {"function": 1, "args": 2}
        assert list(with_raise.stream(f.pids, 2)) == [place.pid] * 2
        with pytest.raises(ValueError, match="invalid literal"):
            with_raise.call(int, "x")
        future = start(with_raise, f.run_until_raised, "sleep")
        future.cancel()
        assert marks(place) == ["begun", ("sleep", "CallCancelled"), "cleaned up"]

    def test_a_function_in_c_on_the_main_thread(self, local):
        future = local.with_options(cancel="raise").submit(time.sleep, 60)
        until(lambda: local.with_options(threads=1).call(f.main_thread_is_in, "raising"), "it to sleep")
        assert future.cancel()
        assert local.call(abs, -1) == 1

    def test_a_function_may_catch_it(self, local):
        future = start(local.with_options(cancel="raise"), f.swallow)
        future.cancel()
        assert marks(local) == ["begun", "swallowed"]

    def test_a_generator_in_its_step(self, place):
        stream = place.with_options(cancel="raise").stream(f.yield_and_spin)
        assert next(stream) == 1
        stream.close()
        until(lambda: marks(place) in (["CallCancelled"], ["GeneratorExit"]), "the generator to end")

    @pytest.mark.parametrize(("version", "threads"), [(None, 0), (None, 4), ("3.6", 0), ("3.13", 4)])
    def test_a_storm_of_cancels_hits_nothing_else(self, router, pythons, version, threads):
        """Calls that end by themselves at about the time of their cancel; between them calls that nobody cancels."""
        if version is not None and version not in pythons:
            pytest.skip("no Python %s here" % version)
        python = None if version is None else pythons[version].argv
        place = router.local(python=python).with_options(threads=threads)
        other = router.local(via=place)
        raising = place.with_options(cancel="raise")
        place.call(f.marked)
        chance = random.Random(7)
        kept = []
        for number in itertools.count():
            if number >= 200 and number % 20 == 0 and marks(place).count("raised") > 5:
                break  # some were interrupted, however slow this machine is
            if number % 2:
                future = raising.submit(f.spin, 0.001 + chance.random() * 0.003)
            else:
                future = raising.submit(f.spin_by_calls, other, 5 + number % 17)
            kept.append(place.submit(f.spin_and_answer, number, 0.0005))
            end = time.monotonic() + chance.random() * 0.005
            while time.monotonic() < end:
                pass
            future.cancel()
            if number % 4 == 0:
                assert kept[-1].result(30) == number
        assert [future.result(30) for future in kept] == list(range(len(kept)))
        assert place.with_options(threads=0).call(f.errors_of_loop) == 0
        assert other.call(f.errors_of_loop) == 0 and other.call(abs, -1) == 1

    def test_the_end_of_a_function_waits_for_an_exception_that_is_on_its_way(self, router):
        """The loop has decided to raise, and the function ends before it does: in every order of the two."""
        for pause in ("before", "after"):
            region = Halted(router, pause)
            thread = threading.Thread(target=region.function)
            thread.start()
            region.ended.wait(10)
            region.loop()
            thread.join(10)
            assert region.result == "as it should be" and not thread.is_alive()
        assert traced() == 10

    def test_unknown_values(self, local):
        with pytest.raises(contextree.UsageError, match="cancel= wants 'tell', 'raise' or 'kill', not 'gently'"):
            local.with_options(cancel="gently")
        assert local.with_options(cancel="tell").call(abs, -1) == 1


def traced():
    """A sum, traced opcode by opcode: CPython 3.11 never gets on with that where it has a note of an exception that may
    be pending."""
    def trace(frame, event, arg):
        frame.f_trace_opcodes = True
        return trace

    def work():
        total = 0
        for number in range(5):
            total += number
        return total

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return work()
    finally:
        sys.settrace(before)


class Halted:
    """A region whose function has ended after the loop has decided to raise, and before it has: what it sends comes
    while the thread waits for it, or not at all."""

    def __init__(self, router, pause):
        self.pause = pause
        self.ended = threading.Event()
        self.result = None
        self.stub = type("Call", (), {})()
        self.stub.service = type("Service", (), {"main": None, "router": router.engine.core})
        self.stub.channel = type("Channel", (), {"ended": None, "on_end": None, "sent_fin": False})()
        self.stub.deadline, self.stub.cancelled = 0, False

    def function(self):
        try:
            self.region = cancelling.Region(self.stub)
            self.region.open(None)
            self.region.owner[None] = cancelling.LOOP
            self.ended.set()
            try:
                self.region.close()
            except contextree.CallCancelled:  # within our own code
                self.region.close()
            for _ in range(1000):  # here it would be raised
                pass
            self.result = "as it should be"
        except BaseException as error:
            self.result = error

    def loop(self):
        process.Waiter().wait(0.01)
        assert self.result is None, "it waits"
        self.region.raise_in(self.region.thread, contextree.CallCancelled)
        if self.pause == "after":
            process.Waiter().wait(0.01)
        self.region.sent = True


class TestKill:
    def test_each_call_has_a_process_of_its_own(self, router, local):
        alone = local.with_options(cancel="kill")
        first, second = alone.call(os.getpid), alone.submit(os.getpid).result(20)
        assert len({first, second, local.pid, os.getpid()}) == 4
        assert alone.call(f.mark, "there") is None and marks(local) == alone.call(f.marked) == []
        assert len(set(alone.stream(f.pids, 3))) == 1
        assert alone.call(dict, function=1, name=2) == {"function": 1, "name": 2}
        with pytest.raises(ValueError, match="invalid literal"):
            alone.call(int, "x")
        with pytest.raises(ZeroDivisionError):
            list(alone.stream(map, (1).__truediv__, [0]))
        until(lambda: router.contexts == [local], "the processes to be gone")

    def test_a_cancel_kills_what_ignores_everything(self, router, local, tmp_path):
        path = tmp_path / "pid"
        future = local.with_options(cancel="kill").submit(f.ignore_all_and_spin, str(path))
        until(lambda: path.exists() and path.read_text(), "the function to begin")
        who = processes.identity(int(path.read_text()))
        assert processes.alive(who)
        future.cancel()
        until(lambda: not processes.alive(who), "the process to be gone")
        assert local.call(abs, -1) == 1
        until(lambda: router.contexts == [local], "the process to be forgotten")

    def test_so_does_a_timeout(self, local, tmp_path):
        path = tmp_path / "pid"
        local.with_options(cancel="kill").call(abs, -1)
        text = run_out_of_time(lambda: path.exists() and path.read_text(), local.with_options(cancel="kill"),
                               f.ignore_all_and_spin, str(path))
        assert "did not answer ignore_all_and_spin within" in text
        assert local.call(abs, -1) == 1
        until(lambda: not processes.alive(processes.identity(int(path.read_text()))), "the process to be gone")

    def test_a_stream_that_is_closed_ends_it(self, router, local):
        with local.with_options(cancel="kill").stream(f.count_for_ever) as stream:
            assert [next(stream), next(stream)] == [0, 1]
            assert len(router.contexts) == 2
        until(lambda: router.contexts == [local], "the process to be gone")

    def test_a_crash_is_that_of_the_call(self, router, local):
        alone = local.with_options(cancel="kill")
        with pytest.raises(contextree.ContextDied, match="SIGSEGV"):
            alone.call(f.crash)
        assert alone.call(abs, -1) == 1 and local.call(abs, -1) == 1

    def test_as_many_at_once_as_there_are_threads(self, local, tmp_path):
        alone = local.with_options(cancel="kill", threads=3)
        futures = [alone.submit(f.meet_at, str(tmp_path), 3) for _ in range(3)]
        assert len({future.result(30) for future in futures}) == 3

    def test_in_a_context_further_down(self, router):
        far = router.local(via=router.fork())
        pid = far.with_options(cancel="kill").call(os.getpid)
        assert pid not in (far.pid, far.parent.pid)


def test_a_running_call_is_one_object_for_every_thread(router):
    call = core_calls.Call.__new__(core_calls.Call)
    shown = []
    threads = [threading.Thread(target=lambda: shown.append(current.of(call))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, shown))) == 1
