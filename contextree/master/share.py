"""Which modules children may have: a table of names, and nothing that looks at a module.

A name is shared if it was declared (exactly, or by ``prefix.*``) or granted later, a whole package at a time, because
the master sent a call that needs it. The packages above a shared name are *passages*: they may be imported, since
nothing below them could be otherwise, but their files are not to be read. What is blocked stays blocked, and
all below it.

Names are only ever added. Any thread.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator

from contextree.core.wire.errors import UsageError

OWN = "contextree"
OWN_SHARED = ("contextree.core.*", "contextree.connect.*", "contextree.parent.*")
_NAME_LIMIT = 255
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)
_MODULE_FILES = (".py", ".pyw", ".pyi", ".pyc", ".pyo", ".so", ".pyd", ".pyx", ".dll", ".dylib")


def is_module_name(name: object) -> bool:
    """Whether ``name`` is a dotted name as an import statement would spell it: no path, no empty or odd part."""
    if not isinstance(name, str) or not 0 < len(name) <= _NAME_LIMIT:
        return False
    if _PLAIN.fullmatch(name):
        return True
    if name.isascii() or unicodedata.normalize("NFKC", name) != name:
        return False
    return all(part.isidentifier() for part in name.split("."))


def is_stdlib(name: str) -> bool:
    """Whether ``name`` belongs to the standard library, which every host has of its own (row P-36)."""
    return name.partition(".")[0] in sys.stdlib_module_names


def prefixes(name: str) -> Iterator[str]:
    """``a``, ``a.b``, ``a.b.c``."""
    end = name.find(".")
    while end >= 0:
        yield name[:end]
        end = name.find(".", end + 1)
    yield name


class Shared:
    """The table. ``version`` grows with every name that is added."""

    def __init__(self, share: Iterable[str] = (), block: Iterable[str] = ()) -> None:
        self._exact: set[str] = set()
        self._roots: set[str] = set()
        self._passages: set[str] = set()
        self._blocked = {name.removesuffix(".*") for name in _checked("block", block)}
        self._blocked_folded = {name.casefold() for name in self._blocked}
        for name in (*OWN_SHARED, *_checked("share", share)):
            if name.endswith(".*"):
                self.add_root(name[:-2])
            else:
                self.add_exact(name)

    @property
    def version(self) -> int:
        """How many names have been added."""
        return len(self._exact) + len(self._roots) + len(self._passages)

    def add_exact(self, name: str) -> None:
        """Share ``name`` alone, as a passage the packages above it."""
        self._exact.add(name)
        self._passages.update(list(prefixes(name))[:-1])

    def add_root(self, name: str) -> None:
        """Share ``name`` and all below it, as a passage the packages above it."""
        self._roots.add(name)
        self._passages.update(list(prefixes(name))[:-1])

    def add_package_of(self, name: str, root: str) -> None:
        """Share ``root``, the package that ``name`` is in; without one, ``name`` is a namespace and but a passage."""
        if name == "__main__":
            return  # what imports it (dill does) wants the __main__ of its own process; ours is given by name only
        if root:
            self.add_root(root)
        else:
            self._passages.update(prefixes(name))

    def is_blocked(self, name: str) -> bool:
        """Whether ``name`` or a package above it was blocked."""
        return bool(self._blocked) and any(each in self._blocked for each in prefixes(name))

    def is_shared(self, name: str) -> bool:
        """Whether ``name`` may be had with all that belongs to it."""
        if self.is_blocked(name) or name == OWN:
            return False
        return name in self._exact or any(each in self._roots for each in prefixes(name))

    def is_importable(self, name: str) -> bool:
        """Whether ``name`` may be had, if only to import what is below it."""
        if name in self._passages:
            return not self.is_blocked(name) and name != OWN
        return self.is_shared(name)

    def permits_file(self, package: str, parts: tuple[str, ...]) -> bool:
        """Whether the file or directory at ``parts`` in a shared ``package`` may be read.

        Blocked names are compared without regard to case: some file systems have none.
        """
        dotted = package
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            is_module = last and part.casefold().endswith(_MODULE_FILES)
            stem = part.partition(".")[0] if is_module else part
            dotted = dotted if is_module and stem == "__init__" else f"{dotted}.{stem}"
            if dotted.casefold() in self._blocked_folded:
                return False
            if (is_module or not last) and not self.is_shared(dotted):
                return False
        return True


def module_of_file(package: str, parts: tuple[str, ...]) -> str:
    """Return the module whose source the file at ``parts`` is; empty if it is no source file."""
    if not parts or not parts[-1].endswith((".py", ".pyw")):
        return ""
    stem = parts[-1].rpartition(".")[0]
    return ".".join([package, *parts[:-1], *([] if stem == "__init__" else [stem])])


def _checked(what: str, given: Iterable[str]) -> list[str]:
    if isinstance(given, str):
        raise UsageError(f"{what}={given!r}: expected a list of names, such as {what}=[{given!r}]")
    found = list(given)
    for name in found:
        if not is_module_name(name.removesuffix(".*") if isinstance(name, str) else name):
            raise UsageError(f"{what}: {name!r} is not a module name, nor one followed by '.*'")
    return found
