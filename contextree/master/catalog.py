"""The master's modules as children need them: where each is, what it says, what it imports.

How it works. Import statements are read, not executed, so what a call needs is known before any child asks. The edges
of that graph are kept by module, whole closures too, each under a stamp: the generation of overrides, the module's
identity, its file's time and size. So a warm closure is a few dictionary look-ups and one ``stat``. Absent modules are
not remembered: a child could fill such a cache with names. Nothing is locked while something is looked up; two threads
may do the same work, and the last one wins.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from contextree.core import process
from contextree.core.wire.errors import UsageError
from contextree.master.locate import NO_FILE, Location, decode, encode, locate, main_location, read_source, stamp
from contextree.master.record import display_path
from contextree.master.scan import imports_of
from contextree.master.share import OWN, Shared, is_module_name, is_stdlib, prefixes

MAIN = "__main__"
CLOSURE_LIMIT = 10_000  # modules; nearer ones come first
CACHE_NAMES = 20_000

Stamp = tuple[Any, ...]
_log = logging.getLogger(__name__)


class Catalog:
    """Answers for module names of any origin; which of them may be had is for others to decide.

    Of ``shared`` only what is blocked matters here. ``path_hook`` is the Finder's ``sys_path_hook``. Any thread.
    """

    def __init__(self, shared: Shared, path_hook: Callable[[], Sequence[str]] | None = None) -> None:
        self._shared = shared
        self._path_hook = path_hook
        self._lock = process.allocate_lock()  # not gevent's: see Finder
        self._generation = 0  # of overrides and modifiers; part of every stamp
        self._overrides: dict[str, tuple[bytes, bool]] = {}
        self._modifiers: dict[str, Callable[[str], str]] = {}
        self._locations: dict[str, tuple[int, int, Location]] = {}
        self._edges: dict[str, tuple[Stamp, tuple[str, ...]]] = {}
        self._closures: dict[str, tuple[Stamp, tuple[str, ...]]] = {}
        self._unsendable: dict[str, str] = {}

    # -- what the user put in place ----------------------------------------------------------------------------------

    def override(self, name: str, source: str | bytes, is_package: bool) -> None:
        """Let ``source`` be the source of ``name`` from now on."""
        self._change(name)
        data = encode(source) if isinstance(source, str) else bytes(source)
        with self._lock:
            self._overrides[name] = (data, is_package)
            self._generation += 1

    def modify(self, name: str, function: Callable[[str], str]) -> None:
        """Let ``function`` have the last word on the source of ``name``."""
        self._change(name)
        with self._lock:
            self._modifiers[name] = function
            self._generation += 1

    def is_overridden(self, name: str) -> bool:
        """Whether ``name`` has a source that the user gave."""
        return name in self._overrides

    def is_changed(self, name: str) -> bool:
        """Whether children get another source for ``name`` than its file holds."""
        return name in self._overrides or name in self._modifiers

    @property
    def changes(self) -> bool:
        """Whether there is any such module."""
        return bool(self._overrides or self._modifiers)

    def _change(self, name: str) -> None:
        if not is_module_name(name):
            raise UsageError(f"{name!r} is not a module name")

    # -- what a module needs -----------------------------------------------------------------------------------------

    def closure(self, module_name: str) -> tuple[str, ...]:
        """Return the modules that a child needs for ``module_name``: itself, and all that it imports, however deep.

        In the order in which a child comes across them, packages before what is in them. The standard library, what is
        blocked, what does not exist and what cannot be sent (see ``unsendable``) is not among them.
        """
        if not self.reachable(module_name):
            return ()
        now = self.stamp(module_name)
        known = self._closures.get(module_name)
        if known is not None and known[0] == now:
            return known[1]
        found = tuple(self.reach(module_name, {}))
        put(self._closures, module_name, (now, found))
        return found

    @property
    def unsendable(self) -> Mapping[str, str]:
        """The native modules that closures have come across so far, and why each cannot be sent."""
        return dict(self._unsendable)

    def reachable(self, name: str) -> bool:
        """Whether ``name`` could be in a closure at all; only the place remains to be looked at."""
        if not is_module_name(name) or self._shared.is_blocked(name) or name.partition(".")[0] == OWN:
            return False
        return not is_stdlib(name) or name in self._overrides

    def reach(self, start: str, done: Mapping[str, Stamp]) -> Iterator[str]:
        """Yield names reached from ``start`` by imports, nearest first, not beyond what is ``done`` and unchanged."""
        alias = self.main_alias() if start == MAIN else None
        queue = [*self._with_parents(start), *(self._with_parents(alias) if alias else ())]
        seen = set(queue)
        for name in queue:  # grows while it is walked
            if len(seen) > CLOSURE_LIMIT:
                break
            known = done.get(name)
            if known is not None and known == self.stamp(name):
                continue
            yield name
            for each in self._imports_of(name):
                if each not in seen:
                    seen.add(each)
                    queue.append(each)

    def _imports_of(self, name: str) -> tuple[str, ...]:
        """The sendable modules that ``name`` imports itself, with their packages."""
        now = self.stamp(name)
        known = self._edges.get(name)
        if known is not None and known[0] == now:
            return known[1]
        location = self.location(name)
        source, _ = self.source(location) if location.kind == "source" else (None, "")
        found: dict[str, None] = {}
        if source:
            dotted = (self.main_alias() or "") if name == MAIN else name
            package = dotted if location.is_package else dotted.rpartition(".")[0]
            for module, taken in imports_of(source, package, display_path(name, location.is_package, location.origin)):
                # dill, unittest and others import the main program, which is no reason to share all that it imports
                if self.reachable(module) and module != MAIN:
                    found.update(dict.fromkeys(self._with_parents(module)))
                    if self.location(module).is_package:
                        for each in taken:
                            found.update(dict.fromkeys(self._with_parents(f"{module}.{each}")))
        put(self._edges, name, (now, tuple(found)))
        return tuple(found)

    def _with_parents(self, name: str) -> list[str]:
        """``name`` after its packages, as far as they exist and can be sent (``six.moves`` exists only once it ran)."""
        found: list[str] = []
        if not self.reachable(name):
            return found
        for each in prefixes(name):
            location = self.location(each)
            if location.kind == "missing":
                break
            if location.kind == "native":
                put(self._unsendable, each, native_reason(location))
            else:
                found.append(each)
        return found

    def root_of(self, name: str) -> str:
        """Return the package to grant for ``name``: its topmost real one, since anybody may be in a namespace.

        Empty if ``name`` is itself nothing but a namespace.
        """
        return next((each for each in prefixes(name) if self.location(each).kind != "namespace"), "")

    # -- where a module is -------------------------------------------------------------------------------------------

    def location(self, name: str) -> Location:
        """Return where ``name`` is, as children are to see it. Follows what is in ``sys.modules``."""
        generation, identity = self._generation, id(sys.modules.get(name))
        known = self._locations.get(name)
        if known is not None and known[:2] == (generation, identity):
            return known[2]
        if name == MAIN:
            found = main_location()
        else:
            parent = name.rpartition(".")[0]
            found = locate(name, self.location(parent) if parent else None, self.path())
        override = self._overrides.get(name)
        if override is not None:
            is_package = found.is_package or (found.kind == "missing" and override[1])
            found = Location(name, "source", found.origin, is_package, found.locations)
        if found.kind != "missing":
            put(self._locations, name, (generation, identity, found))
        return found

    def forget(self, name: str) -> None:
        """Look for ``name`` anew next time."""
        self._locations.pop(name, None)

    def path(self) -> list[str] | None:
        """Return what to search instead of ``sys.path``; None for ``sys.path`` itself. A failing hook finds nothing."""
        if self._path_hook is None:
            return None
        try:
            return [str(each) for each in self._path_hook()]
        except Exception:
            _log.exception("sys_path_hook failed")
            return []

    def stamp(self, name: str) -> Stamp:
        """Return what changes whenever an answer about ``name`` might."""
        return self._generation, *stamp(self.location(name))

    def source(self, location: Location) -> tuple[bytes | None, str]:
        """Return the source that children get, and if there is none, why. Runs modifiers; caches nothing."""
        name = location.name
        override = self._overrides.get(name)
        source = override[0] if override is not None else read_source(location)
        if source is None:
            return None, "missing: " + (NO_FILE if name == MAIN else f"{name!r} has no source")
        modifier = self._modifiers.get(name)
        if modifier is not None:
            try:
                source = encode(modifier(decode(source)))
            except Exception as error:  # the user's function; the child must hear of it, and the log all of it
                _log.exception("modifier of module %r failed", name)
                return None, f"refused: the modifier of {name!r} failed: {type(error).__name__}"
        return source, ""

    def main_alias(self) -> str | None:
        """Return the name under which the main script can be imported, if it was started by ``python -m``."""
        name = getattr(getattr(sys.modules.get(MAIN), "__spec__", None), "name", None)
        return name if name != MAIN and is_module_name(name) else None


def native_reason(location: Location) -> str:
    """Return the reason why a native module is not sent."""
    return f"native extension: {location.detail or os.path.basename(location.origin)}; install it on the target"


def read_at(location: Location, now: Stamp) -> tuple[str, int] | None:
    """Return the file that ``location`` is read from and its ``mtime_ns`` by the stamp; None if it is no plain file."""
    is_file = len(now) == 4 and getattr(location.loader, "archive", None) is None
    return (location.origin, now[2]) if is_file else None


def put(cache: dict[str, Any], name: str, value: Any) -> None:
    """Remember ``value``; a cache that has grown out of all proportion starts anew."""
    if len(cache) >= CACHE_NAMES:
        cache.clear()
    cache[name] = value
