"""Workers that die, fail to start, are replaced: nothing is lost, nothing runs twice, nobody waits for ever."""

import concurrent.futures
import logging
import os
import sys

import pytest

import contextree
from tests.executor import functions as f
from tests.executor.conftest import lines
from tests.executor.test_executor import warm
from tests.lab.poll import until


def test_a_dead_worker_fails_its_own_task_with_the_reason_and_is_replaced():
    with contextree.Executor(2) as executor:
        warm(executor)
        task = executor.submit(f.die)
        error = task.exception(20)
        assert isinstance(error, contextree.WorkerDied) and isinstance(error, concurrent.futures.BrokenExecutor)
        assert isinstance(error.__cause__, contextree.ContextDied)
        assert "ended while it ran die: its process (fork) killed by SIGKILL" in str(error)
        assert error.context.startswith("fork.") and "SIGKILL" in error.reason
        until(lambda: len(executor.contexts) == 2, "a new worker")
        assert len({executor.submit(f.meet, 0, 1).result(20)[0] for _ in range(20)}) >= 1
        warm(executor)


def test_of_many_tasks_only_the_deadly_ones_fail_and_each_runs_once(tmp_path):
    """Tiny tasks, many of them sent ahead, every fortieth of which kills its worker."""
    path = str(tmp_path / "ran")
    with contextree.Executor(2) as executor:
        warm(executor)
        with executor._pool.lock:
            tasks = [executor.submit(f.note_and_die_at, path, number, 40) for number in range(400)]
        failed = [number for number, task in enumerate(tasks) if task.exception(50) is not None]
        assert failed == list(range(39, 400, 40))
        assert all(isinstance(tasks[number].exception(), contextree.WorkerDied) for number in failed)
        assert [task.result() for number, task in enumerate(tasks) if number not in failed] == [
            number for number in range(400) if number not in failed]
    assert sorted(map(int, lines(tmp_path / "ran"))) == list(range(400))


def test_threads_of_a_dead_worker_fail_what_they_ran_and_no_more(tmp_path, gate):
    path = str(tmp_path / "ran")
    with contextree.Executor(1, workers_per_context=3) as executor:
        warm(executor)
        with executor._pool.lock:
            held = [executor.submit(f.hold, str(gate)) for _ in range(2)]
            tasks = [executor.submit(f.note_and_die_at, path, number, 40) for number in range(60)]
        dead = [task for task in held if task.exception(50) is not None]
        gate.touch()
        assert len(dead) == 2 and all(task.exception() for task in dead)
        assert [number for number, task in enumerate(tasks) if task.exception(50)] == [39]
    assert sorted(map(int, lines(tmp_path / "ran"))) == list(range(60))


def test_behind_a_relay_what_was_sent_fails_and_the_rest_goes_on(router, tmp_path):
    """Answers may be lost on their way from there, so it is not known what has begun."""
    path = str(tmp_path / "ran")
    far = router.local(via=router.local())
    near = router.fork()
    with contextree.Executor(far, replace=lambda dead: near) as executor:
        warm(executor)
        with executor._pool.lock:
            tasks = [executor.submit(f.note_and_die_at, path, number, 40, far.name) for number in range(300)]
        concurrent.futures.wait(tasks, 50)
        failed = [number for number, task in enumerate(tasks) if task.exception(0) is not None]
        ran = list(map(int, lines(tmp_path / "ran")))
        assert 39 in failed and len(ran) == len(set(ran)), "none ran twice"
        assert set(range(300)) - set(failed) <= set(ran)
        assert executor.contexts == [near]


def test_without_a_worker_everything_fails_and_nothing_hangs(pair, gate):
    with contextree.Executor(pair) as executor:
        warm(executor)
        held = [executor.submit(f.hold, str(gate)) for _ in range(2)]
        until(lambda: all(task.running() for task in held), "both to run")
        waiting = [executor.submit(f.add, number) for number in range(100)]
        for context in pair:
            context.kill()
        for task in held + waiting:
            with pytest.raises(contextree.WorkerDied):
                task.result(20)
        assert "ended while it ran hold" in str(held[0].exception())
        assert str(waiting[0].exception()).startswith("no worker is left; the last one was fork.")
        assert isinstance(waiting[0].exception().__cause__, contextree.ContextDied)
        with pytest.raises(contextree.WorkerDied, match="no worker is left"):
            executor.submit(f.add, 1)


def test_a_context_that_is_dead_already(router, pair):
    pair[0].kill()
    with contextree.Executor(pair) as executor:
        assert [executor.submit(f.pid).result(20) for _ in range(5)] == [pair[1].pid] * 5
    pair[1].kill()
    with contextree.Executor(pair) as executor, pytest.raises(contextree.WorkerDied):
        executor.submit(f.add, 1).result(20)


def test_given_contexts_are_replaced_by_what_replace_gives(router, pair):
    asked = []

    def replace(dead):
        asked.append(dead)
        return router.fork(name="second")

    with contextree.Executor(pair[:1], replace=replace) as executor:
        assert isinstance(executor.submit(f.die).exception(20), contextree.WorkerDied)
        assert executor.submit(f.add, 1).result(20) == 2
        assert asked == pair[:1] and [context.name for context in executor.contexts] == ["second"]
    assert executor.contexts == [] and router.contexts[-1].call(f.add, 1) == 2


@pytest.mark.parametrize("replace", [lambda dead: None, lambda dead: f.fail(OSError, "no more hosts")])
def test_when_nobody_replaces_it(pair, replace):
    with contextree.Executor(pair[:1], replace=replace) as executor:
        tasks = [executor.submit(f.die), executor.submit(f.add, 1)]
        assert [type(task.exception(20)) for task in tasks] == [contextree.WorkerDied] * 2
        assert "no worker is left" in str(tasks[1].exception())


def test_the_initializer_runs_in_each_context_before_its_first_task_in_new_ones_too():
    with contextree.Executor(2, initializer=f.begin, initargs=("ready",)) as executor:
        for _ in range(3):
            assert {tuple(executor.submit(f.begun_with).result(20)) for _ in range(10)} == {("ready",)}
            executor.submit(f.die).exception(20)


def test_an_initializer_that_fails_breaks_it(pair, caplog):
    caplog.set_level(logging.CRITICAL, "concurrent.futures")
    with contextree.Executor(pair, initializer=f.fail, initargs=(ValueError, "no licence")) as executor:
        try:
            task = executor.submit(f.add, 1)
        except contextree.WorkerDied as error:
            found = error
        else:
            found = task.exception(20)
        assert isinstance(found, contextree.WorkerDied)
        assert "the initializer failed: ValueError: no licence" in str(found)
        assert isinstance(found.__cause__, ValueError)
        with pytest.raises(contextree.WorkerDied):
            executor.submit(f.add, 1)
    assert "Exception in initializer" in caplog.text
    assert [context.call(f.add, 1) for context in pair] == [2, 2]


def test_workers_that_die_in_the_initializer_are_not_made_for_ever():
    with (contextree.Executor(1, initializer=f.die) as executor,
          pytest.raises(contextree.WorkerDied, match="no worker is left")):
        executor.submit(f.add, 1).result(40)


def test_a_worker_that_idles_is_replaced_too():
    with contextree.Executor(1) as executor:
        first = executor.submit(f.pid).result(20)
        executor.contexts[0].kill()
        assert executor.submit(f.pid).result(20) not in (first, os.getpid())


def test_async_functions_occupy_their_worker(pair, tmp_path):
    """So that what is sent ahead has not begun, should the worker die."""
    path = str(tmp_path / "ran")
    with contextree.Executor(pair) as executor:
        warm(executor)
        tasks = [executor.submit(f.nearly, number) for number in range(20)]
        assert [task.result(20) for task in tasks] == list(range(20))
        with executor._pool.lock:
            tasks = [executor.submit(f.add, number) for number in range(30)]
            tasks.append(executor.submit(f.die_soon))
            tasks += [executor.submit(f.note, path, number) for number in range(100)]
        assert [number for number, task in enumerate(tasks) if task.exception(20)] == [30]
    assert sorted(map(int, lines(tmp_path / "ran"))) == list(range(100))


def test_what_is_dropped_ends_by_itself(tmp_path):
    executor = contextree.Executor(1)
    contexts = executor.contexts
    executor.submit(f.note, str(tmp_path / "ran"), "once")
    del executor
    contexts[0].wait(20)
    assert lines(tmp_path / "ran") == ["once"]


def test_many_contexts(router):
    """As many as fit into a test's time."""
    contexts = [router.fork(wait=False) for _ in range(40)]
    with contextree.Executor(contexts) as executor:
        warm(executor)
        before = len(sys._current_frames())
        found = [executor.submit(f.meet, number, 1) for number in range(400)]
        assert len(sys._current_frames()) == before
        assert len({task.result(30)[0] for task in found}) > 20
