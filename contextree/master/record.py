"""One answer to a child that asks for a module."""

import importlib.util
import marshal
import struct
import types
import zlib
from dataclasses import dataclass, field
from importlib.util import MAGIC_NUMBER

from contextree.master.scan import DISPLAY, hush


@dataclass(slots=True, eq=False)
class Record:
    """A module as a child gets it, or why it does not.

    ``source`` holds the bytes of the file as they are (not minified: tracebacks and ``inspect`` need them); it is empty
    for an empty module and None where there is none (a namespace package, or not found). ``path`` is the file name that
    tracebacks show: ``master:app/models.py``, which no host takes for a file of its own. ``reason`` says why nothing
    was found; up to its colon it is one of: native extension, missing, refused, standard library.

    Records are shared and never change. All methods: any thread, nothing raised.
    """

    name: str
    found: bool = False
    reason: str = ""
    is_package: bool = False
    namespace: bool = False
    path: str = ""
    source: bytes | None = field(default=None, repr=False)
    _compressed: bytes | None = field(default=None, repr=False)
    _code: bytes | None = field(default=None, repr=False)
    _packed: bytes | None = field(default=None, repr=False)
    _file: tuple[str, int] | None = field(default=None, repr=False)  # where source was read, and its mtime_ns then

    @property
    def submodule_search(self) -> bool:
        """Whether this is a namespace package: a package without source (PEP 420)."""
        return self.namespace

    def compressed(self) -> bytes:
        """Return ``source`` compressed by zlib; worked out once."""
        if self._compressed is None:
            self._compressed = zlib.compress(self.source or b"", 9)
        return self._compressed

    def code(self, magic: bytes) -> bytes | None:
        """Return the compiled module, marshalled, if ``magic`` is that of this very Python; else None.

        None too if it does not compile here: the child then finds out by itself, with the right traceback.
        """
        if magic != MAGIC_NUMBER or self.source is None:
            return None
        if self._code is None:
            code = self._cached() or _compiled(self.source, self.path)
            if code is None:
                return None
            self._code = marshal.dumps(code)
        return self._code

    def packed_code(self, magic: bytes) -> bytes | None:
        """Return ``code(magic)`` compressed by zlib, lightly: links are quicker than level 9; worked out once."""
        code = self.code(magic)
        if code is not None and self._packed is None:
            self._packed = zlib.compress(code, 1)
        return self._packed if code is not None else None

    def _cached(self) -> types.CodeType | None:
        """The code that Python itself keeps in ``__pycache__``: a tenth of the time that compiling takes."""
        if self._file is None or self.source is None:
            return None
        origin, mtime = self._file
        header = MAGIC_NUMBER + struct.pack("<III", 0, mtime // 10**9 & 0xFFFFFFFF, len(self.source) & 0xFFFFFFFF)
        try:
            with open(importlib.util.cache_from_source(origin, optimization=""), "rb") as handle:
                if handle.read(len(header)) != header:
                    return None
                code = marshal.loads(handle.read())
        except (OSError, ValueError, EOFError, TypeError, NotImplementedError):
            return None
        return _renamed(code, self.path) if isinstance(code, types.CodeType) else None


def _compiled(source: bytes, path: str) -> types.CodeType | None:
    hush()
    try:
        code: types.CodeType = compile(source, path, "exec", dont_inherit=True, optimize=0)
        return code
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _renamed(code: types.CodeType, path: str) -> types.CodeType:
    """``code`` and all functions in it as if compiled from the file ``path``."""
    constants = tuple(_renamed(each, path) if isinstance(each, types.CodeType) else each for each in code.co_consts)
    return code.replace(co_filename=path, co_consts=constants)


def display_path(name: str, is_package: bool, origin: str) -> str:
    """Return the file name that a child shows for module ``name``: short, and no file on any host."""
    if name == "__main__":
        return DISPLAY + (origin.replace("\\", "/").rpartition("/")[2] or name)
    return DISPLAY + name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
