"""Any value there and back, any bytes through both readers; and that the fast reader is fast."""

import pathlib
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contextree.core.wire.errors import DecodeError
from contextree.core.wire.values import encode
from contextree.master import values as master
from contextree.parent import values
from tests.wire.samples import INDIA, PAD, PARIS, UTC, canon

TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
ZONES = st.none() | st.sampled_from([UTC, INDIA, PARIS])
KEYS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=8)
    | st.uuids()
    | st.dates()
    | st.timedeltas()
    | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
VALUES = st.recursive(
    KEYS
    | st.floats()
    | st.complex_numbers()
    | st.text("abc", min_size=30, max_size=50)
    | st.datetimes(timezones=ZONES)
    | st.times(timezones=ZONES)
    | st.decimals()
    | st.integers(-(2**70), 2**70)
    | TEXT.filter(lambda text: "\0" not in text).map(pathlib.PurePosixPath),
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(TEXT, inner, max_size=5)
        | st.dictionaries(KEYS, inner, max_size=5)
        | st.sets(KEYS, max_size=5)
    ),
    max_leaves=30,
)


def outcome(decode, data):
    """The value, or that there is none; any exception but DecodeError fails the test."""
    try:
        return canon(decode(data))
    except DecodeError:
        return DecodeError


@given(VALUES)
@settings(deadline=None)
def test_property_there_and_back(value):
    data = encode(value)
    assert canon(values.decode(data)) == canon(master.decode(data)) == canon(value)
    assert encode(values.decode(data)) == data or b"\x05" in data or b"\x06" in data  # sets have no order


@given(st.binary(max_size=60), st.booleans())
@example(b"\x9f" * 20, True)
@settings(deadline=None)
def test_property_any_bytes(data, padded):
    if padded:
        data = b"\x92" + encode(PAD) + data
    assert outcome(values.decode, data) == outcome(master.decode, data)


@given(VALUES, st.data())
@settings(max_examples=300, deadline=None)
def test_property_damaged_bytes(value, draw):
    data = bytearray(encode([PAD, value]))
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(data) - 1))
        change = draw.draw(st.sampled_from(["set", "add", "cut", "end", "copy"]))
        if change == "set":
            data[at] = draw.draw(st.integers(0, 255))
        elif change == "add":
            data[at:at] = draw.draw(st.binary(min_size=1, max_size=4))
        elif change == "cut":
            del data[at : at + draw.draw(st.integers(1, 4))]
        elif change == "end":
            del data[at:]
        else:
            data[at:at] = data[at : at + draw.draw(st.integers(1, 12))]
        if not data:
            break
    assert outcome(values.decode, bytes(data)) == outcome(master.decode, bytes(data))


def calls_made(function, *args):
    """How many Python functions a call enters."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        function(*args)
    finally:
        sys.setprofile(None)
    return count


PLAIN = {  # made when it is their turn: half a million objects are slow to have around
    "records": lambda: [{"name": "file%d" % n, "size": n, "mtime": n / 7} for n in range(1000)],
    "list": lambda: list(range(3000)),
    "tuple": lambda: tuple(range(3000)),
    "nested": lambda: {"result": ([n / 3 for n in range(3000)], {1, 2})},
    "large": lambda: [["%d" % n] * 8 for n in range(25_000)],  # more bytes than items are allowed
}


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_data_is_read_in_c(kind):
    value = PLAIN[kind]()
    data = encode(value)
    assert master.decode(data) == value
    assert calls_made(master.decode, data) < calls_made(values.decode, data) / 4
