"""What processes of a run share when they build the archives of modules: core's own work, done once.

Core builds an archive (AnsiballZ) for each kind of module of a run: it parses the module and whatever of module_utils
that imports, and keeps the result in the run's own temporary folder. This is added while a strategy of ours runs, and
changes nothing of what is built:

* A process remembers what the parser found in a file of module_utils, which is most of the work and the same for most
  modules (``Finders``). What Python or core has to say about a file is said again: such a file is not remembered.
* Before 2.19, whoever builds an archive has the lock of a file, and not one that only some workers know (``Locks``).
* Archives that ``builder`` has built ahead lie on a *shelf*. A worker that is about to build one takes it from there
  into core's cache, if it was built from the same: the module's name, its bytes, the folders of module_utils. It waits
  for one that is being built.
* Archives of core's own modules are taken from those that an earlier run has left (``kept``).
* What core has read from its cache is not read and quoted again for each task (2.19), nor a module's text looked
  through for what kind of module it is (``_known``).
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import inspect
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible.executor import module_common
from ansible.plugins import action
from ansible.plugins.loader import module_utils_loader

from . import kept

SHELF = "contextree.archives"  # in the run's own temporary folder
CACHE = "ansiballz_cache"  # core's
MOST = 20  # modules that a process remembers
FINDS = ("submodules", "optional_imports", "embeds")  # what core wants of a ModuleDepFinder of module_utils
TAKES: dict[tuple[str, ...], str] = {  # a ModuleDepFinder's first arguments
    ("module_fqn", "module_data", "is_pkg_init"): "data",  # ansible-core 2.21
    ("module_fqn", "tree", "is_pkg_init"): "tree"}  # and before

_settled: set[str] = set()  # keys that this process has looked up on the shelf
_tried: set[tuple[str, str]] = set()  # files of modules that it has looked for among what is kept


@contextlib.contextmanager
def shared() -> Iterator[None]:
    """While this lasts, processes that are forked remember, and take from the shelf. What does not fit the core that
    is installed is left alone."""
    with contextlib.ExitStack() as undo:
        for step in _remember, kept.counted, _take_first, _lock, _known:
            with contextlib.suppress(Exception):  # another core
                step(undo)
        yield


# -- what was found in module_utils


class Source:
    """Stands for a syntax tree that may not be needed."""

    def __init__(self, digest: bytes, parse: Callable[[], Any], tree: Any) -> None:
        self.digest, self._parse, self._tree = digest, parse, tree

    def tree(self) -> Any:
        """The tree itself."""
        if self._tree is None:
            self._tree = self._parse()
        return self._tree

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tree(), name)


class Finders:
    """What was found in files of module_utils, by their full names and bytes."""

    def __init__(self, init: Callable[..., None]) -> None:
        self.init = init
        self.found: dict[Any, dict[str, Any]] = {}
        self.parsed: set[bytes] = set()  # digests of files of which nothing was to be said

    def begin(self, finder: Any, name: str, given: Any, *args: Any, **kwargs: Any) -> None:
        """In the place of the __init__ of core's class. ``given`` are the bytes (2.21) or what ``parser`` made of
        them."""
        def look() -> None:
            self.init(finder, name, given.tree() if isinstance(given, Source) else given, *args, **kwargs)

        package = _package(args, kwargs)
        digest = given.digest if isinstance(given, Source) else _digest(given) if isinstance(given, bytes) else None
        if package is None or digest is None:
            look()
            return
        key = name, package, digest
        if key in self.found:
            vars(finder).update(self.found[key], _look=look)
            return
        with listening() as said:
            look()
        finds = {name: value for name, value in vars(finder).items() if name in FINDS}
        if not said and not finds.get("embeds"):  # those know where they were found
            self.found[key] = finds

    def parser(self, parse: Callable[..., Any], place: int) -> Callable[..., Any]:
        """In the place of what parses; ``place`` of the source among its arguments."""

        def parsed(*args: Any) -> Any:
            digest = _digest(args[place])
            if digest in self.parsed:
                return Source(digest, lambda: parse(*args), None)
            with listening() as said:
                tree = parse(*args)
            if said:
                return tree
            self.parsed.add(digest)
            return Source(digest, lambda: parse(*args), tree)

        return parsed


def _more(finder: Any, name: str) -> Any:
    """What is not remembered of a finder: it looks again."""
    look = vars(finder).pop("_look", None)
    if look is None:
        raise AttributeError(name)
    look()
    return getattr(finder, name)


def _remember(undo: contextlib.ExitStack) -> None:
    """Put ``Finders`` in place."""
    kind = getattr(module_common, "ModuleDepFinder", None)
    takes = TAKES.get(tuple(inspect.signature(kind).parameters)[:3]) if kind else None
    if kind is None or takes is None:
        return
    init = kind.__init__
    finders = Finders(init)
    if takes == "tree" and hasattr(module_common, "_compile_module_ast"):  # 2.19, 2.20
        undo.callback(setattr, module_common, "_compile_module_ast", module_common._compile_module_ast)
        module_common._compile_module_ast = finders.parser(module_common._compile_module_ast, 1)
    elif takes == "tree":
        undo.callback(delattr, module_common, "compile")
        module_common.compile = finders.parser(compile, 0)  # it means Python's own by that name
    undo.callback(setattr, kind, "__init__", init)

    def begin(finder: Any, *args: Any, **kwargs: Any) -> None:
        finders.begin(finder, *args, **kwargs)

    kind.__init__ = begin
    undo.callback(delattr, kind, "__getattr__")
    kind.__getattr__ = _more


def _package(args: Any, kwargs: Any) -> bool | None:
    """Whether a finder is told that it is for a package; None: it is told nothing, as for a module itself, of which
    core wants the tree."""
    if len(args) == 1 and not kwargs:
        return bool(args[0])
    return bool(kwargs["is_pkg_init"]) if not args and set(kwargs) == {"is_pkg_init"} else None


def _digest(data: Any) -> bytes:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).digest()


@contextlib.contextmanager
def listening() -> Iterator[list[Any]]:
    """What Python warns of meanwhile; it is shown as ever."""
    said: list[Any] = []
    show = warnings.showwarning

    def noted(*args: Any, **kwargs: Any) -> None:
        said.append(args)
        show(*args, **kwargs)

    warnings.showwarning = noted
    try:
        yield said
    finally:
        warnings.showwarning = show


# -- locks


class Locks(dict[Any, Any]):
    """Stands in for core's locks of before 2.19, by names of modules, which are made when a task with such an action is
    queued: a worker that stays from a task before has not got them."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Any:
        return locked(os.path.join(C.DEFAULT_LOCAL_TMP, "contextree.%s.lock" % quote(name.rpartition(".")[2], "")))


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Have the lock of a file."""
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _lock(undo: contextlib.ExitStack) -> None:
    """Put ``Locks`` in place."""
    if hasattr(module_common, "action_write_locks"):
        held = module_common.action_write_locks
        undo.callback(setattr, held, "action_write_locks", held.action_write_locks)
        held.action_write_locks = Locks()


# -- what core puts together for each task


class Quoted(str):
    """A text that core wants quoted again and again, as part of a program."""

    __slots__ = ("quoted",)
    quoted: str

    def __repr__(self) -> str:
        return self.quoted


class Searched:
    """A regular expression that is searched for in the same few texts. For the rest it is as ``pattern``."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self.pattern = pattern
        self.search = functools.lru_cache(MOST)(pattern.search)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pattern, name)


def _known(undo: contextlib.ExitStack) -> None:
    """Put both in place."""
    pattern = module_common.NEW_STYLE_PYTHON_MODULE_RE
    undo.callback(setattr, module_common, "NEW_STYLE_PYTHON_MODULE_RE", pattern)
    module_common.NEW_STYLE_PYTHON_MODULE_RE = Searched(pattern)
    kind = module_common._CachedModule
    plain = inspect.getattr_static(kind, "load")
    read = functools.lru_cache(MOST)(lambda path, *state: _quoted(plain.__get__(None, kind)(path)))

    def load(path: str) -> Any:
        found = os.stat(path)
        return read(path, found.st_mtime_ns, found.st_ino, found.st_size)

    undo.callback(setattr, kind, "load", plain)
    kind.load = staticmethod(load)


def _quoted(module: Any) -> Any:
    """What core keeps of a module, with its archive as text."""
    text = Quoted(module.zip_data.decode("ascii"))
    text.quoted = str.__repr__(text)
    return dataclasses.replace(module, zip_data=text)


# -- the shelf


def shelf() -> str:
    """The folder of archives that were built ahead. It is there where a builder was started."""
    return os.path.join(C.DEFAULT_LOCAL_TMP, SHELF)


def key(name: str, path: str, compression: str) -> str:
    """What an archive is made from, as a name for a file. Raises OSError."""
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    with contextlib.suppress(ValueError):  # of no collection, and not of core
        name = module_common._get_ansible_module_fqn(path)
    made_from = name, path, digest, compression, module_utils_loader._get_paths(subdirs=False)
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()


def archive(folder: str) -> str | None:
    """The name of the archive that core has put in its cache in this folder."""
    try:
        names = os.listdir(os.path.join(folder, CACHE))
    except FileNotFoundError:
        return None
    return next((name for name in names if not name.endswith((".lock", "-part"))), None)


def _take_first(undo: contextlib.ExitStack) -> None:
    """Have core's modify_module look on the shelf first."""
    modify = action.modify_module
    names = list(inspect.signature(modify).parameters)

    @functools.wraps(modify)
    def taking(*args: Any, **kwargs: Any) -> Any:
        given: dict[str, Any] = dict(zip(names, args, strict=False), **kwargs)
        name, path, compression = (given.get(each, "") for each in ("module_name", "module_path", "module_compression"))
        folder = None
        with contextlib.suppress(OSError, TypeError, AttributeError):
            folder = _take(name, path, compression)
        if folder is None:
            return modify(*args, **kwargs)
        with kept.keeping(folder, core_cache(), path, compression):
            return modify(*args, **kwargs)

    undo.callback(setattr, action, "modify_module", modify)
    action.modify_module = taking


def core_cache() -> str:
    """The folder of core's archives of this run."""
    return os.path.join(C.DEFAULT_LOCAL_TMP, CACHE)


def _take(name: Any, path: Any, compression: Any) -> str | None:
    """Have an archive in core's cache that is kept, or on the shelf, or just being built; else nobody builds it ahead
    from now on, and where it is to be kept when it has been built is returned."""
    if (path, compression) not in _tried:
        _tried.add((path, compression))
        folder = kept.place(path, compression)
        if folder is not None and kept.take(folder, core_cache()):
            return None
    else:
        folder = None
    if os.path.isdir(shelf()):
        _take_from_shelf(name, path, compression)
    return folder


def _take_from_shelf(name: str, path: str, compression: str) -> None:
    """The same of the shelf alone."""
    wanted = key(name, path, compression)
    if wanted in _settled:
        return
    _settled.add(wanted)
    folder = os.path.join(shelf(), wanted)
    try:
        os.close(os.open(folder + ".lock", os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        with open(folder + ".lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
        ready = archive(folder)
        if ready is not None:
            os.makedirs(core_cache(), exist_ok=True)
            os.link(os.path.join(folder, CACHE, ready), os.path.join(core_cache(), ready))
