"""What the tests of the codec share: both readers, values of every type, and when two values are the same."""

import datetime as dt
import decimal
import pathlib
import struct
import uuid
import zoneinfo

import pytest

from contextree.master import values as master
from contextree.parent import values

READERS = pytest.mark.parametrize("decode", [values.decode, master.decode], ids=["pure", "fast"])
UTC = dt.timezone.utc
PARIS = zoneinfo.ZoneInfo("Europe/Paris")
INDIA = dt.timezone(dt.timedelta(hours=5, minutes=30))
PAD = "a text that makes a message long enough for the fast reader"


def canon(value):
    """Something that is equal for two values when they are the same in type, order and every bit."""
    kind = type(value)
    if kind in (list, tuple):
        return kind.__name__, [canon(item) for item in value]
    if kind is dict:
        return "dict", [(canon(key), canon(item)) for key, item in value.items()]
    if kind in (set, frozenset):
        return kind.__name__, sorted((canon(item) for item in value), key=repr)
    if kind in (float, complex):
        return kind.__name__, struct.pack(">dd", value.real, value.imag)
    return kind.__name__, repr(value)


def ext(code, payload):
    return b"\xc9" + struct.pack(">IB", len(payload), code) + payload


def nest(value, times, wrap):
    for _ in range(times):
        value = wrap(value)
    return value


PLAIN = [
    None, True, False, 0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, 10**4299,
    -1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63), -(2**63) - 1, -(10**4299),
    0.0, -0.0, 1.5, float("inf"), float("nan"), 1j, complex(-0.0, float("nan")),
    "", "a", "x" * 31, "x" * 32, "x" * 255, "x" * 256, "x" * 65536,
    "\u20ac", "\U0001f600", "\0", "file\udcff", "\ud800",
    b"", b"\xff" * 255, b"x" * 256, b"x" * 65536,
    [], [[]], list(range(15)), list(range(16)), (), (1,), ((), []), tuple(range(300)),
    {}, {"a": 1}, {1: 2, None: 3, b"x": 4, 1.5: 5, (1, ("a",)): 6, frozenset([1]): 7, "\udc80": 8, 2**70: 9},
    {str(n): n for n in range(16)},
    set(), {1, 2}, frozenset(), frozenset({"a", (1, 2)}),
    dt.date(2024, 2, 29), dt.date.min, dt.date.max, dt.time(),
    dt.time(23, 59, 59, 999999),
    dt.time(1, 2, tzinfo=UTC), dt.time(1, 2, tzinfo=INDIA), dt.time(1, 2, tzinfo=PARIS),
    dt.datetime(2024, 2, 29, 1, 2, 3, 4),  # noqa: DTZ001
    dt.datetime(2024, 2, 29, tzinfo=UTC),
    dt.datetime(2024, 2, 29, tzinfo=INDIA), dt.datetime(2024, 10, 27, 2, 30, tzinfo=PARIS),
    dt.datetime(2024, 10, 27, 2, 30, tzinfo=PARIS, fold=1), dt.datetime.max,  # noqa: DTZ901
    dt.timedelta(-1, 2, 3), dt.timedelta.max, UTC, INDIA, dt.timezone(dt.timedelta(1) / 2, "X"),
    decimal.Decimal("1.20"), decimal.Decimal("-Infinity"), decimal.Decimal("sNaN12"), decimal.Decimal("1e999999"),
    uuid.UUID(int=5), pathlib.PurePosixPath("/a/b"), pathlib.PurePosixPath("x\udcff"),
    pathlib.PureWindowsPath("c:\\a b"),
    pathlib.Path("/etc"), pathlib.Path("."),
]  # fmt: skip
