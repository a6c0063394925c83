"""Plain values as bytes: what may travel upward, where the reader does not trust the writer.

This half writes. The half that reads is in ``contextree.parent.values``: only who has children needs it.

The format is msgpack. Its own types carry None, bool, int up to 64 bit, float, str, bytes, list and dict; the
extension types below carry the rest. Nothing is ever called by a name that came in, except what ``register`` put
into this process's own table, so no byte string can do more than cost its length.

====  ===============  ================================================================
code  value            payload
====  ===============  ================================================================
1     int              two's complement, big-endian: no quadratic decimal parse
2     complex          two big-endian doubles
3     str              UTF-8 with lone surrogates, as in file names from ``os.listdir``
4     tuple            the list of its items; so are 5 (set) and 6 (frozenset)
7     a named type     the list [name, plain value]
32..  the ``ext`` hook bytes
====  ===============  ================================================================

What a value becomes: exactly itself, with these exceptions, each of which compares equal to what was sent:
bytearray and memoryview arrive as bytes; subclasses of str, int (IntEnum too), float, bytes, list, dict, set and
frozenset (OrderedDict, defaultdict, Counter too) arrive as the plain type. Named tuples are refused: their names are
the point of them, and a tuple without would fail far from here. A datetime keeps a zoneinfo zone by its name where
the reader has that zone; any other tzinfo becomes the fixed offset that it had then. A PosixPath read on Windows
becomes a PurePosixPath. NaN is no key and no element of a set. bytes, str and int above the limits are refused.

Limits count the same on both sides, so what ``encode`` accepts ``decode`` accepts. ``depth`` counts lists and dicts
that lie in one another (a tuple is its list), ``items`` counts every value and key. Keys of dicts and elements of sets
that are neither str nor bytes have hashes that a sender can choose, so that every insertion walks over all
earlier ones. Therefore at most 16 of them may share a hash, and n of them cost n*n/4096 items beside their own,
which bounds the walks by a small multiple of ``items`` and allows about 60,000 such keys in a dict.

Threads: every function may be called from any thread; ``register`` before the first value of that type is sent.
"""

from _struct import pack

from contextree.core.wire.errors import NotSendable, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, TypeVar

    T = TypeVar("T")

INT, COMPLEX, TEXT, TUPLE, SET, FROZENSET, NAMED = range(1, 8)
NESTED = {tuple: TUPLE, set: SET, frozenset: FROZENSET, None: NAMED}


class Limits:
    """How large a value may be. Immutable by custom: one object serves all threads.

    ``depth`` of containers, ``items`` in all, ``digits`` of an int; the text of a Decimal or a path may be a tenth
    longer. The length of the message is the caller's to limit: str and bytes cannot be longer than what came in.
    """

    def __init__(self, depth: int = 64, items: int = 10**6, digits: int = 4300) -> None:
        self.depth = depth
        self.items = items
        self.digits = digits


DEFAULT_LIMITS = Limits()


_SAFE = {str, bytes}  # their hashes are seeded with a secret
_BY_TYPE = {}  # type: dict[Any, tuple[str, Callable[..., Any]]]
_BY_NAME = {}  # type: dict[str, Callable[[Any], Any]]
# Types that travel by name. Their modules are imported by whoever meets such a value, not by whoever loads this file.
# The first travel as [str(value)], the others as the arguments that they are pickled with: ints, or a short state.
_TEXTS = "decimal.Decimal uuid.UUID " + " ".join(
    "pathlib." + pure + kind for pure in ("", "Pure") for kind in ("PosixPath", "WindowsPath")
)
_CLOCKS = "datetime.date datetime.time datetime.datetime"
_NAMES = (_TEXTS + " datetime.timedelta datetime.timezone " + _CLOCKS).split()


def register(kind: "type[T]", name: str, to_plain: "Callable[[T], Any]", from_plain: "Callable[[Any], T]") -> None:
    """Let values of exactly the type ``kind`` travel as ``to_plain(value)`` and arrive as ``from_plain(plain)``.

    Both sides must register the same ``name``; a name with a dot in it (``app.User``) cannot meet another's.
    ``from_plain`` gets what a hostile peer chose, within the limits; whatever it raises becomes a DecodeError.
    UsageError: the type or the name is taken already.

    >>> class Point:
    ...     def __init__(self, x, y):
    ...         self.x, self.y = x, y
    >>> contextree.register_type(Point, "shapes.Point", lambda point: [point.x, point.y], lambda plain: Point(*plain))
    """
    if kind in _BY_TYPE or name in _BY_NAME or name in _NAMES:
        raise UsageError("register: the type %s or the name %r is taken" % (kind.__qualname__, name))
    _BY_TYPE[kind] = name, to_plain
    _BY_NAME[name] = from_plain


class State:
    """One value being written (or read, by the Reader): the hook, the limits, the items left. For one thread."""

    def __init__(self, ext: "Callable[..., Any] | None", limits: Limits) -> None:
        self.ext = ext
        self.limits = limits
        self.left = limits.items - 1

    def spend(self, count: int, depth: int = 0) -> None:
        """Count items, of a container that may hold ``depth`` more; ValueError when there were too many."""
        if depth < 0:
            raise ValueError("more than %d containers in one another" % self.limits.depth)
        self.left -= count
        if self.left < 0:
            raise ValueError("more than %d items" % self.limits.items)

    def keys(self, keys: "list[Any]") -> None:
        """Check the keys of a dict or elements of a set before one is made of them; ValueError says why not."""
        if set(map(type, keys)) <= _SAFE:
            return
        odd = [key for key in keys if type(key) not in _SAFE]
        if any(key != key for key in odd):
            raise ValueError("NaN as a key")
        self.spend(len(odd) ** 2 >> 12)
        hashes = sorted(map(hash, odd))
        if any(a == b for a, b in zip(hashes, hashes[16:])):
            raise ValueError("more than 16 keys with one hash")

    def digits(self, bits: int) -> None:
        """ValueError if an int of so many bits may have more digits than allowed."""
        if bits > self.limits.digits * 3.3219:
            raise ValueError("more than %d digits" % self.limits.digits)

    def put(self, out: "list[bytes]", value: "Any", depth: int) -> None:
        """Append the bytes of a value that lies where ``depth`` more containers may be."""
        kind = type(value)  # type: Any
        plain = value
        if kind not in _EXACT:
            kind, plain = self.reduce(value)
        if kind is str:
            try:
                raw = str.encode(plain)
            except UnicodeEncodeError:
                _extension(out, TEXT, str.encode(plain, "utf-8", "surrogatepass"))
            else:
                out += _head("s", len(raw)), raw
        elif kind is int:
            if -33 < plain < 128:
                return out.append(bytes((plain & 255,)))
            bits = plain.bit_length() if plain > 0 else (~plain).bit_length() + 1
            if bits > 64:
                self.digits(bits)
                return _extension(out, INT, plain.to_bytes(bits // 8 + 1, "big", signed=True))
            form = (bits > 8) + (bits > 16) + (bits > 32) + 4 * (plain < 0)
            out.append(pack(">B" + "BHIQbhiq"[form], 0xCC + form, plain))
        elif kind is float:
            out.append(pack(">Bd", 0xCB, plain))
        elif kind is bytes:
            out += _head("b", len(plain)), plain
        elif kind is complex:
            _extension(out, COMPLEX, pack(">dd", plain.real, plain.imag))
        elif kind in _CONTAINERS:
            self.put_container(out, kind, plain, value, depth - 1)
        elif kind in _EXACT:
            out.append(_CONSTANTS[plain])
        else:
            _extension(out, kind, plain)

    def reduce(self, value: "Any") -> "tuple[Any, Any]":
        """An object of no exact type as (a type to write it as or the code of an extension, what to write)."""
        kind = type(value)
        name = "%s.%s" % (str(kind.__module__).split(".")[0], kind.__name__)  # pathlib._local in 3.13
        if kind in _BY_TYPE:
            name, to_plain = _BY_TYPE[kind]
            return None, [name, to_plain(value)]
        if name in _TEXTS:
            value = str(value)
            self.digits(len(value) * 3)
            return None, [name, [value]]
        if name in _NAMES:
            plain = list(value.__reduce_ex__(4)[1])
            zone = getattr(value, "tzinfo", None)
            if zone:
                plain[1:] = value.utcoffset(), getattr(zone, "key", None)
                if plain[1:] == [None, None]:
                    raise ValueError("a time with a tzinfo but no offset")
            return None, [name, plain]
        found = self.ext and self.ext(value)
        if found:
            return found  # type: ignore[no-any-return]  # what ``ext`` said
        if isinstance(value, (bytearray, memoryview)):
            return bytes, bytes(value)
        for base in _DECAY:
            if isinstance(value, base):
                return base, value
        raise ValueError("object of type %s.%s" % (kind.__module__, kind.__qualname__))

    def put_container(self, out: "list[bytes]", kind: "Any", plain: "Any", value: "Any", depth: int) -> None:
        """Append a container, as ``kind``, of the items of ``plain``, which stands for ``value``."""
        at = None
        code = NESTED.get(kind, 0)
        pairs = kind is dict
        try:
            # A snapshot, since another thread may change it.
            items = [each for pair in dict.items(plain) for each in pair] if pairs else list(plain)
            self.spend(len(items) + (code > 0), depth)
            if pairs or code in (SET, FROZENSET):
                self.keys(items[:: 1 + pairs])
            part = [_head("m" if pairs else "l", len(items) >> pairs)]
            for at, item in enumerate(items):  # noqa: B007 - for the except below
                self.put(part, item, depth)
        except Exception as error:
            failure = _failure(error)
            if at is None:
                failure.deepest = value
            else:
                if failure.deepest is value:
                    failure.args = ("it contains itself",)
                if pairs:
                    where = "[%.60r]" % (items[at - 1],) if at & 1 else "<key>"
                else:
                    where = "<element>" if code in (SET, FROZENSET) else "[%d]" % at if kind else ""
                failure.path = where + failure.path
            raise failure from None
        if code:
            _extension(out, code, b"".join(part))
        else:
            out += part


def _head(kind: str, count: int) -> bytes:
    fix, most, first = _OPS[kind]
    if count < most:
        return bytes((fix + count,))
    if kind == "x" and count in (1, 2, 4, 8, 16):
        return bytes((0xD3 + count.bit_length(),))
    form = (count > 255) + (count > 65535) or kind in "lm"
    return pack(">B" + "BHI"[form], first + form, count)


def _extension(out: "list[bytes]", code: int, payload: bytes) -> None:
    out += _head("x", len(payload)), bytes((code,)), payload


def _failure(error: Exception) -> "Any":
    """Any exception as a NotSendable with the path to where it was; the innermost tells the reason."""
    if hasattr(error, "deepest"):
        return error
    return NotSendable(str(error) or type(error).__name__, path="", deepest=None)


# The op is that of the form with 8 bits of length, also where there is none.
_OPS = {"s": (0xA0, 32, 0xD9), "l": (0x90, 16, 0xDB), "m": (0x80, 16, 0xDD), "b": (0, 0, 0xC4), "x": (0, 0, 0xC7)}
_CONTAINERS = {list, dict, tuple, set, frozenset, None}
_DECAY = str, int, float, bytes, list, dict, set, frozenset
_CONSTANTS = {None: b"\xc0", False: b"\xc2", True: b"\xc3"}
_EXACT = _CONTAINERS - {None} | {str, int, float, bytes, complex, bool, type(None)}


def encode(value: "Any", ext: "Callable[[Any], tuple[int, bytes] | None] | None" = None,
           limits: Limits = DEFAULT_LIMITS, what: str = "result") -> bytes:
    """The bytes of ``value``; the value is not changed.

    ``ext(object)`` is asked about objects of no plain, named or registered type and answers (code, payload) with a code
    of 32..127, or None. NotSendable names the place below ``what`` and the reason ("result[3]['user']: object of
    type app.User"); nothing else is raised, also for a value that contains itself.
    """
    out = []  # type: list[bytes]
    try:
        State(ext, limits).put(out, value, limits.depth)
    except Exception as error:
        failure = _failure(error)
        path = what + failure.path
        if len(path) > 120:
            path = path[:60] + "..." + path[-60:]
        raise NotSendable("%s: %s" % (path, failure)) from None
    return b"".join(out)
