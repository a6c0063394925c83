"""Calls as bytes: pickle protocol 5 where the target has it, functions that cannot be imported by name by dill.

Who pickles learns which modules the bytes name, so that the master can share those and nothing else, and whether the
target needs the master's ``__main__``.
"""

import io
import sys
from importlib import import_module
from types import BuiltinFunctionType, FunctionType, ModuleType

from contextree.core.calls import LENGTH, PROTOCOL, unpack
from contextree.core.process import dumps, loads
from contextree.core.wire.errors import NotSendable
from contextree.core.wire.frames import MAIN, NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import AbstractSet, Any, Callable, Iterable, Sequence

try:
    from _pickle import Pickler
except ImportError:
    from pickle import Pickler

MAINS = ("__main__", "__mp_main__")
SCALARS = {type(None), bool, int, float, str, bytes}
FUNCTIONS = (FunctionType, BuiltinFunctionType)
LARGE = 1 << 16  # bytes from which on pickle hands an object to its file as it is, outside of its frames
KNOWN = 1000  # functions whose pickle is remembered
# function -> (its pickle with the form and length before it, options, modules)
known = {}  # type: dict[Any, tuple[bytes, int, frozenset[str]]]


def by_dill(value: "Any") -> "tuple[bytes, set[str]]":
    """Pickle ``value`` by value: (bytes, names of modules in it); an error that says what to do when that fails.

    Modules in it go by their names. Dill would send all that is in them, unless they lie where Python is installed."""
    try:
        import dill
    except ImportError:
        raise NotSendable("%r cannot be sent by name, and dill is not there to send it by value" % (value,)) from None

    class ByValue(dill.Pickler):  # type: ignore[misc]  # dill is untyped
        dispatch = type(dill.Pickler.dispatch)(dill.Pickler.dispatch)

    def save_module(pickler: "Any", module: "ModuleType") -> "Any":
        name = module.__name__
        if name in MAINS or sys.modules.get(name) is not module:
            return dill.Pickler.dispatch[ModuleType](pickler, module)
        named.add(name)
        return pickler.save_reduce(import_module, (name,), obj=module)

    named = set()  # type: set[str]
    ByValue.dispatch[ModuleType] = save_module
    file = io.BytesIO()
    try:
        ByValue(file, 4, byref=False, recurse=True, fmode=0).dump(value)
        data = file.getvalue()
        return data, named | modules_in(data)
    except Exception as error:
        raise NotSendable("%r cannot be sent: %s: %s; put it into a module and import it from there"
                          % (value, type(error).__name__, error)) from error


def undill(data: bytes) -> "Any":
    """The other side of ``by_dill``."""
    import dill

    return dill.loads(data)


def find_by_name(value: "Any") -> bool:
    """Whether importing ``value.__module__`` and looking ``value.__qualname__`` up gives ``value``."""
    module = sys.modules.get(value.__module__)
    try:
        for part in value.__qualname__.split("."):
            module = getattr(module, part)
    except AttributeError:
        return False
    return module is value


class CallPickler(Pickler):
    """Notes the modules of functions and classes. ``main_by_name(value)``: may those of ``__main__`` be sent by
    name?"""

    def __init__(self, file: "Any", protocol: int, buffer_callback: "Callable[..., Any] | None" = None,
                 main_by_name: "Any" = None, version: "Sequence[int] | None" = None) -> None:
        if buffer_callback is None:
            Pickler.__init__(self, file, protocol)
        else:
            Pickler.__init__(self, file, protocol, buffer_callback=buffer_callback)
        self.modules = set()  # type: set[str]
        self.main_by_name = main_by_name
        self.needs_main = False
        self.version = version

    def reducer_override(self, value: "Any") -> "Any":
        """Functions and classes that the target could not find go by value; all others as usual."""
        kind = type(value)
        if kind is FunctionType or isinstance(value, type):
            module = value.__module__
            if module in MAINS:
                if find_by_name(value) and self.main_by_name and self.main_by_name(value):
                    self.needs_main = True
                    self.modules.add("__main__")
                    return NotImplemented
                return self.by_value(value)
            if kind is FunctionType and not find_by_name(value):
                return self.by_value(value)
            self.modules.add(module)
        return NotImplemented

    def by_value(self, value: "Any") -> "tuple[Any, ...]":
        """Reduce ``value`` to bytes of dill."""
        if self.version and tuple(self.version[:2]) != sys.version_info[:2]:
            raise NotSendable(
                "%r cannot be sent by name, and its code means nothing to Python %d.%d there (here it is %d.%d): put "
                "it into a module, or guard the script with if __name__ == '__main__'"
                % ((value,) + tuple(self.version[:2]) + sys.version_info[:2]))
        data, names = by_dill(value)
        self.modules |= names
        self.modules.add("dill")
        return undill, (data,)


def modules_in(data: bytes) -> "set[str]":
    """The names of modules that a pickle refers to."""
    import pickletools

    found = set()
    memo = []
    argument = None  # type: Any  # what it is depends on the opcode
    recent = [None, None]  # type: list[str | None]  # the last two things pushed, where they are strings
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name == "GLOBAL":
            found.add(argument.split(" ")[0])
        elif name == "STACK_GLOBAL":
            found.add(recent[0])
        if name == "MEMOIZE":
            memo.append(recent[1])
        elif name in ("BINGET", "LONG_BINGET"):
            recent = [recent[1], memo[argument]]
        elif name != "PROTO" and name != "FRAME":
            recent = [recent[1], argument if isinstance(argument, str) else None]
    return found - {None}


def pack_function(function: "Any", version: "Sequence[int] | None",
                  main_by_name: "Any") -> "tuple[bytes, int, frozenset[str]] | None":
    """The head of a call of a plain function that goes by name, or None; remembered, since most calls are of few."""
    if not find_by_name(function):
        return None
    file = io.BytesIO()
    pickler = CallPickler(file, 4, None, main_by_name, version)
    pickler.dump(function)
    data = file.getvalue()
    if ("dill" in pickler.modules or len(data) > 65535
            or (pickler.needs_main and main_by_name.__name__ != "main_by_name")):
        return None
    if len(known) >= KNOWN:
        known.clear()
    known[function] = head = (b"\5%c%c" % divmod(len(data), 256) + data, MAIN if pickler.needs_main else 0,
                              frozenset(pickler.modules))
    return head


class Parts(list):  # type: ignore[type-arg]  # of buffers
    """A file that keeps what a pickler writes without copying it: large bytes objects come as they are."""

    def write(self, data: "Any") -> None:
        """Add ``data``; what may change later is copied."""
        self.append(data if type(data) is bytes else bytes(data))


def pack_call(function: "Any", args: "tuple[Any, ...]", kwargs: "dict[str, Any]", version: "Sequence[int] | None",
              main_by_name: "Any") -> "tuple[Any, int, AbstractSet[str]]":
    """Encode a call for Python ``version`` (None: not known yet): (bytes or buffers, options, names of modules).

    ``main_by_name``: a function that says whether ``__main__`` may go by name. Raises NotSendable, naming what cannot
    be sent."""
    if PROTOCOL < 5:
        return pack_old(function, args, kwargs)
    types = list(map(type, args))
    if (type(function) in FUNCTIONS and SCALARS.issuperset(types)
            and SCALARS.issuperset(map(type, kwargs.values()))):
        head = known.get(function) or pack_function(function, version, main_by_name)
        if head is not None:
            if bytes in types and max(map(len, [arg for arg in args if type(arg) is bytes])) >= LARGE:
                parts = Parts(head[:1])
                Pickler(parts, 4).dump((args, kwargs))
                return list(parts), head[1], head[2]
            data = dumps((args, kwargs), 4)
            return head[0] + data if len(data) < 65536 else [head[0], data], head[1], head[2]
    try:
        return pack((function, args, kwargs), version, main_by_name)
    except NotSendable:
        raise
    except Exception as error:
        raise failure(function, args, kwargs, error) from error


def pack(value: "Any", version: "Sequence[int] | None", main_by_name: "Any") -> "tuple[Any, int, set[str]]":
    """Encode any value: (bytes or buffers, options, names of modules)."""
    protocol = PROTOCOL if version and tuple(version) >= (3, 8) else 4
    buffers = []  # type: list[Any]
    file = io.BytesIO()
    file.write(b"\1")
    pickler = CallPickler(file, protocol, buffers.append if protocol == 5 else None, main_by_name, version)
    pickler.dump(value)
    data = file.getvalue()
    options = MAIN if pickler.needs_main else 0
    if not buffers:
        return data, options, pickler.modules
    raw = [memoryview(data)[1:]] + [buffer.raw() for buffer in buffers]
    head = b"\3" + NUMBER.pack(len(raw) - 1) + b"".join(LENGTH.pack(part.nbytes) for part in raw)
    return [head] + raw, options, pickler.modules


def pack_value(value: "Any", version: "Sequence[int] | None", main_by_name: "Any"
               ) -> "tuple[Any, int, AbstractSet[str]]":
    """Encode one value of a channel, as ``pack_call`` does a call. Raises NotSendable."""
    if type(value) in SCALARS or PROTOCOL < 5:
        return b"\1" + dumps(value, 4), 0, frozenset()
    try:
        data, options, modules = pack(value, version, main_by_name)
    except NotSendable:
        raise
    except Exception as error:
        raise NotSendable("%s cannot be sent: %s: %s" % (type(value).__name__, type(error).__name__, error)) from error
    if options & MAIN:
        data = b"\1" + dumps(NeedsMain(data if type(data) is bytes else b"".join(data)), 4)
    return data, options, modules


class NeedsMain:
    """A message that can only be read where the master's ``__main__`` is loaded; it becomes its value there."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> "tuple[Any, ...]":
        return unpack_with_main, (self.data,)


def unpack_with_main(data: bytes) -> "Any":
    """The value of a ``NeedsMain``."""
    from contextree.core import main

    main.child.importer.load_main()
    return unpack(data)


def pack_old(function: "Any", args: "tuple[Any, ...]", kwargs: "dict[str, Any]"
             ) -> "tuple[bytes, int, AbstractSet[str]]":
    """The same on Python 3.6 and 3.7, whose pickler cannot be asked: by name or not at all."""
    try:
        return b"\1" + dumps((function, args, kwargs), 4), 0, frozenset()
    except Exception as error:
        raise failure(function, args, kwargs, error) from error


def failure(function: "Any", args: "tuple[Any, ...]", kwargs: "dict[str, Any]", error: "Exception") -> NotSendable:
    """What could not be pickled, and where it is."""
    return NotSendable("the call of %s cannot be sent: %s: %s%s" % (
        getattr(function, "__qualname__", repr(function)), type(error).__name__, error, culprit(args, kwargs)))


def culprit(args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> str:
    """Which argument it was, for the error text."""
    numbered = [("argument %d" % (number + 1), value) for number, value in enumerate(args)]
    for name, value in numbered + sorted(kwargs.items()):
        try:
            loads(dumps(value, 4))
        except Exception:
            return "; look at %s, of type %s" % (name, type(value).__name__)
    return ""
