"""Reading values from children in C where that is safe; what they mean is told in ``contextree.core.wire.values``.

msgspec reads a list of plain records five to ten times as fast as the pure reader, but it is more lenient. So it only
reads what can be shown to be right, and whatever else comes is read by the pure reader, which decides alone:

* It reads against a type: six levels of lists and dicts whose keys are all str. Depth and unhashable keys are out
  of the question then, and so are floods of keys: the hash of a str is seeded with a secret, that of an int is not.
  (bytes cannot stand beside str in a msgspec union; a value with bytes in it takes the pure way.)
* What it read must encode to the very bytes that came. A key that came twice, a float of 32 bits, a length in a longer
  form than needed all fail that test. Encoding costs a quarter of the reading.
* msgspec allocates nothing for a claimed length (since 0.15: at most 16 places of a list ahead), but it has no limit on
  items. They are counted afterwards, so a message is only given to it when it is too short to matter.
* Extensions come as ``Ext`` objects holding a copy of their bytes. They are replaced in a walk over the value. As each
  level of extensions copies what is in it, the pure reader takes over at the fourth. So reading costs, for a while, at
  most four times the message beside the value; the pure reader alone costs next to nothing.

Any thread may call what is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Union

import msgspec
from msgspec.msgpack import Decoder, Encoder, Ext

from contextree.core.wire.errors import DecodeError
from contextree.core.wire.values import DEFAULT_LIMITS, NAMED, TUPLE, Limits, encode, register
from contextree.parent.values import Reader

__all__ = ["DEFAULT_LIMITS", "Limits", "decode", "encode", "register"]

_LEVELS = 6  # the type doubles with every level
_COPIES = 3
_SHORT = 32  # the pure reader is done with so few bytes before msgspec's result would be checked


def _plain_type() -> Any:
    scalar = (None, bool, int, float, str, Ext)
    kind: Any = Union[scalar]  # noqa: UP007 - of a tuple
    for _ in range(_LEVELS):
        kind = Union[scalar + (list[kind], dict[str, kind])]  # noqa: UP007
    return kind


_decoder = Decoder(_plain_type())
_encoder = Encoder()
_COMPOUND = {list, dict, Ext}
_HEADS = frozenset((*range(0x80, 0xA0), *range(0xDC, 0xE0)))  # of lists and dicts
_NO_HEADS = bytes(set(range(256)) - _HEADS)
_CODE_AT = {0xC7: 2, 0xC8: 3, 0xC9: 5}  # where the code of an extension is; in its short forms at 1


def decode(
    data: bytes | bytearray | memoryview,
    ext: Callable[[int, bytes], Any] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Any:
    """The same as ``contextree.parent.values.decode``: the same value or a DecodeError for the same bytes."""
    state = Reader(ext, limits)
    try:
        return _read(state, data, limits.depth, 0)
    except Exception as error:  # hooks and registered types may raise anything
        raise DecodeError(f"bad value: {str(error) or type(error).__name__:.200}") from None


def _read(state: Reader, data: bytes | bytearray | memoryview, depth: int, copies: int) -> Any:
    """The value that ``data`` holds, in C when that is safe; counts its items but not the value itself."""
    if len(data) <= _SHORT:
        return _read_pure(state, data, depth)
    if data[0] in _CODE_AT:
        return _read_extension(state, data, depth, copies)
    if data[0] in _HEADS and depth >= _LEVELS and copies < _COPIES and _bounded(state, data):
        try:
            value = _decoder.decode(data)
            proven = _encoder.encode(value) == data
        except (msgspec.MsgspecError, ValueError, RecursionError):  # ValueError: a str that is not UTF-8
            proven = False
        if proven:
            return _settle(state, value, depth, copies)
    return _read_pure(state, data, depth)


def _read_extension(state: Reader, data: bytes | bytearray | memoryview, depth: int, copies: int) -> Any:
    """A tuple, for one, that is not in anything: its list is read in place."""
    at = _CODE_AT[data[0]]
    code = data[at]
    if TUPLE <= code <= NAMED and int.from_bytes(data[1:at], "big") == len(data) - at - 1:
        payload = memoryview(data)[at + 1 :]
        state.enter(payload[0])
        return state.nested(code, _read(state, payload, depth, copies))
    return _read_pure(state, data, depth)


def _bounded(state: Reader, data: bytes | bytearray | memoryview) -> bool:
    """Whether no more memory can go into a value too large than into one just allowed.

    A list costs 64 bytes and more for one byte in the message, other items at most some 20 for each byte.
    """
    items = state.left
    if len(data) <= items:
        return True
    return len(data) <= 10 * items and len(bytes(data).translate(None, _NO_HEADS)) <= items


def _read_pure(state: Reader, data: bytes | bytearray | memoryview, depth: int) -> Any:
    part = Reader(state.ext, state.limits, data)
    part.left = state.left
    value = part.read(depth)
    if part.pos != len(data):
        raise ValueError("bytes behind the value")
    state.left = part.left
    return value


def _settle(state: Reader, value: Any, depth: int, copies: int) -> Any:
    """Count the items of what msgspec read and put the values of extensions in their places."""
    kind = type(value)
    if kind is list:
        state.spend(len(value))
        if not _COMPOUND.isdisjoint(map(type, value)):
            for index, item in enumerate(value):
                if type(item) in _COMPOUND:
                    value[index] = _settle(state, item, depth - 1, copies)
    elif kind is dict:
        state.spend(2 * len(value))
        if not _COMPOUND.isdisjoint(map(type, value.values())):
            for key, item in value.items():
                if type(item) in _COMPOUND:
                    value[key] = _settle(state, item, depth - 1, copies)  # no new key: safe while iterating
    elif kind is Ext:
        if not TUPLE <= value.code <= NAMED:
            return state.simple(value.code, memoryview(value.data))
        state.enter(value.data[0])
        return state.nested(value.code, _read(state, value.data, depth, copies + 1))
    return value
