"""CPython's own test cases for executors, with ``contextree.Executor`` in the place of its own.

Where they look into the standard executors (``_processes``, ``_threads``, thread names) they say nothing about ours and
are left out; what differs on purpose is told beside it: a dead worker fails its own tasks, not the whole executor.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock
from concurrent import futures

import pytest

import contextree
from tests.executor import cpython, functions

FOUND, SOURCE = cpython.find()
if not FOUND:
    pytest.skip(f"CPython's test cases: {SOURCE}", allow_module_level=True)


def piece(name):
    """A class of theirs; an empty one where that Python has none of that name."""
    return FOUND.get(name, object)


class Hasty(contextree.Executor):
    """Theirs sleep for six seconds where five are the limit: here it is two, and one."""

    def submit(self, fn, /, *args, **kwargs):
        return super().submit(functions.nap if fn is time.sleep else fn, *args, **kwargs)

    def map(self, fn, *iterables, timeout=None, **options):
        return super().map(functions.nap if fn is time.sleep else fn, *iterables, timeout=timeout and timeout / 5,
                           **options)


def executor(max_workers, mp_context=None, **options):
    """What they take for the executor's class."""
    return Hasty(max_workers=max_workers, **options)


class Ours(piece("ExecutorMixin"), piece("BaseTestCase")):
    """In the place of ThreadPoolMixin and its likes."""

    executor_type = staticmethod(executor)

    def setUp(self):
        super().setUp()
        self.executor.submit(int).result(20)  # a worker is up, as in their executors from the first submit on

    def get_context(self):
        return None


class Patient(contextree.Executor):
    """In the place of their sleeps, which are a pace that they hope for: what sleeps does so until the test is over,
    what raises after a sleep does so when the tasks before it have been done."""

    def __init__(self, max_workers):
        super().__init__(max_workers)
        self.folder = tempfile.mkdtemp()
        self.quick = []

    def submit(self, fn, /, *args, **kwargs):
        if fn is time.sleep:
            return super().submit(functions.until_gone, self.folder)
        if fn is FOUND.get("sleep_and_raise"):
            futures.wait(self.quick, 30)
            return super().submit(fn, 0)
        self.quick.append(super().submit(fn, *args, **kwargs))
        return self.quick[-1]

    def wake(self):
        """Let those end that sleep."""
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(self.folder)


class TestExecutor(piece("ExecutorTest"), Ours):
    worker_count = 2
    test_map_chunksize = piece("ProcessPoolExecutorTest").test_map_chunksize


class TestWait(piece("WaitTests"), Ours):
    worker_count = 3

    def executor_type(self, max_workers):
        if "timeout" in self._testMethodName:
            wait = futures.wait

            def shorter(fs, timeout=None, *rest, **more):
                return wait(fs, timeout and timeout / 5, *rest, **more)

            hasty = unittest.mock.patch.object(futures, "wait", shorter)
            hasty.start()
            self.addCleanup(hasty.stop)
            return Hasty(max_workers)
        patient = Patient(max_workers)
        if "20369" in self._testMethodName:  # it waits for what sleeps
            patient.wake()
        return patient

    def tearDown(self):
        if type(self.executor) is Patient:
            self.executor.wake()
        super().tearDown()


class TestAsCompleted(piece("AsCompletedTests"), Ours):
    worker_count = 2


class TestInitializer(piece("InitializerMixin"), piece("BaseTestCase")):
    executor_type = staticmethod(executor)


class TestFailingInitializer(piece("FailingInitializerMixin"), piece("BaseTestCase")):
    executor_type = staticmethod(executor)


class TestShutdown(piece("ExecutorShutdownTest"), Ours):
    """Those of theirs that are scripts name the module of the executor, so here are ours."""

    worker_count = 3

    def script(self, text):
        """What a program prints that begins with ``text``."""
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=50, check=False)
        return done.returncode, done.stdout, done.stderr

    SLEEP = ("import contextree, subprocess\n"
             "t = contextree.Executor(2)\n"
             "t.submit(subprocess.call, 'sleep 0.3; echo apple >&2', shell=True)\n")

    def test_interpreter_shutdown(self):
        status, _, errors = self.script(self.SLEEP + "import logging; logging.basicConfig(format='%(message)s')")
        assert (status, errors.strip()) == (0, "apple")

    def test_submit_after_interpreter_shutdown(self):
        _, out, errors = self.script(
            "import atexit, contextree\n"
            "@atexit.register\n"
            "def run_last():\n"
            "    try:\n"
            "        t.submit(id, None)\n"
            "    except RuntimeError:\n"
            "        print('runtime-error')\n"
            "        raise\n"
            "t = contextree.Executor(1)\n"
            "t.submit(id, 42).result()\n")
        assert "RuntimeError: cannot schedule new futures" in errors
        assert out.strip() == "runtime-error"

    def test_hang_gh83386(self):
        status, _, errors = self.script(self.SLEEP + "import logging; logging.basicConfig(format='%(message)s')\n"
                                          "t.shutdown(wait=False)")
        assert (status, errors.strip()) == (0, "apple")

    def test_cancel_futures_wait_false(self):
        status, out, errors = self.script(self.SLEEP + "t.shutdown(wait=False, cancel_futures=True)")
        assert (status, out) == (0, "")
        assert "Traceback" not in errors

    def test_del_shutdown(self):
        own = contextree.Executor(2)
        contexts = own.contexts
        results = own.map(abs, range(-5, 5))
        del own
        assert list(results) == [abs(v) for v in range(-5, 5)]
        for context in contexts:
            context.wait(20)

    def test_shutdown_no_wait(self):
        own = contextree.Executor(2)
        contexts = own.contexts
        results = own.map(abs, range(-5, 5))
        own.shutdown(wait=False)
        assert list(results) == [abs(v) for v in range(-5, 5)]
        for context in contexts:
            context.wait(20)


class TestDeadlock(piece("ExecutorDeadlockTest"), Ours):
    """What PPE answers by breaking down, and we by failing one task."""

    worker_count = 1
    AS = {
        "test_error_at_task_unpickle": Exception,  # the UnpicklingError itself: the worker lives on
        "test_error_during_result_unpickle_in_result_handler": Exception,  # the same: raised by result()
        "test_exit_during_result_unpickle_in_result_handler": SystemExit,  # what unpickling did, and where: in result()
        "test_exit_at_task_unpickle": contextree.RemoteError,  # sys.exit() there ends a task, never a worker
        "test_exit_during_func_exec_on_worker": contextree.RemoteError,
        "test_exit_during_result_pickle_on_worker": contextree.RemoteError,
        "test_error_at_task_pickle": contextree.NotSendable,
        "test_error_during_result_pickle_on_worker": contextree.NotSendable,
    }

    def _check_crash(self, error, func, *args, ignore_stderr=False):
        error = self.AS.get(self._testMethodName, contextree.WorkerDied if "crash" in self._testMethodName else error)
        with contextlib.redirect_stderr(None) if ignore_stderr else contextlib.nullcontext():
            task = self.executor.submit(func, *args)
            with pytest.raises(error):
                task.result(timeout=20)
        assert self.executor.submit(len, "four").result(20) == 4

    def test_shutdown_deadlock(self):
        future = self.executor.submit(FOUND["_crash"], delay=0.1)
        self.executor.shutdown(wait=True)
        with pytest.raises(contextree.WorkerDied):
            future.result()

    def test_shutdown_deadlock_pickle(self):
        self.executor.submit(id, 42).result()
        future = self.executor.submit(id, FOUND["ErrorAtPickle"]())
        self.executor.shutdown(wait=False)
        with pytest.raises(contextree.NotSendable):
            future.result()

    def test_crash_big_data(self):
        with pytest.raises(contextree.WorkerDied):
            list(self.executor.map(functions.crash_with, ["a" * (4 << 20)] * 4))

    def test_gh105829_should_not_deadlock_if_wakeup_pipe_full(self):
        """Theirs patches the standard executor; this is what it was about: many tasks before the first is taken."""
        assert len(list(self.executor.map(int, range(10000)))) == 10000


class TestKilledChild(Ours):
    """ProcessPoolExecutorTest.test_killed_child breaks the executor for good; ours goes on."""

    worker_count = 1

    def test_killed_child(self):
        task = self.executor.submit(time.sleep, 30)
        self.executor.contexts[0].kill()
        with pytest.raises(futures.BrokenExecutor):
            task.result(20)
        assert self.executor.submit(pow, 2, 8).result(20) == 256


def test_the_cases_are_theirs():
    """The classes above that stand on CPython's have its test methods."""
    for kind, count in (TestExecutor, 8), (TestWait, 7), (TestAsCompleted, 5), (TestDeadlock, 12), (TestShutdown, 5):
        assert issubclass(kind, unittest.TestCase)
        theirs = [name for base in kind.__mro__ if base.__module__.startswith(("test.", cpython.NAME))
                  for name in vars(base) if name.startswith("test_")]
        assert len(theirs) >= count, (kind, theirs, SOURCE)
