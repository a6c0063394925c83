"""Where a module of this process is, without importing anything.

How it works. A module that was imported tells where it came from (``sys.modules`` first: import hooks, editable
installs and modules made in memory are then found for certain). But an entry there is believed only if its spec has
the very name asked for: a module may have put something else in its place while it was executed, and what the child
needs is the module that did so. Anything else is searched for as the import system would, by ``sys.meta_path`` and
the path entry finders, with the parent's search path taken from its location instead of from executing it.

``PathFinder`` itself is not asked but imitated: its namespace packages insist on their parent being imported.

Pure functions of the process's import state; they do run the find_spec of import hooks. Any thread.
"""

import importlib.machinery
import importlib.util
import linecache
import os
import pkgutil
import sys
import tokenize
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

SOURCE_LIMIT = 16 * 1024 * 1024  # bytes of one module's source
_NATIVE = tuple(importlib.machinery.EXTENSION_SUFFIXES)
_SOURCES = tuple(importlib.machinery.SOURCE_SUFFIXES)
_LOCATIONS = 1000
NO_FILE = "the main program has no source file"


@dataclass(frozen=True, slots=True)
class Location:
    """Where module ``name`` is. ``kind``: source, namespace, native or missing; ``detail`` explains the last two."""

    name: str
    kind: str
    origin: str = ""
    is_package: bool = False
    locations: tuple[str, ...] = ()
    loader: Any = None
    detail: str = ""


def locate(name: str, parent: Location | None, path: Sequence[str] | None) -> Location:
    """Return where ``name`` is. ``parent`` is its package's location, None for a top-level module.

    ``path``, if not None, is searched instead of ``sys.path``, and import hooks are not asked. Raises nothing.
    """
    entries = list(parent.locations) if parent else path
    try:
        found = None if path is not None else _loaded(name)
        if found is None and not (parent and not parent.is_package):
            found = _from_spec(name, _search(name, entries, hooks=path is None))
    except Exception as error:  # import hooks and the modules in sys.modules are anybody's code
        return Location(name, "missing", detail=f"{type(error).__name__} while looking for it")
    return found or Location(name, "missing")


def main_location() -> Location:
    """Return where the main script is, whatever name its spec has."""
    module = sys.modules.get("__main__")
    file = getattr(module, "__file__", None)
    loader = getattr(module, "__loader__", None)
    if not isinstance(file, str):
        return Location("__main__", "missing", detail=NO_FILE)
    return Location("__main__", "source", origin=file, loader=loader)


def _loaded(name: str) -> Location | None:
    """What ``sys.modules`` says of ``name``; None if it says nothing, or if something else sits in its place."""
    module = sys.modules.get(name)
    if not isinstance(module, types.ModuleType):
        return None
    names = vars(module)
    path = _strings(names["__path__"]) if "__path__" in names else None
    spec = names.get("__spec__")
    if spec is not None:
        return _from_spec(name, spec, path) if getattr(spec, "name", None) == name else None
    if names.get("__name__") != name:
        return None
    file, loader = names.get("__file__"), names.get("__loader__")
    origin = file if isinstance(file, str) else ""
    made = Location(name, "source", origin, path is not None, path or (), loader)
    if origin.endswith(_NATIVE):
        return _native(made)
    return made if read_source(made) is not None else None


def _from_spec(name: str, spec: Any, path: tuple[str, ...] | None = None) -> Location | None:
    if spec is None:
        return None
    origin = spec.origin if isinstance(spec.origin, str) else ""
    is_package = path is not None or spec.submodule_search_locations is not None
    if path is None:
        path = _strings(spec.submodule_search_locations)
    location = Location(name, "source", origin, is_package, path, spec.loader)
    if spec.loader is None or type(spec.loader).__name__ in ("NamespaceLoader", "_NamespaceLoader"):
        return Location(name, "namespace", "", True, path) if is_package else None
    if origin in ("built-in", "frozen"):
        return Location(name, "native", detail="built into the interpreter")
    if origin.endswith(_NATIVE) or isinstance(spec.loader, importlib.machinery.ExtensionFileLoader):
        return _native(location)
    return location


def _native(location: Location) -> Location:
    """A compiled module; but its source, where it lies beside it (mypyc and Cython in pure mode leave it there)."""
    suffix = next((each for each in _NATIVE if location.origin.endswith(each)), "")
    beside = location.origin.removesuffix(suffix) + _SOURCES[0]
    if suffix and os.path.isfile(beside):
        return Location(location.name, "source", beside, location.is_package, location.locations)
    base = os.path.basename(location.origin)
    return Location(
        location.name, "native", location.origin, location.is_package, location.locations, detail=f"compiled as {base}"
    )


def _strings(values: Any) -> tuple[str, ...]:
    """The strings of a search path. A namespace's path recomputes itself, which fails while its parent is unknown."""
    try:
        found = list(values or ())
    except Exception:
        found = list(getattr(values, "_path", ()))
    return tuple(each for each in found if isinstance(each, str))[:_LOCATIONS]


def _search(name: str, entries: Sequence[str] | None, hooks: bool) -> Any:
    if not hooks:
        return _search_path(name, entries or ())
    for finder in list(sys.meta_path):
        if finder is importlib.machinery.PathFinder:
            spec = _search_path(name, sys.path if entries is None else entries)
        else:
            spec = _ask(finder, name, entries)
        if spec is not None:
            return spec
    return None


def _ask(finder: Any, name: str, entries: Sequence[str] | None) -> Any:
    """An import hook's answer; one that fails knows nothing."""
    try:
        return finder.find_spec(name, entries)
    except Exception:
        return None


def _search_path(name: str, entries: Iterable[str]) -> importlib.machinery.ModuleSpec | None:
    portions: list[str] = []
    for entry in list(entries):
        finder = pkgutil.get_importer(entry or os.getcwd()) if isinstance(entry, str) else None
        find_spec = getattr(finder, "find_spec", None)
        spec: importlib.machinery.ModuleSpec | None = find_spec(name) if find_spec is not None else None
        if spec is not None and spec.loader is not None:
            return spec
        if spec is not None:
            portions += spec.submodule_search_locations or ()
    if not portions:
        return None
    namespace = importlib.machinery.ModuleSpec(name, None, is_package=True)
    namespace.submodule_search_locations = portions
    return namespace


def read_source(location: Location) -> bytes | None:
    """Return the bytes of a module's source (empty if it is empty), or None if there are none to be had."""
    origin, loader = location.origin, location.loader
    try:
        if origin.endswith(_SOURCES) or location.name == "__main__":
            if os.path.isfile(origin):
                with open(origin, "rb") as handle:
                    data = handle.read(SOURCE_LIMIT + 1)
                return data if len(data) <= SOURCE_LIMIT else None
            if hasattr(loader, "get_data"):
                return bytes(loader.get_data(origin))
    except (OSError, ValueError):
        pass
    try:
        text = loader.get_source(location.name) if hasattr(loader, "get_source") else None
    except Exception:  # a loader is anybody's code
        text = None
    if not isinstance(text, str) and origin in linecache.cache:
        text = "".join(linecache.getlines(origin))
    return encode(text) if isinstance(text, str) else None


def encode(text: str) -> bytes:
    """Return ``text`` as a source file's bytes, in the encoding that its own coding line declares, else in UTF-8."""
    text = text.removeprefix("\ufeff")
    start = text[:4096].encode("utf-8", "backslashreplace")
    try:
        encoding = tokenize.detect_encoding(iter(start.splitlines(keepends=True)).__next__)[0]
    except (SyntaxError, LookupError):
        encoding = "utf-8"
    return text.encode(encoding, "backslashreplace")


def decode(source: bytes) -> str:
    """Return the text of a source file's bytes."""
    try:
        return importlib.util.decode_source(source)
    except (SyntaxError, UnicodeError, LookupError):
        return source.decode("utf-8", "replace")


def stamp(location: Location) -> tuple[Any, ...]:
    """Return what changes when the module does: the object in ``sys.modules``, and its file's time and size.

    One stat call; this is what keeps caches both fast and honest.
    """
    identity = id(sys.modules.get(location.name))
    if location.kind != "source":
        return (identity,)
    archive = getattr(location.loader, "archive", None)
    for file in (location.origin, archive):
        if isinstance(file, str) and file:
            try:
                found = os.stat(file)
            except (OSError, ValueError):
                continue
            return identity, found.st_mtime_ns, found.st_size
    return identity, id(linecache.cache.get(location.origin))
