"""Archives of core's own modules, kept from run to run beside our compiled modules (``__pycache__``).

An archive of a module of ansible-core is made from that module, from files of module_utils that come with it, and by
core's own code. All of these are files of one installation, so what is kept goes by their names, sizes and times, as
Python's compiled modules do, and by the bytes of the module. Only used, and only kept, are archives that have nothing
from elsewhere in them, in a run where nothing else is to be had: no folder of module_utils of a role, a collection or
the user, no extension of core's builder, and nothing that core or Python had to say while it was built.

As with compiled modules, nothing is written with ``PYTHONDONTWRITEBYTECODE``, nor where that is not allowed.
"""

import base64
import contextlib
import hashlib
import importlib.util
import io
import os
import re
import shutil
import sys
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible.executor import module_common
from ansible.plugins.loader import module_utils_loader
from ansible.utils.display import Display

CORE = os.path.dirname(os.path.abspath(C.__file__))
MODULES = os.path.join(CORE, "modules")
UTILS = os.path.join(CORE, "module_utils")
MADE_BY = "__init__.py", "release.py", "_internal", "config", "executor", "module_utils", "utils"  # files of core
INSIDE = re.compile(r"ansible/(__init__\.py|module_utils/.*|modules/\w+\.py)")  # what may be in an archive
MOST = 4  # installations, or states of one, whose archives are kept
SAYS = ("display", "warning", "deprecated", "error", "error_as_warning", "system_warning", "banner", "_warning",
        "_deprecated", "_error", "_log", "_verbose_log")  # methods of core's Display

_store: str | None = None  # where archives of this installation are, in a run that may use them
_builds = 0  # how many archives this process has begun to build
_talkative = False  # something has been said while it built one: Python may say it but once


def begin() -> None:
    """Have archives kept, and used. In the main process, in a run in which core has nothing to tell of building."""
    global _store
    if _store is None:
        with contextlib.suppress(OSError, NotImplementedError):
            _store = os.path.join(_parent(), _state())


def end() -> None:
    """No more of that."""
    global _store
    _store = None


def _parent() -> str:
    return os.path.join(os.path.dirname(importlib.util.cache_from_source(os.path.abspath(__file__))), "archives")


def _state() -> str:
    """A digest of the installation: whatever an archive is made of and by, but the module itself."""
    made_from: list[Any] = [sys.version, CORE]
    folders = [CORE]
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name == "__pycache__" or (folder == CORE and entry.name not in MADE_BY):
                    continue
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    found = entry.stat()
                    made_from += entry.path, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
    return hashlib.sha256(repr(made_from).encode("utf-8", "surrogateescape")).hexdigest()


def place(path: str, compression: str) -> str | None:
    """The folder for the archive of a module, by its file; None: it is not kept. Raises OSError."""
    if _store is None or os.path.dirname(os.path.abspath(path)) != MODULES:
        return None
    for name in "recursive_finder", "_add_module_to_zip":
        function = getattr(module_common, name, None)
        code = getattr(getattr(function, "__wrapped__", function), "__code__", None)  # see ``counted``
        if code is None or code.co_filename != module_common.__file__:
            return None  # somebody has put another one in its place
    for folder in module_utils_loader._get_paths(subdirs=False):
        if os.path.isdir(folder) and not os.path.samefile(folder, UTILS):
            return None
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read())
    digest.update(repr((os.path.basename(path), compression)).encode())
    return os.path.join(_store, digest.hexdigest())


def _file(folder: str) -> str | None:
    """The one that is in the folder of an archive."""
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    return names[0] if len(names) == 1 else None


def has(path: str, compression: str) -> bool:
    """Whether the archive of a module is kept."""
    with contextlib.suppress(OSError):
        folder = place(path, compression)
        return folder is not None and _file(folder) is not None
    return False


def take(folder: str, cache: str) -> bool:
    """Put a kept archive into core's cache. Raises OSError, where that has one already, too."""
    name = _file(folder)
    if name is None:
        return False
    os.makedirs(cache, exist_ok=True)
    new = os.path.join(cache, "%s.%d-part" % (name, os.getpid()))
    try:
        shutil.copyfile(os.path.join(folder, name), new)
        os.link(new, os.path.join(cache, name))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
    return True


def keep(folder: str, archive: str) -> None:
    """Keep an archive that was just built, quietly."""
    if sys.dont_write_bytecode or _talkative or not _is_ours(archive):
        return
    new = "%s.%d" % (folder, os.getpid())
    store = os.path.dirname(folder)
    with contextlib.suppress(OSError):
        if os.path.isdir(os.path.dirname(os.path.dirname(store))):  # else nothing was compiled into it
            if not os.path.isdir(store):
                _forget(os.path.dirname(store))
            os.makedirs(new, 0o755)
            try:
                shutil.copyfile(archive, os.path.join(new, os.path.basename(archive)))
                os.rename(new, folder)
            except OSError:
                shutil.rmtree(new, ignore_errors=True)


def _forget(parent: str) -> None:
    """Have room for archives of one more installation."""
    with contextlib.suppress(OSError):
        stores = sorted(os.scandir(parent), key=lambda entry: entry.stat().st_mtime)
        for entry in stores[:max(0, len(stores) + 1 - MOST)]:
            shutil.rmtree(entry.path, ignore_errors=True)


def _is_ours(archive: str) -> bool:
    """Whether all that is in an archive comes from core's modules and module_utils."""
    try:
        with open(archive, "rb") as file:
            text = max(re.findall(rb"[A-Za-z0-9+/=]+", file.read()), key=len)  # since 2.19 within a pickle
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(text))) as opened:
            return all(map(INSIDE.fullmatch, opened.namelist()))
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


# -- while a worker builds one


def counted(undo: contextlib.ExitStack) -> None:
    """Have it known that this process builds an archive, and does not take one that another one has built."""
    build = module_common.recursive_finder

    def counting(*args: Any, **kwargs: Any) -> Any:
        global _builds
        _builds += 1
        return build(*args, **kwargs)

    counting.__wrapped__ = build  # type: ignore[attr-defined]
    undo.callback(setattr, module_common, "recursive_finder", build)
    module_common.recursive_finder = counting


@contextlib.contextmanager
def keeping(folder: str, cache: str, path: str, compression: str) -> Iterator[None]:
    """Keep the archive of a module that core builds meanwhile, if it does."""
    before = _builds
    try:
        with listening():
            yield
    finally:
        if _builds != before:
            begin = "ansible.modules.%s-%s" % (os.path.basename(path).removesuffix(".py"), compression)
            with contextlib.suppress(OSError):
                for name in os.listdir(cache):
                    if name.startswith(begin) and not name.endswith((".lock", "-part")):
                        keep(folder, os.path.join(cache, name))


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Note whether anything is said meanwhile; it is said as ever."""

    def noting(say: Any) -> Any:
        def noted(*args: Any, **kwargs: Any) -> Any:
            talk()
            return say(*args, **kwargs)
        return noted

    display, show = Display(), warnings.showwarning
    names = [name for name in SAYS if hasattr(display, name) and name not in vars(display)]
    try:
        for name in names:
            setattr(display, name, noting(getattr(display, name)))
        warnings.showwarning = noting(show)
        yield
    finally:
        warnings.showwarning = show
        for name in names:
            delattr(display, name)


def talk() -> None:
    """Something has been said: what this process builds is not kept."""
    global _talkative
    _talkative = True
