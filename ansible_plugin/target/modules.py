"""AnsiballZ archives on the target: code objects by content, and the import of what is in an archive.

An archive is kept in memory by its hash. What stands in it is compiled once for each content (name and CRC), in the
long-lived interpreter, so that the process forked for a task finds code objects. ``ansible.module_utils.basic`` and
what it imports are even imported here, from the first archive that comes; a task whose archive has other contents for
one of these names (module_utils of a role, of a collection) forgets them all and imports its own.
"""

import importlib.abc
import importlib.util
import io
import sys
import zipfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import Any, Dict, Optional, Sequence, Tuple

KEPT = 200  # archives; each is some 100 KB

_code = {}  # type: Dict[Tuple[str, int, int], CodeType]  # (path in the archive, CRC, size)
_archives = {}  # type: Dict[str, Archive]
_warm = {}  # type: Dict[str, Tuple[str, int, int]]  # name of a module that is imported here -> what it was made of


class Archive:
    """One AnsiballZ zip: its ``data``, and the modules in it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.zip = zipfile.ZipFile(io.BytesIO(data))
        self.modules = {}  # type: Dict[str, Tuple[Tuple[str, int, int], bool]]  # name -> (what it is, is it a package)
        for entry in self.zip.infolist():
            path = entry.filename
            if path.endswith(".py"):
                package = path.endswith("/__init__.py")
                name = (path[:-12] if package else path[:-3]).replace("/", ".")
                self.modules[name] = (path, entry.CRC, entry.file_size), package

    def code(self, name: str) -> "CodeType":
        """The code of a module, compiled once for all archives that have the same."""
        key = self.modules[name][0]
        code = _code.get(key)
        if code is None:
            code = _code[key] = compile(self.zip.read(key[0]), "ansible:" + key[0], "exec", dont_inherit=True)
        return code


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of one archive, whose path is told to who asks where they are."""

    def __init__(self, archive: Archive, path: str) -> None:
        self.archive = archive
        self.path = path

    def find_spec(self, name: str, path: "Optional[Sequence[Any]]" = None, target: "Optional[ModuleType]" = None) -> "Any":
        """See importlib."""
        found = self.archive.modules.get(name)
        if found is None:
            return None
        spec = importlib.util.spec_from_loader(name, Loader(self), origin="%s/%s" % (self.path, found[0][0]),
                                               is_package=found[1])
        if spec is not None:
            spec.has_location = True
            if found[1]:
                spec.submodule_search_locations = ["%s/%s" % (self.path, found[0][0][:-12])]
        return spec


class Loader(importlib.abc.InspectLoader):
    """Loads the modules of one archive."""

    def __init__(self, finder: Finder) -> None:
        self.finder = finder

    def get_code(self, name: str) -> "Any":
        """See importlib."""
        return self.finder.archive.code(name)

    def get_source(self, name: str) -> "Optional[str]":
        """See importlib."""
        archive = self.finder.archive
        return archive.zip.read(archive.modules[name][0][0]).decode("utf-8")

    def is_package(self, name: str) -> bool:
        """See importlib."""
        return self.finder.archive.modules[name][1]

    def get_filename(self, name: str) -> str:
        """See importlib."""
        return "%s/%s" % (self.finder.path, self.finder.archive.modules[name][0][0])

    def get_data(self, path: str) -> bytes:
        """See importlib: a file of the archive."""
        prefix = self.finder.path + "/"
        if not path.startswith(prefix):
            raise OSError("%r is not in %s" % (path, self.finder.path))
        try:
            return self.finder.archive.zip.read(path[len(prefix):])
        except KeyError:
            raise FileNotFoundError(path) from None


def known(digest: str) -> "Optional[Archive]":
    """The archive with this hash, if it has come."""
    return _archives.get(digest)


def keep(digest: str, data: bytes) -> Archive:
    """Keep an archive; the oldest of too many goes."""
    while len(_archives) >= KEPT:
        _archives.pop(next(iter(_archives)), None)
    archive = _archives[digest] = Archive(data)
    return archive


def warm(archive: Archive, fqn: str) -> None:
    """Import here what every module wants, once; compile what this one has."""
    if not _warm:
        finder = Finder(archive, "ansible:warm")
        sys.meta_path.insert(0, finder)
        before = set(sys.modules)
        try:
            for name in ("ansible.module_utils.basic", "ansible.module_utils._internal._ansiballz._loader"):
                if name in archive.modules:
                    __import__(name)
        finally:
            sys.meta_path.remove(finder)
            for name in set(sys.modules) - before:
                if name in archive.modules:
                    _warm[name] = archive.modules[name][0]
    for name in archive.modules:
        if name not in _warm or _warm[name] != archive.modules[name][0]:
            archive.code(name)


def enter(archive: Archive, path: str) -> None:
    """In the process of a task: modules of this archive are imported from now on, and of no other."""
    for name, key in _warm.items():
        found = archive.modules.get(name)
        if found is not None and found[0] != key:  # another one of that name: what is imported may refer to ours
            for each in [each for each in sys.modules if each == "ansible" or each.startswith("ansible.")]:
                del sys.modules[each]
            break
    sys.meta_path.insert(0, Finder(archive, path))
