"""What a hostile child may send: every bomb is a DecodeError and cheap, with both readers."""

import datetime as dt
import decimal
import os
import pickle
import struct
import sys
import tracemalloc
import uuid

import pytest

from contextree.core.wire.errors import DecodeError, NotSendable
from contextree.core.wire.values import encode, register
from contextree.master import values as master
from contextree.parent import values
from tests.wire.samples import PAD, READERS, ext, nest


class Odd:
    """Hashes as told and counts comparisons."""

    compared = 0

    def __init__(self, number, hashed):
        self.number, self.hashed = number, hashed

    def __hash__(self):
        return self.hashed

    def __eq__(self, other):
        Odd.compared += 1
        return self.number == other.number


register(Odd, "tests.Odd", lambda odd: [odd.number, odd.hashed], lambda plain: Odd(*plain))


def long_list(count, item):
    return b"\xdd" + struct.pack(">I", count) + item


BOMBS = {
    "depth 10**5 of lists": b"\x91" * 10**5 + b"\x01",
    "depth 10**5 of dicts": b"\x81\xa1a" * 10**5 + b"\x01",
    "depth 10**5 of tuples": b"\xc9\xff\xff\xff\xff\x04\x91" * 10**5,
    "depth 10**5 of keys": b"\x81" * 10**5,
    "10**8 items claimed": long_list(10**8, b"\x01"),
    "10**8 items claimed, nested": long_list(10**8, b"") * 60,
    "as many items claimed as bytes follow, nested": long_list(10**4 - 400, b"") * 60 + bytes(10**4),
    "10**8 pairs claimed": b"\xdf" + struct.pack(">I", 10**8),
    "65535 items claimed, nested": b"\xdc\xff\xff" * 30000,
    "10**8 items claimed in a tuple": ext(values.TUPLE, long_list(10**8, b"\x01")),
    "4 GB of str claimed": b"\xdb\xff\xff\xff\xffx",
    "4 GB of bytes claimed": b"\xc6\xff\xff\xff\xffx",
    "4 GB of extension claimed": b"\xc9\xff\xff\xff\xff\x04x",
    "int of 10**7 digits": ext(values.INT, b"\x7f" * 4152410),
    "negative int of 10**7 digits": ext(values.INT, b"\x80" * 4152410),
    "Decimal of 10**5 digits": ext(values.NAMED, encode(["decimal.Decimal", ["1" * 10**5]])),
    "extension in extension 10**5 times": b"".join(
        b"\xc9" + struct.pack(">IB", 6 * count, values.TUPLE) for count in range(10**5, -1, -1)
    ),
    "extension in extension": ext(values.TUPLE, ext(values.TUPLE, ext(values.TUPLE, b"\x90"))),
    "NaN key": b"\x81\xcb\x7f\xf8" + bytes(6) + b"\x01",
    "NaN elements": ext(values.SET, b"\x92" + (b"\xcb\x7f\xf8" + bytes(6)) * 2),
    "Decimal NaN element": ext(values.SET, b"\x91" + encode(decimal.Decimal("NaN"))),
    "signalling NaN key": b"\x81" + encode(decimal.Decimal("sNaN")) + b"\x01",
    "lone surrogate": b"\xa3\xed\xa0\x80",
    "overlong UTF-8": b"\xa2\xc0\x80",
    "list key": b"\x81\x90\x01",
    "dict key": b"\x81\x80\x01",
    "set key": b"\x81" + ext(values.SET, b"\x90") + b"\x01",
    "list in a tuple key": b"\x81" + encode(([],)) + b"\x01",
    "list element": ext(values.SET, b"\x91\x90"),
    "key twice": b"\x82\xa1a\x01\xa1a\x02",
    "key twice, as int and float": b"\x82\x01\x01" + encode(1.0) + b"\x02",
    "element twice": ext(values.FROZENSET, b"\x92\x01\x01"),
    "nothing": b"",
    "cut short": encode([1, "abc"])[:-1],
    "bytes behind": b"\x01\x01",
    "bytes behind a list": b"\x91\x01\x01",
    "reserved byte": b"\xc1",
    "float of 32 bits": b"\xca\0\0\0\0",
    "timestamp of msgpack": b"\xd6\xff\0\0\0\0",
    "extension 0": ext(0, b""),
    "extension 8": ext(8, b""),
    "extension 127": ext(127, b""),
    "extension -128": ext(128, b""),
    "tuple without list": ext(values.TUPLE, b"\x01"),
    "tuple longer than its list": ext(values.TUPLE, b"\x91\x01\x01"),
    "tuple shorter than its list": b"\x92\xd5\x04\x91\xa1aa",
    "complex of 15 bytes": ext(values.COMPLEX, bytes(15)),
    "named without a name": ext(values.NAMED, b"\x90"),
    "named by a list": ext(values.NAMED, b"\x92\x90\x90"),
    "named like a function": ext(values.NAMED, encode(["os.system", ["true"]])),
    "named like a module": ext(values.NAMED, encode(["datetime.sys", []])),
    "date that is none": ext(values.NAMED, encode(["datetime.date", [2023, 2, 29]])),
    "date from a bad state": ext(values.NAMED, encode(["datetime.date", [b"\x07\xe7\x02\x1e"]])),
    "time from a bad state": ext(values.NAMED, encode(["datetime.time", [b"\x17\xff\xff\x00\x00\x00"]])),
    "datetime from a bad state": ext(values.NAMED, encode(["datetime.datetime", [b"\x07\xe7\x02\x1e" + b"\xff" * 6]])),
    "timedelta too long": ext(values.NAMED, encode(["datetime.timedelta", [10**10]])),
    "timedelta of NaN": ext(values.NAMED, encode(["datetime.timedelta", [float("nan")]])),
    "offset too large": ext(values.NAMED, encode(["datetime.timezone", [dt.timedelta(2)]])),
    "Decimal of words": ext(values.NAMED, encode(["decimal.Decimal", ["one"]])),
    "UUID too short": ext(values.NAMED, encode(["uuid.UUID", ["1234"]])),
    "path of bytes": ext(values.NAMED, encode(["pathlib.PosixPath", [b"/"]])),
    "path of many": ext(values.NAMED, encode(["pathlib.PosixPath", ["/", "etc"]])),
    **{"pickle %d" % protocol: pickle.dumps([os.system, {"a": 1}], protocol) for protocol in range(6)},
}  # fmt: skip


@READERS
@pytest.mark.parametrize("where", ["alone", "in a list", "in a dict", "in a tuple"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_s_13_bomb_is_a_decode_error_and_costs_no_memory(decode, bomb, where):
    data = BOMBS[bomb]
    if where == "in a list":
        data = b"\x92" + encode(PAD) + data
    elif where == "in a dict":
        data = b"\x81" + encode(PAD) + data
    elif where == "in a tuple":
        data = ext(values.TUPLE, b"\x92" + encode(PAD) + data)
    # msgspec hands out copies of extensions: up to three levels of them, and each is encoded again.
    copied = 4 * len(data) if decode is master.decode and where != "alone" else 0
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10**6 + copied


def test_s_13_repeated_references_cannot_be_said():
    """A billion laughs needs back-references; here a shared object is written out, so size is paid by the sender."""
    with pytest.raises(NotSendable, match="more than 1000000 items"):
        encode(nest("ha", 20, lambda value: [value, value]))


@READERS
def test_s_13_what_was_repeated_is_read_at_its_size(decode):
    tracemalloc.start()
    try:
        small = nest("ha", 9, lambda value: [value, value])
        data = encode(small)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        assert decode(data) == small
        assert tracemalloc.get_traced_memory()[1] - before < 128 * len(data)
    finally:
        tracemalloc.stop()


@READERS
def test_s_13_message_of_empty_lists_stops_at_the_limit(decode):
    count = 4 * 10**6
    data = long_list(count, b"\x90" * count)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="more than 1000000 items"):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


@READERS
def test_s_13_deep_tuples_around_a_blob_do_not_multiply_it(decode):
    value = nest([bytes(10**6), PAD], 40, lambda inner: (inner, PAD))
    data = encode(value)
    tracemalloc.start()
    try:
        assert decode(data) == value
        assert tracemalloc.get_traced_memory()[1] < 12 * 10**6
    finally:
        tracemalloc.stop()


MODULUS = sys.hash_info.modulus
FLOODS = {
    "int": [n * MODULUS + 1 for n in range(1000)],
    "float": [struct.unpack(">d", struct.pack(">Q", (1023 + 61 * n) << 52))[0] for n in range(-16, 17)],
    "Decimal": [decimal.Decimal(MODULUS) * n + 1 for n in range(100)],
    "UUID": [uuid.UUID(int=n * MODULUS + 1) for n in range(64)],
    "tuple": [(n * MODULUS + 1, 5) for n in range(1000)],
    "complex": [complex(-1000003 * n, n) for n in range(1, 100)],
}


def raw_dict(keys):
    return b"\xde" + struct.pack(">H", len(keys)) + b"".join(encode(key) + b"\x01" for key in keys)


@READERS
@pytest.mark.parametrize("kind", FLOODS)
def test_s_14_keys_of_one_hash_are_refused(decode, kind):
    keys = FLOODS[kind]
    assert len(set(map(hash, keys))) * 16 < len(keys)
    raw_set = ext(values.SET, b"\xdc" + struct.pack(">H", len(keys)) + b"".join(map(encode, keys)))
    for data in (raw_dict(keys), b"\x92" + encode(PAD) + raw_dict(keys), raw_set):
        with pytest.raises(DecodeError, match="more than 16 keys with one hash"):
            decode(data)
    with pytest.raises(NotSendable, match="more than 16 keys with one hash"):
        encode({"x": dict.fromkeys(keys)})
    assert decode(raw_dict(keys[:16])) == dict.fromkeys(keys[:16], 1)


@READERS
def test_s_14_refused_keys_are_never_compared(decode):
    Odd.compared = 0
    with pytest.raises(DecodeError, match="one hash"):
        decode(raw_dict([Odd(number, 5) for number in range(10**4)]))
    assert Odd.compared <= 10**4  # each with itself, in the search for NaN
    Odd.compared = 0
    decode(raw_dict([Odd(number, number % 1000) for number in range(10**4)]))
    assert Odd.compared <= 10**4 * (1 + 16)


@READERS
def test_s_14_keys_with_chosen_hashes_use_up_the_items(decode):
    """Different hashes can still be chosen to walk one path; then n keys cost n*n steps, so the limit is on n*n."""
    allowed = {n << 20: None for n in range(60000)}
    assert decode(encode(allowed)) == allowed
    too_many = list(range(65000))
    with pytest.raises(DecodeError, match="more than 1000000 items"):
        decode(raw_dict(too_many))
    with pytest.raises(DecodeError, match="more than 1000000 items"):
        decode(b"\xdc\0\x20" + encode(dict.fromkeys(range(16000))) * 32)
    with pytest.raises(NotSendable, match="more than 1000000 items"):
        encode(set(too_many))
    texts = {str(n): None for n in too_many}
    assert decode(encode(texts)) == texts  # the hash of str is secret: no such limit
