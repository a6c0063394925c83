"""The template: what is in it, what happens when it ends."""

import os
import signal
import threading

import pytest

import contextree
from tests.fork import far
from tests.lab import processes
from tests.lab.poll import until


def template_pid(router):
    return router.engine.template.handle.pid


def test_preloaded_modules_are_there_at_once():
    with contextree.Router(preload=["colorsys", "tests.fork.far"]) as router:
        child = router.fork()
        assert child.call(eval, "'colorsys' in __import__('sys').modules")
        assert not child.call(eval, "'wave' in __import__('sys').modules")
        assert child.call(far.me) == child.pid


def test_a_module_that_cannot_be_preloaded_is_named():
    with contextree.Router(preload=["no_such_module_here"]) as router:
        for _ in range(2):
            with pytest.raises(contextree.ConnectError, match="No module named 'no_such_module_here'") as caught:
                router.fork()
            assert caught.value.phase == "start"
        assert router.fork(direct=True).call(far.add, 1) == 1


def test_children_go_on_when_the_template_is_killed(router):
    first, second = router.fork(), router.fork()
    pid = template_pid(router)
    os.kill(pid, signal.SIGKILL)
    until(lambda: router.engine.template.dead, "the loss to be noticed")
    assert first.call(far.add, 1) == 1
    third = router.fork()
    assert template_pid(router) != pid
    assert third.call(far.ppid) == template_pid(router)
    who = processes.identity(first.pid)
    with pytest.raises(contextree.ContextDied, match="the template process that would reap it has ended") as caught:
        first.call(os._exit, 3)
    assert caught.value.status.returncode is None and not caught.value.status.clean()
    second.shutdown()
    assert second.state == "died" and third.call(far.add, 2) == 2
    until(lambda: not processes.alive(who), "it to end")


def test_a_busy_orphan_is_ended_by_the_loss_of_its_link(router):
    child = router.fork()
    os.kill(template_pid(router), signal.SIGKILL)
    until(lambda: router.engine.template.dead, "the loss to be noticed")
    who = processes.identity(child.pid)
    running = child.submit(far.sleep)
    child.shutdown(timeout=0.1)
    with pytest.raises(contextree.ContextDied):
        running.result(20)
    until(lambda: not processes.alive(who), "it to end")


def test_killed_while_forks_are_asked_for(router):
    """Every fork either works or fails with ConnectError; none hangs; the tree goes on."""
    router.fork().shutdown()
    good, bad = [], []

    def work():
        for _ in range(8):
            try:
                good.append(router.fork().call(far.add, 1))
            except (contextree.ConnectError, contextree.ContextDied):
                bad.append(1)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    until(lambda: good, "a first fork")
    router.engine.template.handle.kill()
    for worker in workers:
        worker.join()
    assert len(good) + len(bad) == 16 and set(good) == {1}
    assert router.fork().call(far.add, 3) == 3


def test_one_thread_and_a_clean_state(router):
    """The children of the template have one Python thread and none of the modules and memory of the program."""
    child = router.fork()
    assert child.call(far.threads) == 1
    assert child.call(eval, "'pytest' in __import__('sys').modules") is False
    assert child.call(far.ppid) == template_pid(router) != os.getpid()
    assert router.fork(direct=True).call(far.ppid) == os.getpid()


def test_many_threads_fork_at_once(router):
    """One template serves them all."""
    pids = []
    workers = [threading.Thread(target=lambda: pids.append(router.fork().call(far.ppid))) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert pids == [template_pid(router)] * 8


def test_gi_24_arguments_are_checked(router):
    for options in ({"name": "a/b"}, {"unknown": 1}, {"name": "a\nb"}):
        with pytest.raises((contextree.UsageError, TypeError)):
            router.fork(**options)
    child = router.fork()
    with pytest.raises(contextree.UsageError, match="forks the process that calls"):
        child.fork(direct=True)
