"""AnsiballZ archives in the template process (``template.py``): code by content, and the import of what is in one.

What stands in an archive is compiled once for each content (path, CRC, size), so that the process forked for a module
finds code objects. All of it is compiled under one made-up name, ``NAME``, because the archives of different modules
have most of it in common; a module process knows its archive by a path of its own, at which there is a real zip file.
"""

import io
import os
import sys
import zipfile
import zlib
from importlib.machinery import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

NAME = "/ansible_payload.zip"  # what the files of code objects, and what is imported here, seem to be in
FIRST = "ansible.module_utils.basic", "ansible.module_utils._internal._ansiballz._loader"  # what every module imports
PROFILES = "ansible.module_utils._internal._json._profiles."
CODES = 4000  # code objects that are kept, of some ten kilobytes each

# Of the standard library, what modules often import and what may be imported before somebody needs it.
NAMES = """
    base64 bz2 calendar collections configparser copy csv ctypes ctypes.util datetime difflib email email.message
    email.mime.application email.mime.base email.mime.multipart email.mime.nonmultipart email.parser email.utils
    filecmp fnmatch ftplib glob gzip hashlib hmac html http http.client http.cookiejar inspect ipaddress itertools
    json lzma mimetypes netrc operator pathlib pickle platform pty pwd queue random resource shlex shutil socket ssl
    stat string struct subprocess tarfile tempfile termios textwrap threading traceback urllib urllib.error
    urllib.parse urllib.request urllib.response uuid xml.etree.ElementTree zipfile
"""
STANDARD = frozenset(NAMES.split())

code_objects = {}  # type: Dict[Tuple[str, int, int], CodeType]  # (path in the archive, CRC, size)
imported = {}  # type: Dict[str, Tuple[str, int, int]]  # name of a module that is imported here -> what it was made of
packages = {}  # type: Dict[str, str]  # those of them that are packages -> their folder in the archive


class Archive:
    """One archive: its ``path``, and what is in it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.files = {}  # type: Dict[str, Any]  # path -> its zipfile.ZipInfo
        self.modules = {}  # type: Dict[str, Tuple[Tuple[str, int, int], bool]]  # name -> (what it is, is it a package)
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            for entry in file.infolist():
                path = entry.filename
                self.files[path] = entry
                if path.endswith(".py"):
                    package = path.endswith("/__init__.py")
                    name = (path[:-12] if package else path[:-3]).replace("/", ".")
                    self.modules[name] = (path, entry.CRC, entry.file_size), package
        self.fd, self.path = place(data)

    def read(self, path: str) -> bytes:
        """The bytes of a file of it; KeyError where there is none."""
        entry = self.files[path]
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            with zipfile.ZipFile(io.BytesIO(self.data)) as file:
                return file.read(path)
        at = entry.header_offset + 30
        at += int.from_bytes(self.data[at - 4:at - 2], "little") + int.from_bytes(self.data[at - 2:at], "little")
        data = self.data[at:at + entry.compress_size]
        return zlib.decompress(data, -15) if entry.compress_type == zipfile.ZIP_DEFLATED else data

    def code(self, name: str) -> "CodeType":
        """The code of a module, compiled once for all archives that have the same."""
        key = self.modules[name][0]
        code = code_objects.get(key)
        if code is None:
            if len(code_objects) >= CODES:
                code_objects.clear()
            code = code_objects[key] = compile(self.read(key[0]), "%s/%s" % (NAME, key[0]), "exec", dont_inherit=True)
        return code

    def forget(self) -> None:
        """It is not wanted any more."""
        if self.fd is not None:
            os.close(self.fd)
        else:
            try:
                os.unlink(self.path)
                os.rmdir(os.path.dirname(self.path))
            except OSError:
                pass


def place(data: bytes) -> "Tuple[Optional[int], str]":
    """Put an archive where other processes can read it, too, as long as this one lives: modules that start themselves
    again with another Python want that. As in stock there is a ``sitecustomize`` in it. (descriptor or None, path)."""
    try:
        fd = nameless()  # type: Optional[int]
    except OSError:
        fd = None
    if fd is not None:
        path = "/proc/%d/fd/%d" % (os.getpid(), fd)
        if not os.path.exists(path):
            os.close(fd)
            fd = None
    if fd is None:
        import tempfile

        path = os.path.join(tempfile.mkdtemp(prefix="ansible_payload_"), "ansible_payload.zip")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        named = True
    else:
        named = False
    with os.fdopen(fd if named else os.dup(fd), "w+b") as file:
        file.write(data)
        with zipfile.ZipFile(file, "a") as zip_file:
            zip_file.writestr(zipfile.ZipInfo("sitecustomize.py"), 'import sys\nsys.path.insert(0, "%s")\n' % path)
    return None if named else fd, path


def nameless() -> int:
    """A file without a name, which so cannot stay behind; OSError where it cannot be had."""
    try:
        return int(getattr(os, "memfd_create")("ansible", 0))  # noqa: B009  3.8+
    except (AttributeError, OSError):  # or not Linux
        import tempfile

        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())


class Finder:
    """Finds the modules of one archive, in the process of a module or (``shown`` is NAME then) in the template. The
    base classes of importlib.abc would cost many imports."""

    def __init__(self, archive: Archive, shown: str) -> None:
        self.archive = archive
        self.shown = shown

    def find_spec(self, name: str, path: "Optional[Sequence[Any]]" = None,
                  target: "Optional[ModuleType]" = None) -> "Any":
        """See importlib."""
        found = self.archive.modules.get(name)
        if found is None:
            return None
        # What names deprecating code compares this one's path with those in code objects.
        shown = NAME if name == "ansible" else self.shown
        loader = Loader(self, shown)  # type: Any
        spec = ModuleSpec(name, loader, origin="%s/%s" % (shown, found[0][0]),
                          is_package=found[1])
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append("%s/%s" % (self.shown, found[0][0][:-12]))
        return spec


class Loader:
    """Loads the modules of one archive."""

    def __init__(self, finder: Finder, shown: str) -> None:
        self.finder = finder
        self.archive = shown  # as zipimport.zipimporter has it
        self.prefix = ""

    def create_module(self, spec: "Any") -> None:
        """The default one."""

    def exec_module(self, module: "ModuleType") -> None:
        """Run the code of ``module`` in it."""
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> "Any":
        """See importlib."""
        try:
            return self.finder.archive.code(name)
        except KeyError:
            raise ImportError("there is no %s in %s" % (name, self.archive)) from None

    def get_source(self, name: str) -> "Optional[str]":
        """See importlib."""
        archive = self.finder.archive
        if name not in archive.modules:
            raise ImportError("there is no %s in %s" % (name, self.archive))
        from importlib.util import decode_source

        return decode_source(archive.read(archive.modules[name][0][0]))

    def is_package(self, name: str) -> bool:
        """See importlib."""
        return self.finder.archive.modules[name][1]

    def get_filename(self, name: str) -> str:
        """See importlib."""
        return "%s/%s" % (self.archive, self.finder.archive.modules[name][0][0])

    def get_data(self, path: str) -> bytes:
        """See importlib: a file of the archive."""
        for prefix in self.archive + "/", self.finder.archive.path + "/", NAME + "/":
            if path.startswith(prefix) and path[len(prefix):] in self.finder.archive.files:
                return self.finder.archive.read(path[len(prefix):])
        raise FileNotFoundError(2, "No such file in %s" % self.archive, path)

    def get_resource_reader(self, name: str) -> "Any":
        """See importlib.resources: that of the zip itself."""
        if not self.is_package(name):
            return None
        import zipimport

        archive = self.finder.archive
        folder = os.path.dirname(os.path.dirname(archive.modules[name][0][0]))
        importer = zipimport.zipimporter(os.path.join(archive.path, folder))  # type: Any
        return importer.get_resource_reader(name)


def warm(archive: Archive) -> "Optional[str]":
    """In the template: import what every module wants, once, from the first archive that comes. None, or why not."""
    if imported:
        return None
    finder = Finder(archive, NAME)
    before = set(sys.modules)
    sys.meta_path.insert(0, finder)
    why = None
    try:
        for name in FIRST + tuple(each for each in archive.modules if each.startswith(PROFILES)):
            if name in archive.modules:
                __import__(name)
    except BaseException as error:  # a Python that is too old for it: it says so, and exits
        why = repr(error)
    finally:
        sys.meta_path.remove(finder)
    for name in set(sys.modules) - before:
        if why is not None and (name == "ansible" or name.startswith("ansible.")):
            del sys.modules[name]
        elif name in archive.modules:
            imported[name] = archive.modules[name][0]
            if archive.modules[name][1]:
                packages[name] = archive.modules[name][0][0][:-12]
    return why


def prepare(archive: Archive) -> None:
    """In the template: have the code of what is in an archive, and of the standard library what that imports."""
    wanted = set()  # type: Set[str]
    for name in archive.modules:
        if name not in imported:
            try:
                wanted.update(STANDARD.intersection(archive.code(name).co_names))
            except Exception:
                pass  # its own process says so, if it needs it
    for name in sorted(wanted.difference(sys.modules)):
        try:
            __import__(name)
        except Exception:
            pass  # likewise


def enter(archive: Archive) -> None:
    """In the process of a module: what is in this archive is imported from now on, and nothing of another one."""
    for name, key in imported.items():
        found = archive.modules.get(name)
        if found is None or found[0] != key:  # what is imported may refer to another content than this one's
            purge()
            break
    else:
        for name, package in packages.items():  # for those who look what there is
            module = sys.modules[name]
            if module.__name__ == name:  # ``distro`` has put another one in its place
                module.__path__[:] = ["%s/%s" % (archive.path, package)]
    sys.meta_path.insert(0, Finder(archive, archive.path))
    sys.path.insert(0, archive.path)


def purge() -> None:
    """Forget what was imported from archives."""
    for name in [each for each in sys.modules if each.split(".")[0] in ("ansible", "ansible_collections")]:
        del sys.modules[name]


def stamp() -> "Tuple[Any, ...]":
    """What says whether this process has still imported what a new one would: where Python looks for modules and
    libraries, and itself. A module may have installed something."""
    found = []  # type: List[Any]
    for path in sys.path + [sys.executable, "/etc/ld.so.cache"]:
        try:
            status = os.stat(path)
            found.append((status.st_ino, status.st_mtime))
        except (OSError, ValueError):
            found.append(None)
    return tuple(found)
