"""Answers children that ask for modules, files in packages and metadata.

How it works. A request passes three gates. *The name*: only what an import statement could spell. *The policy*
(``share.Shared``): only what the master declared or what a call that it sent needs, so a hostile child cannot read the
master's disk by asking for modules. *The place* (``locate``): where the module is, found without importing anything.

What a call needs is worked out by reading import statements (``closure``), so it is known before the child asks. Whole
packages are granted, as a module loaded by name at run time (a plug-in, a codec) is almost always in a package that
was named already. A module that is served brings its own imports along, for the same reason.

What may be had is decided here, what there is by ``catalog.Catalog``; see there for caches and their stamps.
"""

import logging
import sys
from collections import ChainMap, Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from contextree.core import process
from contextree.master import resources
from contextree.master.catalog import CACHE_NAMES, MAIN, Catalog, Stamp, native_reason, put, read_at
from contextree.master.locate import Location
from contextree.master.record import Record, display_path
from contextree.master.scan import guarded
from contextree.master.share import OWN, Shared, is_module_name, is_stdlib, module_of_file

CACHE_BYTES = 64 * 1024 * 1024  # of source in remembered records
RESOURCE_LIMIT = 64 * 1024 * 1024
_LOGGED_NAMES = 200

_log = logging.getLogger(__name__)


class Finder:
    """What the master tells children about its modules.

    ``share``: names that children may have besides what calls need: ``"plugins.a"`` for that module, ``"plugins.*"``
    for a package with all in it. ``block``: names that they never get, with all below. ``sys_path_hook``, if given,
    returns the directories and archives to search instead of ``sys.path`` (and ``sys.modules``).

    Methods that answer a child (``find``, ``resource``, ``resource_names``, ``is_resource``, ``metadata``,
    ``distributions``) never raise, whatever the child sent. Every method may be called from any thread but a broker's,
    since it may read files.
    """

    def __init__(
        self,
        share: Iterable[str] = (),
        block: Iterable[str] = (),
        sys_path_hook: Callable[[], Sequence[str]] | None = None,
        *,
        resource_limit: int = RESOURCE_LIMIT,
    ) -> None:
        self._shared = Shared(share, block)
        self._catalog = Catalog(self._shared, sys_path_hook)
        self._resource_limit = resource_limit
        self._lock = process.allocate_lock()  # not gevent's: real threads come too, and it is held for a moment
        self._allowed: dict[str, Stamp] = {}
        self._spread: dict[str, Stamp] = {}
        self._due: dict[str, None] = {}  # allowed, and what they import has not been looked for
        self._records: dict[str, tuple[Stamp, Record]] = {}
        self._record_bytes = 0
        self._distributions: tuple[Any, list[str]] = (None, [])
        self._requests = 0
        self._refused: Counter[str] = Counter()
        self._logged: set[str] = set()

    # -- policy ------------------------------------------------------------------------------------------------------

    def allow(self, module_name: str) -> None:
        """Share ``module_name`` and all that it imports, whole packages at a time. Cheap when repeated.

        What it imports is looked for when a child first asks for something that is not shared yet: with a large package
        that is a thousand files to parse, and a child on this machine, which has them itself, hardly ever asks."""
        catalog = self._catalog
        if module_name == MAIN:
            self._shared.add_exact(MAIN)  # though it may have no file: the refusal then says so
        if (not catalog.reachable(module_name) or module_name in self._due
                or self._allowed.get(module_name) == catalog.stamp(module_name)):
            return
        self._shared.add_package_of(module_name, catalog.root_of(module_name))
        self._due[module_name] = None

    def settle(self) -> None:
        """Share what those import that were allowed since the last time."""
        catalog = self._catalog
        for module_name in list(self._due):
            found = list(catalog.reach(module_name, self._allowed))
            for name in found:
                self._shared.add_package_of(name, catalog.root_of(name))
            for name in found:  # only now: whoever sees the mark may rely on the grants
                put(self._allowed, name, catalog.stamp(name))
            self._due.pop(module_name, None)

    def is_allowed(self, name: str) -> bool:
        """Whether a child may have module ``name``, should it exist."""
        if not is_module_name(name) or (is_stdlib(name) and not self._catalog.is_overridden(name)):
            return False
        if self._due and not self._shared.is_importable(name):
            self.settle()
        return self._shared.is_importable(name)

    def override(self, name: str, source: str | bytes, is_package: bool = False) -> None:
        """Let ``source`` be what children get for ``name``, and share it. ``name`` need not exist here.

        Where it exists, it stays the package or plain module that it is. ``UsageError`` if ``name`` cannot be one.
        """
        self._catalog.override(name, source, is_package)
        self._shared.add_exact(name)

    def modify(self, name: str, function: Callable[[str], str]) -> None:
        """Let children get ``function(source)`` for ``name``. This shares nothing; ``UsageError`` for a wrong name."""
        self._catalog.modify(name, function)

    def is_changed(self, name: str) -> bool:
        """Whether children get another source for ``name`` than its file holds: by ``override`` or ``modify``."""
        return self._catalog.is_changed(name)

    @property
    def changes(self) -> bool:
        """Whether ``is_changed`` is true of any module."""
        return self._catalog.changes

    def closure(self, module_name: str) -> tuple[str, ...]:
        """Return the modules that a child needs for ``module_name``; see ``Catalog.closure``."""
        return self._catalog.closure(module_name)

    @property
    def unsendable(self) -> Mapping[str, str]:
        """The native modules that closures have come across so far, and why each cannot be sent."""
        return self._catalog.unsendable

    # -- modules for children ----------------------------------------------------------------------------------------

    def find(self, name: str) -> Record:
        """Return module ``name`` as a child may have it, or a record with the reason why not. Raises nothing."""
        record = self._answer(name)
        self._count(record.name, record.reason)
        return record

    def main_source(self) -> Record:
        """Return the main script, for those who call functions of it: ``find("__main__")``.

        Only after ``allow("__main__")``, and only if it is guarded: elsewhere it is imported, not run.
        """
        return self._answer(MAIN)

    def main_alias(self) -> str | None:
        """Return the name under which the main script can be imported, if it was started by ``python -m``."""
        return self._catalog.main_alias()

    def guarded(self, source: str | bytes) -> bool:
        """Whether a script can be imported without doing its work; see ``scan.guarded``."""
        return guarded(source)

    def _answer(self, name: str) -> Record:
        if not is_module_name(name):
            return Record(_clip(name), reason="refused: not a module name")
        try:
            return self._look_up(name)
        except Exception as error:  # import hooks, loaders and sys.modules hold anybody's code
            _log.exception("looking for module %r failed", name)
            return Record(name, reason=f"missing: {type(error).__name__} while looking for it")

    def _look_up(self, name: str) -> Record:
        if is_stdlib(name) and not self._catalog.is_overridden(name):
            return Record(name, reason="standard library: the Python there does not have it")
        if self._due and not self._shared.is_importable(name):  # what is due might share it: but is it here at all?
            if not self._is_here(name):
                return Record(name, reason=self._refusal(name))
            location = self._catalog.location(name)
            if location.kind == "missing":
                return Record(name, reason=f"missing: no module named {name!r}")
            record = self._record(location, self._catalog.stamp(name))
            if not record.found:
                return Record(name, reason=record.reason)
        if not self.is_allowed(name):
            return Record(name, reason=self._refusal(name))
        location = self._catalog.location(name)
        if location.kind == "missing":
            return Record(name, reason="missing: " + (location.detail or f"no module named {name!r}"))
        now = self._catalog.stamp(name)
        known = self._records.get(name)
        if known is not None and known[0] == now:
            return known[1]
        record = self._record(location, now)
        if not record.reason.startswith("missing"):
            self._keep(now, record)
        else:
            self._catalog.forget(name)  # its file is gone; look for it anew next time
        if record.found:
            self._spread_from(name)
        return record

    def _record(self, location: Location, now: Stamp) -> Record:
        name, is_package = location.name, location.is_package
        path = display_path(name, is_package, location.origin)
        if location.kind == "native":
            return Record(name, reason=native_reason(location), is_package=is_package)
        if location.kind == "namespace":
            return Record(name, True, is_package=True, namespace=True, path=path.removesuffix("/__init__.py"))
        source, reason = self._catalog.source(location)
        if source is not None and name in (MAIN, self._catalog.main_alias()) and not guarded(source):
            source, reason = None, _UNGUARDED
        if source is None:
            return Record(name, reason=reason, is_package=is_package)
        file = None if self._catalog.is_changed(name) else read_at(location, now)
        return Record(name, True, is_package=is_package, path=path, source=source, _file=file)

    def _refusal(self, name: str) -> str:
        if self._shared.is_blocked(name):
            return "refused: blocked by the master"
        top = name.partition(".")[0]
        if top == OWN:
            return f"refused: only the master has {name!r}"
        if name != MAIN and not self._is_here(name):
            return f"refused: not shared, and the master does not have {top!r} either"
        pattern = name if name == MAIN else top + ".*"
        return f"refused: not shared; call a function of it or pass share=[{pattern!r}]"

    def _spread_from(self, name: str) -> None:
        """Share what a served module imports: others' packages whole, of its own package just what is named.

        Its own package has been granted whole already, unless the user declared single modules of it.
        """
        if not self._catalog.reachable(name):
            return
        own = self._catalog.root_of(name)
        found = list(self._catalog.reach(name, ChainMap(self._allowed, self._spread)))
        for each in found:
            root = self._catalog.root_of(each)
            if root != own:
                self._shared.add_package_of(each, root)
            elif not self._shared.is_importable(each):
                self._shared.add_exact(each)
        for each in found:
            put(self._spread, each, self._catalog.stamp(each))

    def _keep(self, now: Stamp, record: Record) -> None:
        with self._lock:
            old = self._records.pop(record.name, None)
            self._record_bytes += len(record.source or b"") - len((old and old[1].source) or b"")
            self._records[record.name] = now, record
            while self._record_bytes > CACHE_BYTES or len(self._records) > CACHE_NAMES:
                _, oldest = self._records.pop(next(iter(self._records)))
                self._record_bytes -= len(oldest.source or b"")

    # -- files and metadata for children -----------------------------------------------------------------------------

    def resource(self, package: str, relative_path: str) -> bytes | None:
        """Return the file at ``relative_path`` (parts joined by ``/``) in a shared package, None if refused or absent.

        ``counters`` and the log tell which. Only regular files in the package itself, up to ``resource_limit`` bytes.
        """
        found, parts, reason = self._package(package, relative_path)
        data: bytes | None = None
        if found is not None:
            module = module_of_file(package, parts)
            if self._catalog.is_changed(module):
                record = self._answer(module)
                data, reason = record.source, record.reason
            elif not parts:
                reason = "missing: not a file"
            else:
                permit = self._permit(package)
                data, reason = resources.read(found.locations, parts, permit, self._resource_limit)
        self._count(f"{_clip(package)}/{_clip(relative_path)}", reason)
        return data

    def resource_names(self, package: str, relative_dir: str = "") -> list[tuple[str, bool]] | None:
        """Return sorted (name, is_dir) of what is in a directory of a shared package; None if refused or absent."""
        found, parts, reason = self._package(package, relative_dir)
        names = None
        if found is not None:
            names = resources.names(found.locations, parts, self._permit(package))
            reason = "" if names is not None else "missing: no such directory"
        self._count(f"{_clip(package)}/{_clip(relative_dir)}", reason)
        return names

    def is_resource(self, package: str, path: str) -> bool:
        """Whether ``path`` is a file in a shared package: not for directories and what is missing or refused."""
        found, parts, reason = self._package(package, path)
        answer = False
        if found is not None and parts:
            answer = resources.is_file(found.locations, parts, self._permit(package))
        self._count(f"{_clip(package)}/{_clip(path)}", reason or ("" if answer else "missing: no such resource"))
        return answer

    def metadata(self, distribution_name: str) -> dict[str, str] | None:
        """Return the texts of METADATA, entry_points.txt and top_level.txt, as far as there are any.

        None unless it is an installed distribution with some package that is shared.
        """
        found = resources.distribution(distribution_name, self._catalog.path())
        reason = ""
        if found is None:
            reason = "missing: no such distribution"
        elif not self._is_shared_distribution(found):
            reason = "refused: none of its packages is shared"
        self._count(f"distribution {_clip(distribution_name)}", reason)
        return resources.metadata_files(found) if found is not None and not reason else None

    def distributions(self) -> list[str]:
        """Return the sorted names of the installed distributions that have some shared package."""
        path = self._catalog.path()
        key = (self._shared.version, tuple(sys.path if path is None else path))
        if self._distributions[0] != key:
            shared = filter(self._is_shared_distribution, resources.distributions(path))
            self._distributions = key, sorted({resources.distribution_name(each) for each in shared} - {""})
        return list(self._distributions[1])

    def _is_shared_distribution(self, found: Any) -> bool:
        modules = resources.modules_of(found)
        return OWN not in modules and any(self._shared.is_shared(each) for each in modules)

    def _permit(self, package: str) -> resources.Permit:
        return lambda parts: self._shared.permits_file(package, parts)

    def _package(self, package: str, path: str) -> tuple[Location | None, resources.Parts, str]:
        """Where ``package`` is, and the checked ``path``; or None and why not."""
        parts = resources.checked_parts(path)
        if not is_module_name(package):
            return None, (), "refused: not a module name"
        if parts is None:
            return None, (), "refused: not a plain relative path"
        if self._due and not self._shared.is_shared(package):
            self.settle()
        if is_stdlib(package) or not self._shared.is_shared(package):
            return None, (), self._refusal(package)
        if not self._shared.permits_file(package, parts):
            return None, (), "refused: not shared"
        location = self._catalog.location(package)
        if not location.is_package or not location.locations:
            return None, (), "missing: not a package with files"
        return location, parts, ""

    # -- counters ----------------------------------------------------------------------------------------------------

    @property
    def counters(self) -> dict[str, Any]:
        """A copy of the counts: requests, hits, and refused by the kind of reason; the first is the sum of the rest."""
        with self._lock:
            refused = dict(self._refused)
            return {"requests": self._requests, "hits": self._requests - sum(refused.values()), "refused": refused}

    def _count(self, what: str, reason: str) -> None:
        kind = reason.partition(":")[0]
        with self._lock:
            self._requests += 1
            if kind:
                self._refused[kind] += 1
            tell = kind == "refused" and what not in self._logged and len(self._logged) < _LOGGED_NAMES
            if tell:
                self._logged.add(what)
        if tell:
            _log.log(logging.WARNING if self._is_here(what) else logging.DEBUG, "a child asked for %r: %s", what,
                     reason)

    def _is_here(self, what: str) -> bool:
        """Whether there is something to get. The standard library itself tries names that nobody has, Jython's say."""
        try:
            top = what.partition(".")[0]
            return top == MAIN or not is_module_name(what) or self._catalog.location(top).kind != "missing"
        except Exception:  # anybody's loader
            return True


_UNGUARDED = (
    'refused: the main script has no `if __name__ == "__main__":` around what it does, so importing it in a child '
    "would do it all again; add that line, or move the function into a module"
)


def _clip(name: object) -> str:
    return name[:100] if isinstance(name, str) else f"<{type(name).__name__}>"
