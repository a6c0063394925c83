"""Other ways to start processes beside contextree: the user's own fork, multiprocessing, subprocess, executors."""

import os
import signal
import subprocess
import sys

import pytest

import contextree
from tests.fork import far
from tests.fork.tools import ROOT, program


def in_a_fork(work):
    """What ``work()`` returns in a child of plain os.fork, as text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(20)  # a hang is not an answer
            text = repr(work())
        except BaseException as error:
            text = "raised %s: %s" % (type(error).__name__, error)
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        text = file.read().decode()
    assert os.waitpid(pid, 0)[1] == 0, text
    return text


def calls_of(router, child, future, stream):
    """Every way to use these objects that would need the process they belong to."""
    def call(function, *args, **options):
        return lambda: function(*args, **options)

    return [
        call(router.fork), call(router.fork, direct=True), call(router.local), call(router.ssh, "nowhere"),
        call(router.tree), call(router.stats), lambda: router.contexts, call(router.context_by_id, child.id),
        call(router.grant, child, child), call(router.close), call(child.call, far.me), call(child.submit, far.me),
        call(child.stream, range, 3), call(child.shutdown), call(child.kill), call(child.wait), call(child.ping),
        call(child.dump), call(child.fork), call(child.detach), call(child.with_options(timeout=1).call, far.me),
        call(future.result, 5), call(future.exception, 5), call(future.cancel), call(next, stream),
        call(router.broker.defer, print), call(router.broker.poll_once, 0),
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pr_a_fork_of_the_user(router):
    """There every object raises ForkedError; here nothing happened to the tree."""
    child, direct = router.fork(), router.fork(direct=True)
    future = child.submit(far.sleep)
    stream = direct.stream(range, 100000)
    assert next(stream) == 0

    def work():
        wrong = []
        for number, attempt in enumerate(calls_of(router, child, future, stream)):
            try:
                wrong.append((number, attempt()))
            except contextree.ForkedError:
                pass
            except BaseException as error:
                wrong.append((number, repr(error)))
        return wrong

    assert in_a_fork(work) == "[]"
    assert next(stream) == 1
    stream.close()
    assert direct.call(far.add, 1) == 1
    assert not future.done()
    assert child.ping() > 0
    child.kill()
    with pytest.raises(contextree.ContextDied):
        future.result(20)
    assert router.fork().call(far.add, 2) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pr_descriptors_of_contextree_are_closed_in_a_fork_of_the_user(router):
    from contextree.core import process

    router.fork()
    router.fork(direct=True)
    ours = set(process._own)
    assert len(ours) >= 8

    def work():
        return sorted(ours & set(far.descriptors()) - {max(far.descriptors())})

    assert in_a_fork(work) == "[]"


def test_pr_leaving_the_block_in_a_fork_of_the_user():
    """A child of os.fork that falls out of the ``with`` block, or exits, ends quietly and harms nothing."""
    text = """
import os, sys
import contextree
from tests.fork import far
with contextree.Router() as router:
    child = router.fork(direct=True)
    stream = child.stream(range, 1000)
    next(stream)
    statuses = []
    for way in ("fall", "exit", "raise"):
        pid = os.fork()
        if pid == 0:
            if way == "exit":
                sys.exit(4)
            if way == "raise":
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                raise ValueError
            break
        statuses.append(os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
    else:
        print(statuses, child.call(far.add, 5), next(stream), flush=True)
        stream.close()
"""
    assert program(text, "-W", "ignore::DeprecationWarning") == "[0, 4, 1] 5 1\n"


def test_pr_a_new_router_in_a_fork_of_the_user():
    """The child may grow a tree of its own."""
    text = """
import os
import contextree
from tests.fork import far
with contextree.Router() as router:
    child = router.fork(direct=True)
    if True:
        pid = os.fork()
        if pid == 0:
            with contextree.Router() as mine:
                print([mine.fork(direct=direct).call(far.add, 1) for direct in (True, False)], flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    print(child.call(far.add, 2))
"""
    assert program(text, "-W", "ignore::DeprecationWarning") == "[1, 1]\n2\n"


def test_gi_11_other_ways_to_start_processes(tmp_path):
    """multiprocessing by fork and spawn, subprocess, asyncio's, and process pools: right results and exit codes."""
    script = tmp_path / "script.py"
    script.write_text("""
import asyncio, concurrent.futures, multiprocessing, os, subprocess, sys, time
import contextree
from tests.fork import far

def main():
    with contextree.Router() as router:
        children = [router.fork(), router.fork(direct=True), router.local()]
        for method in ("fork", "spawn"):
            context = multiprocessing.get_context(method)
            workers = [context.Process(target=sys.exit, args=(code,)) for code in (0, 3, 7)]
            for worker in workers:
                worker.start()
            router.fork(direct=True).shutdown()
            for worker in workers:
                worker.join()
            print(method, [worker.exitcode for worker in workers])
            with context.Pool(2) as pool:
                print(pool.map(far.add, range(4)))
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
                print(list(pool.map(far.add, range(4))))
        print(subprocess.call([sys.executable, "-c", "raise SystemExit(5)"]))
        async def run():
            one = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(6)")
            return await one.wait()
        print(asyncio.run(run()))
        print(children[1].call(far.use_processes))
        print([child.call(far.add, 1) for child in children])
        print(router.stats()["children"]["lost"])

if __name__ == "__main__":
    main()
""")
    done = subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", script], capture_output=True, text=True,
                          timeout=50, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert not done.stderr
    pools = "[0, 1, 2, 3]\n" * 2
    codes = "[0, 3, 7]\n"
    assert done.stdout == f"fork {codes}{pools}spawn {codes}{pools}5\n6\n[0, 1, 2]\n[1, 1, 1]\n0\n"
