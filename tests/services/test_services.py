"""Services: how calls run, how they end. P-65."""

import threading

import pytest

import contextree
from tests.lab import pythons as lab
from tests.lab.poll import until
from tests.services import far

OLDEST = next(python for python in lab.one_each().values() if python.minor != "2.7")
pytestmark = pytest.mark.leaks("the tree of the module, whose contexts and services start threads when they are needed")


# -- how calls run


def test_values_errors_streams(tree, granted):
    assert tree.a.call(far.call, granted, "echo", 1, "b", None, k=[2.5]) == [[1, "b", None], {"k": [2.5]}]
    with pytest.raises(LookupError) as caught:
        tree.a.call(far.call, granted, "fail", "gone", 3)
    assert caught.value.args == ("gone", 3)
    with pytest.raises(LookupError):
        granted.call.fail()
    with pytest.raises(contextree.NotSendable):
        tree.a.call(far.call, granted, "odd")
    with pytest.raises(TypeError):
        granted.call.put()
    assert tree.a.call(far.stream, granted, 5000) == list(range(5000))
    assert list(granted.stream.count(500)) == list(range(500))
    assert granted.submit.same(5).result(10) == 5
    assert granted.with_options(timeout=10).call.same(b"x") == b"x"
    with pytest.raises(TypeError):
        granted.with_options(threads=1)


def test_trusted_contexts_send_what_they_like(tree, granted):
    assert tree.a.call(far.send_point, granted) == 4
    data = bytes(range(256)) * 4096 * 3  # in many frames
    assert tree.a.call(far.call, granted, "same", data) == data
    assert not tree.router.engine.services.partial


def test_a_stream_that_is_closed_closes_the_generator(tree, granted):
    tree.store.closed.clear()
    assert tree.a.call(far.first_of, granted, 10**7) == [0, 1, 2]
    until(lambda: tree.store.closed == [10**7], "the generator to be closed")
    assert far.first_of(granted, 10**6) == [0, 1, 2]
    until(lambda: tree.store.closed == [10**7, 10**6], "the generator of the local stream to be closed")


def test_a_slow_method_holds_up_nobody_but_its_thread(tree, granted):
    store = tree.store
    futures = [granted.submit.wait() for _ in range(3)]
    for _ in futures:
        assert store.entered.acquire(timeout=10)
    assert tree.a.call(far.call, granted, "same", 1) == 1, "the fourth thread"
    with pytest.raises(contextree.CallTimeout):
        granted.with_options(timeout=0.05).call.wait()
    store.gate.set()
    assert [future.result(10) for future in futures] == ["done"] * 3
    until(lambda: granted.stats()["unanswered"] == 0, "the calls to end")
    store.gate.clear()


@pytest.mark.parametrize("where", ["here", "below"])
def test_a_method_hears_that_its_caller_has_gone(tree, where):
    store = far.Store()
    with tree.router.serve("store", store) as service:
        tree.router.grant_service(service, tree.a)
        future = service.submit.until_cancelled() if where == "here" else tree.a.call(far.caller_of, service)
        assert store.entered.acquire(timeout=10)
        future.cancel() if where == "here" else tree.a.call(far.give_up)
        until(lambda: store.closed == [True], "the method to hear of it")


def test_a_deadline_goes_with_the_call(tree):
    store = far.Store()
    with tree.router.serve("store", store) as service:
        tree.router.grant_service(service, tree.a)
        tree.a.with_options(timeout=0.2).submit(far.call, service, "until_cancelled").exception(10)
        until(lambda: store.closed == [True], "the method to hear of it")


def test_async_methods(tree, granted):
    """They are awaited on a loop of the service: as many at once as there are calls, whatever its threads."""
    store = tree.store
    store.closed.clear()
    assert tree.a.call(far.call, granted, "slowly", 1) == (1, "a") and granted.call.slowly(2) == (2, "master")
    assert tree.a.call(far.stream_of, granted, "rows", 3000) == list(range(3000))
    assert list(granted.stream.rows(100)) == list(range(100))
    futures = [granted.submit.slowly(n, 0.05) for n in range(40)]
    assert [future.result(10)[0] for future in futures] == list(range(40))
    until(lambda: granted.stats()["unanswered"] == 0, "all to be forgotten")
    with tree.router.serve("async", far.Store()) as service:
        future = service.submit.slowly(7, 60)
        until(lambda: service.stats()["unanswered"] == 1, "it to wait")
    with pytest.raises(contextree.Closed):
        future.result(10)


def test_p_65_callers_take_turns_and_a_full_line_says_so(tree):
    """One who floods waits behind itself alone."""
    store = far.Store()
    with tree.router.serve("narrow", store, threads=1, queue=50) as service:
        for context in (tree.a, tree.b):
            tree.router.grant_service(service, context)
        blocker = service.submit.wait()
        assert store.entered.acquire(timeout=10)
        flood = tree.a.submit(far.flood, service, 200)
        until(lambda: service.stats()["overflows"] == 150, "the line of a to be full")
        other = tree.b.submit(far.call, service, "put", "b", 1)
        until(lambda: service.stats()["waiting"] == 51, "b's call to wait")
        order = []
        same, put = store.same, store.put
        host, _ = tree.router.engine.services.table[service.number]
        host.methods["same"] = (lambda value: order.append("a") or same(value)), None
        host.methods["put"] = (lambda *args: order.append("b") or put(*args)), None
        store.gate.set()
        assert flood.result(20) == (50, ["Overflow"]) and other.result(20) == 1 and blocker.result(20) == "done"
        assert order.index("b") <= 2, order


def test_a_caller_that_dies_leaves_nothing(tree):
    store = far.Store()
    with tree.router.serve("mourning", store, threads=1) as service:
        mortal = tree.router.fork(name="mortal")
        tree.router.grant_service(service, mortal)
        assert mortal.call(far.keep_stream, service) == 0
        for _ in range(5):
            mortal.call(far.submit_wait, service)
        assert store.entered.acquire(timeout=10)
        until(lambda: service.stats()["waiting"] >= 4, "the calls to wait")
        mortal.submit(far.leave)
        mortal.wait(10)
        store.gate.set()
        until(lambda: not service.stats()["unanswered"], "everything of the dead caller to be gone")
        assert store.closed == [10**6] and not store.entered.acquire(blocking=False)


def test_the_owner_dies(tree):
    mortal = tree.router.fork(name="mortal")
    service = mortal.call(far.serve)
    tree.router.grant_service(service, tree.a)
    future = tree.a.submit(far.call, service, "wait")
    until(lambda: mortal.call(far.call, service, "whoami"), "the service to be up")
    mortal.kill()
    with pytest.raises(contextree.ContextDied):
        future.result(10)
    with pytest.raises(contextree.ContextDied):
        service.call.whoami()
    with pytest.raises(contextree.ContextreeError):
        tree.a.call(far.whoami, service)


# -- the end


def test_p_65_calls_to_a_stopped_pool_get_an_error(tree):
    store = far.Store()
    service = tree.router.serve("ending", store, threads=2)
    for context in (tree.a, tree.middle):
        tree.router.grant_service(service, context)
    stream = service.stream.count(10**6)
    assert next(stream) == 0
    running = [service.submit.wait() for _ in range(2)]
    for _ in running:
        assert store.entered.acquire(timeout=10)
    waiting = [tree.a.submit(far.call, service, "same", 1), service.submit.same(2)]
    until(lambda: service.stats()["waiting"] >= 2, "the calls to wait")
    closer = threading.Thread(target=service.close)
    closer.start()
    for future in waiting:
        with pytest.raises(contextree.Closed, match="the service ending in master was closed"):
            future.result(10)
    with pytest.raises(contextree.Closed):
        list(stream)
    assert store.closed == [10**6]
    store.gate.set()
    assert [future.result(10) for future in running] == ["done", "done"]
    closer.join(10)
    assert not closer.is_alive()
    service.close()
    with pytest.raises(contextree.Closed):
        service.call.same(1)
    tree.router.grant_service(service, tree.a)
    with pytest.raises(contextree.Closed, match="the service ending in master was closed"):
        tree.a.call(far.call, service, "same", 1)
    tree.router.revoke_service(service, tree.a)


def test_a_method_may_close_its_own_service_and_a_stuck_one_is_told_of(tree):
    with tree.router.serve("self", {"end": lambda: service.close() or "ended"}) as service:
        assert service.call.end() == "ended"
        with pytest.raises(contextree.Closed):
            service.call.end()
    store = far.Store()
    service = tree.router.serve("stuck", store)
    service.submit.wait()
    assert store.entered.acquire(timeout=10)
    with pytest.raises(contextree.CallTimeout, match="has not ended within"):
        service.close(timeout=0.05)
    store.gate.set()


def test_p_65_a_number_that_never_was(tree):
    ghost = contextree.Service(tree.router.engine, 0, "master", 60000, "ghost", ["same"])
    tree.router.grant_service(ghost, tree.a)
    with pytest.raises(contextree.Refused, match="has no service 60000"):
        tree.a.call(far.call, ghost, "same", 1)
    tree.router.revoke_service(ghost, tree.a)


def test_nested_calls_between_services(tree):
    """A method calls a service of its caller's, which calls back: each runs on the pool of its own."""
    below = tree.a.call(far.serve)
    with tree.router.serve("relay", {"relay": below.call}) as relay:
        tree.router.grant_service(relay, tree.a)
        assert tree.a.call(far.call, relay, "relay", "same", 7) == 7
    tree.a.call(far.close, below)


def test_on_the_oldest_python(tree):
    old = tree.router.local(python=OLDEST.argv[0], name="old")
    service = old.call(far.serve)
    assert service.call.put("k", 5) == 1 and service.call.whoami() == (0, "master")
    assert list(service.stream.count(100)) == list(range(100))
    tree.router.grant_service(service, tree.a)
    assert tree.a.call(far.call, service, "get", "k") == 5
    tree.router.grant_service(tree.service, old)
    assert old.call(far.whoami, tree.service) == (old.id, "old")
    assert old.call(far.send_point, tree.service) == 4
    tree.router.revoke_service(tree.service, old)
    old.call(far.close, service)
    old.shutdown()


def test_handles(tree):
    with pytest.raises(contextree.UsageError, match="is for b"):
        tree.b.call(far.serve, "handle").close()
    with pytest.raises(contextree.UsageError, match="is for master"):
        tree.a.call(far.close, tree.service)
    assert tree.service == tree.service.with_options(timeout=1) and len({tree.service, tree.service}) == 1
    with contextree.Router() as other, pytest.raises(contextree.UsageError, match="of this tree"):
        other.grant_service(tree.service, tree.a)
