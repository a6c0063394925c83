"""A context that is not trusted: plain data both ways, never a pickle from it."""

import collections
import datetime as dt
import decimal
import fractions
import pathlib
import uuid

import pytest

import contextree
from contextree.core.wire import values
from contextree.core.wire.errors import ProtocolError
from tests.calls import functions as f

PLAIN = [
    None, True, False, 0, -1, 1 << 62, -(1 << 70), 10**300, 0.5, float("inf"), 1 + 2j, "", "text", "\udcff",
    "\U0001f333", b"", b"\0\xff",
    [], [1, [2, [3]]], (), (1, (2,)), {}, {"a": 1, 2: [3], (4, 5): None}, {1, 2}, frozenset({"x"}),
    dt.datetime(2024, 2, 29, 12, 30, 1, 5),  # noqa: DTZ001 - a plain one is a value too
    dt.date(2000, 1, 1), dt.time(1, 2, 3), dt.timedelta(1, 2, 3),
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc),
    decimal.Decimal("1.50"), uuid.UUID(int=5), pathlib.Path("/etc/hosts"),
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: repr(value)[:30])
def test_plain_values_both_ways(shared_stranger, value):
    result = shared_stranger.call(f.identity, value)
    assert result == value and type(result) is type(value)


@pytest.fixture(scope="module")
def shared_stranger():
    from contextree.connect import local as local_method

    plan = local_method.plan(name="stranger")
    plan.trusted = False
    with contextree.Router() as router:
        stranger = router.grow(plan)
        stranger.call(f.identity, [])
        yield stranger


def test_arguments_may_be_anything(stranger):
    assert stranger.call(f.size, f.blob(100_000)) == ("Blob", 100_000)
    assert stranger.call(f.Adder(2), 3) == 5
    assert stranger.call(f.identity, bytearray(b"x")) == b"x"
    assert stranger.call(f.identity, collections.OrderedDict(a=1)) == {"a": 1}


def test_results_that_do_not_fit_name_the_place(stranger):
    with pytest.raises(contextree.NotSendable, match=r"result: object of type tests\.calls\.functions\.Adder"):
        stranger.call(f.make, 1)
    with pytest.raises(contextree.NotSendable, match=r"result\[1\]: object of type .*lock"):
        stranger.call(f.unpicklable)
    with pytest.raises(contextree.NotSendable, match=r"result\['key'\]\[0\]"):
        stranger.call(f.identity, {"key": [fractions.Fraction(1, 2)]})
    with pytest.raises(contextree.NotSendable, match=r"it contains itself|more than 64"):
        stranger.call(f.own_container)
    assert stranger.call(f.add, 1) == 2
    assert stranger.submit(f.make, 1).exception(10).args[0].startswith("result: object of type")


def test_contexts_that_do_not_trust_each_other_stay_strangers_below(router, stranger):
    below = stranger.fork()
    with pytest.raises(contextree.NotSendable, match="object of type"):
        below.call(f.make, 1)
    assert below.call(f.identity, [1]) == [1]


@pytest.mark.parametrize("form", [1, 3, 5, 9])
def test_s_13_pickles_from_a_stranger_are_refused(stranger, form, tmp_path):
    canary = tmp_path / "canary"
    with pytest.raises(ProtocolError):
        stranger.call(f.answer_with_pickles, form, str(canary))
    calls = [
        lambda: stranger.call(f.add, 1),
        lambda: stranger.submit(f.add, 1).result(10),
        lambda: list(stranger.stream(f.count, 2)),
    ]
    for call in calls:
        with pytest.raises(ProtocolError, match="form %d, which this context may not send" % form):
            call()
    assert not canary.exists()
    assert stranger.state == "up"


def test_exceptions_with_pickles_from_a_stranger_are_text(stranger, tmp_path):
    canary = tmp_path / "canary"
    stranger.call(f.fail_with_pickles, str(canary))
    with pytest.raises(contextree.RemoteError):
        stranger.call(f.fail, f.Plain)
    assert not canary.exists()


class Point:
    """A type that both ends know under one name."""

    def __init__(self, x, y):
        self.x, self.y = x, y


def plain(point):
    return [point.x, point.y]


def register_point():
    values.register(Point, "tests.FarPoint", plain, lambda found: Point(*found))


def point():
    return [Point(1, 2)]


def test_registered_types_travel_upward(stranger):
    with pytest.raises(contextree.NotSendable):
        stranger.call(point)
    contextree.register_type(Point, "tests.FarPoint", plain, lambda found: Point(*found))
    try:
        stranger.call(register_point)
        (found,) = stranger.call(point)
        assert type(found) is Point and plain(found) == [1, 2]
    finally:
        values._BY_TYPE.pop(Point)
        values._BY_NAME.pop("tests.FarPoint")
