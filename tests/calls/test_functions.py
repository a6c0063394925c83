"""What can be called, with what, and how large: the same in every kind of context."""

import functools
import os
import pickle
import platform
import sys

import pytest

import contextree
from contextree.parent.pickling import Parts, pack_call
from tests.calls import functions as f


def test_p_79_functions_of_every_shape(place):
    assert place.call(f.add, 1, 2, 3, x=4) == 10
    assert place.call(f.plus_five, 1) == place.call(functools.partial(f.add, 1), 5) == 6
    assert place.call(f.Adder.of_class, 3) == ("Adder", 3)
    assert place.call(f.Adder.static, 3) == 6
    assert place.call(f.Adder(5).method, 3) == 8
    assert place.call(f.Adder(5), 3) == 8
    assert place.call(f.Adder, 5) == f.Adder(5)
    assert place.call(f.Adder.Inner().method) == "inner"
    assert place.call(str.upper, "a") == "A"
    assert place.call("{}-{}".format, 1, 2) == "1-2"
    assert place.call([3, 1, 2].index, 2) == 2
    assert place.call(dict, a=1) == {"a": 1}
    assert place.call(f.make, 4) == f.Adder(4)
    assert place.call(platform.python_implementation) == "CPython"
    assert place.call(os.getpid) == place.pid


def test_keywords_are_the_functions(local):
    named = {"timeout": 1, "threads": 2, "function": 3, "context": 4, "args": 5, "options": 6}
    assert local.call(dict, **named) == local.submit(dict, **named).result(10) == named
    assert set(local.stream(dict, **named)) == set(named)


def test_lambdas_and_closures_go_by_dill(router):
    base = 40

    def outer(number):
        def inner(more):
            return number + more + base
        return inner

    for place in (router.local(), router.fork(), router.fork(direct=True), router.local(python=[sys.executable])):
        assert place.call(lambda: base + 2) == 42
        assert place.call(outer(1), 1) == 42
        assert list(place.stream(lambda n: (x + base for x in range(n)), 2)) == [40, 41]


def test_closures_for_another_python_are_refused_and_versions_named(router, pythons):
    other = router.local(python=pythons["3.8"].argv)
    with pytest.raises(contextree.NotSendable, match=r"Python 3\.8 there \(here it is %d\.%d\)" % sys.version_info[:2]):
        other.call(lambda: 1)
    assert other.call(f.add, 1) == 2


def test_what_cannot_be_sent_is_named(local):
    with pytest.raises(contextree.NotSendable, match=r"call of identity .*argument 2, of type lock"):
        local.call(f.identity, 1, f.unpicklable()[1])
    with pytest.raises(contextree.NotSendable, match=r"look at key, of type lock"):
        local.call(f.identity, key=f.unpicklable()[1])
    assert local.call(f.add, 1) == 2


@pytest.mark.parametrize("count", [0, 1, 4096, 4097, 65535, 65536, 65537, 300_000, 5_000_000])
def test_sizes_around_every_limit_both_ways(local, stranger, count):
    for place in (local, stranger):
        data = os.urandom(count)
        assert place.call(f.identity, data) == data
        assert place.call(f.identity, [data, "x" * count]) == [data, "x" * count]
    assert local.call(f.identity, bytearray(data)) == bytearray(data)


def test_fifty_megabytes_both_ways(place):
    count = 50_000_000
    assert place.call(f.size, bytes(count)) == ("bytes", count)
    assert len(place.call(bytes, count)) == count


def test_buffers_travel_beside_the_pickle_and_can_be_written_to(router, pythons):
    for place in (router.local(), router.fork(), router.local(via=router.local())):
        for count in (5, 3_000, 300_000, 3_000_000):
            assert place.call(f.blob_end, f.blob(count)) == b"zz!"
            assert f.blob_end(place.call(f.blob, count)) == b"zz!"
        assert [len(item) for item in place.call(f.identity, [f.blob(100_000), f.blob(5)])] == [100_000, 5]
    old = router.local(python=pythons["3.6"].argv)
    assert old.call(f.blob_end, f.blob(100_000)) == b"zzz"
    assert len(old.call(f.identity, f.blob(100_000))) == 100_000


def test_p_26_contexts_as_arguments_come_back_as_the_same_object(router, local):
    other = router.local()
    assert local.call(f.identity, [other, local]) == [other, local]
    assert local.call(f.identity, other) is other


def test_large_bytes_arrive_as_they_were_and_are_not_copied_here(place):
    one, other = os.urandom(200_000), b"x" * (1 << 20)
    assert place.call(max, one, b"", other) == max(one, other)
    assert place.call(f.size, other) == ("bytes", 1 << 20)
    assert place.call(f.identity, value=other) == other
    parts, _, _ = pack_call(f.size, (other,), {}, sys.version_info, None)
    assert any(part is other for part in parts)
    kept = bytearray(200_000)
    parts = Parts()
    pickle.Pickler(parts, 5).dump(kept)
    kept[:] = b"1" * 200_000
    assert pickle.loads(b"".join(parts)) == bytes(200_000)
