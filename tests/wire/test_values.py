"""The strict codec: every type there and back on every Python, every refusal with its place."""

import collections
import datetime as dt
import decimal
import enum
import json
import os
import pathlib
import uuid

import msgspec
import pytest

from contextree.core.wire.errors import ContextreeError, DecodeError, NotSendable, UsageError
from contextree.core.wire.values import DEFAULT_LIMITS, Limits, encode, register
from contextree.master import values as master
from tests.lab.pythons import ROOT, one_each
from tests.wire.samples import PAD, PARIS, PLAIN, READERS, UTC, canon, nest


@READERS
@pytest.mark.parametrize("value", PLAIN, ids=lambda value: "%s-%.20s" % (type(value).__name__, ascii(value)[:20]))
def test_value_arrives_as_itself(decode, value):
    for nested in (value, [PAD, value], {PAD: value}, (PAD, value), {PAD: [(value, PAD)]}):
        data = encode(nested)
        assert canon(decode(data)) == canon(nested)
        assert canon(decode(bytearray(data))) == canon(decode(memoryview(data))) == canon(nested)


@READERS
@pytest.mark.parametrize("count", [65535, 65536])
def test_long_containers_arrive(decode, count):
    for value in ([None] * count, tuple(range(count)), {str(n): n for n in range(count)}, set(map(str, range(count)))):
        assert decode(encode(value)) == value


class Colour(str, enum.Enum):  # a str with another __str__
    RED = "red"


class Code(enum.IntEnum):
    OK = 200


class Loud(str):
    __slots__ = ()

    def __str__(self):
        return "LOUD"


Pair = collections.namedtuple("Pair", "left right")  # noqa: PYI024 - the kind most results are of


@READERS
def test_subclasses_arrive_as_the_plain_type_they_are_equal_to(decode):
    counted = collections.Counter("aab")
    ordered = collections.OrderedDict([("b", 1), ("a", 2)])
    default = collections.defaultdict(list, {"k": [1]})
    sent = [Colour.RED, Code.OK, Loud("x"), counted, ordered, default, bytearray(b"ab"), memoryview(b"cd")]
    got = decode(encode(sent))
    assert got == ["red", 200, "x", {"a": 2, "b": 1}, {"b": 1, "a": 2}, {"k": [1]}, b"ab", b"cd"]
    assert [type(item) for item in got] == [str, int, str, dict, dict, dict, bytes, bytes]
    assert list(got[4]) == ["b", "a"]


@READERS
def test_names_of_undecodable_files_survive(decode, tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9")).touch()
    [name] = os.listdir(tmp_path)
    [got] = decode(encode([name]))
    assert os.fsencode(got) == b"caf\xe9"


class Berlin(dt.tzinfo):
    def utcoffset(self, moment):
        return moment and dt.timedelta(hours=2)

    def dst(self, moment):
        return None


@READERS
def test_foreign_tzinfo_becomes_the_offset_it_had(decode):
    sent = dt.datetime(2024, 7, 1, 12, tzinfo=Berlin())
    got = decode(encode(sent))
    assert got == sent
    assert got.tzinfo == dt.timezone(dt.timedelta(hours=2))
    with pytest.raises(NotSendable, match=r"^result\[0\]: a time with a tzinfo but no offset$"):
        encode([dt.time(1, tzinfo=Berlin())])


@READERS
def test_zone_that_is_unknown_here_becomes_its_offset(decode):
    data = encode(dt.datetime(2024, 7, 1, 12, tzinfo=PARIS)).replace(b"Europe/Paris", b"Europe/Xyzzy")
    assert decode(data).tzinfo == dt.timezone(dt.timedelta(hours=2))
    data = encode(dt.time(12, tzinfo=PARIS))
    for key in (b"Europe/Xyzzy", b"../../../etc", b"/etc/passwd\0"):
        with pytest.raises(DecodeError):
            decode(data.replace(b"Europe/Paris", key))


def test_what_the_encoder_writes_is_msgpack_in_its_shortest_form():
    value = [None, True, 5, -5, 300, -300, 2**40, -(2**40), 1.5, "x" * 40, b"x" * 300, {"a": [1] * 20}]
    assert encode(value) == msgspec.msgpack.encode(value)


# -------------------------------------------------------------------------------------------------------- refusals
class User:
    pass


SELF = [1]
SELF.append({"me": SELF})

REFUSED = {
    "result[3]['user']: object of type test_values.User": [0, 1, 2, {"user": User()}],
    "result: object of type test_values.User": User(),
    "result[1][0]: object of type builtins.type": ((), (int,)),
    "result['a']<element>: object of type test_values.User": {"a": {User()}},
    "result<key>[1]: object of type test_values.User": {(1, User()): 2},
    "result[0]: object of type test_values.Pair": [Pair(1, 2)],
    "result[0]: object of type builtins.object": [object()],
    "result['n'][0]: NaN as a key": {"n": [{float("nan"): 1}]},
    "result: NaN as a key": {float("nan")},
    "result[0]: more than 4300 digits": [10**4400],
    "result: more than 1000000 items": [0] * 10**6,
}


@pytest.mark.parametrize("text", REFUSED)
def test_not_sendable_names_the_place(text):
    with pytest.raises(NotSendable) as caught:
        encode(REFUSED[text])
    assert str(caught.value).replace(__name__, "test_values") == text


def test_not_sendable_speaks_of_what_the_caller_says():
    with pytest.raises(NotSendable, match=r"^argument 1\[0\]: object"):
        encode([User()], what="argument 1")


def test_circle_is_told_as_such_and_its_place_is_short():
    with pytest.raises(NotSendable, match=r"it contains itself$") as caught:
        encode({"x": SELF})
    assert str(caught.value).startswith("result['x'][1]['me'][1]['me']")
    assert len(str(caught.value)) < 160
    twice = []
    twice += [twice, twice]
    with pytest.raises(NotSendable, match=r"it contains itself$"):
        encode(twice)


@READERS
def test_same_object_twice_is_no_circle(decode):
    shared = [1]
    assert decode(encode([shared, shared])) == [[1], [1]]


def test_exception_of_a_hook_is_a_refusal_with_its_place():
    def broken(value):
        raise KeyError("no such channel")

    with pytest.raises(NotSendable, match=r"^result\[1\]: 'no such channel'$"):
        encode([1, User()], broken)
    with pytest.raises(NotSendable, match=r"^result\[0\]: object of type"):
        encode([User()], lambda value: None)


WRAPS = {
    "list": lambda value: [value],
    "tuple": lambda value: (value,),
    "dict": lambda value: {"k": value},
    "mixed": lambda value: [(value, PAD)],
    "frozenset": lambda value: frozenset([value]),
}


@READERS
@pytest.mark.parametrize("wrap", WRAPS)
def test_depth_is_counted_alike_by_all(decode, wrap):
    per_wrap = 2 if wrap == "mixed" else 1
    deep = nest(1, 64 // per_wrap, WRAPS[wrap])
    data = encode(deep)
    assert decode(data) == deep
    with pytest.raises(NotSendable, match="more than 64 containers"):
        encode([deep])
    with pytest.raises(DecodeError, match="more than 64 containers"):
        decode(encode([deep], limits=Limits(depth=65)))


@READERS
@pytest.mark.parametrize(
    "value",
    [[1] * 40, {str(n): n for n in range(40)}, ({1, 2}, [PAD] * 30, {"a": (1,)}), [[uuid.UUID(int=1)]] * 9, {1: 2}],
    ids=["list", "dict", "mixed", "named", "intkey"],
)
def test_items_are_counted_alike_by_all(decode, value):
    def fits(function, items):
        try:
            function(Limits(items=items))
        except ContextreeError as error:
            return "items" not in str(error)
        return True

    data = encode(value)
    enough = next(items for items in range(1, 1000) if fits(lambda limits: encode(value, limits=limits), items))
    assert not fits(lambda limits: decode(data, limits=limits), enough - 1)
    assert fits(lambda limits: decode(data, limits=limits), enough)


# ------------------------------------------------------------------------------------------- hooks, registered types
class Channel:
    def __init__(self, number):
        self.number = number


@READERS
def test_hook_carries_capabilities(decode):
    def put(value):
        return (32, str(value.number).encode()) if type(value) is Channel else None

    def get(code, payload):
        assert (code, type(payload)) == (32, bytes)
        return Channel(int(payload))

    got = decode(encode({PAD: [Channel(7), (Channel(8),)]}, put), get)
    assert [got[PAD][0].number, got[PAD][1][0].number] == [7, 8]
    with pytest.raises(DecodeError, match="unknown extension 32"):
        decode(encode([Channel(1)], put))
    with pytest.raises(DecodeError, match="invalid literal"):
        decode(b"\xd4\x20x", get)


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __eq__(self, other):
        return (self.x, self.y) == (other.x, other.y)

    __hash__ = None


register(Point, "tests.Point", lambda point: [point.x, point.y], lambda plain: Point(*plain))


@READERS
def test_registered_types(decode):
    assert decode(encode({"p": [Point(1, (2,))], "pad": PAD})) == {"p": [Point(1, (2,))], "pad": PAD}
    with pytest.raises(DecodeError, match=r"the type 'tests\.Paint' is not registered here"):
        decode(encode([Point(1, 2)]).replace(b"Point", b"Paint"))
    with pytest.raises(DecodeError):
        decode(encode({"k": Point(1, 2)}).replace(b"\x92\x01\x02", b"\xc4\x01a"))  # one byte: Point(97)
    with pytest.raises(DecodeError, match="unhashable"):
        decode(b"\x81" + encode(Point(1, 2)) + b"\xc0")


def test_register_refuses_what_is_taken():
    for kind, name in ((Point, "tests.Other"), (User, "tests.Point"), (User, "uuid.UUID")):
        with pytest.raises(UsageError, match="taken"):
            register(kind, name, str, str)


# --------------------------------------------------------------------------------------------------- every old Python
CHILD = """
import json, sys, types
files, cases = json.load(sys.stdin)
before = set(sys.modules)
for name in ("contextree", "contextree.core", "contextree.core.wire", "contextree.parent"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
for name, text in files:
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
assert module.decode(module.encode([1, "a", (2.5,)])) == [1, "a", (2.5,)]
loaded = {name for name in set(sys.modules) - before if not name.startswith("contextree")}
assert loaded <= {"struct", "_struct"}, loaded
import datetime, decimal, pathlib, uuid
values, errors = module, sys.modules["contextree.core.wire.errors"]
again = []
for case in cases:
    value = values.decode(bytes.fromhex(case))
    again.append(values.encode(value).hex())
own = values.encode([
    datetime.datetime(2024, 2, 29, 1, 2, 3, 4, datetime.timezone.utc), datetime.datetime(2024, 10, 27, 2, fold=1),
    datetime.date(2024, 2, 29), datetime.time(1, 2, 3), datetime.timedelta(1, 2, 3), decimal.Decimal("1.50"),
    uuid.UUID(int=7), pathlib.Path("/etc"), pathlib.PureWindowsPath("c:/a"), (1, {2}, frozenset([3])), 1j, 2**80,
    chr(0xdc80),
]).hex()
texts = []
loop = []
loop.append(loop)
for bad in ([{"a": object()}], loop, [float("nan")] and {float("nan")}):
    try:
        values.encode(bad)
    except errors.NotSendable as error:
        texts.append(str(error)[-40:])
for bad in (b"", b"\\xc1", b"\\x91" * 10**5, b"\\xdd\\xff\\xff\\xff\\xff",
            b"\\x81\\x90\\x01", b"\\xa3\\xed\\xa0\\x80", b"\\x80\\x03]q."):
    try:
        texts.append(repr(values.decode(bad)))
    except errors.DecodeError as error:
        texts.append("DecodeError")
print(json.dumps([again, own, texts]))
"""
OLD_TYPES = [
    value
    for value in PLAIN
    if len(repr(value)) < 10**5 and not isinstance(value, (set, frozenset)) and not getattr(value, "tzinfo", None)
]


@pytest.mark.parametrize("minor", [minor for minor in one_each() if minor != "2.7"])
def test_pure_codec_on(minor):
    names = ["contextree.core.wire.errors", "contextree.core.wire.values", "contextree.parent.values"]
    files = [(name, (ROOT / (name.replace(".", "/") + ".py")).read_text()) for name in names]
    cases = [encode(value).hex() for value in OLD_TYPES]
    done = one_each()[minor].run("-W", "error", "-c", CHILD, input=json.dumps([files, cases]))
    again, own, texts = json.loads(done.stdout)
    assert again == cases
    got = master.decode(bytes.fromhex(own))
    assert got == [
        dt.datetime(2024, 2, 29, 1, 2, 3, 4, UTC), dt.datetime(2024, 10, 27, 2, fold=1),  # noqa: DTZ001
        dt.date(2024, 2, 29), dt.time(1, 2, 3), dt.timedelta(1, 2, 3), decimal.Decimal("1.50"),
        uuid.UUID(int=7), pathlib.Path("/etc"), pathlib.PureWindowsPath("c:/a"), (1, {2}, frozenset([3])), 1j, 2**80,
        "\udc80",
    ]  # fmt: skip
    assert got[1].fold == 1
    assert "result[0]['a']: object of type builtins.object".endswith(texts[0])
    assert texts[1].endswith("it contains itself")
    assert texts[2] == "result: NaN as a key"
    assert texts[3:] == ["DecodeError"] * 7


def test_limits_are_what_the_documents_say():
    assert (DEFAULT_LIMITS.depth, DEFAULT_LIMITS.items, DEFAULT_LIMITS.digits) == (64, 10**6, 4300)
