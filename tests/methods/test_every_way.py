"""What must be the same however an interpreter is reached."""

import os
import sys
import time

import pytest

import contextree
from tests.lab import processes
from tests.lab.poll import until
from tests.methods.there import kill_self, leave, router_name, squares


def test_call_stream_name_and_tree(router, way):
    with way.open(router) as context:
        assert context.call(divmod, 7, 2) == (3, 1)
        assert context.call(sys.getrecursionlimit) > 100
        assert list(context.stream(squares, 100)) == [number * number for number in range(100)]
        assert context.call(len, b"\0\xff\r\n\x1d" * 100_000) == 500_000  # nothing on the way touches bytes
        assert context.call(bytes, 300_000) == bytes(300_000)
        with pytest.raises(ZeroDivisionError):
            context.call(divmod, 1, 0)
        assert context.name == way.tail.format(id=context.id)
        assert context.facts["method"] == way.method
        assert context.call(router_name) == context.name
        assert context.name in str(router.tree())
    assert context.state == "died"


def test_name_is_ours_to_give_and_children_of_its_own(router, way):
    with way.open(router, name="by-hand") as context:
        assert context.name == "by-hand"
        with context.local() as below, context.fork() as forked:
            assert below.call(os.getppid) == forked.parent.pid == context.pid
            assert forked.name.startswith("by-hand.fork.")
            assert below.call(sum, range(10)) == forked.call(sum, range(10)) == 45
        assert context.call(abs, -1) == 1


def test_from_another_context(router, way):
    with router.local(name="between") as between, way.open(router, via=between) as context:
        assert context.call(abs, -3) == 3
        assert context.name == "between." + way.tail.format(id=context.id)
        assert context.parent is between


def test_it_ends_by_itself(router, way):
    context = way.open(router)
    busy = context.submit(leave, 3)
    error = busy.exception(20)
    assert type(error) is contextree.ContextDied
    assert context.name in str(error)
    until(lambda: context.state == "died", "it to be gone")


def test_it_is_killed(router, way):
    context = way.open(router)
    busy = context.submit(time.sleep, 600)
    with pytest.raises(contextree.ContextDied):
        context.with_options(threads=1).call(kill_self)
    assert type(busy.exception(20)) is contextree.ContextDied


def test_the_end_of_the_router_is_the_end_of_it(way):
    with contextree.Router(grace=0.3) as router:  # if the call runs already, it has so long
        context = way.open(router)
        busy = context.submit(time.sleep, 600)
        who = None if way.separate else processes.identity(context.pid)
    assert isinstance(busy.exception(1), contextree.ContextreeError)
    until(lambda: not processes.alive(who), "its process to end")


def test_wrong_credentials(router, way):
    if way.wrong_credentials is None:
        return
    with pytest.raises(contextree.AuthenticationError) as caught:
        way.wrong_credentials(router)
    assert caught.value.phase == "login"
    assert "wrong" not in caught.value.command


def test_missing_binary(router, way):
    if way.missing_binary is None:
        return
    with pytest.raises(contextree.ConnectError, match="no-such-program") as caught:
        way.missing_binary(router)
    assert caught.value.phase == "start"


def test_missing_target(router, way):
    if way.missing_target is None:
        return
    with pytest.raises(contextree.ConnectError, match="no-such-target") as caught:
        way.missing_target(router)
    assert caught.value.phase == "connect"


def test_no_such_python(router, way):
    if way.name == "fork":
        return
    with pytest.raises(contextree.ConnectError, match="no-such-python"):
        way.open(router, python="/no-such-python")


def test_p_51_timeout(router, way):
    if way.name == "fork":
        return
    with pytest.raises(contextree.ConnectTimeout) as caught:
        way.open(router, python=["sh", "-c", "exec sleep 600"], connect_timeout=0.5)
    assert caught.value.phase in ("connect", "login", "boot")
