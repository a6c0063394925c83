"""The public interface, tried from the inside of any context: the root or one far down (MT-12).

Each function gets the router of the context that it runs in. Standard library, Python 3.6; ``assert`` speaks.
"""

import operator
import os
import signal
import sys
import time

import contextree
from tests.fork import far


def raises(kind, function, *args, **kwargs):
    """The exception of ``kind`` that the call raises."""
    try:
        function(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError("%s did not raise %s" % (function, kind.__name__))


def starters(router):
    """Every way to start a child here."""
    return [router.fork, router.local, lambda **options: router.fork(direct=True, **options)]


def api_grow_call_end(router):
    for start in starters(router):
        child = start()
        assert isinstance(child, contextree.Context)
        assert child.call(operator.add, 2, 3) == 5
        assert child.call(far.add, 1, b=1) == 2
        assert child.call(os.getpid) == child.pid == child.facts["pid"] != os.getpid()
        assert child.state == "up"
        child.shutdown()
        assert child.state == "died"
        raises(contextree.ContextDied, child.call, os.getpid)
        child.shutdown()


def api_names_and_handles(router):
    with router.fork(direct=True) as child, router.fork(name="named") as named:
        assert router.context_by_id(child.id) is child
        assert named.name.rpartition(".")[2] == "named"
        assert set(router.contexts) >= {child, named}
        assert child.call(far.name) == child.name
        assert named.call(far.name) == named.name
        assert str(named.id) in router.tree() and named.name in router.tree()
        assert router.stats()["links"][named.name]["bytes_out"] > 0
        raises(contextree.UsageError, router.context_by_id, 4000000000)
        raises(contextree.UsageError, router.fork, name="not/a name")
    assert named not in router.contexts


def api_children_of_children(router):
    with router.fork() as child:
        below = child.local()
        assert below.name.startswith(child.name + ".") and below.parent == child and below in child.children
        assert below.call(far.add, 7) == 7
        other = router.local(via=child)
        assert other.parent == child
        assert child.call(far.ask, below, other) == [below.pid, other.pid]
        below.kill()
        raises(contextree.ContextDied, below.call, far.me)
        assert other.call(far.add, 1) == 1
    raises(contextree.ContextDied, other.call, far.me)


def api_errors(router):
    with router.fork(direct=True) as child:
        error = raises(ValueError, child.call, far.fail)
        assert "a start that fails" in str(error)
        assert isinstance(error.__cause__, contextree.RemoteError)
        assert "far.py" in error.__cause__.traceback and error.__cause__.context == child.name
        raises(ZeroDivisionError, child.call, operator.truediv, 1, 0)
        raises(contextree.NotSendable, child.call, far.add, sys._getframe())
        raises(contextree.CallTimeout, child.with_options(timeout=0.05).call, far.sleep, 0.2)
        assert issubclass(contextree.ContextDied, contextree.WorldError)
        assert issubclass(contextree.WorldError, contextree.ContextreeError)


def api_futures_and_streams(router):
    with router.fork(direct=True) as child:
        futures = [child.submit(far.add, number, 1) for number in range(20)]
        assert [future.result(20) for future in futures] == list(range(1, 21))
        assert isinstance(futures[0], contextree.CallFuture)
        failing = child.submit(far.fail)
        assert isinstance(failing.exception(20), ValueError)
        stream = child.stream(range, 2000)
        assert isinstance(stream, contextree.Stream)
        assert list(stream) == list(range(2000))
        with child.stream(range, 10 ** 9) as stream:
            assert next(stream) == 0
        waiting = child.submit(far.sleep, 0.3)
        late = child.submit(far.fail)
        assert late.cancel() and late.cancelled()
        waiting.result(20)


def api_threads(router):
    with router.fork(threads=4) as child:
        child.call(far.add, 1)  # Python 3.6 unpickles from modules that another thread has half imported (bpo-34572)
        start = time.monotonic()
        for future in [child.submit(far.sleep, 0.2) for _ in range(4)]:
            future.result(20)
        assert time.monotonic() - start < 0.8 or os.getloadavg()[0] > 2


def api_closures(router):
    number = 41
    if sys.version_info < (3, 8):  # dill wants 3.8; by name everything goes
        with router.fork(direct=True) as child:
            raises(contextree.NotSendable, child.call, lambda: number)
        return
    with router.fork(direct=True) as child:
        assert child.call(lambda x: x + number, 1) == 42


def api_ping_and_dump(router):
    with router.fork() as child:
        assert 0 < child.ping(20) < 20
        busy = child.submit(far.sleep, 30)
        assert child.ping(20) > 0
        assert "sleep" in child.dump(20)
        child.kill()
        raises(contextree.ContextDied, busy.result, 20)


def api_statuses(router):
    for start in starters(router):
        child = start()
        error = raises(contextree.ContextDied, child.call, os._exit, 9)
        assert error.status.exit_status == 9 and error.context == child.name
        assert child.wait(20).status.exit_status == 9
        child = start()
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait(20).status.killed_with() == signal.SIGKILL


def api_grants(router):
    first, second = router.fork(direct=True), router.fork(direct=True)
    with first, second:
        raises(contextree.Refused, first.call, far.ask, second)
        router.grant(first, second)
        assert first.call(far.ask, second) == [second.pid]


def api_start_hooks(router):
    for start in starters(router):
        with start(on_fork=[far.start_1], on_start=[far.start_2]) as child:
            assert child.call(far.remembered)[1][-2:] == ["on_fork", "on_start"]


def api_connect_errors(router):
    error = raises(contextree.ConnectError, router.local, python="/no/such/python")
    assert error.phase in ("start", "boot") and "/no/such/python" in str(error)


def api_secret_and_plan(router):
    assert "hidden" not in repr(contextree.Secret("hidden"))
    plan = contextree.Plan([sys.executable], "planned", "local", trusted=True)
    assert plan.method == "local"


EVERY = sorted(name for name in globals() if name.startswith("api_"))


def run(name, where):
    """One of them, in the context that runs this, which should have the name ``where``; what it left behind."""
    router = contextree.current_router()
    assert router.name == where
    before = set(router.contexts)
    globals()[name](router)
    return [context.name for context in router.contexts if context not in before]
