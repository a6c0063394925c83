"""Plain values as bytes: what may travel upward, where the reader does not trust the writer.

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

from struct import Struct, pack, unpack

from contextree.core.wire.errors import DecodeError, NotSendable, UsageError

INT, COMPLEX, TEXT, TUPLE, SET, FROZENSET, NAMED = range(1, 8)
NESTED = {tuple: TUPLE, set: SET, frozenset: FROZENSET, None: NAMED}


class Limits:
    """How large a value may be. Immutable by custom: one object serves all threads.

    ``depth`` of containers, ``items`` in all, ``digits`` of an int; a Decimal or path may be a tenth longer. The length of the message is the
    caller's to limit: str and bytes cannot be longer than what came in.
    """

    def __init__(self, depth: int = 64, items: int = 10**6, digits: int = 4300) -> None:
        self.depth = depth
        self.items = items
        self.digits = digits


DEFAULT_LIMITS = Limits()


_SAFE = {str, bytes}  # their hashes are seeded with a secret
_BY_TYPE = {}
_BY_NAME = {}
# Types that travel by name. Their modules are imported by whoever meets such a value, not by whoever loads this file.
# The first travel as [str(value)], the others as the arguments that they are pickled with: ints, or a short state.
_TEXTS = "decimal.Decimal uuid.UUID " + " ".join(
    "pathlib." + pure + kind for pure in ("", "Pure") for kind in ("PosixPath", "WindowsPath")
)
_CLOCKS = "datetime.date datetime.time datetime.datetime"
_NAMES = (_TEXTS + " datetime.timedelta datetime.timezone " + _CLOCKS).split()


def register(kind: type, name: str, to_plain, from_plain) -> None:
    """Let values of exactly the type ``kind`` travel as ``to_plain(value)`` and arrive as ``from_plain(plain)``.

    Both sides must register the same ``name``; a name with a dot in it (``app.User``) cannot meet another's.
    ``from_plain`` gets what a hostile peer chose, within the limits; whatever it raises becomes a DecodeError.
    UsageError: the type or the name is taken already.
    """
    if kind in _BY_TYPE or name in _BY_NAME or name in _NAMES:
        raise UsageError("register: the type %s or the name %r is taken" % (kind.__qualname__, name))
    _BY_TYPE[kind] = name, to_plain
    _BY_NAME[name] = from_plain


class State:
    """One value being written or read: the data, the hook, the limits, the items left. Not shared between threads."""

    def __init__(self, ext, limits: Limits, data=b"") -> None:
        self.ext = ext
        self.limits = limits
        self.left = limits.items - 1
        self.data = data
        self.pos = 0

    def spend(self, count: int, depth: int = 0) -> None:
        """Count items, of a container that may hold ``depth`` more; ValueError when there were too many."""
        if depth < 0:
            raise ValueError("more than %d containers in one another" % self.limits.depth)
        self.left -= count
        if self.left < 0:
            raise ValueError("more than %d items" % self.limits.items)

    def keys(self, keys: list) -> None:
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

    # Writing.

    def put(self, out: list, value, depth: int) -> None:
        """Append the bytes of a value that lies where ``depth`` more containers may be."""
        kind = type(value)
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

    def reduce(self, value):
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
            return found
        if isinstance(value, (bytearray, memoryview)):
            return bytes, bytes(value)
        for base in _DECAY:
            if isinstance(value, base):
                return base, value
        raise ValueError("object of type %s.%s" % (kind.__module__, kind.__qualname__))

    def put_container(self, out: list, kind, plain, value, depth: int) -> None:
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
            error = _failure(error)
            if at is None:
                error.deepest = value
            else:
                if error.deepest is value:
                    error.args = ("it contains itself",)
                if pairs:
                    where = "[%.60r]" % (items[at - 1],) if at & 1 else "<key>"
                else:
                    where = "<element>" if code in (SET, FROZENSET) else "[%d]" % at if kind else ""
                error.path = where + error.path
            raise error from None
        if code:
            _extension(out, code, b"".join(part))
        else:
            out += part

    # Reading.

    def read(self, depth: int):
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

    def container(self, pairs, count, depth):
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

    def simple(self, code: int, payload: memoryview):
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

    def nested(self, code: int, plain: list):
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

    def named(self, name, plain):
        """The value of a named type, both as they came."""
        if name in _BY_NAME:
            return _BY_NAME[name](plain)
        if name not in _NAMES:
            raise ValueError("the type %.80r is not registered here" % name)
        module, kind = name.split(".")
        module = __import__(module)
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


def _head(kind, count):
    fix, most, first = _OPS[kind]
    if count < most:
        return bytes((fix + count,))
    if kind == "x" and count in (1, 2, 4, 8, 16):
        return bytes((0xD3 + count.bit_length(),))
    form = (count > 255) + (count > 65535) or kind in "lm"
    return pack(">B" + "BHI"[form], first + form, count)


def _extension(out, code, payload):
    out += _head("x", len(payload)), bytes((code,)), payload


def _failure(error):
    """Any exception as a NotSendable with the path to where it was; the innermost tells the reason."""
    if hasattr(error, "deepest"):
        return error
    return NotSendable(str(error) or type(error).__name__, path="", deepest=None)


# The op is that of the form with 8 bits of length, also where there is none.
_OPS = {"s": (0xA0, 32, 0xD9), "l": (0x90, 16, 0xDB), "m": (0x80, 16, 0xDD), "b": (0, 0, 0xC4), "x": (0, 0, 0xC7)}
_CONTAINERS = {list, dict, tuple, set, frozenset, None}
_DECAY = str, int, float, bytes, list, dict, set, frozenset
_VALUES = {0xC0: None, 0xC2: False, 0xC3: True}
_CONSTANTS = {value: bytes((op,)) for op, value in _VALUES.items()}
_EXACT = _CONTAINERS - {None} | {str, int, float, bytes, complex, bool, type(None)}
_HEADS = {}
for _first, _kind, _forms in (
    (0xC4, "b", "BHI"), (0xC7, "x", "BHI"), (0xCB, "n", "dBHIQbhiq"), (0xD9, "s", "BHI"), (0xDC, "l", "HI"),
    (0xDE, "m", "HI"),
):  # fmt: skip
    for _form in _forms:
        _HEADS[_first] = _kind, Struct(">" + _form)
        _first += 1


def encode(value, ext=None, limits: Limits = DEFAULT_LIMITS, what: str = "result") -> bytes:
    """The bytes of ``value``; the value is not changed.

    ``ext(object)`` is asked about objects of no plain, named or registered type and answers (code, payload) with a code
    of 32..127, or None. NotSendable names the place below ``what`` and the reason ("result[3]['user']: object of
    type app.User"); nothing else is raised, also for a value that contains itself.
    """
    out = []
    try:
        State(ext, limits).put(out, value, limits.depth)
    except Exception as error:
        failure = _failure(error)
        path = what + failure.path
        if len(path) > 120:
            path = path[:60] + "..." + path[-60:]
        raise NotSendable("%s: %s" % (path, failure)) from None
    return b"".join(out)


def decode(data, ext=None, limits: Limits = DEFAULT_LIMITS):
    """The value that ``data`` (bytes, bytearray or memoryview) holds, all of it, at a cost linear in its length.

    ``ext(code, payload: bytes)`` gives the value for codes 32..127; its exceptions, too, become DecodeError. DecodeError: not
    this format, above a limit, or a name that is not registered here; nothing else is raised, whatever the bytes.
    """
    state = State(ext, limits, data)
    try:
        value = state.read(limits.depth)
        if state.pos != len(data):
            raise ValueError("bytes behind the value")
    except Exception as error:
        raise DecodeError("bad value: %.200s" % (str(error) or type(error).__name__)) from None
    return value
