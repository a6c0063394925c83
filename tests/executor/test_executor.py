"""``contextree.Executor``: what CPython's own cases (test_cpython) do not show."""

import concurrent.futures
import itertools
import os
import sys
import threading

import pytest

import contextree
from contextree.connect import local as local_method
from tests.executor import functions as f
from tests.executor.conftest import lines
from tests.lab.poll import until


def warm(executor, count=300):
    """Run tiny tasks on all workers, so that from now on tasks are sent ahead."""
    until(lambda: all(worker.state == "ready" for worker in executor._pool.workers), "all workers to be ready")
    assert list(executor.map(f.add, range(count))) == list(range(1, count + 1))


# -- what it is made of


def test_a_number_of_workers_of_its_own():
    with contextree.Executor(2) as executor:
        contexts = executor.contexts
        assert isinstance(executor, concurrent.futures.Executor) and len(contexts) == 2
        future = executor.submit(f.pid)
        assert isinstance(future, concurrent.futures.Future) and future.result(20) != os.getpid()
        assert "2 workers" in repr(executor)
    assert {context.state for context in contexts} == {"died"}


def test_given_contexts_go_on_after_it(pair):
    with contextree.Executor(pair) as executor:
        seen = set()
        until(lambda: seen.add(executor.submit(f.pid).result(20)) or len(seen) == 2, "both to have worked")
        assert seen == {context.pid for context in pair}
    assert [context.call(f.add, 1) for context in pair] == [2, 2]
    with contextree.Executor(pair[0]) as executor:
        assert executor.submit(f.pid).result(20) == pair[0].pid


def test_workers_are_forked_below_a_router_or_a_context(router, pair):
    with contextree.Executor(router, max_workers=2) as executor:
        workers = executor.contexts
        assert executor.submit(f.add, 1).result(20) == 2
        assert [worker.parent.id for worker in workers] == [0, 0]
    with contextree.Executor(pair[0], max_workers=2) as executor:
        workers += executor.contexts
        assert executor.submit(f.add, 1).result(20) == 2
        assert {worker.parent for worker in workers[2:]} == {pair[0]}
    assert {worker.state for worker in workers} == {"died"} and pair[0].state == "up"


def test_wrong_arguments_are_refused_and_leave_nothing(router, pair):
    for arguments in (0,), (-1,), ([],), (pair, 0):
        with pytest.raises(ValueError, match="must be greater than 0"):
            contextree.Executor(*arguments)
    with pytest.raises(TypeError, match="max_workers is for workers that the executor forks itself"):
        contextree.Executor(pair, max_workers=2)
    with pytest.raises(TypeError, match="give it once"):
        contextree.Executor(2, max_workers=2)
    with pytest.raises(TypeError, match="replace is for contexts that are given"):
        contextree.Executor(2, replace=int)
    with pytest.raises(TypeError, match="callable"):
        contextree.Executor(pair, initializer=5)
    with pytest.raises(ValueError, match="prefetch"):
        contextree.Executor(pair, prefetch=-1)
    with pytest.raises(contextree.UsageError, match="wants contexts"):
        contextree.Executor(["web1"])
    with pytest.raises(contextree.UsageError, match="have a timeout"):
        contextree.Executor([pair[0].with_options(timeout=5)])
    before = len(router.contexts)
    with pytest.raises(contextree.NotSendable):
        contextree.Executor(router, max_workers=2, initializer=f.add, initargs=(threading.Lock(),))
    until(lambda: len(router.contexts) == before, "its workers to end")


@pytest.mark.parametrize("kind", ["local", "3.6", "stranger", "nested"])
def test_any_context_can_be_a_worker(router, pythons, kind):
    if kind == "3.6" and kind not in pythons:
        pytest.skip("no Python 3.6 here")
    if kind == "stranger":
        plan = local_method.plan(name="stranger")
        plan.trusted = False
        context = router.grow(plan)
    elif kind == "nested":
        context = router.local(via=router.local())
    else:
        context = router.local(python=None if kind == "local" else pythons[kind].argv)
    with contextree.Executor([context, router.fork()]) as executor:
        warm(executor)
        assert executor.submit(pow, 2, 10).result(20) == 1024
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(20)
        assert executor.submit(bytes, 5 << 20).result(20) == bytes(5 << 20)
        assert executor.submit(len, b"x" * (5 << 20)).result(20) == 5 << 20
    for each in router.contexts:
        each.shutdown()


def test_what_cannot_be_sent_fails_its_own_task(pair):
    with contextree.Executor(pair) as executor:
        with pytest.raises(contextree.NotSendable):
            executor.submit(f.add, threading.Lock()).result(20)
        with pytest.raises(contextree.NotSendable):
            executor.submit(threading.Lock).result(20)
        assert executor.submit(lambda: os.getpid() + 0).result(20) in [context.pid for context in pair]


def test_several_workers_in_one_context_are_threads_there(router, pair):
    with contextree.Executor(pair, workers_per_context=3) as executor:
        warm(executor)
        before = pair[0].call(f.threads)
        for turn in range(2):
            names = [future.result(20) for future in [executor.submit(f.meet, turn, 3) for _ in range(6)]]
            assert len(set(names)) == 6 and not [name for name in names if name[1] == "MainThread"]
    until(lambda: pair[0].call(f.threads) <= before - 3, "the threads to end with the executor")
    with contextree.Executor(pair) as executor:
        assert executor.submit(f.thread_name).result(20) == "MainThread"


def test_a_task_is_a_call_like_any_other(pair):
    """It may grow contexts, and ask which router is its own."""
    with contextree.Executor(pair) as executor:
        name, answer = executor.submit(f.grow_and_ask).result(30)
        assert name in [context.name for context in pair] and answer == 3


# -- order, load, cancellation


def test_the_idle_worker_takes_the_next(pair, gate):
    with contextree.Executor(pair) as executor:
        warm(executor)
        held = executor.submit(f.hold, str(gate))
        others = [executor.submit(f.pid) for _ in range(200)]
        assert len({future.result(20) for future in others}) == 1, "one worker did all of them"
        assert held.running() and not held.done()
        gate.touch()
        held.result(20)


def test_a_cancelled_task_never_runs_and_a_running_one_goes_on(pair, gate, tmp_path):
    with contextree.Executor(pair[:1]) as executor:
        held = executor.submit(f.hold, str(gate), "held")
        until(held.running, "the task to run")
        waiting = [executor.submit(f.note, str(tmp_path / "ran"), number) for number in range(10)]
        told = []
        waiting[3].add_done_callback(told.append)
        assert not held.cancel() and held.running()
        assert all(future.cancel() for future in waiting[:5]) and waiting[0].cancel()
        assert told == [waiting[3]] and waiting[0].cancelled() and waiting[0].done()
        assert concurrent.futures.wait(waiting[:5], 0).not_done == set()
        gate.touch()
        assert [future.result(20) for future in waiting[5:]] == list(range(5, 10)) and held.result(20) == "held"
        with pytest.raises(concurrent.futures.CancelledError):
            waiting[0].result()
    assert lines(tmp_path / "ran") == ["5", "6", "7", "8", "9"]


def sent_ahead(executor):
    return sum(len(worker.ahead) for worker in executor._pool.workers)


def test_a_task_that_was_sent_ahead_can_be_cancelled(pair, gate, tmp_path):
    """Whether or not it had been sent: what cancel() says is what happens."""
    with contextree.Executor(pair[:1]) as executor:
        for turn in range(5):
            path, stop = tmp_path / f"ran{turn}", str(gate) + str(turn)
            warm(executor, 100)
            with executor._pool.lock:  # all are in the queue before the first answer comes
                tiny = [executor.submit(f.note, str(path), number) for number in range(20)]
                held = executor.submit(f.hold, stop)
                last = [executor.submit(f.note, str(path), number) for number in range(20, 40)]
            until(lambda task=held: sent_ahead(executor) or task.running(), "tasks to be sent ahead", interval=0)
            said = [future.cancel() for future in reversed(tiny + last)]
            open(stop, "w").close()
            held.result(20)
            ran = [future.result(20) for future in tiny + last if not future.cancelled()]
            assert said[:20] == [True] * 20, "behind the one that holds none can have begun"
            assert [future.cancelled() for future in reversed(tiny + last)] == said
            assert [int(line) for line in lines(path)] == ran
            assert sent_ahead(executor) == 0


def test_tasks_sent_ahead_do_not_wait_for_a_slow_one(pair, gate):
    """A slow task among tiny ones: those behind it, though sent already, are done by the other worker."""
    with contextree.Executor(pair) as executor:
        warm(executor)
        with executor._pool.lock:
            tasks = [executor.submit(f.add, number) for number in range(100)]
            held = executor.submit(f.hold, str(gate))
            tasks += [executor.submit(f.add, number) for number in range(100, 400)]
        assert [future.result(20) for future in tasks] == list(range(1, 401))
        assert not held.done()
        gate.touch()


def test_nothing_is_sent_ahead_with_prefetch_0(pair, gate):
    with contextree.Executor(pair[:1], prefetch=0) as executor:
        seen = []
        tasks = [executor.submit(f.add, number) for number in range(500)]
        for task in tasks:
            seen.append(sent_ahead(executor))
            task.result(20)
        assert set(seen) == {0}


def test_no_thread_for_a_task(pair, gate):
    with contextree.Executor(pair) as executor:
        warm(executor)
        before = len(sys._current_frames())
        held = [executor.submit(f.hold, str(gate)) for _ in range(2)]
        tasks = [executor.submit(f.add, number) for number in range(3000)]
        assert len(sys._current_frames()) == before
        gate.touch()
        assert sum(task.result(30) for task in tasks) == sum(range(1, 3001))
        concurrent.futures.wait(held, 20)


def test_callbacks_may_submit_and_are_not_on_the_loop_thread(pair):
    with contextree.Executor(pair) as executor:
        done = threading.Event()
        seen = []

        def again(future):
            seen.append((threading.get_ident(), future.result()))
            if len(seen) < 50:
                executor.submit(f.add, len(seen)).add_done_callback(again)
            else:
                done.set()

        executor.submit(f.add, 0).add_done_callback(again)
        assert done.wait(20)
        assert [value for _, value in seen] == list(range(1, 51))
        assert pair[0].engine.broker.thread not in [ident for ident, _ in seen]


# -- the end


def test_shutdown_cancels_what_has_not_begun(pair, gate, tmp_path):
    executor = contextree.Executor(pair[:1])
    warm(executor)
    with executor._pool.lock:
        tasks = [executor.submit(f.add, number) for number in range(20)]
        held = executor.submit(f.hold, str(gate), "held")
        tasks += [executor.submit(f.note, str(tmp_path / "ran"), number) for number in range(100)]
    until((tmp_path / "gate.started").exists, "the task to run")
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(f.add, 1)
    gate.touch()
    executor.shutdown()
    assert held.result(0) == "held" and all(task.done() for task in tasks)
    assert [task.result(0) for task in tasks[:20]] == list(range(1, 21))
    assert all(task.cancelled() for task in tasks[20:]) and not (tmp_path / "ran").exists()
    executor.shutdown()
    assert pair[0].call(f.add, 1) == 2


def test_the_end_of_the_router_ends_what_waits(tmp_path):
    with contextree.Router() as router:
        executor = contextree.Executor(router, max_workers=1)
        assert executor.submit(f.add, 1).result(20) == 2
        tasks = [executor.submit(f.hold, str(tmp_path / "never")), executor.submit(f.add, 1)]
        until(tasks[0].running, "the task to run")
        router.close(0.1)
    for task in tasks:
        assert isinstance(task.exception(20), contextree.WorkerDied)
    with pytest.raises(contextree.WorkerDied, match="no worker is left"):
        executor.submit(f.add, 1)
    executor.shutdown()


def test_in_a_forked_process_it_says_so(pair):
    with contextree.Executor(pair) as executor:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                executor.submit(f.add, 1)
            except contextree.ForkedError as error:
                os.write(write, type(error).__name__.encode())
            executor.__exit__(None, None, None)
            executor.__del__()
            os.write(write, b", and nothing else")
            os._exit(0)
        os.waitpid(child, 0)
        os.close(write)
        assert os.read(read, 99) == b"ForkedError, and nothing else"
        os.close(read)
        assert executor.submit(f.add, 1).result(20) == 2


# -- map


def test_map_takes_its_input_lazily(pair):
    with contextree.Executor(pair) as executor:
        taken = []

        def numbers():
            for number in itertools.count():
                taken.append(number)
                yield number

        results = executor.map(f.add, numbers(), buffersize=7)
        assert len(taken) == 7
        for number in range(50):
            assert next(results) == number + 1 and len(taken) <= number + 8
        results.close()
        results = executor.map(f.add, numbers())
        first = len(taken)
        assert [next(results) for _ in range(500)] == list(range(1, 501)) and len(taken) <= first + 500
        results.close()
        results = executor.map(f.add, numbers(), chunksize=10, buffersize=2)
        first = len(taken)
        assert [next(results) for _ in range(95)] == list(range(1, 96)) and len(taken) <= first + 120
        results.close()


def test_map_of_many_items_keeps_few(pair):
    with contextree.Executor(pair) as executor:
        most = 0
        for number, result in enumerate(executor.map(f.add, iter(range(30000)))):
            assert result == number + 1
            if not number % 100:
                most = max(most, executor._pool.left)
        assert most <= 128
        assert sum(executor.map(f.add, iter(range(10**6)), chunksize=2000)) == sum(range(10**6)) + 10**6


def test_map_stops_at_an_error_and_cancels_the_rest(pair, tmp_path, gate):
    with contextree.Executor(pair[:1]) as executor:
        held = executor.submit(f.hold, str(gate))
        results = executor.map(f.note, [str(tmp_path / "ran")] * 50, range(50), timeout=0.05)
        with pytest.raises(concurrent.futures.TimeoutError):
            next(results)
        gate.touch()
        held.result(20)
        executor.submit(f.add, 1).result(20)
        assert not (tmp_path / "ran").exists()
        results = executor.map(divmod, [6, 7, 8, 9], [3, 2, 0, 1])
        assert [next(results), next(results)] == [(2, 0), (3, 1)]
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert list(executor.map(f.add, [], chunksize=5)) == []
        for wrong in {"buffersize": 0}, {"chunksize": 0}:
            with pytest.raises(ValueError, match="must be"):
                executor.map(f.add, [1], **wrong)
        with pytest.raises(TypeError):
            executor.map(f.add, [1], buffersize="7")
