"""A process that builds the archives of the modules of the tasks to come.

Core builds the archive of a module in the worker that is the first to need it, while everything waits for that task.
Here a process that is forked from the main one does it ahead, by core's own code, and puts it on a shelf (see
``archives``), from which the worker takes it. It is told of a few tasks ahead of the one that is being queued, so that
tasks that never run cost little. It serves one play, and is killed at its end: nothing of it can be left half done,
since what it has not finished nobody looks at, and its locks are a file's.

It says nothing. Where core would say something while it builds (that a module_util is deprecated), the building is
given up, and left to the worker.
"""

import collections
import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import warnings
from typing import Any

from ansible import constants as C  # noqa: N812  as everywhere in ansible
from ansible.executor import module_common
from ansible.playbook.handler import Handler
from ansible.plugins.loader import action_loader, module_loader, module_utils_loader
from ansible.utils.display import Display

from . import ahead, archives, care, kept, worker

WINDOW = 10  # tasks ahead
EXTENSIONS = ("_ANSIBALLZ_COVERAGE_CONFIG", "_ANSIBALLZ_DEBUGPY_CONFIG", "_ANSIBALLZ_PYDEVD_CONFIG")
OWN = ""  # the task's own module
#: Action plugins of core -> the modules that they are sure to need, and those that they may need later. Not here are
#: those that need none, and those that choose one by facts.
MODULES = {
    "assemble": (("assemble",), ()),
    "async_status": (("async_status",), ()),
    "command": (("command",), ()),
    "copy": (("stat", "copy"), ("file",)),
    "fetch": (("stat",), ("slurp",)),
    "gather_facts": (("setup",), ()),
    "normal": ((OWN,), ()),
    "shell": (("command",), ()),
    "template": (("stat", "copy"), ("file",)),
    "unarchive": (("stat", "unarchive"), ()),
    "uri": (("uri",), ()),
    "wait_for_connection": (("ping",), ()),
}
#: Actions of core that have nothing built, by their short names.
NOTHING = frozenset("""
    add_host assert debug dnf fail group_by import_playbook import_role import_tasks include_role include_tasks
    include_vars meta package pause raw reboot script service set_fact set_stats validate_argument_spec
    """.split())


class GaveUpError(BaseException):
    """Core has something to say."""


Kind = tuple[str, tuple[str, ...], bool]  # an action, the collections of its task, whether it may run async


class Builder:
    """The main process's side, for one play. Nothing here raises: what goes wrong ends it, and workers build."""

    def __init__(self, iterator: Any) -> None:
        self.iterator = iterator
        self.tasks: list[Any] = getattr(iterator, "all_tasks", [])  # core adds those that are included
        self.places: dict[str, int] = {}
        self.counted = -1
        self.reached = 0  # tasks before this place were looked at
        self.seen: set[Kind] = set()  # what a process was told, or a worker began with, in this run
        self.wanted: dict[Kind, None] = {}  # what is to be told
        self.pid = 0
        self.near: socket.socket | None = None
        self.paths: Any = None
        self.off = False
        self.others: set[str] = set()  # variables that make for other archives

    def begin(self, hosts: Any) -> None:
        """The play is about to begin, with the first of its hosts."""
        try:
            self.others = {entry["name"] for name in ("DEFAULT_MODULE_COMPRESSION", *EXTENSIONS)
                           for entry in _definition(name).get("vars") or ()}
            self.off = not may_build()
            if not self.off:
                kept.begin()
            for host in hosts[:1]:
                _, task = self.iterator.get_next_task_for_host(host, peek=True)
                if task is not None and not self.off:
                    self._ahead_of(task, False)
        except Exception:  # another core
            self.end()

    def coming(self, task: Any, task_vars: Any) -> None:
        """A task was sent to a worker."""
        if self.off:
            return
        try:
            if self.others.isdisjoint(task_vars):
                self._ahead_of(task, True)
            else:
                self.end()
        except Exception:  # another core; or it has ended
            self.end()

    def _ahead_of(self, task: Any, begun: bool) -> None:
        """Have built what a task, which a worker may have begun with, and those after it need."""
        paths = _paths()
        if paths != self.paths:
            self.stop()
            self.paths, self.seen, self.reached = paths, _seen.setdefault(repr(paths), set()), 0
            self.wanted.clear()
        if self.counted != len(self.tasks):
            self.places = {each._uuid: place for place, each in enumerate(self.tasks)}
            self.counted, self.reached = len(self.tasks), 0
        place = self.places.get(task._uuid)
        if place is None or place + WINDOW <= self.reached:
            return
        kinds = set(filter(None, map(kind_of, self.tasks[max(place, self.reached):place + WINDOW])))
        self.seen.update(kind for kind in kinds if kind not in self.seen and kind not in self.wanted and _is_kept(*kind))
        new = {kind: None for kind in kinds if kind not in self.seen and kind not in self.wanted}
        self.reached = place + WINDOW
        self.wanted.update(new)
        if not self.pid:
            mine = kind_of(task)
            if begun and mine in self.wanted:
                del self.wanted[mine]
                self.seen.add(mine)
            if not new or len(self.wanted) < (1 if begun else 2):
                return  # who waits for it may as well build it
            self._start()
        if self.wanted and self.near is not None:
            self.near.send(json.dumps(list(self.wanted)).encode())
            self.seen.update(self.wanted)
            self.wanted.clear()

    def _start(self) -> None:
        """Fork the process."""
        os.makedirs(archives.shelf(), 0o700, exist_ok=True)
        self.near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.near.setblocking(False)
        main = os.getpid()

        def build() -> None:
            worker.detach(os.devnull, far.fileno())
            Process(far, main).serve()

        self.pid = worker.fork(build)
        far.close()

    def stop(self) -> None:
        """End it, if there is one; nothing of it is there afterwards."""
        pid, self.pid = self.pid, 0
        self.leave()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def end(self) -> None:
        """There is none for the rest of the play."""
        self.off = True
        self.stop()

    def leave(self) -> None:
        """Have nothing to do with it. In a worker."""
        if self.near is not None:
            self.near.close()
            self.near = None


def may_build() -> bool:
    """Whether archives can be built ahead: core says nothing about it, and they are as all workers want them."""
    display = Display()
    if C.DEFAULT_DEBUG or max(display.verbosity, getattr(display, "log_verbosity", None) or 0) >= 3:
        return False
    return all(not _definition(name) or C.config.get_config_value(name) is None for name in EXTENSIONS)


def _definition(name: str) -> dict[str, Any]:
    """Of a setting of core."""
    return C.config.get_configuration_definition(name) or {}


def _paths() -> Any:
    """Where plugins are looked for that matter here. Roles that are included add to them."""
    return [list(plugins._extra_dirs) for plugins in (module_utils_loader, module_loader, action_loader)]


def kind_of(task: Any) -> Kind | None:
    """What tells of a task which modules it needs; None where it is sure to need none, or nobody knows."""
    action = task.action
    if not isinstance(action, str) or "{" in action or ahead.name_of(action) in NOTHING:
        return None
    if isinstance(task, Handler) and not task.notified_hosts:
        return None
    return action, tuple(task.collections or ()), bool(task.async_val)


def _is_kept(action: str, collections: tuple[str, ...], is_async: bool) -> bool:
    """Whether the archives that an action is sure to need were left by an earlier run."""
    soon, _ = modules_of(action, collections, is_async)
    found = [module_loader.find_plugin_with_context(name, collection_list=collections or None) for name in soon]
    compression = C.config.get_config_value("DEFAULT_MODULE_COMPRESSION")
    return all(each.resolved and kept.has(each.plugin_resolved_path, compression) for each in found) and bool(soon)


_seen: dict[str, set[Kind]] = {}  # by paths, as is what is built; a run has many plays, or batches of one


# -- the process itself


class Process:
    """Builds what it is told to."""

    def __init__(self, far: socket.socket, main: int) -> None:
        self.far, self.main = far, os.pidfd_open(main)
        self.orphan = os.getppid() != main
        self.soon: collections.deque[tuple[str, Any]] = collections.deque()
        self.later: collections.deque[tuple[str, Any]] = collections.deque()
        self.modify, self.shelf = module_common.modify_module, archives.shelf()
        self.compression = C.config.get_config_value("DEFAULT_MODULE_COMPRESSION")
        for name in kept.SAYS:
            if hasattr(Display(), name):
                setattr(Display(), name, _give_up)
        warnings.showwarning = _give_up
        if hasattr(module_common, "action_write_locks"):  # before 2.19; what is built here is nobody else's
            module_common.action_write_locks.action_write_locks = {None: contextlib.nullcontext()}

    def serve(self) -> None:
        """Until the main process closes its end, or ends."""
        poll = select.poll()
        poll.register(self.main, select.POLLIN)
        poll.register(self.far, select.POLLIN)
        while not self.orphan:
            found = [file for file, _ in poll.poll(0 if self.soon or self.later else None)]
            if self.main in found:
                return
            if self.far.fileno() in found:
                said = self.far.recv(1 << 18)
                if not said:
                    return
                for kind in json.loads(said):
                    self._quietly(self._note, *kind)
            elif self.soon or self.later:
                self._quietly(self._build, *(self.soon or self.later).popleft())

    def _quietly(self, step: Any, *args: Any) -> None:
        """What goes wrong here is said by the worker that does it again."""
        with contextlib.suppress(GaveUpError, Exception):
            step(*args)

    def _note(self, action: str, collections: Any, is_async: bool) -> None:
        """Have the modules of an action built."""
        for queue, names in zip((self.soon, self.later), modules_of(action, collections, is_async), strict=True):
            queue.extend((name, collections) for name in names)

    def _build(self, name: str, collections: Any) -> None:
        """Build an archive that nobody has begun with."""
        found = module_loader.find_plugin_with_context(name, collection_list=collections or None)
        path = found.plugin_resolved_path
        if not found.resolved or not path.endswith(".py"):
            return
        folder = os.path.join(self.shelf, archives.key(name, path, self.compression))
        with open(os.open(folder + ".lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            given = {"module_name": name, "module_path": path, "module_args": {}, "templar": None, "task_vars": {},
                     "module_compression": self.compression}
            C.DEFAULT_LOCAL_TMP = folder + ".new"
            self._quietly(lambda: self.modify(**given))  # when all is built it wants to know the host's Python
            made = archives.archive(folder + ".new")
            if made:
                os.rename(folder + ".new", folder)
                place = kept.place(path, self.compression)
                if place is not None:
                    kept.keep(place, os.path.join(folder, archives.CACHE, made))


def _give_up(*args: Any, **kwargs: Any) -> Any:
    kept.talk()
    raise GaveUpError


def modules_of(action: str, collections: Any, is_async: bool) -> tuple[list[str], list[str]]:
    """The names of the modules that an action is sure to need, and of those that it may need later."""
    soon, later = MODULES.get(plugin_of(action, collections) or "", ((), ()))
    if soon == ("setup",):
        names = C.config.get_config_value("FACTS_MODULES")
        soon = tuple("setup" if name == "smart" else name for name in names)
    found = [[action if name == OWN else name if "." in name else "ansible.legacy." + name for name in names]
             for names in (soon, later)]
    if is_async and soon:
        found[0].append("ansible.legacy.async_wrapper")
        found[1].append("ansible.legacy.async_status")
    return found[0], found[1]


def plugin_of(action: str, collections: Any) -> str | None:
    """The name of the action plugin of core that does an action; None where it is none of core's."""
    if action.rpartition(".")[2].split("_")[0] in C.NETWORK_GROUP_MODULES:
        return None
    module = module_loader.find_plugin_with_context(action, collection_list=collections or None)
    name = module.action_plugin if module.resolved and module.action_plugin else action
    plugin = action_loader.find_plugin_with_context(name, collection_list=collections or None)
    if not plugin.resolved:
        plugin = action_loader.find_plugin_with_context("ansible.legacy.normal")
    path = plugin.plugin_resolved_path or ""
    if os.path.dirname(path) != os.path.join(care.CORE, "plugins", "action"):
        return None
    return os.path.basename(path).removesuffix(".py")
