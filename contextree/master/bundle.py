"""The bundle: all of ``contextree.core`` but the first stage, as one piece that a child's first stage can load.

How it works. Every file under core is read through the package's own loader (so from a checkout, a wheel or a zip
alike), minified, and put in an order in which each module comes after those that it imports when it is executed.
``marshal`` version 2 is a format that every Python from 3.6 on reads without importing anything; zlib is in every
build that can run ssh's peers. Source rather than code, since the target's Python is not known when this is sent.

``contextree`` itself is not in here: the child makes a stub of it.

Minifying takes a tenth of a second, so the outcome is kept from one run to the next (see ``kept``).
"""

import ast
import functools
import importlib
import marshal
import pathlib
import sys
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from contextree.core.wire.errors import InternalError
from contextree.master import minify as minifier
from contextree.master import scan
from contextree.master.kept import kept
from contextree.master.minify import minify
from contextree.master.scan import module_level_imports

if TYPE_CHECKING:
    from importlib.abc import Traversable

CORE = "contextree.core"
NOT_SENT = "first_stage.py"  # it is what starts a child: one that has none of its own has no use for it
LIMIT = 20_000  # bytes of the built bundle: what it may cost to start a child far away
# zlib finds a phrase again up to 32 KB back, so like follows like: 170 bytes less than in the order of the alphabet.
# Found by moving single modules about for a minute; those that are not here go by their names.
LIKE = ("", "wire", "process", "wire.errors", "broker", "wire.values", "wire.routes", "mailbox", "wire.frames",
        "wire.flow", "streams", "calls", "logs", "importer", "router", "main")


def modules() -> list[tuple[str, str]]:
    """Return (name, minified source) of every core module, each after the core modules that it needs.

    A package comes before what is in it; it is a package if and only if some other name starts with its name and a
    dot. The list is the caller's own. ``InternalError`` if core's modules import each other in a circle. Any thread.
    """
    return list(_modules())


@functools.lru_cache(maxsize=1)
def build() -> bytes:
    """Return the bundle: ``modules()`` marshalled (version 2) and compressed by zlib. Built once. Any thread."""
    made_from = [sys.version, *(part for item in _read().items() for part in item)]
    made_from += [_source_of(module) for module in (__name__, minifier.__name__, scan.__name__)]
    return kept("contextree.bundle", made_from, lambda: zlib.compress(marshal.dumps(modules(), 2), 9))


@functools.lru_cache(maxsize=1)
def _modules() -> tuple[tuple[str, str], ...]:
    sources = _read()
    packages = {name.rpartition(".")[0] for name in sources}
    needs = {name: _needs(name, source, name in packages, sources) for name, source in sources.items()}
    return tuple((name, minify(sources[name], annotations=False)) for name in in_order(needs))


def _read() -> dict[str, str]:
    """{name: source} of all of core."""
    folder: Traversable | pathlib.Path = pathlib.Path(importlib.import_module(CORE).__path__[0])
    if not folder.is_dir():  # in an archive
        from importlib.resources import files

        folder = files(CORE)
    return dict(_sources(folder, CORE))


def _source_of(module: str) -> str:
    """The source of one of the modules that the bundle is built by; its code, where there is none."""
    loader = sys.modules[module].__loader__
    return loader.get_source(module) or repr(loader.get_code(module).co_code)  # type: ignore[union-attr]


def _sources(folder: "Traversable | pathlib.Path", package: str) -> Iterator[tuple[str, str]]:
    """(name, source) of each module in ``folder`` and below; a folder without ``__init__.py`` is no package of ours."""
    entries = {entry.name: entry for entry in folder.iterdir()}
    if "__init__.py" not in entries:
        return
    for name, entry in sorted(entries.items()):
        if name == NOT_SENT:
            continue
        if name == "__init__.py":
            yield package, entry.read_text(encoding="utf-8")
        elif name.endswith(".py"):
            yield f"{package}.{name[:-3]}", entry.read_text(encoding="utf-8")
        elif entry.is_dir():
            yield from _sources(entry, f"{package}.{name}")


def _needs(name: str, source: str, is_package: bool, known: dict[str, str]) -> set[str]:
    """The core modules that must have been executed before ``name``: its packages, and imports outside functions."""
    package = name if is_package else name.rpartition(".")[0]
    needed = set()
    for module, names in module_level_imports(ast.parse(source), package):
        needed.update([module, *(f"{module}.{each}" for each in names)])
    parts = name.split(".")
    needed.update(".".join(parts[:length]) for length in range(1, len(parts)))
    # A package whose __init__ imports a module below it is executed first all the same.
    return {each for each in needed if each in known and each != name and not each.startswith(name + ".")}


def in_order(needs: dict[str, set[str]]) -> list[str]:
    """The keys of ``needs``, as in ``LIKE`` or sorted, but each after those that it needs. ``InternalError`` names a
    circle."""
    places = {f"{CORE}.{name}".rstrip("."): place for place, name in enumerate(LIKE)}
    ordered: list[str] = []
    left = {name: set(needs[name]) for name in sorted(needs, key=lambda name: (places.get(name, len(LIKE)), name))}
    while left:
        name = next((each for each, wanted in left.items() if not wanted), None)
        if name is None:
            raise InternalError("modules of core import each other in a circle: " + ", ".join(left), modules=list(left))
        ordered.append(name)
        del left[name]
        for wanted in left.values():
            wanted.discard(name)
    return ordered
