"""Services: what is exposed, and who may call it. P-63, S-40, part of S-07 and S-30."""

import pytest

import contextree
from tests.services import far

pytestmark = pytest.mark.leaks("the tree of the module, whose contexts and services start threads when they are needed")

EXPOSED = ["count", "echo", "fail", "get", "odd", "put", "rows", "same", "slowly", "until_cancelled", "wait", "whoami"]


# -- what is exposed


def test_only_what_is_marked_can_be_called(tree):
    assert tree.service.methods == sorted(EXPOSED)
    with pytest.raises(AttributeError, match="no method 'secret'"):
        tree.service.call.secret()
    for name in ("secret", "__init__", "items", "gate.set", ""):
        with pytest.raises(contextree.Refused, match="has no method"):
            tree.service.call(name)


def test_what_allow_names(tree):
    store = far.Store()
    serve = tree.router.serve
    with serve("one", store, allow=["secret", "put"]) as service:
        assert service.methods == ["put", "secret"] and service.call.secret() == "never"
        with pytest.raises(contextree.Refused):
            service.call("get", 1)
    with serve("two", {"double": lambda x: 2 * x}) as service:
        assert service.call.double(4) == 8
    with serve("three", {"double": lambda x: 2 * x, "half": lambda x: x / 2}, allow="half") as service:
        assert service.methods == ["half"]
    for thing, allow in ((object(), None), (store, []), (store, ["nothing"]), (store, ["_x"]), ({"_x": len}, None),
                         ({"a": 1}, None), (store, {"put": "yes"}), (store, ["items"])):
        with pytest.raises(contextree.UsageError):
            serve("bad", thing, allow=allow)
    for name, options in (("", {}), ("a b", {}), ("ok", {"threads": 0}), ("ok", {"queue": 0})):
        with pytest.raises(contextree.UsageError):
            serve(name, store, **options)


def test_a_method_hidden_by_a_subclass_is_exposed_only_when_marked_there_too(tree):
    class Safer(far.Store):
        @contextree.expose
        def secret(self):
            return "told"

    with tree.router.serve("safer", Safer()) as service:
        assert service.call.secret() == "told" and "get" in service.methods


# -- who may call


def test_p_63_without_a_grant_nobody_below_may_call(tree):
    for context in (tree.a, tree.left):
        with pytest.raises(contextree.Refused, match="not granted"):
            context.call(far.whoami, tree.service)


def test_p_63_a_grant_is_for_that_service_and_for_the_whole_subtree(tree, granted):
    other = tree.router.serve("other", far.Store())
    assert tree.a.call(far.whoami, granted) == (tree.a.id, "a")
    below = tree.a.call(far.grow, "below")
    assert below.call(far.whoami, granted) == (below.id, "a.below")
    for context in (tree.a, below):
        with pytest.raises(contextree.Refused, match="not granted"):
            context.call(far.whoami, other)
        with pytest.raises(contextree.Refused, match="not granted"):
            context.call(far.call_in, tree.b, abs, 1)
    with pytest.raises(contextree.Refused, match="not granted"):
        tree.b.call(far.whoami, granted)
    below.shutdown()
    other.close()


def test_p_63_a_grant_can_be_taken_back(tree):
    for _ in range(2):
        tree.router.grant_service(tree.service, tree.b)
        assert tree.b.call(far.whoami, tree.service) == (tree.b.id, "b")
        tree.router.revoke_service(tree.service, tree.b)
        with pytest.raises(contextree.Refused, match="not granted"):
            tree.b.call(far.whoami, tree.service)
    tree.router.revoke_service(tree.service, tree.b)
    assert not tree.router.engine.uses


def test_s_40_a_service_beside_its_caller(tree):
    """The grant stands where the ways meet, and is for the service, not for the context that it lives in."""
    service, other = tree.b.call(far.serve), tree.b.call(far.serve, "second")
    assert service.context is tree.b and repr(service).startswith("<Service far of b")
    assert service.call.put("k", [1, {2}]) == 1  # ancestors need no grant
    with pytest.raises(contextree.Refused, match="not granted"):
        tree.a.call(far.call, service, "get", "k")
    tree.router.grant_service(service, tree.a)
    assert tree.a.call(far.call, service, "get", "k") == [1, {2}]
    assert tree.a.call(far.whoami, service) == (tree.a.id, "a")
    assert tree.a.call(far.stream, service, 3000) == list(range(3000))
    for function, args in ((far.whoami, (other,)), (far.call_in, (tree.b, abs, 1))):
        with pytest.raises(contextree.Refused, match="not granted"):
            tree.a.call(function, *args)
    with pytest.raises(contextree.Refused, match="not granted"):
        tree.left.call(far.whoami, service)
    with pytest.raises(contextree.Refused, match="has no method"):
        tree.a.call(far.call, service, "secret")
    with pytest.raises(contextree.NotSendable, match="does not trust"):
        tree.a.call(far.send_point, service)
    tree.b.call(far.close, service)
    with pytest.raises(contextree.Closed, match="was closed"):
        tree.a.call(far.whoami, service)
    tree.router.revoke_service(service, tree.a)


def test_s_40_below_one_intermediate(tree):
    """Neither the root's tables nor its links are concerned: the intermediate decides."""
    service = tree.left.call(far.serve)
    before = dict(tree.router.engine.count)
    with pytest.raises(contextree.Refused, match="middle: context"):
        tree.right.call(far.whoami, service)
    tree.router.grant_service(service, tree.right)
    assert tree.right.call(far.whoami, service) == (tree.right.id, "middle.right")
    assert not tree.router.engine.uses and tree.router.engine.count["refused"] == before["refused"]
    with pytest.raises(contextree.Refused):
        tree.a.call(far.whoami, service)
    tree.router.grant_service(service, tree.a)
    assert tree.a.call(far.whoami, service) == (tree.a.id, "a")
    tree.router.revoke_service(service, tree.a)
    tree.router.revoke_service(service, tree.right)
    with pytest.raises(contextree.Refused, match="middle: context"):
        tree.right.call(far.whoami, service)
    tree.left.call(far.close, service)


def test_a_service_in_the_middle(tree):
    """Its owner grants it to a child of its own; so may the root."""
    service = tree.middle.call(far.serve)
    with pytest.raises(contextree.Refused):
        tree.left.call(far.whoami, service)
    tree.middle.call(far.grant_own, service, tree.left)
    assert tree.left.call(far.whoami, service) == (tree.left.id, "middle.left")
    assert tree.left.call(far.send_point, service) == 4, "its parent trusts it"
    tree.router.revoke_service(service, tree.left)
    tree.router.grant_service(service, tree.right)
    assert tree.right.call(far.whoami, service) == (tree.right.id, "middle.right")
    with pytest.raises(contextree.Refused):
        tree.left.call(far.whoami, service)
    with pytest.raises(contextree.UsageError, match="must both be below"):
        tree.middle.call(far.grant_own, service, tree.a)
    tree.router.grant_service(service, tree.middle)  # those above need none
    tree.middle.call(far.close, service)
    assert tree.middle.call(far.police)["refused"] >= 2


def test_only_narrows_a_grant_to_methods(tree):
    narrow = tree.service.only("put", "whoami")
    assert narrow != tree.service and narrow.methods == ["put", "whoami"]
    tree.router.grant_service(narrow, tree.a)
    assert tree.a.call(far.call, narrow, "put", "x", 1) >= 1
    with pytest.raises(contextree.Refused, match="has no method 'get' for you"):
        tree.a.call(far.call, narrow, "get", "x")
    with pytest.raises(contextree.Refused, match="not granted"):
        tree.a.call(far.call, tree.service, "put", "x", 1)
    with pytest.raises(contextree.UsageError):
        tree.service.only("secret")
    tree.router.revoke_service(narrow, tree.a)


def test_s_30_the_policy_sees_the_caller_that_the_link_tells(tree):
    seen = []

    def policy(caller, method, args, kwargs):
        seen.append((caller, method, args, kwargs))
        if kwargs:
            raise PermissionError("no keywords")
        return caller is tree.a

    def positive(caller, method, args, kwargs):
        return args[0] > 0

    functions = {"add": lambda x, y=0: x + y, "minus": lambda x, y=0: x - y}
    with tree.router.serve("sums", functions, allow=policy) as service:
        for context in (tree.a, tree.b):
            tree.router.grant_service(service, context)
        assert tree.a.call(far.call, service, "add", 1, 2) == 3
        assert seen.pop() == (tree.a, "add", (1, 2), {})
        with pytest.raises(contextree.Refused, match="you may not call the method add"):
            tree.b.call(far.call, service, "add", 1, 2)
        assert seen.pop()[0] is tree.b
        with pytest.raises(PermissionError, match="no keywords"):
            tree.a.call(far.call, service, "add", 1, y=2)
        with pytest.raises(contextree.Refused, match="you may not"):
            service.call.add(1)
        assert seen.pop()[0].name == "master" and service.stats()["refused"] == 2
    with tree.router.serve("sums", functions, allow={"add": positive, "minus": True}) as service:
        assert service.call.add(1) == 1 and service.call.minus(-1) == -1
        with pytest.raises(contextree.Refused):
            service.call.add(-1)


def test_grants_go_with_contexts_and_services(tree):
    service = tree.router.serve("short", far.Store())
    one, two = tree.router.fork(name="one"), tree.router.fork(name="two")
    tree.router.grant_service(service, one)
    tree.router.grant_service(service, two)
    one.shutdown()
    assert set(tree.router.engine.uses) == {(two.id, 0)}
    service.close()
    assert not tree.router.engine.uses
    two.shutdown()
    with pytest.raises(contextree.UsageError):
        tree.router.grant_service(tree.service, two)
