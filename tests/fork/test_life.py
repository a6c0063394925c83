"""Contexts that are forked: names, starts, ends, statuses; many of them."""

import os
import signal
import subprocess
import sys
import threading

import pytest

import contextree
from tests.fork import far
from tests.fork.tools import ROOT, program
from tests.lab import processes
from tests.lab.poll import until

MANY = 100


def zombies():
    """pids of dead children of this process that nobody has reaped."""
    found = []
    for pid in processes.every():
        facts = processes.stat(pid)
        if facts and facts[0] == os.getpid() and facts[1] == "Z":
            found.append(pid)
    return found


@pytest.mark.parametrize("direct", [False, True])
def test_fork_calls_and_ends(router, direct):
    child = router.fork(direct=direct)
    assert child.call(far.add, 1, b=2) == 3
    assert child.call(far.me) == child.pid != os.getpid()
    assert child.state == "up"
    child.shutdown()
    assert child.state == "died"
    with pytest.raises(contextree.ContextDied):
        child.call(far.me)


def test_mt_06_gi_07_ten_levels_of_fork_and_local(router):
    """Every name is known in the root and in the contexts themselves, and the exit status of the deepest comes up."""
    methods = ["fork", "local", "direct", "fork", "direct", "local", "direct", "direct", "fork", "local"]
    top = router.fork(direct=True)
    ids = [top.id, *top.call(far.grow, *methods[1:])]
    assert len(set(ids)) == 10
    contexts = [router.context_by_id(number) for number in ids]
    for context, above in zip(contexts[1:], contexts, strict=False):
        assert context.name.startswith(above.name + ".")
        assert context.parent == above
    deepest = contexts[-1]
    assert deepest.name.count(".") >= 9
    assert [context.call(far.name) for context in contexts] == [context.name for context in contexts]
    pids = [context.call(far.me) for context in contexts]
    assert len(set(pids)) == 10
    with pytest.raises(contextree.ContextDied, match="exited with status 23") as caught:
        deepest.call(os._exit, 23)
    assert caught.value.status.exit_status == 23
    with pytest.raises(contextree.ContextDied, match="killed by SIGKILL"):
        contexts[-2].call(os.kill, pids[-2], signal.SIGKILL)
    assert contexts[-3].call(far.me) == pids[-3]
    top.shutdown()
    until(lambda: not any(processes.stat(pid) for pid in pids), "the subtree to end")


@pytest.mark.parametrize("direct", [False, True])
def test_gi_12_statuses_of_direct_children(router, direct):
    for code in (7, -signal.SIGTERM):
        child = router.fork(direct=direct)
        with pytest.raises(contextree.ContextDied) as caught:
            child.call(*(os._exit, 7) if code > 0 else (os.kill, child.pid, signal.SIGTERM))
        assert caught.value.status.returncode == code
    child = router.fork(direct=direct)
    child.shutdown()
    assert child.wait().status.clean()


@pytest.mark.parametrize("direct", [False, True])
def test_p_58_shutdown_returns_when_the_child_is_reaped(router, direct):
    child = router.fork(direct=direct)
    who = processes.identity(child.pid)
    child.shutdown()
    assert processes.stat(who[0]) is None or processes.identity(who[0]) != who
    with pytest.raises(ChildProcessError):
        os.waitpid(who[0], 0)
    child.shutdown()


def test_mt_08_siblings_go_on(router):
    first, second = router.fork(direct=True), router.fork(direct=True)
    below = router.context_by_id(first.call(far.grow, "direct")[0])
    waiting = first.submit(far.sleep)
    first.shutdown(timeout=0.1)
    with pytest.raises(contextree.ContextDied, match="shut down"):
        waiting.result(20)
    with pytest.raises(contextree.ContextDied):
        below.call(far.me)
    assert second.call(far.add, 1) == 1


def test_rm_27_r_12_many_children_one_after_the_other(router):
    """100 of each kind, created, called, shut down: no zombie, no descriptor, no thread more than before."""
    for direct in (False, True):
        router.fork(direct=direct).shutdown()
    before, threads = len(far.descriptors()), threading.active_count()
    for number in range(MANY):
        child = router.fork(direct=bool(number & 1))
        assert child.call(far.add, number, 1) == number + 1
        child.shutdown()
    assert not zombies()
    assert len(far.descriptors()) == before
    assert threading.active_count() == threads
    assert router.stats()["children"]["children"] == 1  # the template


def test_mt_09_r_08_many_children_at_once(router):
    """They live together, and die together by KILL: each status arrives, nothing is left."""
    router.fork().shutdown()
    before = len(far.descriptors())
    children = [router.fork(direct=number % 4 == 0) for number in range(MANY)]
    futures = [child.submit(far.me) for child in children]
    pids = [future.result(30) for future in futures]
    assert len(set(pids)) == MANY
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for child in children:
        assert child.wait(30).status.killed_with() == signal.SIGKILL
    assert not zombies()
    assert len(far.descriptors()) == before
    assert router.contexts == []


def test_rm_02_children_of_the_program_are_its_own(router):
    """The program's own dead children stay, with the right statuses, while contexts come and go."""
    own = []
    for code in (3, 4, 5):
        pid = os.fork()
        if pid == 0:
            os._exit(code)
        own.append((pid, code))
    until(lambda: {pid for pid, _ in own} <= set(zombies()), "our own children to end")
    for number in range(10):
        router.fork(direct=bool(number & 1)).shutdown()
    assert {pid for pid, _ in own} <= set(zombies())
    assert [os.WEXITSTATUS(os.waitpid(pid, 0)[1]) for pid, _ in own] == [3, 4, 5]


def test_rm_03_two_threads_fork_at_once(router):
    """Each handle reports the status of its own child."""
    wrong = []

    def work(first):
        for code in range(first, first + 12):
            child = router.fork(direct=bool(code & 1))
            try:
                child.call(os._exit, code)
            except contextree.ContextDied as error:
                if error.status.exit_status != code:
                    wrong.append((code, error.status))

    workers = [threading.Thread(target=work, args=(first,)) for first in (1, 101)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize("direct", [False, True])
def test_mt_25_p_61_order_of_the_start(router, direct):
    child = router.fork(direct=direct, on_fork=[far.start_1], on_start=[far.start_2, far.start_3])
    assert child.call(far.remembered)[1] == ["on_fork", "on_start", "on_start again"]


@pytest.mark.parametrize("direct", [False, True])
def test_mt_26_a_failing_start_is_told(router, direct):
    child = router.fork(direct=direct, on_start=[far.fail])
    error = child.wait(20)
    assert "far.py" in str(error) and "ValueError: a start that fails" in str(error)
    assert error.status.exit_status == 1
    with pytest.raises(contextree.ContextDied, match="a start that fails"):
        child.call(far.me)


@pytest.mark.parametrize("direct", [False, True])
def test_p_60_mt_15_fork_of_a_fork_of_a_fork(router, direct):
    """0, 1 and 2 are open three levels down, and take what is written."""
    child = router.fork(direct=direct)
    method = "direct" if direct else "fork"
    ids = child.call(far.grow, method, method)
    for number in ids:
        context = router.context_by_id(number)
        open_there = context.call(far.descriptors)
        assert {0, 1, 2} <= set(open_there)
        assert open_there[0] == "/dev/null"
        assert context.call(os.write, 1, b"said\n") == 5
        assert [context.call(os.get_blocking, fd) for fd in (0, 1, 2)] == [True] * 3


def test_mt_20_the_tree_ends_with_its_root():
    """kill -9 of the root: everything below it is gone soon."""
    text = """
import contextree, os, sys
from tests.fork import far
router = contextree.Router()
a = router.fork()
b = router.fork(direct=True)
ids = a.call(far.grow, "local", "direct") + b.call(far.grow, "direct", "fork")
print(*[c.call(far.me) for c in [a, b, *map(router.context_by_id, ids)]], flush=True)
sys.stdin.read()
"""
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    with subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as root:
        pids = [int(word) for word in root.stdout.readline().split()]
        below = processes.descendants(root.pid)
        assert {who[0] for who in below} >= set(pids)
        root.kill()
        until(lambda: not any(processes.alive(who) for who in below), "the tree to end")


@pytest.mark.parametrize("how", ["kill", "close"])
@pytest.mark.parametrize("method", ["fork", "direct", "local", "below"])
def test_p_57_a_detached_child_finishes_its_call(tmp_path, how, method):
    """It survives the loss of its parent, and is gone when its call is over."""
    mark = tmp_path / "go"
    text = f"""
import contextree, os, signal
from tests.fork import far
from tests.lab.poll import until
with contextree.Router(grace=0.2) as router:
    if {method!r} == "below":
        child = router.context_by_id(router.fork().call(far.grow, "direct")[0])
    else:
        child = router.local() if {method!r} == "local" else router.fork(direct={method == "direct"})
    child.detach()
    assert child.call(far.add, 2) == 2
    child.submit(far.busy_until, {str(mark)!r})
    child.submit(far.busy_until, {str(mark)!r} + " never started")
    until(lambda: os.path.exists({str(mark)!r} + ".begun"), "the call to begin")
    print(child.pid, flush=True)
    if {how!r} == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
"""
    done = program(text, check=False)
    assert done.returncode == (-signal.SIGKILL if how == "kill" else 0), done
    who = processes.identity(int(done.stdout))
    assert processes.alive(who)
    try:
        mark.touch()
        until((tmp_path / "go.done").exists, "the call to end")
        until(lambda: not processes.alive(who), "the detached child to end")
    finally:
        processes.end([who])
    assert (tmp_path / "go.done").read_text() == done.stdout.strip()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["go", "go.begun", "go.done"], "the second call began"


@pytest.mark.parametrize("method", ["direct", "local"])
def test_p_57_a_detached_child_writes_when_its_parent_has_just_died(tmp_path, method):
    """Its standard error is a pipe to its parent: no BrokenPipeError before it has heard."""
    done = program(f"""
import contextree, os
from tests.fork import far
router = contextree.Router()
child = router.local() if {method!r} == "local" else router.fork(direct=True)
child.detach()
child.detach()
print(child.pid, flush=True)
child.submit(far.say_at_the_end_of, os.getpid(), {str(tmp_path / "said")!r}).result()
""", check=False)
    assert done.returncode == -signal.SIGKILL, done
    who = processes.identity(int(done.stdout))
    try:
        until((tmp_path / "said").exists, "the call to go on")
        until(lambda: not processes.alive(who), "the detached child to end")
    finally:
        processes.end([who])


def test_p_57_shutdown_still_ends_a_detached_child(router):
    child = router.fork()
    child.detach()
    running = child.submit(far.sleep)
    child.shutdown(timeout=0.2)
    with pytest.raises(contextree.ContextDied):
        running.result(20)
    assert child.wait().status is not None


def test_p_59_chance_differs(router):
    far.chance()  # whatever is seeded once has been
    seen = [far.chance()] + [router.fork(direct=direct).call(far.chance) for direct in (True, True, False, False)]
    for same in zip(*seen, strict=True):
        assert len(set(same)) == len(seen)
