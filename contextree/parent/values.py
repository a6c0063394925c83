"""The half of the strict codec that reads: what children sent. The format and its rules are told in
``core.wire.values``.

A child is hostile, so every length is checked against what is there before anything is made of it, and whatever is
wrong with the bytes is a DecodeError. This reader is pure Python; the root has a faster one beside it
(``contextree.master.values``).
"""

from struct import Struct, unpack

from contextree.core.wire.errors import DecodeError
from contextree.core.wire.values import (
    _BY_NAME, _CLOCKS, _NAMES, _TEXTS, COMPLEX, DEFAULT_LIMITS, FROZENSET, INT, NAMED, SET, TEXT, TUPLE, Limits, State,
    encode, register,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

__all__ = ["COMPLEX", "DEFAULT_LIMITS", "FROZENSET", "INT", "NAMED", "SET", "TEXT", "TUPLE", "Limits", "Reader",
           "decode", "encode", "register"]

_VALUES = {0xC0: None, 0xC2: False, 0xC3: True}
_HEADS = {}
for _first, _kind, _forms in (
    (0xC4, "b", "BHI"), (0xC7, "x", "BHI"), (0xCB, "n", "dBHIQbhiq"), (0xD9, "s", "BHI"), (0xDC, "l", "HI"),
    (0xDE, "m", "HI"),
):  # fmt: skip
    for _form in _forms:
        _HEADS[_first] = _kind, Struct(">" + _form)
        _first += 1


class Reader(State):
    """One value being read: its bytes, and where the next item is."""

    def __init__(self, ext: "Callable[..., Any] | None", limits: Limits,
                 data: "bytes | bytearray | memoryview" = b"") -> None:
        State.__init__(self, ext, limits)
        self.data = data
        self.pos = 0

    def read(self, depth: int) -> "Any":
        """The value at ``pos``, which moves behind it; any Exception says that the bytes are bad."""
        data = self.data
        head = data[self.pos]
        self.pos += 1
        if head < 0x80:
            return head
        if head > 0xDF:
            return head - 256
        if head < 0xA0:
            return self.container(head < 0x90, head & 15, depth - 1)
        if head < 0xC0:
            kind, count = "s", head & 31
        elif head in _HEADS:
            kind, form = _HEADS[head]
            (count,) = form.unpack_from(data, self.pos)
            self.pos += form.size
            if kind == "n":
                return count
            if kind in "lm":
                return self.container(kind == "m", count, depth - 1)
        elif 0xD4 <= head <= 0xD8:
            kind, count = "x", 1 << head - 0xD4
        else:
            return _VALUES[head]
        pos = self.pos + (kind == "x")
        self.pos = stop = pos + count
        if stop > len(data):
            raise ValueError("cut short")
        if kind == "s":
            return str(data[pos:stop], "utf-8")
        if kind == "b":
            return bytes(data[pos:stop])
        code = data[pos - 1]
        if not TUPLE <= code <= NAMED:
            return self.simple(code, memoryview(data)[pos:stop])
        self.pos = pos
        self.enter(data[pos])
        plain = self.read(depth)
        if self.pos != stop:
            raise ValueError("a list of another length than its extension")
        return self.nested(code, plain)

    def container(self, pairs: bool, count: int, depth: int) -> "Any":
        """A list or dict of so many items, if so many can follow; nothing is allocated for the mere claim."""
        if count > len(self.data) - self.pos:
            raise ValueError("cut short")
        self.spend(count << pairs, depth)
        items = [self.read(depth) for _ in range(count << pairs)]
        if not pairs:
            return items
        self.keys(items[::2])
        found = dict(zip(items[::2], items[1::2]))
        if len(found) != count:
            raise ValueError("a key twice")
        return found

    def enter(self, head: int) -> None:
        """Count the list of an extension; ValueError if ``head``, its first byte, is not that of a list.

        So no extension lies directly in another, which ``depth`` would not see.
        """
        self.spend(1)
        if head >> 4 != 9 and head not in (0xDC, 0xDD):
            raise ValueError("no list")

    def simple(self, code: int, payload: memoryview) -> "Any":
        """The value of an extension whose payload is no list."""
        if code == INT:
            self.digits(len(payload) * 8 - 8)  # before the conversion, and exactly after it
            value = int.from_bytes(payload, "big", signed=True)
            self.digits(value.bit_length())
            return value
        if code == COMPLEX:
            return complex(*unpack(">dd", payload))
        if code == TEXT:
            return str(payload, "utf-8", "surrogatepass")
        if self.ext and 32 <= code < 128:
            return self.ext(code, bytes(payload))
        raise ValueError("unknown extension %d" % code)

    def nested(self, code: int, plain: "list[Any]") -> "Any":
        """The value of an extension whose payload is the list ``plain``."""
        if code == NAMED:
            return self.named(*plain)
        if code == TUPLE:
            return tuple(plain)
        self.keys(plain)
        found = frozenset(plain) if code == FROZENSET else set(plain)
        if len(found) != len(plain):
            raise ValueError("an element twice")
        return found

    def named(self, name: str, plain: "Any") -> "Any":
        """The value of a named type, both as they came."""
        if name in _BY_NAME:
            return _BY_NAME[name](plain)
        if name not in _NAMES:
            raise ValueError("the type %.80r is not registered here" % name)
        package, kind = name.split(".")
        module = __import__(package)  # type: Any
        if name in _TEXTS:
            (text,) = plain
            self.digits(len(text) * 3)
            try:
                return getattr(module, kind)(text)
            except NotImplementedError:  # the other system's path
                kind = "Pure" + kind
        elif name in _CLOCKS:
            if len(plain) > 1:
                state, zone, key = plain
                if zone is not None:
                    zone = module.timezone(zone)
                if key is not None:
                    try:
                        zone = __import__("zoneinfo").ZoneInfo(key)
                    except Exception:  # no such module, zone or file here: the offset is better than nothing
                        if not zone:
                            raise
                plain = state, zone
            # The constructor hardly checks a state; replace() goes through all the checks.
            return getattr(module, kind)(*plain).replace()
        return getattr(module, kind)(*plain)


def decode(data: "bytes | bytearray | memoryview", ext: "Callable[..., Any] | None" = None,
           limits: Limits = DEFAULT_LIMITS) -> "Any":
    """The value that ``data`` (bytes, bytearray or memoryview) holds, all of it, at a cost linear in its length.

    ``ext(code, payload: bytes)`` gives the value for codes 32..127; its exceptions, too, become DecodeError.
    DecodeError: not this format, above a limit, or a name that is not registered here; nothing else is raised, whatever
    the bytes.
    """
    state = Reader(ext, limits, data)
    try:
        value = state.read(limits.depth)
        if state.pos != len(data):
            raise ValueError("bytes behind the value")
    except Exception as error:
        raise DecodeError("bad value: %.200s" % (str(error) or type(error).__name__)) from None
    return value
